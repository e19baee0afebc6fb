//! The language as its users meet it: what is wrong is said with line, column, what was expected and a hint.

use super::*;

const GOOD: &str = "format: 1
name: good
title: A sentence.
topology: two-sites
settings:
  xtr-a: {on-miss: drop}
steps:
  - name: asked
    send:
      from: legacy
      source-port: 5555
      destination: msmr
      map-request: {eid: [10.2.0.0/24, 10.1.0.1], itr-rlocs: legacy, nonce: 0x2a, source-eid: 10.1.0.9, smr-invoked: true}
      encapsulated: {source: legacy, destination: 10.2.0.1}
  - name: answered
    wait-for: {packet: {type: map-reply, nonce: 42}, within: 1.5s}
  - name: pinged
    ping: {from: host-a, to: host-b, count: 3, answered: true, requirement: rfc6830-6.1.2-eid-hostmask}
  - link: {link: core-a, state: down}
  - link: {link: core-a, set: {loss: 5%, delay: 20ms, seed: 7}}
  - send: {from: host-a, hex: '4500001c000040004001 0000 0a010001 0a020001 0800f7fe00010000'}
  - send:
      from: legacy
      destination: xtr-a
      map-register: {key: k, records: [{eid: 10.1.0.0/24, locators: [{address: xtr-a}]}]}
  - send:
      from: legacy
      destination: xtr-a
      data: {nonce: 5, inner: {source: 10.2.0.9, destination: 10.1.0.9, echo-request: {sequence: 3}}}
  - wait-for: {show: {node: xtr-a, what: map-cache, contains: x}}
expectations:
  - name: a packet
    since: asked
    requirement: [rfc6830-6.1.2-eid-hostmask]
    eventually: {within: 2s, packet: {type: data, inner: {type: echo-request, ttl: 60..63}, flags: not-echo-nonce}}
  - name: and after it
    since: a packet
    count: {packet: {type: map-reply, nonce-of: answered}, at-most: 1, fence: pinged}
  - name: no such
    never: {packet: {type: smr, from: 192.0.2.0/24}, fence: {packet: {of-ping: pinged}}}
";

fn problem(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    match Scenario::parse("s.yaml", &GOOD.replacen(from, to, 1)) {
        Ok(_) => panic!("{to} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_good_one_is_read() {
    let scenario = Scenario::parse("s.yaml", GOOD).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((scenario.steps.len(), scenario.expectations.len()), (9, 4));
    assert_eq!(scenario.expectations[0].name, "pinged");
    assert_eq!(scenario.requirements().len(), 1);
    let Action::Send(send) = &scenario.steps[0].action else {
        panic!("a send")
    };
    let ip = crate::decode::ip(&send.message.packet()).unwrap();
    let crate::decode::Lisp::Control {
        inner: Some(inner), ..
    } = crate::decode::lisp(&ip)
    else {
        panic!("an Encapsulated Control Message")
    };
    let lisp::wire::ControlMessage::MapRequest(request) = &*inner.message else {
        panic!("a Map-Request")
    };
    assert!(request.nonce == 42 && request.smr_invoked && request.records.len() == 2);
    let Action::Send(data) = &scenario.steps[7].action else {
        panic!("a send")
    };
    let ip = crate::decode::ip(&data.message.packet()).unwrap();
    assert!(matches!(
        crate::decode::lisp(&ip),
        crate::decode::Lisp::Data { header, inner: Some(inner) } if header.nonce == Some(5) && inner.icmp().unwrap().echo().1 == 3
    ));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_hint() {
    for (from, to, said) in [
        ("format: 1", "format: 2", "s.yaml:1:9: format: expected 1"),
        (
            "topology: two-sites",
            "topology: two-site",
            "did you mean `two-sites`?",
        ),
        ("name: asked", "name: asked\n    colour: red", "s.yaml:9:5"),
        ("from: legacy", "from: legazy", "did you mean `legacy`?"),
        (
            "wait-for: {packet: {type: map-reply",
            "wait-for: {packet: {type: map-replay",
            "s.yaml:16:31",
        ),
        ("within: 1.5s", "within: soon", "a time like 500ms"),
        ("since: asked", "since: askd", "did you mean `asked`?"),
        (
            "rfc6830-6.1.2-eid-hostmask}",
            "rfc6830-6.1.2-eid-hostmsk}",
            "did you mean `rfc6830-6.1.2-eid-hostmask`?",
        ),
        (
            "link: core-a, state: down",
            "link: core-x, state: down",
            "core-a",
        ),
        (
            "state: down",
            "state: sideways",
            "expected one of those below",
        ),
        ("ttl: 60..63", "ttl: 63..60", "a range like 1..3"),
        ("flags: not-echo-nonce", "flags: not-echo", "flags"),
        (
            "nonce-of: answered",
            "nonce-of: asked",
            "waits for no packet",
        ),
        (
            "at-most: 1, fence: pinged",
            "at-most: 1",
            "`fence` is missing",
        ),
        (
            "at-most: 1, fence: pinged",
            "at-most: 1, fence: step-4",
            "waits for nothing",
        ),
        (
            "at-most: 1, fence: pinged",
            "at-most: 1, within: 2s",
            "a time shows only lower bounds",
        ),
        (
            "never: {packet: {type: smr, from: 192.0.2.0/24}",
            "never: {packet: {}",
            "every packet would do",
        ),
        ("of-ping: pinged", "of-ping: asked", "a ping"),
        ("answered: true, req", "req", "nothing is expected"),
        ("hex: '45", "hex: '05", "no IPv4 or IPv6 header"),
        (
            "destination: msmr",
            "destination: 10.2.0",
            "an address like",
        ),
        (
            "name: answered",
            "name: asked",
            "another step has this name",
        ),
        ("contains: x", "timeout: 1s", "unknown key `timeout`"),
        (
            "xtr-a: {on-miss",
            "host-a: {on-miss",
            "no program runs there",
        ),
        (
            "- link: {link: core-a, state: down}",
            "- move-host: {host: host-a, to: core}",
            "expected a node of kind bridge",
        ),
        (
            "- link: {link: core-a, state: down}",
            "- {stop: xtr-a, start: xtr-a}",
            "expected one thing to do",
        ),
    ] {
        let text = problem(from, to);
        assert!(text.contains(said), "{to}: {said} in\n{text}");
        assert!(text.contains("s.yaml:"), "{text}");
    }
    let none = "format: 1\nname: x\ntitle: y\ntopology: two-sites\n".to_owned();
    let error = Scenario::parse("s.yaml", &none).unwrap_err().to_string();
    assert!(error.contains("nothing is expected"), "{error}");
    let wrong = "expectations:\n  - eventually: {within: 5, packet: {type: data}}\n";
    let error = Scenario::parse("s.yaml", &(none + wrong)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("s.yaml:6:26"), "{error}");
    assert!(!error.contains("nothing is expected"), "{error}");
}

/// Every key that shipped scenarios and the good one use is in the schema, and a key that the reader does not know is not.
#[test]
fn the_schema_knows_what_the_reader_knows() {
    let schema = schema();
    let mut texts = vec![GOOD.to_owned()];
    for entry in std::fs::read_dir(crate::home::scenarios()).unwrap() {
        texts.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert!(texts.len() > 5);
    for text in texts {
        let tree = harness::topology::yaml::Tree::parse(&text).unwrap();
        assert_eq!(check(&schema, &schema, &tree.to_json(), ""), None, "{text}");
        let changed = text.replacen("title:", "tilte:", 1);
        let tree = harness::topology::yaml::Tree::parse(&changed).unwrap();
        assert!(check(&schema, &schema, &tree.to_json(), "").is_some());
    }
}

/// As much of JSON Schema as the schema uses.
fn check(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    at: &str,
) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return check(root, target, value, at);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[key].as_array() {
            let fits = choices
                .iter()
                .any(|choice| check(root, choice, value, at).is_none());
            return (!fits).then(|| format!("{at}: {value} fits none of {key}"));
        }
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Some(format!("{at}: {value} is not {constant}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Some(format!("{at}: {value} is none of {words:?}"));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        serde_json::Value::String(kind) => vec![kind],
        serde_json::Value::Array(kinds) => kinds.iter().filter_map(|kind| kind.as_str()).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        serde_json::Value::Object(_) => "object",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(_) => "integer",
        serde_json::Value::Null => "null",
    };
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return Some(format!("{at}: {value} is no {kinds:?}"));
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
        return list.iter().find_map(|value| check(root, items, value, at));
    }
    let map = value.as_object()?;
    for needed in schema["required"].as_array().into_iter().flatten() {
        if !map.contains_key(needed.as_str().unwrap()) {
            return Some(format!("{at}: no {needed}"));
        }
    }
    map.iter().find_map(|(key, value)| {
        let at = format!("{at}/{key}");
        match schema["properties"].get(key) {
            Some(schema) => check(root, schema, value, &at),
            None if schema["additionalProperties"] == false => Some(format!("{at}: unknown")),
            None => None,
        }
    })
}
