//! `lisplab link`: look at a link, pull its cable, damage it.

use harness::named::{LinkChange, LinkStatus};

use super::Which;
use crate::cli::lab::{find, finish, of_lab};
use crate::cli::{Exit, complain, print};

#[derive(Debug, clap::Args)]
pub(crate) struct LinkArgs {
    #[command(flatten)]
    which: Which,
    /// The link.
    link: String,
    /// What becomes of it; it is shown if not given.
    #[command(subcommand)]
    change: Option<Change>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Plug the cable in.
    Up,
    /// Pull the cable: both ends lose their carrier, and keep their addresses and routes.
    Down,
    /// Damage it; what is not named keeps its value.
    Set {
        /// loss=5%, delay=20ms, jitter=5ms, duplicate=1% (or dup=), reorder=1%, corrupt=0.1%, rate=10mbit, seed=7;
        /// `none` as a value takes it back. The same seed does the same to the same packets.
        #[arg(required = true, value_name = "WHAT=VALUE")]
        damage: Vec<String>,
    },
}

pub(crate) fn link(args: &LinkArgs) -> Exit {
    let change = match &args.change {
        None => None,
        Some(Change::Up) => Some(LinkChange {
            up: Some(true),
            ..LinkChange::default()
        }),
        Some(Change::Down) => Some(LinkChange {
            up: Some(false),
            ..LinkChange::default()
        }),
        Some(Change::Set { damage }) => match damage.iter().map(|word| pair(word)).collect() {
            Ok(set) => Some(LinkChange { up: None, set }),
            Err(problem) => return complain(problem, Exit::Input),
        },
    };
    finish(
        find(args.which.lab.as_deref())
            .and_then(|lab| {
                if let Some(change) = change {
                    lab.change_link(&args.link, change)?;
                    return Ok(Exit::Fine);
                }
                let links = lab.status()?.links;
                let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                let Some(found) = links.iter().find(|link| link.name == args.link) else {
                    return Err(harness::LabError::Remote {
                        message: format!(
                            "there is no link `{}`; the links are {}",
                            args.link,
                            names.join(", ")
                        ),
                        exit_code: 2,
                    });
                };
                print(&show(found, args.json));
                Ok(Exit::Fine)
            })
            .map_err(of_lab),
    )
}

fn pair(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            let key = match key {
                "dup" => "duplicate",
                key => key,
            };
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "expected WHAT=VALUE like loss=5% or delay=20ms, found `{word}`"
        )),
    }
}

fn show(link: &LinkStatus, json: bool) -> String {
    if json {
        let mut text = serde_json::to_string_pretty(link).expect("a link's status serializes");
        text.push('\n');
        return text;
    }
    let state = if link.up { "up" } else { "down" };
    let mut text = format!(
        "{}: {} -- {}, {state}\n",
        link.name, link.ends[0], link.ends[1]
    );
    if link.impair.is_empty() {
        text.push_str("  no damage set\n");
    } else {
        let damage: Vec<String> = link
            .impair
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!("  {}\n", damage.join(" ")));
    }
    match &link.statistics {
        None => text.push_str("  a plain cable: it cannot be changed, and counts nothing\n"),
        Some(statistics) => {
            let counts = serde_json::to_value(statistics).expect("statistics serialize");
            for (name, count) in counts.as_object().into_iter().flatten() {
                text.push_str(&format!("  {:<20} {count}\n", name.replace('_', " ")));
            }
        }
    }
    text
}
