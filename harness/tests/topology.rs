//! Topology files: the shipped one reads, wrong ones say where, what was expected and what to do.

use harness::topology::Topology;

#[test]
fn two_sites_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/two-sites.yaml");
    let topology = Topology::load(path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(topology.nodes.len(), 7);
    assert_eq!(topology.links.len(), 6);
    let core = topology.node("core").expect("core");
    assert!(core.routes.is_empty(), "the core must not know EIDs");
}

const GOOD: &str = "\
format: 1
name: t
nodes:
  a: {kind: host, routes: [{to: default, via: 10.0.0.2}]}
  b: {kind: router}
links:
  l:
    ends:
      a: {addresses: [10.0.0.1/24]}
      b: {addresses: [10.0.0.2/24]}
";

/// One wrong file: GOOD with one replacement, the place that the message must name, and words it must contain.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str, &[&str])] = &[
    ("format: 1", "format: 2", "1:9", &["expected 1", "found the number 2"]),
    ("format: 1\n", "", "1:1", &["`format` is missing"]),
    ("kind: host", "kind: hots", "4:13", &["host, router or bridge", "did you mean `host`"]),
    ("routes:", "rotues:", "4:19", &["unknown key `rotues`", "did you mean `routes`"]),
    ("nodes:", "nodes: 7\nx:", "3:8", &["nodes: expected a mapping", "the number 7"]),
    ("via: 10.0.0.2", "via: 10.9.0.2", "4:28", &["10.9.0.2", "no connected subnet", "10.0.0.0/24"]),
    ("via: 10.0.0.2", "via: 10.0.0.1", "4:28", &["address of the node itself"]),
    ("to: default", "to: 10.0.0.9/8", "4:33", &["bits set behind the prefix length", "10.0.0.0/8"]),
    ("to: default", "to: 2001:db8::/32", "4:28", &["other address family"]),
    ("      b: {", "      c: {", "10:7", &["`c`", "not under `nodes`"]),
    ("10.0.0.2/24", "10.0.0.1/24", "10:23", &["given twice", "9:23"]),
    ("10.0.0.2/24", "10.0.0.2/33", "10:23", &["address with prefix length", "10.0.0.2/33"]),
    ("10.0.0.2/24", "10.0.0.255/24", "10:23", &["broadcast address"]),
    ("10.0.0.2/24", "10.0.0.0/24", "10:23", &["subnet itself"]),
    ("10.0.0.2/24", "10.0", "10:23", &["address with prefix length", "the number"]),
    ("      b: {addresses: [10.0.0.2/24]}\n", "", "7:3", &["two ends", "found 1", "bridge"]),
    ("  l:\n", "  a-very-long-link-name:\n", "9:7", &["1 to 15 octets", "interface: NAME"]),
    ("    ends:", "    mtu: 20\n    ends:", "8:10", &["mtu", "68 to 65535"]),
    ("    ends:", "    impair: {loss: 5}\n    ends:", "8:20", &["5%"]),
    ("    ends:", "    ends:\n    ends:", "9:5", &["duplicate"]),
    ("  a: {", "  a: {sysctls: {kernel.panic: 1}, ", "4:17", &["net."]),
    ("  a: {", "  a: [", "4:", &["not usable YAML"]),
    ("\nlinks:", "\n\tlinks:", "6:", &["not usable YAML"]),
    ("  b: {kind: router}", "  b: {kind: bridge}", "10:23", &["ports of a bridge have no addresses"]),
    ("  l:\n", "  k: {ends: {a: {addresses: [10.0.0.5/25]}, b: {}}}\n  l:\n", "10:23", &["overlap"]),
    ("  l:\n", "  k: {ends: {a: {interface: l}, b: {}}}\n  l:\n", "10:7", &["two interfaces with the name `l`"]),
];

#[test]
fn good_is_good() {
    Topology::parse("t.yaml", GOOD).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn wrong_files_say_where_and_what() {
    for (from, to, place, words) in BAD {
        assert!(GOOD.contains(from), "{from:?} is not in GOOD");
        let text = GOOD.replacen(from, to, 1);
        let error = match Topology::parse("t.yaml", &text) {
            Ok(_) => panic!("accepted:\n{text}"),
            Err(error) => error.to_string(),
        };
        println!("{error}");
        assert!(
            error.contains(&format!("t.yaml:{place}")),
            "expected {place} for {to:?} in:\n{error}"
        );
        for word in *words {
            assert!(
                error.contains(word),
                "expected {word:?} for {to:?} in:\n{error}"
            );
        }
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = GOOD
        .replace("routes:", "rotues:")
        .replace("10.0.0.2/24", "10.0.0.2/99");
    let error = Topology::parse("t.yaml", &text).expect_err("two problems");
    assert_eq!(error.problems.len(), 2, "{error}");
}

#[test]
fn hostile_files_end_in_an_error() {
    let deep = "[".repeat(100_000);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for text in [
        "",
        "\0",
        "\u{feff}",
        "- 1",
        "a: b: c",
        &deep,
        bomb,
        "--- a\n--- b\n",
        "!!python/x 1",
        "nodes: *nowhere",
    ] {
        assert!(Topology::parse("t.yaml", text).is_err());
    }
    for cut in 0..GOOD.len() {
        // Whatever is cut off: an answer, never a panic.
        let _ = Topology::parse("t.yaml", &GOOD[..cut]);
    }
}
