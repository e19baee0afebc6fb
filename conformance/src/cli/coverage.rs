//! `lisplab coverage`.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use conformance::catalogue::{Covered, Figures};
use conformance::suite;

use super::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
    /// Also list each judgeable requirement that is not yet covered.
    #[arg(long)]
    missing: bool,
}

pub(crate) fn run(args: &Args) -> Exit {
    let whole = suite::coverage();
    if args.json {
        let mut text = serde_json::to_string_pretty(&whole).expect("figures and strings serialize");
        text.push('\n');
        super::print(&text);
        return Exit::Fine;
    }
    let mut text = String::new();
    table(&mut text, "tier", &whole.tiers);
    table(&mut text, "document", &whole.rfcs);
    table(&mut text, "role", &whole.roles);
    table(&mut text, "level", &whole.levels);
    if args.missing {
        for row in whole
            .requirements
            .iter()
            .filter(|row| row.covered == Covered::No)
        {
            let _ = writeln!(text, "{:<60} {} {}", row.id, row.rfc, row.section);
        }
    }
    super::print(&text);
    Exit::Fine
}

fn table<K: Display>(text: &mut String, what: &str, groups: &BTreeMap<K, Figures>) {
    let _ = writeln!(
        text,
        "{what:<56} {:>9} {:>8} {:>8} {:>10} {:>9} {:>8}",
        "judgeable", "covered", "by case", "invariant", "excluded", "not yet"
    );
    for (name, figures) in groups {
        let open = figures.judgeable - figures.covered - figures.excluded;
        let _ = writeln!(
            text,
            "{:<56} {:>9} {:>8} {:>8} {:>10} {:>9} {:>8}",
            name.to_string(),
            figures.judgeable,
            figures.covered,
            figures.by_case,
            figures.by_invariant,
            figures.excluded,
            open
        );
    }
    text.push('\n');
}
