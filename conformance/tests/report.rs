//! Reports of sample runs: every form says the same, merging depends on no order, hostile input stays text.

mod report_support;

use conformance::catalogue::{catalogue, coverage};
use conformance::edition::Edition;
use conformance::kill::Kill;
use conformance::report::model::{Evidence, Log};
use conformance::report::table::Style;
use conformance::report::{self, CaseReport, Run, junit::junit, merge, table::table};
use conformance::results::CaseResult;
use conformance::verdict::Verdict;
use report_support::{Samples, keep};
use std::path::Path;

fn case(id: &str, verdict: Verdict) -> CaseReport {
    let result: CaseResult = serde_json::from_value(serde_json::json!({
        "id": id, "verdict": verdict, "expected": "pass", "duration_ms": 10, "evidence": null,
        "requirements": [{
            "id": "rfc6830-5.3-ttl-copy-encap", "verdict": verdict, "finding": "outer TTL 64", "expected": "63", "packets": [12],
        }],
    }))
    .expect("the sample is of the form of results");
    CaseReport {
        expected: result.is_expected(),
        result,
        command: String::new(),
        folder: String::new(),
        path: Default::default(),
        evidence: Evidence::default(),
    }
}

fn run(implementation: &str, cases: Vec<CaseReport>) -> Run {
    Run {
        implementation: implementation.to_owned(),
        edition: "6830".to_owned(),
        header: Default::default(),
        cases,
        kills: Vec::new(),
    }
}

#[test]
fn merging_depends_on_no_order_and_names_conflicts() {
    let a = run(
        "ours",
        vec![case("b", Verdict::Pass), case("a", Verdict::Pass)],
    );
    let b = run(
        "ours",
        vec![case("c", Verdict::Warn), case("b", Verdict::Fail)],
    );
    let c = run("theirs", vec![case("a", Verdict::Skipped)]);
    let one = merge([a.clone(), b.clone(), c.clone()]);
    let two = merge([c, b, a]);
    assert_eq!(one.runs, two.runs);
    assert_eq!(one.conflicts, two.conflicts);
    let ids: Vec<_> = one.runs[0]
        .cases
        .iter()
        .map(|case| (case.id.as_str(), case.verdict))
        .collect();
    assert_eq!(
        ids,
        [
            ("a", Verdict::Pass),
            ("b", Verdict::Fail),
            ("c", Verdict::Warn)
        ]
    );
    assert_eq!(one.conflicts.len(), 1);
    assert_eq!(one.conflicts[0].verdicts, [Verdict::Pass, Verdict::Fail]);
}

#[test]
fn table_names_sections_findings_and_totals() {
    let text = table(&Samples::new().report(), catalogue(), Style::PLAIN);
    keep("table.txt", &text);
    for words in [
        "RFC 6830 5.3",
        "✗ fail *",
        "seen: outer TTL 64",
        "#17",
        "again: cargo run --bin lisplab -- test",
        "7 cases: 2 fail",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn table_fits_the_terminal() {
    let text = table(
        &Samples::new().report(),
        catalogue(),
        Style {
            width: Some(80),
            colour: false,
        },
    );
    for line in text
        .lines()
        .filter(|line| !line.contains("again: ") && !line.contains("evidence: "))
    {
        assert!(
            line.chars().count() <= 80,
            "{} characters: {line}",
            line.chars().count()
        );
    }
}

#[test]
fn control_characters_of_a_hostile_program_do_not_reach_the_terminal() {
    let mut hostile = case("a", Verdict::Fail);
    hostile.result.requirements[0].finding = "\u{1b}]0;owned\u{7}\nrm -rf".to_owned();
    let text = table(
        &merge([run("x\u{1b}[2J", vec![hostile])]),
        catalogue(),
        Style::PLAIN,
    );
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
}

#[test]
fn junit_maps_every_verdict() {
    let cases = Verdict::ALL
        .into_iter()
        .map(|verdict| case(verdict.word(), verdict))
        .collect();
    let mut known = run("ours", cases);
    let mut listed = case("listed", Verdict::Fail);
    listed.expected = true;
    listed.result.expected_because = Some("issue 12".to_owned());
    known.cases.push(listed);
    let mut stale = case("stale", Verdict::Pass);
    stale.expected = false;
    stale.result.expected = Verdict::Fail;
    known.cases.push(stale);
    let xml = junit(&merge([known]), catalogue()).unwrap();
    keep("junit.xml", &xml);
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((read.tests, read.failures, read.errors), (8, 3, 1), "{xml}");
    assert!(
        xml.contains(r#"tests="8" skipped="2" errors="1" failures="3""#),
        "{xml}"
    );
    assert!(xml.contains(r#"type="stale""#), "{xml}");
    assert!(
        xml.contains(r#"<skipped message="outer TTL 64"/>"#),
        "{xml}"
    );
    assert!(xml.contains(r#"<failure message="rfc6830-5.3-ttl-copy-encap: expected 63; seen: outer TTL 64" type="fail">"#), "{xml}");
    assert!(xml.contains("packet #12"), "{xml}");
    assert!(xml.contains("issue 12"), "{xml}");
    assert!(xml.contains("<system-out>"), "{xml}");
}

#[test]
fn html_is_one_file_and_the_same_every_time() {
    let mut report = Samples::new().report();
    report.coverage = Some(coverage(
        catalogue(),
        [("rfc6830-5.3-ttl-copy-encap", "x")],
        ["rfc6830-5.3-dport"],
    ));
    report.kills = vec![
        Kill {
            case: "rfc6830::s5_3::outer_header".into(),
            sabotage: "sets the outer TTL to 64".into(),
            edition: Edition::Rfc6830,
            killed: true,
            verdict: Verdict::Fail,
            by: vec!["rfc6830-5.3-ttl-copy-encap".into()],
            missed: vec![],
        },
        Kill {
            case: "rfc6830::s5_3::outer_header".into(),
            sabotage: "sends from port 4341".into(),
            edition: Edition::Rfc9300,
            killed: false,
            verdict: Verdict::Pass,
            by: vec![],
            missed: vec![],
        },
    ];
    let page = report::html::html(&report, catalogue());
    keep("report.html", &page);
    assert_eq!(page, report::html::html(&report, catalogue()));
    for forbidden in ["src=", "http://", "https://", "@import", "url("] {
        let allowed = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!allowed.contains(forbidden), "{forbidden} in the page");
    }
    assert!(page.contains("data:application/vnd.tcpdump.pcap;base64,"));
    assert!(page.contains(
        "<td class=\"cell\"><a class=\"v v-fail\" href=\"#case-lisplab-rfc6830-s5_3-outer_header\""
    ));
}

#[test]
fn nothing_that_a_run_says_becomes_markup() {
    let evil = "</script></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'";
    let mut hostile = case(evil, Verdict::Fail);
    hostile.result.reason = Some(evil.to_owned());
    hostile.result.title = evil.to_owned();
    hostile.command = evil.to_owned();
    hostile.folder = "x".to_owned();
    hostile.result.requirements[0].finding = evil.to_owned();
    hostile.result.requirements[0].id = evil.to_owned();
    hostile.evidence.logs.push(Log {
        name: evil.to_owned(),
        text: format!("{evil}\u{0}\u{1b}[31m"),
        left_out: 3,
    });
    hostile.evidence.packets.insert(12, evil.to_owned());
    hostile.evidence.problems.push(evil.to_owned());
    let mut hostile = run(evil, vec![hostile]);
    hostile
        .header
        .lines
        .entry(evil.to_owned())
        .or_default()
        .insert(evil.to_owned());
    let mut report = merge([hostile]);
    report.date = evil.to_owned();
    report.kills.push(Kill {
        case: evil.to_owned(),
        sabotage: evil.to_owned(),
        edition: Edition::Rfc6830,
        killed: false,
        verdict: Verdict::Pass,
        by: vec![evil.to_owned()],
        missed: vec![],
    });
    let page = report::html::html(&report, catalogue());
    assert_eq!(
        page.matches("<script").count(),
        1,
        "only the page's own script"
    );
    assert!(!page.contains("<img"));
    assert!(!page.contains(['\u{0}', '\u{1b}']));
    let xml = junit(&report, catalogue()).unwrap();
    assert!(
        !xml.contains("<script") && !xml.contains(['\u{0}', '\u{1b}']),
        "{xml}"
    );
}

#[test]
fn a_run_that_is_none_is_an_error_that_says_so() {
    let error = report::load(Path::new("/no/such/run"), Path::new("."))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/no/such/run") && error.contains("hint:"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("", "not a results file"),
        ("{\"format\": 1}", "missing field"),
        (
            "{\"format\": 99, \"implementation\": \"x\", \"edition\": \"6830\", \"cases\": []}",
            "expected format 1, found 99",
        ),
        ("[[[[", "not a results file"),
    ] {
        std::fs::write(folder.path().join("results.json"), text).unwrap();
        let error = report::load(folder.path(), Path::new("."))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn evidence_outside_of_the_run_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    std::fs::create_dir_all(folder.path().join("secret")).unwrap();
    std::fs::write(folder.path().join("secret/key.log"), "hunter2").unwrap();
    std::os::unix::fs::symlink(
        folder.path().join("secret"),
        folder.path().join("run/linked"),
    )
    .unwrap();
    for evidence in ["../secret", "linked", "/etc", "a/../../secret"] {
        let text = format!(
            r#"{{"format": 1, "implementation": "x", "edition": "6830", "cases": [{{"id": "a", "verdict": "pass", "expected": "pass", "requirements": [], "duration_ms": 1, "evidence": "{evidence}"}}]}}"#
        );
        std::fs::write(folder.path().join("run/results.json"), text).unwrap();
        let run = report::load(&folder.path().join("run"), folder.path())
            .unwrap()
            .remove(0);
        assert!(run.cases[0].evidence.logs.is_empty(), "{evidence}");
        assert_eq!(run.cases[0].evidence.problems.len(), 1, "{evidence}");
    }
}

#[test]
fn logs_and_the_network_come_from_the_evidence() {
    let samples = Samples::new();
    let run = report::load(&samples.path("lisplab"), &samples.path(""))
        .unwrap()
        .remove(0);
    let case = run
        .cases
        .iter()
        .find(|case| case.id == "rfc6830::s5_3::outer_header")
        .unwrap();
    assert_eq!(case.folder, "lisplab/rfc6830--s5_3--outer_header");
    assert!(
        case.evidence
            .logs
            .iter()
            .any(|log| log.name == "xtr-a.log" && log.text.contains("ready"))
    );
    assert!(
        case.evidence
            .configurations
            .iter()
            .any(|file| file.name == "xtr-a_xtr.yaml")
    );
    assert!(case.evidence.network.is_some());
    assert!(
        case.evidence
            .capture
            .as_ref()
            .is_some_and(|capture| capture.bytes.is_some())
    );
    assert_eq!(case.evidence.problems, Vec::<String>::new());
    let ladder = case.evidence.ladder.as_ref().unwrap().text();
    for words in [
        "#10 #11 xtr-a > core > msmr",
        "Encapsulated Map-Request nonce 3f2a…91c0, EID 10.2.0.10/32, source 10.1.0.10, ITR-RLOC 192.0.2.2, from port 51234",
        "xtr-a > core > xtr-b: LISP data N nonce 8f11aa L status 1, echo request 10.1.0.10 → 10.2.0.10 sequence 2, TTL 63, outer TTL 64",
        "✗ rfc6830-5.3-ttl-copy-encap: expected the outer TTL",
        "-- host-a: ping -c 2 10.2.0.10",
    ] {
        assert!(ladder.contains(words), "{words} is missing in\n{ladder}");
    }
    assert!(
        case.evidence.packets[&17].contains("xtr-a → core"),
        "{:?}",
        case.evidence.packets
    );
}
