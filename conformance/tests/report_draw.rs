//! The pictures: what they contain, that they are well-formed, and that hostile names stay text.

use conformance::draw::{Column, Event, Graph, Kind, Ladder, Mark, MarkKind, Row};
use std::collections::BTreeMap;
use std::path::Path;

fn packet(ms: f64, path: &[&str], number: u64, kind: Kind, label: &str, detail: &str) -> Event {
    Event {
        time_ns: (ms * 1e6) as u64,
        path: path.iter().map(|name| name.to_string()).collect(),
        links: path
            .windows(2)
            .map(|pair| format!("{}-{}", pair[0], pair[1]))
            .collect(),
        numbers: (0..path.len() as u64 - 1).map(|hop| number + hop).collect(),
        kind,
        label: label.to_owned(),
        detail: detail.to_owned(),
        marks: Vec::new(),
    }
}

fn column(name: &str, role: &str) -> Column {
    Column {
        name: name.to_owned(),
        role: role.to_owned(),
    }
}

fn sample() -> Ladder {
    let mark = |kind, text: &str| Mark {
        kind,
        text: text.to_owned(),
    };
    let mut rows = vec![
        packet(
            0.0,
            &["xtr-a", "core", "msmr"],
            1,
            Kind::Control,
            "Map-Register",
            "nonce 0 M, EID 10.1.0.0/24 TTL 1440 → 192.0.2.1 p1 w100, HMAC-SHA-256-128 key 0",
        ),
        packet(
            1.4,
            &["msmr", "core", "xtr-a"],
            3,
            Kind::Control,
            "Map-Notify",
            "nonce 0, EID 10.1.0.0/24 TTL 1440 → 192.0.2.1 p1 w100",
        ),
        packet(
            2100.0,
            &["host-a", "xtr-a"],
            5,
            Kind::Plain,
            "ICMP echo request",
            "10.1.0.10 → 10.2.0.10 seq 1 TTL 64",
        ),
        packet(
            2100.6,
            &["xtr-a", "core", "msmr"],
            6,
            Kind::Control,
            "Encapsulated Map-Request",
            "nonce 3f2a…91c0 EID 10.2.0.10/32, ITR-RLOC 192.0.2.1, source 10.1.0.10",
        ),
        packet(
            2101.0,
            &["msmr", "core", "xtr-b"],
            8,
            Kind::Control,
            "Encapsulated Map-Request",
            "nonce 3f2a…91c0 EID 10.2.0.10/32, ITR-RLOC 192.0.2.1, source 10.1.0.10",
        ),
        packet(
            2101.9,
            &["xtr-b", "core", "xtr-a"],
            10,
            Kind::Control,
            "Map-Reply",
            "nonce 3f2a…91c0 A, EID 10.2.0.0/24 TTL 1440 → 198.51.100.1 p1 w100 R",
        ),
        packet(
            2103.0,
            &["xtr-a", "core", "xtr-b"],
            12,
            Kind::Data,
            "LISP data",
            "N nonce 0x8f11aa L LSB 00000001; 10.1.0.10 → 10.2.0.10 ICMP echo request seq 1 TTL 63, outer TTL 64",
        ),
        packet(
            2103.4,
            &["xtr-b", "host-b"],
            14,
            Kind::Plain,
            "ICMP echo request",
            "10.1.0.10 → 10.2.0.10 seq 1 TTL 63",
        ),
    ];
    rows[5].marks.push(mark(
        MarkKind::Pass,
        "rfc6830-6.1.5-reply-nonce: nonce of the request",
    ));
    rows[6].marks.push(mark(
        MarkKind::Fail,
        "rfc6830-5.3-ttl-copy: outer TTL 64, expected 63 (copied from the inner header)",
    ));
    rows[6]
        .marks
        .push(mark(MarkKind::Warn, "rfc6830-5.3-udp-checksum: not zero"));
    let mut rows: Vec<Row> = rows.into_iter().map(Row::Packet).collect();
    rows.insert(
        2,
        Row::Note {
            time_ns: 2_099_000_000,
            text: "host-a: ping -c 1 10.2.0.10".to_owned(),
        },
    );
    Ladder {
        title: "rfc6830::s5_3::outer_ttl_is_copied".to_owned(),
        columns: vec![
            column("host-a", "host"),
            column("xtr-a", "xTR"),
            column("core", "router"),
            column("msmr", "MS/MR"),
            column("xtr-b", "xTR"),
            column("host-b", "host"),
        ],
        rows,
    }
}

/// Leaves the picture where a person can look at it.
fn keep(name: &str, svg: &str) {
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), svg)
        .expect("the scratch folder of the tests is writable");
}

#[test]
fn ladder_says_who_sent_what_and_what_was_wrong() {
    let svg = sample().svg();
    keep("ladder.svg", &svg);
    for words in [
        "host-a",
        "MS/MR",
        "Encapsulated Map-Request",
        "#6 #7",
        "2.100600",
        "expected 63",
        "2.10 s without a packet",
        "ping -c 1",
    ] {
        assert!(svg.contains(words), "{words} is missing");
    }
    assert_eq!(svg, sample().svg());
}

#[test]
fn hostile_names_stay_text() {
    let mut ladder = sample();
    ladder.title = "</title><script>alert(1)</script>".to_owned();
    ladder.rows.push(Row::Packet(packet(
        2200.0,
        &["x\"/><script>", "core"],
        99,
        Kind::Control,
        "<b>",
        "]]>&\u{0}",
    )));
    let svg = ladder.svg();
    assert!(!svg.contains("<script"), "{svg}");
    assert!(!svg.contains("<b>"));
    assert!(!svg.contains('\u{0}'));
}

#[test]
fn a_long_trace_is_condensed_but_keeps_every_marked_packet() {
    let mut ladder = sample();
    for number in 0..500 {
        ladder.rows.push(Row::Packet(packet(
            3000.0 + number as f64,
            &["xtr-a", "core", "xtr-b"],
            100 + 2 * number,
            Kind::Data,
            "LISP data",
            "again",
        )));
    }
    let shorter = ladder.condensed(60);
    assert!(shorter.rows.len() <= 60, "{}", shorter.rows.len());
    let marks = |ladder: &Ladder| ladder.text().matches("rfc6830-").count();
    assert_eq!(marks(&shorter), marks(&ladder));
    assert!(
        shorter
            .text()
            .contains("more packets like those above, not drawn")
    );
}

#[test]
fn many_nodes_and_many_events_still_fit() {
    let names = [
        "host-a",
        "xtr-a1",
        "xtr-a2",
        "core",
        "map-server-1",
        "map-resolver-1",
        "xtr-b",
        "host-b",
    ];
    let mut rows = Vec::new();
    for number in 0..60_u64 {
        let from = number as usize % 8;
        let to = (number as usize * 3 + 1) % 8;
        if from == to {
            continue;
        }
        let kind = [Kind::Control, Kind::Data, Kind::Plain][number as usize % 3];
        rows.push(Row::Packet(packet(
            number as f64 * 7.3,
            &[names[from], names[to]],
            number + 1,
            kind,
            "Map-Request",
            "nonce 3f2a…91c0 EID 2001:db8:1:2::10/128 ITR-RLOC 2001:db8:ffff::1",
        )));
    }
    let ladder = Ladder {
        title: "big".to_owned(),
        columns: names.iter().map(|name| column(name, "node")).collect(),
        rows,
    };
    keep("ladder-big.svg", &ladder.svg());
}

const MULTIHOMED: &str = include_str!("report_samples/multihomed.yaml");

fn graph(name: &str, text: &str) -> Graph {
    let topology =
        harness::topology::Topology::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
    Graph::of(&topology, &BTreeMap::new())
}

#[test]
fn topology_picture_shows_roles_addresses_prefixes_and_locators() {
    let two = graph(
        "two-sites.yaml",
        include_str!("../../topologies/two-sites.yaml"),
    );
    let svg = two.svg();
    keep("two-sites.svg", &svg);
    for words in [
        "xTR",
        "MS/MR",
        "eth0 10.1.0.10/24",
        "EID 10.1.0.0/24",
        "RLOC 192.0.2.2 p1 w100",
        "core-msmr",
    ] {
        assert!(svg.contains(words), "{words} is missing");
    }
    let columns: Vec<String> = two
        .columns()
        .into_iter()
        .map(|column| column.name)
        .collect();
    assert_eq!(columns.first().map(String::as_str), Some("host-a"));
    assert_eq!(columns.last().map(String::as_str), Some("host-b"));
    keep(
        "multihomed.svg",
        &graph("multihomed.yaml", MULTIHOMED).svg(),
    );
}

#[test]
fn mermaid_quotes_what_could_end_a_text() {
    let mut two = graph(
        "two-sites.yaml",
        include_str!("../../topologies/two-sites.yaml"),
    );
    two.nodes[0]
        .facts
        .push("\"]; click n0 \"javascript:alert(1)\"<script>".to_owned());
    let text = two.mermaid();
    assert!(text.starts_with("%% two-sites\nflowchart LR\n"), "{text}");
    assert!(
        text.contains("|\"site-a<br/>host-a: eth0 10.1.0.10/24"),
        "{text}"
    );
    assert!(
        !text.contains("<script>") && !text.contains("click n0 \""),
        "{text}"
    );
}

#[test]
fn two_hundred_nodes_are_still_a_picture() {
    let mut yaml = String::from("format: 1\nname: many\nnodes:\n  core: {kind: router}\n");
    let mut links = String::from("links:\n");
    for site in 0..100 {
        yaml +=
            &format!("  xtr-{site}: {{kind: router, role: xtr}}\n  host-{site}: {{kind: host}}\n");
        links += &format!(
            "  core-{site}:\n    ends:\n      core: {{addresses: [192.0.{site}.1/30]}}\n      xtr-{site}: {{addresses: [192.0.{site}.2/30]}}\n"
        );
        links += &format!(
            "  site-{site}:\n    ends:\n      xtr-{site}: {{addresses: [10.0.{site}.1/24]}}\n      host-{site}: {{addresses: [10.0.{site}.10/24]}}\n"
        );
    }
    keep("many.svg", &graph("many.yaml", &(yaml + &links)).svg());
}
