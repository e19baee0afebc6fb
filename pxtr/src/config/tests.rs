//! Proxy configurations, good and wrong.

use serde_json::{Value, json};
use xtr::forwarding::Role;
use xtr::shell::Host;

use super::{Config, parse};

fn host() -> Host {
    Host {
        addresses: vec!["192.0.2.40".parse().expect("an address")],
        register_nonce: 1,
    }
}

fn error(text: &str) -> String {
    parse("pxtr.yaml", text)
        .expect_err("wrong on purpose")
        .to_string()
}

#[test]
fn a_proxy_for_both_directions() {
    let loaded = parse(
        "pxtr.yaml",
        "roles: [pitr, petr]\naggregates: [203.0.113.0/24, 2001:db8:e::/48]\nrlocs: [192.0.2.40]\n\
         petr-sources: [{prefix: 203.0.113.0/24}]\nmap-resolvers: [192.0.2.53]\n\
         map-versioning: true\n",
    )
    .expect("good");
    let settings = loaded.setup(&host()).expect("fits the box").settings;
    assert_eq!(settings.role, Role::Pxtr);
    assert!(settings.map_versioning);
    assert!(settings.is_pitr());
    assert_eq!(settings.aggregates.len(), 2);
    assert_eq!(settings.petr_sources.len(), 1);
    assert!(settings.database.is_empty());
    assert_eq!(settings.map_request_rate, 200);
}

#[test]
fn a_list_of_one_role_is_a_role() {
    for (name, role) in [
        ("pitr", Role::Pitr),
        ("petr", Role::Petr),
        ("rtr", Role::Rtr),
    ] {
        let text = format!("roles: [{name}]\nrlocs: [192.0.2.40]\n");
        let loaded = parse("pxtr.yaml", &text).expect("good");
        let settings = loaded.setup(&host()).expect("fits the box").settings;
        assert_eq!(settings.role, role);
    }
}

#[test]
fn roles_that_contradict_each_other() {
    for (roles, found) in [
        ("[]", "no role"),
        ("[pitr, rtr]", "`rtr` together with another role"),
        ("[petr, petr]", "the same role twice"),
    ] {
        let text = error(&format!("roles: {roles}\nrlocs: [192.0.2.40]\n"));
        assert!(text.contains(found), "{text}");
        assert!(text.contains("pxtr.yaml:1"), "{text}");
    }
    assert!(error("roles: [ms]\nrlocs: [192.0.2.40]\n").contains("pitr"));
}

#[test]
fn aggregates_belong_to_a_pitr_and_hold_no_locator() {
    let text = error("roles: [petr]\nrlocs: [192.0.2.40]\naggregates: [203.0.113.0/24]\n");
    assert!(text.contains("only with the role `pitr`"), "{text}");
    let text = error("roles: [pitr]\nrlocs: [192.0.2.40]\naggregates:\n  - 192.0.2.0/24\n");
    assert!(text.contains("which contains 192.0.2.40"), "{text}");
    assert!(text.contains("pxtr.yaml:4:5"), "{text}");
    let text = error("roles: [pitr]\nrlocs: [192.0.2.40]\npetr-sources: [{prefix: 10.0.0.0/8}]\n");
    assert!(text.contains("only with the role `petr`"), "{text}");
    let text = error("roles: [pitr]\nrlocs: [192.0.2.40]\npetr-locators: [192.0.2.0/24]\n");
    assert!(text.contains("only with the role `petr`"), "{text}");
}

#[test]
fn keys_of_a_site_are_unknown_here() {
    let text = error("roles: [pitr]\nrlocs: [192.0.2.40]\neid-prefixes: []\n");
    assert!(text.contains("eid-prefixes"), "{text}");
}

const PAGE: &str = include_str!("../../../docs/pxtr.md");

#[test]
fn the_schema_takes_the_example_and_no_other_keys() {
    let block = PAGE.split("```yaml\n").nth(1).expect("an example");
    let example = block.split("```").next().expect("which ends");
    parse("pxtr.md", example).expect("good");
    let schema = serde_json::from_str(&daemon::config::schema::<Config>()).expect("JSON");
    let example: Value = daemon::config::parse("pxtr.md", example).expect("YAML");
    jsonschema::validate(&schema, &example).expect("valid");
    for (place, key, wrong) in [
        ("", "nothing", json!(1)),
        ("", "eid-prefixes", json!([])),
        ("", "roles", json!([])),
        ("", "roles", json!(["petr", "petr"])),
        ("", "rlocs", json!([])),
        ("", "use-petr", json!([{"nothing": 1}])),
        ("", "data-plane", json!({"nothing": 1})),
        ("", "data-plane", json!({"queues": 17})),
        ("/petr-sources/0", "nothing", json!(1)),
        ("/petr-sources/0", "instance-id", json!(1 << 24)),
    ] {
        let mut other = example.clone();
        other.pointer_mut(place).expect("is there")[key] = wrong;
        assert!(!jsonschema::is_valid(&schema, &other), "{place}/{key}");
    }
    // An error about an unknown key lists the known ones.
    let keys = error("unknown-key: 1");
    let known = keys.split('`').skip(1).step_by(2);
    for key in known.filter(|key| *key != "unknown-key") {
        let shown = &schema["properties"][key];
        assert!(shown["description"].is_string(), "{key}: {shown}");
        assert!(
            PAGE.contains(&format!("`{key}`")),
            "{key} is not in docs/pxtr.md"
        );
    }
}

#[test]
fn translations_of_a_proxy() {
    let base = "roles: [pitr, petr]\nrlocs: [192.0.2.40]\naggregates: [10.1.0.0/16]\n";
    let loaded = parse(
        "pxtr.yaml",
        &format!(
            "{base}lisp-nat:\n  - {{inside: 10.1.0.0/24, routable: 198.18.1.0/24}}\n  \
             - {{inside: 192.168.0.0/24, routable: 198.18.2.0/24}}\n"
        ),
    )
    .expect("good");
    let settings = loaded.setup(&host()).expect("fits the box").settings;
    let eids: Vec<bool> = settings
        .translations
        .iter()
        .map(|t| t.inside_is_eid)
        .collect();
    assert_eq!(eids, [true, false]);
    let loaded = parse(
        "pxtr.yaml",
        &format!("{base}lisp-nat: [{{inside: 10.1.0.0/24, routable: 198.18.0.0/16}}]\n"),
    );
    let text = loaded
        .and_then(|loaded| loaded.setup(&host()).map(drop))
        .expect_err("wrong on purpose")
        .to_string();
    assert!(text.contains("one address for one"), "{text}");
}
