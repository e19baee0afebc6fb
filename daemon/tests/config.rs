//! What people see when a configuration is wrong.

use daemon::config::{self, Algorithm, Key, Period, Prefix, Source, Spanned};
use lisp::auth::MacAlgorithm;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code)]
struct Example {
    admin_socket: Option<String>,
    #[serde(default)]
    log: daemon::log::Level,
    interval: Option<Period>,
    #[serde(default)]
    addresses: Vec<config::Address>,
    #[serde(default)]
    prefixes: Vec<Spanned<Prefix>>,
    #[serde(default)]
    keys: Vec<Key>,
    want: Option<bool>,
}

fn error(text: &str) -> String {
    config::parse::<Example>("test.yaml", text)
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn good_values_are_read() {
    let text = "
interval: 90s
addresses: [192.0.2.1, '2001:db8::1']
prefixes: [10.1.0.0/24]
log: debug
keys:
  - {key: secret, algorithm: hmac-sha-1-96}
  - {key: other, key-id: 3}
";
    let read: Example = config::parse("test.yaml", text).unwrap();
    assert_eq!(read.interval, Some(Period::from_secs(90)));
    assert_eq!(read.addresses.len(), 2);
    assert_eq!(read.keys[0].algorithm, Algorithm(MacAlgorithm::HmacSha1_96));
    assert_eq!(read.keys[1].algorithm, Algorithm::default());
    assert_eq!(read.keys[1].key_id, 3);
    assert!(!format!("{:?}", read.keys).contains("secret"));
}

#[test]
fn an_unknown_key_names_its_neighbour() {
    assert_eq!(
        error("log: info\nadress: []\n"),
        "test.yaml:2:1: expected one of `admin-socket`, `log`, `interval`, `addresses`, `prefixes`, `keys`, `want`, found `adress`\n\
         2 | adress: []\n  | ^\nhint: did you mean `addresses`?"
    );
}

#[test]
fn wrong_values_say_what_was_expected_and_found() {
    for (text, place, expected, found) in [
        ("interval: 90\n", ":1:11", "unit", "`90`"),
        ("log: chatty\n", ":1:6", "`debug`", "`chatty`"),
        (
            "addresses: [192.0.2]\n",
            ":1:13",
            "IPv4 or IPv6 address",
            "`192.0.2`",
        ),
        (
            "prefixes: [10.1.0.1/24]\n",
            ":1:12",
            "host bits",
            "10.1.0.1/24",
        ),
        ("want: maybe\n", ":1:7", "`true` or `false`", "`maybe`"),
        ("keys: [{key-id: 1}]\n", ":1:9", "`key`", "without it"),
        (
            "keys: [{key: a, key-id: 300}]\n",
            ":1:25",
            "from 0 to 255",
            "`300`",
        ),
        ("log: info\nlog: warn\n", ":2:1", "each key once", "`log`"),
        ("log: [info\n", "", "", ""),
        ("addresses: 5\n", ":1:12", "", ""),
        ("- a\n", ":1:1", "", ""),
        ("log: info\n---\nlog: info\n", "", "one YAML document", ""),
    ] {
        let shown = error(text);
        assert!(shown.starts_with(&format!("test.yaml{place}:")), "{shown}");
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.contains(found), "{shown}");
        println!("{shown}\n");
    }
}

#[test]
fn later_errors_point_into_the_file_too() {
    let source = Source::from_text("test.yaml", "prefixes:\n  - 10.0.0.0/8\n");
    let read: Example = source.parse().unwrap();
    let error = source.error(&read.prefixes[0], "a prefix of this site", "10.0.0.0/8");
    assert_eq!(
        error.to_string(),
        "test.yaml:2:5: expected a prefix of this site, found 10.0.0.0/8\n2 |   - 10.0.0.0/8\n  |     ^"
    );
}

#[test]
fn hostile_texts_are_errors() {
    let bomb = format!(
        "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
        (0..12)
            .map(|n| format!("b{n}: &b{n} [*a,*a,*a,*a,*a,*a,*a,*a]\n"))
            .collect::<String>()
    );
    error(&bomb);
    error(&"[".repeat(100_000));
    error("\u{0}\u{1}");
    error("addresses: !!binary zzz");
}

#[test]
fn unreadable_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.yaml");
    assert!(config::load::<Example>(&path).is_err());
    std::fs::write(&path, b"log: \xff").unwrap();
    let shown = config::load::<Example>(&path).unwrap_err().to_string();
    assert!(shown.contains("not UTF-8 at offset 5"), "{shown}");
}
