//! `show` as text: the columns that routers have.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use daemon::Failure;
use daemon::clock::age;
use daemon::table::Table;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::show::{
    AwayRow, DatabaseRow, LocatorRow, MapCacheRow, NeighborRow, ProxyView, RlocRow,
};

/// Prints what a daemon answered to `show`.
///
/// # Errors
/// The answer is not of the form that this version knows.
pub fn print(what: &str, value: Value, json: bool) -> Result<(), Failure> {
    if json {
        return say(&format!("{value:#}\n"));
    }
    let text = match what {
        "map-cache" => map_cache(&rows(value)?),
        "database" => database(&rows(value)?),
        "away" => away(&rows(value)?),
        "rlocs" => rlocs(&rows(value)?),
        "neighbors" => neighbors(&rows(value)?),
        "petr" => petr(&read(value)?),
        _ => statistics(&value),
    };
    say(&text)
}

/// Writes to stdout. A reader that went away (`| head`) has what it wanted.
///
/// # Errors
/// Stdout cannot be written.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::host("writing to stdout", error))
        }
        _ => Ok(()),
    }
}

fn rows<T: DeserializeOwned>(value: Value) -> Result<Vec<T>, Failure> {
    read(value)
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::Host(format!(
            "expected an answer of this program's version, found another: {error}; restart the daemon"
        ))
    })
}

fn seconds(seconds: u64) -> String {
    age(Some(Duration::from_secs(seconds)))
}

fn eid(instance_id: u32, prefix: &str) -> String {
    if instance_id == 0 {
        prefix.to_owned()
    } else {
        format!("[{instance_id}]{prefix}")
    }
}

fn locator(row: &LocatorRow) -> [String; 5] {
    [
        row.rloc.map_or("-".into(), |rloc| rloc.to_string()),
        seconds(row.uptime),
        row.state.clone(),
        format!("{}/{}", row.priority, row.weight),
        row.rtt_us.map_or(String::new(), |rtt| {
            format!("{:.1} ms", rtt as f64 / 1000.0)
        }),
    ]
}

const LOCATOR_COLUMNS: [&str; 5] = ["Locator", "Uptime", "State", "Pri/Wgt", "RTT"];

fn map_cache(rows: &[MapCacheRow]) -> String {
    let mut text = format!("LISP map-cache, {} entries\n\n", rows.len());
    for row in rows {
        let expires = age(row.expires.map(Duration::from_secs));
        let from = if row.authoritative {
            format!("{}, authoritative", row.via)
        } else {
            row.via.clone()
        };
        text += &format!(
            "{}, uptime: {}, expires: {expires}, via {from}\n",
            eid(row.instance_id, &row.prefix),
            seconds(row.uptime),
        );
        if row.locators.is_empty() {
            text += &format!(
                "  Negative, action: {}, {} packets\n",
                row.action, row.packets
            );
            continue;
        }
        let mut table = Table::new(LOCATOR_COLUMNS).indented(2);
        for row in &row.locators {
            table.row(locator(row));
        }
        text += &format!("{table}  {} packets, {} bytes\n", row.packets, row.bytes);
    }
    text
}

fn database(rows: &[DatabaseRow]) -> String {
    let mut text = format!("LISP database, {} EID-Prefixes\n\n", rows.len());
    for row in rows {
        let note = match row.state.as_str() {
            "no-route" => " *** no route in the site ***",
            "away" => " *** behind another xTR ***",
            _ => "",
        };
        text += &format!(
            "{}, uptime: {}, ttl: {} min, {}, {}{note}\n",
            eid(row.instance_id, &row.prefix),
            seconds(row.uptime),
            row.ttl,
            row.state,
            row.origin,
        );
        let mut table = Table::new(LOCATOR_COLUMNS.into_iter().take(4)).indented(2);
        for row in &row.locators {
            table.row(locator(row).into_iter().take(4));
        }
        text += &table.to_string();
    }
    text
}

fn away(rows: &[AwayRow]) -> String {
    let mut table = Table::new(["EID-Prefix", "Uptime", "Reason", "By"]);
    for row in rows {
        table.row([
            eid(row.instance_id, &row.prefix),
            seconds(row.uptime),
            row.reason.clone(),
            row.by.clone(),
        ]);
    }
    table.to_string()
}

fn rlocs(rows: &[RlocRow]) -> String {
    let columns = [
        "Locator", "Uptime", "State", "RTT", "Probes", "Answered", "Entries",
    ];
    let mut table = Table::new(columns);
    for row in rows {
        table.row([
            row.rloc.to_string(),
            seconds(row.uptime),
            row.state.clone(),
            row.rtt_us
                .map_or("-".into(), |rtt| format!("{:.1} ms", rtt as f64 / 1000.0)),
            row.probes_sent.to_string(),
            row.probes_answered.to_string(),
            row.entries.to_string(),
        ]);
    }
    table.to_string()
}

fn petr(view: &ProxyView) -> String {
    let list = |words: &[String], none: &str| match words {
        [] => none.to_owned(),
        words => words.join(", "),
    };
    let mut text = format!("Role: {}\n", view.role);
    if view.role.contains("pitr") {
        text += &format!("Aggregates: {}\n", list(&view.aggregates, "none"));
    }
    if view.role.contains("petr") {
        text += &format!("Accepted sources: {}\n", list(&view.sources, "all"));
    }
    if view.petrs.is_empty() {
        return text + "Proxy ETRs in use: none\n";
    }
    let misses = if view.misses_to_petr {
        ", also for map-cache misses"
    } else {
        ""
    };
    text += &format!("Proxy ETRs in use{misses}:\n");
    let mut table = Table::new(LOCATOR_COLUMNS.into_iter().chain(["Used"])).indented(2);
    for row in &view.petrs {
        let used = if row.used { "yes" } else { "no" };
        table.row(locator(&row.locator).into_iter().chain([used.into()]));
    }
    text + &table.to_string()
}

fn neighbors(rows: &[NeighborRow]) -> String {
    let ago = |seconds: Option<u64>| age(seconds.map(Duration::from_secs));
    let mut table = Table::new(["Address", "Role", "State", "Last sent", "Last received"]);
    for row in rows {
        table.row([
            row.address.to_string(),
            row.role.clone(),
            row.state.clone(),
            ago(row.last_sent),
            ago(row.last_received),
        ]);
    }
    table.to_string()
}

fn statistics(value: &Value) -> String {
    let mut text = String::new();
    for (title, key) in [("Control messages", "control"), ("Data packets", "data")] {
        text += &format!("{title}\n");
        for (name, count) in value
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let count = count.as_u64().unwrap_or_default();
            if count > 0 {
                text += &format!("{count:>12}  {name}\n");
            }
        }
    }
    text
}
