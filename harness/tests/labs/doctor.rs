//! What the host can do is tried out; rulesets of nodes are applied.

use std::time::Duration;

use harness::doctor::{examine, is_healthy};
use harness::{Lab, LabOptions, Ping, Topology};

pub(crate) const TESTS: &[crate::Test] = &[
    ("doctor::the_host_is_examined", the_host_is_examined),
    ("doctor::rulesets_are_applied", rulesets_are_applied),
];

fn the_host_is_examined() {
    let findings = examine();
    for finding in &findings {
        println!("{finding:?}");
        assert!(!finding.detail.is_empty(), "{finding:?}");
    }
    // This test has a lab, so the doctor must find that labs work.
    assert!(is_healthy(&findings));
}

fn rulesets_are_applied() {
    if !examine()
        .iter()
        .any(|finding| finding.name == "nftables" && finding.works)
    {
        return;
    }
    let with = |rules: &str| {
        let text = format!(
            "format: 1\nname: t\nnodes:\n  a: {{kind: host}}\n  b:\n    kind: host\n    nftables: |\n      {rules}\nlinks:\n  ab: {{ends: {{a: {{addresses: [10.0.0.1/24]}}, b: {{addresses: [10.0.0.2/24]}}}}}}\n"
        );
        let topology = Topology::parse("t.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
        Lab::up(&topology, LabOptions::default())
    };
    let lab = with("table inet t { chain c { type filter hook input priority 0; icmp type echo-request drop; }; }").unwrap();
    let ping = Ping {
        timeout: Duration::from_millis(200),
        ..Ping::default()
    };
    assert!(lab.ping("a", "10.0.0.2".parse().unwrap(), &ping).is_err());
    lab.ping("b", "10.0.0.1".parse().unwrap(), &Ping::default())
        .unwrap();
    let error = with("nonsense").err().unwrap();
    assert!(
        error.exit_code() == 2 && error.to_string().contains("node `b`: nft refused"),
        "{error}"
    );
}
