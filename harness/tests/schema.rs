//! The JSON Schema of topologies says what the reader says.

use std::collections::BTreeSet;
use std::path::Path;

use harness::topology::{SCHEMA, Topology};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn every_shipped_topology_fits() {
    let validator = jsonschema::validator_for(&schema()).expect("a sound schema");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("topologies") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).expect("readable");
        let problems = |text: &str| -> Vec<String> {
            let value = yaml(text);
            let errors = validator.iter_errors(&value);
            errors
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect()
        };
        assert_eq!(problems(&text), Vec::<String>::new(), "{}", path.display());
        let topology = Topology::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let again = Topology::parse("expanded", &topology.expanded)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            format!("{:?}", names(&topology)),
            format!("{:?}", names(&again))
        );
        assert_eq!(
            problems(&topology.expanded),
            Vec::<String>::new(),
            "{} expanded",
            path.display()
        );
    }
    assert!(seen > 5, "the shipped topologies were found");
}

fn names(topology: &Topology) -> (Vec<String>, Vec<String>, Vec<Value>) {
    (
        topology
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .collect(),
        topology
            .links
            .iter()
            .map(|link| {
                format!(
                    "{} {:?} {:?}",
                    link.name, link.ends[0].addresses, link.impair
                )
            })
            .collect(),
        topology
            .nodes
            .iter()
            .map(|node| node.settings.clone())
            .collect(),
    )
}

/// The keys that the reader lists when it meets one that it does not know.
fn known_to_the_reader(text: &str) -> BTreeSet<String> {
    let error = Topology::parse("t", text)
        .expect_err("zzzzzzzz is no key")
        .to_string();
    let list = error
        .split("known keys are ")
        .nth(1)
        .unwrap_or_else(|| panic!("{error}"));
    let list = list.lines().next().expect("a line");
    list.split(", ").map(str::to_owned).collect()
}

fn known_to_the_schema(pointer: &str) -> BTreeSet<String> {
    let schema = schema();
    let properties = schema
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{pointer}"));
    properties
        .as_object()
        .expect("properties")
        .keys()
        .cloned()
        .collect()
}

#[test]
fn the_same_keys_are_known() {
    let around = |node: &str, link: &str| {
        format!(
            "format: 1\nname: t\nnodes:\n  a: {{kind: host, {node}}}\n  b: {{kind: host}}\nlinks:\n  l: {{{link}ends: {{a: {{}}, b: {{}}}}}}\n"
        )
    };
    let node = |inside: &str| around(inside, "");
    for (text, pointer, of_expansion) in [
        (
            "format: 1\nname: t\nnodes: {}\nzzzzzzzz: 1\n".to_owned(),
            "/properties",
            &["parameters", "include"][..],
        ),
        (node("zzzzzzzz: 1"), "/$defs/node/properties", &["repeat"]),
        (
            node("routes: [{to: default, zzzzzzzz: 1}]"),
            "/$defs/node/properties/routes/items/properties",
            &["repeat"],
        ),
        (
            node("rules: [{table: 1, priority: 1, zzzzzzzz: 1}]"),
            "/$defs/node/properties/rules/items/properties",
            &["repeat"],
        ),
        (
            node("neighbours: [{zzzzzzzz: 1}]"),
            "/$defs/node/properties/neighbours/items/properties",
            &["repeat"],
        ),
        (
            around("", "zzzzzzzz: 1, "),
            "/$defs/link/properties",
            &["repeat"],
        ),
        (
            around("", "impair: {zzzzzzzz: 1}, "),
            "/$defs/link/properties/impair/properties",
            &[],
        ),
        (
            around("", "").replace("a: {}", "a: {zzzzzzzz: 1}"),
            "/$defs/link/properties/ends/additionalProperties/properties",
            &[],
        ),
    ] {
        let mut expected = known_to_the_reader(&text);
        expected.extend(of_expansion.iter().map(|&key| key.to_owned()));
        assert_eq!(known_to_the_schema(pointer), expected, "{pointer}");
    }
}

#[test]
fn wrong_files_are_wrong_for_both() {
    let validator = jsonschema::validator_for(&schema()).expect("a sound schema");
    let good = json!({
        "format": 1, "name": "t",
        "nodes": {"a": {"kind": "host"}, "b": {"kind": "router"}},
        "links": {"l": {"ends": {"a": {"addresses": ["10.0.0.1/24"]}, "b": {"addresses": ["10.0.0.2/24"]}}}}
    });
    assert!(validator.is_valid(&good));
    Topology::parse("t", &good.to_string()).expect("the reader takes it");
    for (pointer, value) in [
        ("/format", json!(2)),
        ("/name", json!("no spaces, please")),
        ("/nodes/a/kind", json!("hots")),
        ("/nodes/a", json!({"kind": "host", "zzz": 1})),
        (
            "/nodes/a",
            json!({"kind": "host", "sysctls": {"kernel.panic": 1}}),
        ),
        (
            "/nodes/a",
            json!({"kind": "host", "files": {"relative": "x"}}),
        ),
        ("/links/l/ends", json!({"a": {}})),
        ("/links/l/ends/a", json!({"addresses": ["10.0.0.1"]})),
        (
            "/links/l",
            json!({"ends": {"a": {}, "b": {}}, "impair": {"loss": 5}}),
        ),
        (
            "/links/l",
            json!({"ends": {"a": {}, "b": {}}, "impair": {"delay": "20"}}),
        ),
        (
            "/links/l",
            json!({"ends": {"a": {}, "b": {}}, "capture": "yes"}),
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("a place in the good one") = value;
        assert!(!validator.is_valid(&bad), "the schema refuses {bad}");
        assert!(
            Topology::parse("t", &bad.to_string()).is_err(),
            "the reader refuses {bad}"
        );
    }
}
