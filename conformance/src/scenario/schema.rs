//! The JSON Schema of the language, for editors. A test holds it against the reader and the shipped scenarios.

use serde_json::{Value, json};

use super::words::{ACTIONS, FLAGS, KINDS};

/// The JSON Schema of a scenario file.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lisplab scenario",
        "description": "A network, what is done in it, and what is expected (docs/scenarios.md).",
        "type": "object",
        "additionalProperties": false,
        "required": ["format", "name", "title", "topology"],
        "properties": {
            "format": {"const": super::SCENARIO_FORMAT},
            "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
            "title": text("One sentence: what is expected."),
            "topology": {
                "description": "A name of topologies/, a path beside this file, one of them with parameters, or a whole topology.",
                "anyOf": [
                    {"type": "string"},
                    object(&["name"], json!({
                        "name": text("A name or a path."),
                        "with": {"type": "object", "description": "Values of its parameters."},
                    })),
                    {"type": "object", "required": ["format", "name", "nodes"]},
                ],
            },
            "implementation": {
                "description": "An adapter, or one for each program.",
                "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
            },
            "settings": {
                "type": "object",
                "description": "Settings of nodes that replace those of the topology.",
                "additionalProperties": {"type": "object"},
            },
            "start": {"type": "boolean", "description": "Whether all programs are started, and ready, before the first step."},
            "timeout": {"$ref": "#/$defs/time"},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "expectations": {"type": "array", "items": {"$ref": "#/$defs/expectation"}},
        },
        "$defs": {
            "time": {"type": "string", "pattern": "^[0-9.]+ *(us|ms|s|m)$", "description": "500ms, 1.5s, 2m"},
            "range": {"type": ["integer", "string"], "description": "5, 1..3, 3.. or ..3"},
            "texts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "names": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "nonce": {"type": ["integer", "string"], "description": "Decimal, or hex with 0x."},
            "step": step(),
            "exec": exec(),
            "show": show(),
            "packet": packet(),
            "inner": object(&[], ip_keys(&["any", "echo-request", "echo-reply", "icmp-error", "udp", "tcp"])),
            "record": record(),
            "message": message(&[], json!({})),
            "mapping": mapping(),
            "expectation": expectation(),
            "fence": {
                "description": "A later step that waits, or a packet: when it is there, the other would be too.",
                "anyOf": [
                    {"type": "string"},
                    object(&["packet"], json!({"packet": {"$ref": "#/$defs/packet"}, "within": {"$ref": "#/$defs/time"}})),
                ],
            },
        },
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn number(least: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// The properties of `more` added to those of `base`.
fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

fn words(words: &[(&str, &str)]) -> Value {
    let choices: Vec<Value> = words
        .iter()
        .map(|(word, what)| json!({"const": word, "description": what}))
        .collect();
    json!({"oneOf": choices})
}

fn step() -> Value {
    object(
        &[],
        json!({
            "name": text("By which others name this moment."),
            "ping": object(&["from", "to"], json!({
                "from": text("The node that sends it."),
                "to": text("An address, or a node for its first."),
                "count": number(1, 1000),
                "within": {"$ref": "#/$defs/time"},
                "payload": number(0, 60_000),
                "ttl": number(1, 255),
                "answered": {"type": "boolean", "description": "Expect that all are answered, or none."},
                "requirement": {"$ref": "#/$defs/names"},
            })),
            "send": message(&["from"], json!({
                "from": text("The node that sends it."),
                "times": number(1, 10_000),
            })),
            "start": text("The node whose program is started."),
            "stop": text("The node whose program is stopped."),
            "kill": text("The node whose program is killed."),
            "reload": object(&["node", "settings"], json!({
                "node": text("The node."),
                "settings": {"type": "object", "description": "Keys that replace those of the topology."},
            })),
            "link": object(&["link"], json!({
                "link": text("The link."),
                "state": {"enum": ["up", "down"]},
                "set": object(&[], json!({
                    "loss": text("5%"), "delay": text("20ms"), "jitter": text("5ms"), "duplicate": text("1%"),
                    "reorder": text("1%"), "corrupt": text("0.1%"), "rate": text("10mbit"),
                    "seed": {"type": "integer", "minimum": 0},
                })),
            })),
            "move-host": object(&["host", "to"], json!({
                "host": text("The host."),
                "to": text("The bridge that it moves to."),
                "link": text("Its link, where it has several to bridges."),
            })),
            "exec": {"$ref": "#/$defs/exec"},
            "wait-for": object(&[], json!({
                "packet": {"$ref": "#/$defs/packet"},
                "show": {"$ref": "#/$defs/show"},
                "exec": {"$ref": "#/$defs/exec"},
                "registered": {"$ref": "#/$defs/names"},
                "since": text("An earlier step; the one before if not given."),
                "within": {"$ref": "#/$defs/time"},
            })),
            "sleep": {"$ref": "#/$defs/time"},
        }),
    )
}

fn output() -> Value {
    json!({
        "contains": {"$ref": "#/$defs/texts"},
        "lacks": {"$ref": "#/$defs/texts"},
        "lines": {"$ref": "#/$defs/texts"},
        "exit": {"anyOf": [{"const": "any"}, number(0, 255)]},
    })
}

fn exec() -> Value {
    let keys = json!({
        "node": text("The node."),
        "command": {"$ref": "#/$defs/texts"},
        "timeout": {"$ref": "#/$defs/time"},
    });
    object(&["node", "command"], with(keys, output()))
}

fn show() -> Value {
    let keys = json!({
        "node": text("The node of the program."),
        "what": text("A name of the adapter's `show`: map-cache, database, sites."),
    });
    object(&["node", "what"], with(keys, output()))
}

fn ip_keys(kinds: &[&str]) -> Value {
    let kinds: Vec<(&str, &str)> = KINDS
        .iter()
        .copied()
        .filter(|(kind, _)| kinds.contains(kind))
        .collect();
    json!({
        "type": words(&kinds),
        "from": text("Source: a node, an address or a prefix."),
        "to": text("Destination: a node, an address or a prefix."),
        "source-port": number(0, 65535),
        "destination-port": number(0, 65535),
        "ttl": {"$ref": "#/$defs/range"},
        "of-ping": text("A ping step: its echo requests and their replies, bare or in a data packet."),
    })
}

fn packet() -> Value {
    let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let flags: Vec<String> = FLAGS
        .iter()
        .flat_map(|(flag, _)| [(*flag).to_owned(), format!("not-{flag}")])
        .collect();
    let more = json!({
        "sent-by": text("The node that put it onto a link, forwarding included."),
        "received-by": text("The node that a link delivered it to."),
        "link": text("The link."),
        "eid": text("An address that the packet's prefix contains, or that prefix."),
        "flags": {"anyOf": [{"enum": flags}, {"type": "array", "items": {"enum": flags}}]},
        "nonce": {"$ref": "#/$defs/nonce"},
        "nonce-of": text("A step that waited for a packet, or an expectation that one met."),
        "encapsulated": {"type": "boolean", "description": "In an Encapsulated Control Message."},
        "instance-id": number(0, 0xff_ffff),
        "records": {"$ref": "#/$defs/range"},
        "record": {"$ref": "#/$defs/record"},
        "inner": {"$ref": "#/$defs/inner"},
    });
    object(&[], with(ip_keys(&kinds), more))
}

fn action() -> Value {
    let words: Vec<&str> = ACTIONS.iter().map(|(word, _)| *word).collect();
    json!({"anyOf": [{"enum": words}, number(0, 7)]})
}

fn record() -> Value {
    object(
        &[],
        json!({
            "eid": text("An address in its prefix, or the prefix."),
            "ttl": {"$ref": "#/$defs/range"},
            "action": action(),
            "authoritative": {"type": "boolean"},
            "map-version": number(0, 4095),
            "locators": {"type": "array", "items": {"type": "string"}, "description": "Exactly these."},
            "locator": object(&[], json!({
                "address": text("An address or a node."),
                "priority": number(0, 255),
                "weight": number(0, 255),
                "local": {"type": "boolean"},
                "probed": {"type": "boolean"},
                "reachable": {"type": "boolean"},
            })),
        }),
    )
}

fn message(required: &[&str], keys: Value) -> Value {
    let flag = json!({"type": "boolean"});
    let mappings = json!({"type": "array", "items": {"$ref": "#/$defs/mapping"}});
    let own = json!({
        "source": text("An address or a node."),
        "destination": text("An address or a node."),
        "ttl": number(0, 255),
        "source-port": number(0, 65535),
        "destination-port": number(0, 65535),
        "hex": text("A whole IP packet."),
        "payload": text("A UDP payload in hex."),
        "echo-request": object(&[], json!({
            "identifier": number(0, 65535), "sequence": number(0, 65535), "payload": number(0, 60_000),
        })),
        "map-request": object(&["eid", "itr-rlocs"], json!({
            "eid": {"$ref": "#/$defs/names"}, "itr-rlocs": {"$ref": "#/$defs/names"},
            "source-eid": text("An address or a node."), "nonce": {"$ref": "#/$defs/nonce"},
            "authoritative": flag, "probe": flag, "smr": flag, "pitr": flag, "smr-invoked": flag,
        })),
        "map-reply": object(&["records"], json!({
            "nonce": {"$ref": "#/$defs/nonce"}, "probe": flag, "records": mappings,
        })),
        "map-register": object(&["key", "records"], json!({
            "nonce": {"$ref": "#/$defs/nonce"}, "key": text("The site's key."), "key-id": number(0, 255),
            "algorithm": text("hmac-sha-256-128 if not given."), "want-map-notify": flag, "proxy-reply": flag,
            "merge": flag, "use-ttl": flag, "records": mappings,
        })),
        "data": object(&["inner"], json!({
            "nonce": number(0, 0xff_ffff), "locator-status": number(0, u64::from(u32::MAX)),
            "instance-id": number(0, 0xff_ffff), "echo-nonce": flag, "inner": {"$ref": "#/$defs/message"},
        })),
        "encapsulated": object(&["source", "destination"], json!({
            "source": text("Inner source."), "destination": text("Inner destination: the EID."),
            "source-port": number(0, 65535),
        })),
    });
    object(required, with(keys, own))
}

fn mapping() -> Value {
    object(
        &["eid"],
        json!({
            "eid": text("An EID-Prefix."),
            "ttl": number(0, u64::from(u32::MAX)),
            "action": action(),
            "authoritative": {"type": "boolean"},
            "locators": {"type": "array", "items": object(&["address"], json!({
                "address": text("The locator."), "priority": number(0, 255), "weight": number(0, 255),
            }))},
        }),
    )
}

fn expectation() -> Value {
    let packet = json!({"$ref": "#/$defs/packet"});
    let time = json!({"$ref": "#/$defs/time"});
    let fence = json!({"$ref": "#/$defs/fence"});
    object(
        &[],
        json!({
            "name": text("What is expected, in a few words."),
            "requirement": {"$ref": "#/$defs/names"},
            "since": text("A step, or an earlier expectation of a packet: what came before does not count."),
            "eventually": object(&[], json!({
                "within": time, "packet": packet,
                "show": {"$ref": "#/$defs/show"}, "exec": {"$ref": "#/$defs/exec"},
            })),
            "never": object(&["packet", "fence"], json!({"packet": packet, "fence": fence})),
            "count": object(&["packet"], json!({
                "packet": packet, "exactly": number(0, 1_000_000), "at-least": number(0, 1_000_000),
                "at-most": number(0, 1_000_000), "fence": fence, "within": time,
            })),
        }),
    )
}
