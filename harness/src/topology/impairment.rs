//! The damage of a link, from its words: `loss: 5%`, `delay: 20ms`, `rate: 10mbit`.

use std::time::Duration;

use super::Impairment;
use super::error::Problem;
use super::section::{Section, number, parsed};
use super::tree::Tree;

type Problems = Vec<Problem>;

/// Reads the damage of a link.
pub(super) fn read_impairment(
    tree: &Tree,
    link: &str,
    problems: &mut Problems,
) -> Option<Impairment> {
    Impairment::read(tree, &format!("{link}: impair"), problems)
}

fn read(tree: &Tree, what: &str, problems: &mut Problems) -> Option<Impairment> {
    let mut section = Section::open(tree, what, problems)?;
    let share = |key: &'static str, section: &mut Section<'_>, problems: &mut Problems| {
        section
            .get(key)
            .and_then(|tree| {
                parsed(
                    tree,
                    &format!("{what}: {key}"),
                    "a share like 5% (0% to 100%)",
                    problems,
                    Impairment::parse_share,
                )
            })
            .unwrap_or(0.0)
    };
    let loss = share("loss", &mut section, problems);
    let duplicate = share("duplicate", &mut section, problems);
    let reorder = share("reorder", &mut section, problems);
    let corrupt = share("corrupt", &mut section, problems);
    let time = |key: &'static str, section: &mut Section<'_>, problems: &mut Problems| {
        section
            .get(key)
            .and_then(|tree| {
                parsed(
                    tree,
                    &format!("{what}: {key}"),
                    "a time like 20ms, 500us or 1.5s (at most 60s)",
                    problems,
                    Impairment::parse_time,
                )
            })
            .unwrap_or_default()
    };
    let delay = time("delay", &mut section, problems);
    let jitter = time("jitter", &mut section, problems);
    let rate = section.get("rate").and_then(|tree| {
        parsed(
            tree,
            &format!("{what}: rate"),
            "a rate like 10mbit, 500kbit or 1gbit",
            problems,
            Impairment::parse_rate,
        )
    });
    let seed = section
        .get("seed")
        .and_then(|tree| number(tree, &format!("{what}: seed"), 0..=u64::MAX, problems))
        .unwrap_or(0);
    section.finish(problems);
    Some(Impairment {
        loss,
        delay,
        jitter,
        duplicate,
        reorder,
        corrupt,
        rate,
        seed,
    })
}

impl Impairment {
    /// Reads `{loss: 5%, delay: 20ms, ...}`, as it stands behind `impair` in a topology; `what` names it in messages.
    pub fn read(tree: &Tree, what: &str, problems: &mut Vec<Problem>) -> Option<Impairment> {
        read(tree, what, problems)
    }

    /// Reads `impair: {...}` as it stands in a topology. The error is what is wrong with it.
    pub(crate) fn from_words(text: &str) -> Result<Impairment, String> {
        let mut problems = Vec::new();
        let tree = Tree::parse(text).map_err(|problem| problem.message)?;
        let mut section = Section::open(&tree, "damage", &mut problems);
        let read = section
            .as_mut()
            .and_then(|section| section.get("impair"))
            .and_then(|tree| read_impairment(tree, "link", &mut problems))
            .unwrap_or_default();
        match problems.first() {
            None => Ok(read),
            Some(problem) => Err(match &problem.hint {
                Some(hint) => format!("{}; {hint}", problem.message),
                None => problem.message.clone(),
            }),
        }
    }

    /// A share in percent: `5%`, `0.1%`.
    pub fn parse_share(text: &str) -> Option<f64> {
        let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    }

    /// A time: `20ms`, `500us`, `1.5s`, at most 60 seconds.
    pub fn parse_time(text: &str) -> Option<Duration> {
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0)];
        let (number, unit) = units
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        let seconds = number.trim().parse::<f64>().ok()? * unit;
        (0.0..=60.0)
            .contains(&seconds)
            .then(|| Duration::from_secs_f64(seconds))
    }

    /// A rate in bits per second: `10mbit`, `500kbit`, `1gbit`, `9600bit`.
    pub fn parse_rate(text: &str) -> Option<u64> {
        let units = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9), ("bit", 1.0)];
        let (number, unit) = units
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        let rate = number.trim().parse::<f64>().ok()? * unit;
        (1000.0..=1e12).contains(&rate).then_some(rate as u64)
    }
}
