//! What the admin socket answers.

use daemon::admin::Request;
use daemon::config::Source;
use lisp::EidPrefix;
use serde::Serialize;
use serde_json::{Value, json};

use super::Shared;
use crate::config;

/// Registrations in one answer unless the client asks for another number.
const DEFAULT_LIMIT: u64 = 1000;

/// Answers one request.
pub(super) fn answer(shared: &Shared, request: &Request) -> Result<Value, String> {
    let now = shared.clock.now();
    let name = request.text("name");
    match request.command.as_str() {
        "sites" => {
            let core = shared.core();
            let mut sites = core.show_sites(now, name);
            let Some(name) = name else {
                return to_value(&sites);
            };
            let site = sites.first_mut().ok_or_else(|| no_site(name))?;
            let limit = usize::try_from(DEFAULT_LIMIT).unwrap_or(usize::MAX);
            site.registrations = Some(core.show_registrations(now, Some(name), None, limit));
            to_value(&sites)
        }
        "registrations" => {
            let limit = match request.arguments.get("limit") {
                None => DEFAULT_LIMIT,
                Some(limit) => limit
                    .as_u64()
                    .ok_or_else(|| format!("expected a number as `limit`, found {limit}"))?,
            };
            let after: Option<EidPrefix> = match request.text("after") {
                None => None,
                Some(text) => Some(text.parse().map_err(|error| format!("{error}"))?),
            };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let core = shared.core();
            match name.filter(|name| !core.has_site(name)) {
                Some(unknown) => Err(no_site(unknown)),
                None => to_value(&core.show_registrations(now, name, after, limit)),
            }
        }
        "requests" => to_value(&shared.core().show_requests()),
        "statistics" => to_value(&shared.core().show_statistics(now)),
        "reload" => shared.reload().map(Value::from),
        "site-put" => put_site(shared, request),
        "site-remove" => {
            let name = name.ok_or("expected `name`, the site to remove")?;
            match shared.core().remove_site(now, name) {
                true => Ok(json!(format!("site `{name}` removed"))),
                false => Err(no_site(name)),
            }
        }
        other => Err(format!(
            "expected one of `sites`, `registrations`, `requests`, `statistics`, `reload`, `site-put`, `site-remove`, found `{other}`"
        )),
    }
}

/// Adds or changes a site. It holds until the configuration file is read again.
fn put_site(shared: &Shared, request: &Request) -> Result<Value, String> {
    let text = request
        .text("site")
        .ok_or("expected `site`, a site as the configuration file writes it")?;
    let source = Source::from_text(request.text("file").unwrap_or("site"), text);
    let site = config::site_from_source(&source).map_err(|error| error.to_string())?;
    let name = site.name.clone();
    let now = shared.clock.now();
    let mut core = shared.core();
    core.check_site(&site)?;
    core.put_site(now, site);
    Ok(json!(format!("site `{name}` configured")))
}

fn no_site(name: &str) -> String {
    format!("expected the name of a configured site, found `{name}`; `msmr show sites` lists them")
}

fn to_value(shown: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(shown).map_err(|error| error.to_string())
}
