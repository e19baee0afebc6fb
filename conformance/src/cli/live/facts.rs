//! What the routers of a lab know, for its picture: asked with their own `show` commands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::named::{NamedLab, Status};
use serde_json::Value;

/// Per node what its map-cache or its registrations hold, a line each. A program that has no such `show` command adds
/// nothing.
pub(crate) fn facts(lab: &NamedLab, status: &Status) -> BTreeMap<String, Vec<String>> {
    let mut facts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &status.nodes {
        for service in node
            .services
            .iter()
            .filter(|service| service.exit.is_none())
        {
            let (what, words): (&str, fn(&Value) -> Vec<String>) = match service.name.as_str() {
                "xtr" | "pxtr" => ("map-cache", map_cache),
                "msmr" => ("registrations", registrations),
                _ => continue,
            };
            let Some(answer) = show(lab, &node.name, service.pid, what) else {
                continue;
            };
            let lines = facts.entry(node.name.clone()).or_default();
            lines.extend(words(&answer));
        }
    }
    facts
}

/// Runs the program's `show WHAT --json` in the node, by this program's own `exec`: entering a node is for good.
fn show(lab: &NamedLab, node: &str, pid: u32, what: &str) -> Option<Value> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let lisplab: PathBuf = std::env::current_exe().ok()?;
    let output = Command::new(lisplab)
        .args(["exec", "--lab", lab.name(), node, "--"])
        .arg(program)
        .args(["show", what, "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// A prefix, with its Instance ID if it has one.
fn prefix(entry: &Value, key: &str) -> Option<String> {
    let prefix = text(entry, key)?;
    match entry.get("instance-id").and_then(Value::as_u64) {
        Some(iid) if iid != 0 => Some(format!("[{iid}]{prefix}")),
        _ => Some(prefix.to_owned()),
    }
}

fn locators(entry: &Value, key: &str) -> Vec<String> {
    let list = entry.get("locators").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|locator| {
            let address = text(locator, key)?;
            // A locator that is down is not used; one that was never probed is.
            Some(match text(locator, "state") {
                Some(state @ ("down" | "unreachable")) => format!("{address} ({state})"),
                _ => address.to_owned(),
            })
        })
        .collect()
}

/// `cached 10.2.0.0/24 via 192.0.2.6`, `cached 10.128.0.0/9 natively-forward`.
fn map_cache(answer: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let prefix = prefix(entry, "prefix")?;
        let locators = locators(entry, "rloc");
        Some(if locators.is_empty() {
            format!(
                "cached {prefix} {}",
                text(entry, "action").unwrap_or("no locator")
            )
        } else {
            format!("cached {prefix} via {}", locators.join(", "))
        })
    };
    answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(entry)
        .collect()
}

/// `registered 10.1.0.0/24 at 192.0.2.2`.
fn registrations(answer: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let prefix = prefix(entry, "eid-prefix")?;
        Some(format!(
            "registered {prefix} at {}",
            locators(entry, "address").join(", ")
        ))
    };
    answer
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_become_lines() {
        let cache = json!([
            {"prefix": "10.2.0.0/24", "instance-id": 7, "action": "encapsulate",
             "locators": [{"rloc": "192.0.2.6", "state": "up"}, {"rloc": "192.0.2.10", "state": "down"}]},
            {"prefix": "10.128.0.0/9", "instance-id": 0, "action": "natively-forward", "locators": []},
            {"something": "else"}
        ]);
        let lines = map_cache(&cache);
        assert_eq!(
            lines,
            [
                "cached [7]10.2.0.0/24 via 192.0.2.6, 192.0.2.10 (down)",
                "cached 10.128.0.0/9 natively-forward"
            ]
        );
        let registered =
            json!([{"eid-prefix": "10.1.0.0/24", "locators": [{"address": "192.0.2.2"}]}]);
        assert_eq!(
            registrations(&registered),
            ["registered 10.1.0.0/24 at 192.0.2.2"]
        );
    }
}
