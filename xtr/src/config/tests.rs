use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::shell::Host;

const TWO_SITES: &str = "
eid-prefixes:
  - prefix: 10.1.0.0/24
    locators: [{address: 192.0.2.1, priority: 1, weight: 100}]
map-servers:
  - {address: 198.51.100.10, key: secret}
map-resolvers: [198.51.100.10]
";

fn host(address: &str) -> Host {
    Host {
        addresses: vec![address.parse().unwrap()],
        register_nonce: 0,
    }
}

fn error(text: &str) -> String {
    Loaded::parse("xtr.yaml", text).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_rfcs() {
    let loaded = Loaded::parse("xtr.yaml", TWO_SITES).unwrap();
    let settings = loaded.settings(&host("192.0.2.1")).unwrap();
    assert_eq!(settings.register_interval, Duration::from_secs(60));
    assert_eq!(settings.database[0].ttl, 1440);
    assert_eq!(settings.rlocs, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(settings.map_servers[0].want_map_notify);
    assert!(settings.hold.is_some());
}

#[test]
fn wrong_values_name_the_line() {
    let text = TWO_SITES.replace("priority: 1", "priorty: 1");
    let found = error(&text);
    assert!(found.starts_with("xtr.yaml:4:"), "{found}");
    assert!(found.contains("did you mean `priority`?"), "{found}");

    let text = format!("{TWO_SITES}edition: 7000\n");
    let found = error(&text);
    assert!(found.starts_with("xtr.yaml:8:10"), "{found}");
    assert!(found.contains("6830 or 9300"), "{found}");

    let text = TWO_SITES.replace("10.1.0.0/24\n", "10.1.0.0/24\n    instance-id: 16777216\n");
    let found = error(&text);
    assert!(found.starts_with("xtr.yaml:4:18"), "{found}");
    assert!(found.contains("from 0 to 16777215"), "{found}");

    let text = format!("{TWO_SITES}register-interval: 0s\n");
    let found = error(&text);
    assert!(found.starts_with("xtr.yaml:8:20"), "{found}");
}

#[test]
fn locators_are_checked() {
    let inside = error(&TWO_SITES.replace("192.0.2.1,", "10.1.0.7,"));
    assert!(inside.contains("outside of all EID-Prefixes"), "{inside}");
    let server = error(&TWO_SITES.replace("address: 198.51.100.10,", "address: 10.1.0.8,"));
    assert!(server.starts_with("xtr.yaml:6:"), "{server}");
    let multicast = error(&TWO_SITES.replace("192.0.2.1,", "224.0.0.7,"));
    assert!(multicast.contains("unicast"), "{multicast}");
}

#[test]
fn instances_that_share_addresses_are_refused() {
    let second = "  - {prefix: 10.1.0.128/25, instance-id: 7, locators: [{address: 192.0.2.1}]}\nmap-servers:";
    let found = error(&TWO_SITES.replacen("map-servers:", second, 1));
    assert!(found.starts_with("xtr.yaml:5:"), "{found}");
    assert!(
        found.contains("[7]10.1.0.128/25, which overlaps 10.1.0.0/24"),
        "{found}"
    );
    let apart = second.replace("10.1.0.128/25", "10.1.1.0/24");
    Loaded::parse("xtr.yaml", &TWO_SITES.replacen("map-servers:", &apart, 1)).unwrap();
    let inside = second.replace("instance-id: 7, ", "");
    Loaded::parse("xtr.yaml", &TWO_SITES.replacen("map-servers:", &inside, 1)).unwrap();
}

#[test]
fn versions_and_times_have_bounds() {
    let found = error(&TWO_SITES.replace("10.1.0.0/24\n", "10.1.0.0/24\n    map-version: 0\n"));
    assert!(found.contains("from 1 to 4095"), "{found}");
    for key in ["use-lsb-timer", "echo-nonce-interval", "map-reply-interval"] {
        let found = error(&format!("{TWO_SITES}{key}: 2h\n"));
        assert!(
            found.starts_with("xtr.yaml:8:") && found.contains("from 1s to 1h"),
            "{found}"
        );
    }
    let found = error(&format!("{TWO_SITES}dynamic-eid-timeout: 31d\n"));
    assert!(found.contains("from 1s to 30d"), "{found}");
}

#[test]
fn a_box_without_its_locator_is_told() {
    let loaded = Loaded::parse("xtr.yaml", TWO_SITES).unwrap();
    let found = loaded.settings(&host("203.0.113.9"));
    assert!(found.unwrap_err().to_string().contains("locator"));
}

const PAGE: &str = include_str!("../../../docs/xtr.md");

#[test]
fn the_public_internet_profile_excludes_what_can_be_forged() {
    let profile = format!("{TWO_SITES}public-internet: true\n");
    Loaded::parse("xtr.yaml", &profile).unwrap();
    for key in [
        "glean",
        "echo-nonce",
        "locator-status-bits",
        "map-versioning",
    ] {
        let found = error(&format!("{profile}{key}: true\n"));
        assert!(found.contains(&format!("`{key}: true`")), "{found}");
    }
}

#[test]
fn only_groups_are_multicast() {
    let with = |groups: &str| {
        format!("{TWO_SITES}multicast: {{interfaces: [eth1], groups: [{groups}]}}\n")
    };
    Loaded::parse(
        "xtr.yaml",
        &with("239.1.0.0/16, \"ff3e::/16\", 224.0.0.0/4"),
    )
    .unwrap();
    for group in ["10.0.0.0/8", "224.0.0.0/3", "\"2001:db8::/32\""] {
        let found = error(&with(group));
        assert!(found.contains("groups inside"), "{found}");
    }
}

/// The configuration of the page.
fn example() -> &'static str {
    let block = PAGE.split("```yaml\n").nth(1).expect("an example");
    block.split("```").next().expect("which ends")
}

#[test]
fn the_reference_page_shows_every_key_and_its_example_is_good() {
    let example = example();
    let loaded = Loaded::parse("example", example).unwrap();
    loaded
        .settings(&Host {
            addresses: vec![
                "192.0.2.1".parse().unwrap(),
                "2001:db8:a::1".parse().unwrap(),
            ],
            register_nonce: 0,
        })
        .unwrap();
    // An error about an unknown key lists the known ones.
    for (place, least) in [("unknown-key: 1", 20), ("data-plane: {unknown-key: 1}", 10)] {
        let keys = error(place);
        let known: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
        assert!(known.len() > least, "{keys}");
        for key in known.iter().filter(|key| **key != "unknown-key") {
            assert!(
                example.contains(&format!("{key}:")),
                "{key} is not in docs/xtr.md"
            );
        }
    }
}

#[test]
fn the_schema_knows_every_key_and_forbids_others() {
    let schema: serde_json::Value =
        serde_json::from_str(&daemon::config::schema::<Config>()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let keys = error("unknown-key: 1");
    let known: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
    for key in known.iter().filter(|key| **key != "unknown-key") {
        assert!(
            schema["properties"].get(key).is_some(),
            "{key} is not in the schema"
        );
    }
    let resolvers = &schema["properties"]["map-resolvers"]["items"];
    assert_eq!(resolvers["anyOf"][0]["format"], "ipv4");
    let example = daemon::config::parse("xtr.md", example()).unwrap();
    jsonschema::validate(&schema, &example).unwrap();
}
