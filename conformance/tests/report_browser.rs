//! A person's way through the HTML report, in a real browser.

mod report_support;

use base64::Engine as _;
use conformance::catalogue::catalogue;
use conformance::report::html::html;
use report_support::webdriver::Browser;
use report_support::{Samples, keep};

const CASE: &str = "case-lisplab-rfc6830-s5_3-outer_header";

#[test]
fn a_reader_filters_opens_a_case_and_takes_the_capture() {
    let Some(browser) = Browser::start(true) else {
        return;
    };
    let samples = Samples::new();
    let page = keep("browser.html", &html(&samples.report(), catalogue()));
    browser.open(&page);
    assert_eq!(browser.complaints(), Vec::<String>::new());

    let visible = |selector: &str| {
        let script = format!(
            "return [...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility()).length"
        );
        browser.run(&script).as_u64().expect("a count")
    };
    let all = browser
        .run("return document.querySelectorAll('tr.row').length")
        .as_u64()
        .expect("a count");
    let with_result = visible("tr.row");
    assert!(
        0 < with_result && with_result < all,
        "{with_result} of {all}"
    );

    browser.type_into("#f-text", "ttl copied");
    assert_eq!(visible("tr.row"), 1);
    assert!(browser.shows("[id='req-rfc6830-5.3-ttl-copy-encap']"));
    browser.click("button[type=reset]");
    browser.run("return new Promise(done => setTimeout(done))");
    assert_eq!(visible("tr.row"), all, "a cleared form shows everything");

    browser.click("#f-verdict option[value=fail]");
    let failed = visible("tr.row");
    assert!(0 < failed && failed < with_result, "{failed}");
    browser.click("#f-role option:nth-child(3)");
    assert!(visible("tr.row") <= failed);
    browser.click("#f-role option:first-child");

    assert!(!browser.shows(&format!("#{CASE} .body")));
    browser.click(&format!(
        "[id='req-rfc6830-5.3-ttl-copy-encap'] a[href='#{CASE}']"
    ));
    assert!(browser.shows(&format!("#{CASE} .body")));
    assert!(browser.shows(&format!("#{CASE} svg.lad")));
    let size = browser.run(&format!("const r = document.querySelector('#{CASE} svg.lad').getBoundingClientRect(); return [r.width, r.height]"));
    assert!(
        size[0].as_f64() > Some(600.0) && size[1].as_f64() > Some(300.0),
        "{size}"
    );
    let arrow = browser.run(&format!(
        "return getComputedStyle(document.querySelector('#{CASE} path.arrow')).stroke"
    ));
    assert!(
        arrow
            .as_str()
            .is_some_and(|colour| colour.starts_with("rgb")),
        "the diagram has its style: {arrow}"
    );
    browser.click(&format!("#{CASE} details.sub summary"));

    let href = browser.run(&format!(
        "return document.querySelector('#{CASE} a.capture').href"
    ));
    let (_, data) = href
        .as_str()
        .and_then(|href| href.split_once("base64,"))
        .expect("the capture travels in the page");
    let file = base64::engine::general_purpose::STANDARD
        .decode(data)
        .expect("base64");
    let evidence = samples.path("lisplab/rfc6830--s5_3--outer_header/capture.pcapng");
    assert_eq!(file, std::fs::read(evidence).expect("the capture is there"));

    browser.click("#close-all");
    assert!(!browser.shows(&format!("#{CASE} .body")));
    browser.click("#open-bad");
    assert!(browser.shows(&format!("#{CASE} .body")));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_matrix_needs_no_script() {
    let Some(browser) = Browser::start(false) else {
        return;
    };
    let samples = Samples::new();
    let page = keep("browser-plain.html", &html(&samples.report(), catalogue()));
    browser.open(&page);
    assert!(
        !browser.shows("#filters"),
        "filters that would do nothing are not shown"
    );
    assert!(browser.shows("[id='req-rfc6830-5.3-ttl-copy-encap']"));
    assert!(browser.shows(&format!("td.cell a[href='#{CASE}']")));
    browser.click(&format!("#{CASE} > summary"));
    assert!(browser.shows(&format!("#{CASE} svg.lad")));
}

#[test]
fn a_hostile_page_runs_nothing() {
    let Some(browser) = Browser::start(true) else {
        return;
    };
    let mut report = Samples::new().report();
    let evil =
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
    for case in &mut report.runs[0].cases {
        case.result.title = evil.to_owned();
        for log in &mut case.evidence.logs {
            log.text = evil.to_owned();
        }
        for row in &mut case.result.requirements {
            row.finding = evil.to_owned();
        }
    }
    browser.open(&keep("browser-hostile.html", &html(&report, catalogue())));
    browser.click(&format!("td.cell a[href='#{CASE}']"));
    assert_ne!(browser.run("return document.title"), "owned");
    // The policy of the page is the second line: even markup that got through may not run.
    browser.run(&format!(
        "document.querySelector('#{CASE} .body').innerHTML += arguments.length + `{evil}`"
    ));
    assert_ne!(browser.run("return document.title"), "owned");
    assert!(
        !browser.complaints().is_empty(),
        "the browser says that it blocked it"
    );
}

#[test]
fn pictures_are_documents_of_their_own() {
    let Some(browser) = Browser::start(true) else {
        return;
    };
    let samples = Samples::new();
    let report = samples.report();
    let case = report.runs[0]
        .cases
        .iter()
        .find(|case| case.evidence.ladder.is_some())
        .expect("a sample has packets");
    let mut ladder = case.evidence.ladder.clone().expect("found by it");
    ladder.title = "<&\"'\u{0}\u{1b}\u{ffff}]]>".to_owned();
    ladder.columns[0].role = ladder.title.clone();
    let network = case
        .evidence
        .network
        .clone()
        .expect("a sample has a topology");
    for (name, svg) in [
        ("browser-ladder.svg", ladder.svg()),
        ("browser-network.svg", network.svg()),
    ] {
        browser.open(&keep(name, &svg));
        assert_eq!(
            browser.run("return document.documentElement.nodeName"),
            "svg",
            "{name}"
        );
        assert_eq!(
            browser.run("return document.querySelectorAll('parsererror').length"),
            0,
            "{name}"
        );
        // Nothing is drawn outside of the picture.
        let outside = browser.run(
            "const all = document.documentElement.getBoundingClientRect();
             return [...document.querySelectorAll('rect, text, path')].map(e => e.getBoundingClientRect())
               .filter(r => r.width > 0 && (r.left < all.left - 1 || r.right > all.right + 1 || r.bottom > all.bottom + 1)).length",
        );
        assert_eq!(outside, 0, "{name}");
    }
}
