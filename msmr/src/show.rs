//! The text that `msmr show` prints.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use daemon::clock::age;
use daemon::table::Table;

use crate::core::show::{EtrView, LocatorView, RegistrationView, SiteView, StatisticsView};

/// All sites, a line each.
pub fn sites(sites: &[SiteView]) -> String {
    let mut table = Table::new([
        "site",
        "registered",
        "prefixes",
        "last",
        "by",
        "failures",
        "mismatches",
    ]);
    for site in sites {
        let count = |name: &str| site.counters.get(name).copied().unwrap_or(0).to_string();
        table.row([
            site.name.clone(),
            site.registered.to_string(),
            site.eid_prefixes.len().to_string(),
            ago(site.last_registered),
            site.last_registered_by.clone().unwrap_or_default(),
            count("authentication-failures"),
            count("locator-mismatches"),
        ]);
    }
    table.to_string()
}

/// One site with everything about it.
pub fn site(site: &SiteView) -> String {
    let mut text = format!("site {}\n", site.name);
    let keys: Vec<_> = site
        .keys
        .iter()
        .map(|key| format!("{} (key ID {})", key.algorithm, key.key_id))
        .collect();
    let allowed = match site.allowed_locators.is_empty() {
        true => "any".into(),
        false => site.allowed_locators.join(", "),
    };
    for (name, value) in [
        ("first registered", ago(site.first_registered)),
        ("last registered", ago(site.last_registered)),
        ("by", site.last_registered_by.clone().unwrap_or("-".into())),
        ("keys", keys.join(", ")),
        ("allowed locators", allowed),
    ] {
        line(&mut text, 2, name, &value);
    }
    let mut prefixes =
        Table::new(["EID-Prefix", "more-specifics", "requests", "registered"]).indented(2);
    for prefix in &site.eid_prefixes {
        prefixes.row([
            prefix.eid_prefix.as_str(),
            if prefix.accept_more_specifics {
                "accepted"
            } else {
                "refused"
            },
            if prefix.deny { "denied" } else { "answered" },
            yes(prefix.registered),
        ]);
    }
    text.push_str(&prefixes.to_string());
    for (name, number) in &site.counters {
        line(&mut text, 2, name, &number.to_string());
    }
    let shown = site.registrations.as_deref().unwrap_or_default();
    text.push_str(&registrations(shown));
    if let Some(last) = shown.last().filter(|_| shown.len() < site.registered) {
        text.push_str(&go_on(Some(&site.name), last));
    }
    text
}

/// How to see what comes after the last registration that was shown.
pub fn go_on(site: Option<&str>, last: &RegistrationView) -> String {
    let site = site.map(|name| format!("{name} ")).unwrap_or_default();
    format!(
        "there may be more: msmr show registrations {site}--after {}\n",
        last.eid_prefix
    )
}

/// Registrations with their ETRs and locators.
pub fn registrations(registrations: &[RegistrationView]) -> String {
    let mut text = String::new();
    for registration in registrations {
        let proxy = if registration.proxy_reply {
            ", proxy-reply"
        } else {
            ""
        };
        push(
            &mut text,
            format_args!(
                "{}  site {}, TTL {} min{proxy}\n",
                registration.eid_prefix, registration.site, registration.ttl
            ),
        );
        text.push_str(&locators(&registration.locators, 2).to_string());
        for etr in &registration.etrs {
            text.push_str(&etr_lines(etr));
            // What it registered itself, where the set that holds is made of several or of another's.
            if etr.locators != registration.locators {
                text.push_str(&locators(&etr.locators, 4).to_string());
            }
        }
    }
    text
}

/// Counters of requests.
pub fn counters(counters: &BTreeMap<String, u64>) -> String {
    let mut table = Table::new(["count", "what"]);
    for (what, number) in counters {
        table.row([number.to_string(), what.clone()]);
    }
    table.to_string()
}

/// Sizes and counters.
pub fn statistics(statistics: &StatisticsView) -> String {
    let mut text = String::new();
    line(&mut text, 0, "uptime", &ago(Some(statistics.uptime)));
    line(&mut text, 0, "sites", &statistics.sites.to_string());
    line(
        &mut text,
        0,
        "registrations",
        &statistics.registrations.to_string(),
    );
    line(
        &mut text,
        0,
        "remembered nonces",
        &statistics.remembered_nonces.to_string(),
    );
    text.push_str(&counters(&statistics.counters));
    text
}

fn etr_lines(etr: &EtrView) -> String {
    let mut flags = Vec::new();
    for (set, name) in [
        (etr.proxy_reply, "proxy-reply"),
        (etr.merge, "merge"),
        (etr.want_map_notify, "map-notify"),
        (etr.use_ttl, "use-ttl"),
        (etr.restored, "restored"),
        (!etr.active, "superseded"),
    ] {
        flags.extend(set.then_some(name));
    }
    let key = etr.key.as_ref().map_or("a key that is gone".into(), |key| {
        format!("key ID {} {}", key.key_id, key.algorithm)
    });
    let mut text = format!(
        "  ETR {}  TTL {} min, up {}, last {}, expires {}, {key}, nonce {}\n",
        etr.source,
        etr.ttl,
        ago(Some(etr.first_registered)),
        ago(Some(etr.last_registered)),
        ago(etr.expires),
        etr.nonce,
    );
    if !flags.is_empty() {
        line(&mut text, 4, "flags", &flags.join(" "));
    }
    if let Some(id) = &etr.xtr_id {
        line(&mut text, 4, "xTR-ID", id);
    }
    if let Some(id) = etr.site_id {
        line(&mut text, 4, "site-ID", &id.to_string());
    }
    text
}

fn locators(locators: &[LocatorView], indent: usize) -> Table {
    let mut table = Table::new(["locator", "state", "priority/weight"]).indented(indent);
    for locator in locators {
        table.row([
            locator.address.clone(),
            if locator.reachable { "up" } else { "down" }.into(),
            format!("{}/{}", locator.priority, locator.weight),
        ]);
    }
    table
}

fn ago(seconds: Option<u64>) -> String {
    age(seconds.map(Duration::from_secs))
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn line(text: &mut String, indent: usize, name: &str, value: &str) {
    push(text, format_args!("{:indent$}{name}: {value}\n", ""));
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail");
}
