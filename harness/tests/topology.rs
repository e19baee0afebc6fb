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

fn n_sites(sites: &str) -> Result<Topology, harness::TopologyError> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/n-sites.yaml");
    Topology::load_with(path, &[("sites".to_owned(), sites.to_owned())])
}

#[test]
fn parameters_make_as_many_sites_as_wanted() {
    for sites in [1, 50, 300] {
        let topology = n_sites(&sites.to_string()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(topology.nodes.len(), 2 + 2 * sites);
        assert_eq!(topology.links.len(), 1 + 2 * sites);
        let msmr = topology.node("msmr").expect("msmr");
        assert_eq!(msmr.settings["sites"].as_array().map(Vec::len), Some(sites));
        assert!(
            topology
                .description
                .as_deref()
                .unwrap_or("")
                .starts_with(&sites.to_string())
        );
    }
    let last = n_sites("300").unwrap_or_else(|error| panic!("{error}"));
    let xtr = last.node("xtr-300").expect("xtr-300");
    assert_eq!(xtr.settings["eid-prefixes"][0]["prefix"], "10.1.44.0/24");
}

#[test]
fn wrong_parameters_and_repeats_are_told() {
    for (sites, words) in [
        ("many", "expected a whole number"),
        ("1000000", "at most 50000"),
    ] {
        let error = n_sites(sites).expect_err(sites).to_string();
        assert!(
            error.contains(words),
            "{sites}: {}",
            error.lines().take(5).collect::<String>()
        );
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/n-sites.yaml");
    let error =
        Topology::load_with(path, &[("site".to_owned(), "3".to_owned())]).expect_err("site");
    assert!(
        error.to_string().contains("did you mean `sites`"),
        "{error}"
    );
    for (from, to, place, words) in [
        (
            "  a: {",
            "  a: {repeat: {n: 1..2}, ",
            "4:3",
            "`a` is there twice",
        ),
        (
            "  a: {",
            "  a$(n): {repeat: {n: one}, ",
            "4:23",
            "expected a range",
        ),
        ("name: t", "name: $(x)", "2:7", "no parameter `x`"),
        (
            "name: t",
            "name: t\ninclude: nowhere.yaml",
            "3:10",
            "cannot be read",
        ),
        (
            "name: t",
            "name: t\ninclude: t.yaml",
            "3:10",
            "includes itself",
        ),
        (
            "name: t",
            "name: t\nparameters: [1]",
            "3:13",
            "expected a mapping",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        let error = Topology::parse("t.yaml", &text).expect_err(to).to_string();
        assert!(
            error.contains(&format!("t.yaml:{place}: ")) && error.contains(words),
            "{to}: {error}"
        );
    }
}

#[test]
fn files_are_included() {
    let directory = std::env::temp_dir().join(format!("harness-include-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let write =
        |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file");
    write(
        "core.yaml",
        "parameters: {count: 1}\nnodes:\n  leaf-$(i): {repeat: {i: 1..count}, kind: host}\n",
    );
    write(
        "main.yaml",
        &GOOD.replacen(
            "nodes:",
            "include: [{file: core.yaml, with: {count: 2}}]\nnodes:",
            1,
        ),
    );
    let topology =
        Topology::load(directory.join("main.yaml")).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = topology
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "leaf-1", "leaf-2"]);
    // A problem in an included file is reported there.
    write(
        "core.yaml",
        "nodes:\n  a: {kind: hots}\n  c: {kind: hots}\n",
    );
    write(
        "main.yaml",
        &GOOD.replacen("nodes:", "include: core.yaml\nnodes:", 1),
    );
    let error = Topology::load(directory.join("main.yaml"))
        .expect_err("a is there twice")
        .to_string();
    assert!(
        error.contains("core.yaml:2:3: `a` is there twice") && error.contains("main.yaml:5:3"),
        "{error}"
    );
    write("core.yaml", "nodes:\n  c: {kind: hots}\n");
    let error = Topology::load(directory.join("main.yaml"))
        .expect_err("hots")
        .to_string();
    assert!(
        error.contains("core.yaml:2:13: ") && error.contains("did you mean `host`"),
        "{error}"
    );
    std::fs::remove_dir_all(directory).expect("removed");
}
