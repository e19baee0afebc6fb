//! Damage in the words of a topology's `impair`, and back.

use std::time::Duration;

use super::wrong;
use crate::lab::LabError;
use crate::topology::Impairment;

/// Damage from words as in the topology.
pub(super) fn impairment(set: &[(String, String)]) -> Result<Impairment, LabError> {
    let mut text = String::from("impair:\n");
    for (key, value) in set {
        let plain = |c: char| c.is_ascii_alphanumeric() || "%.-".contains(c);
        if key.is_empty() || value.is_empty() || !key.chars().chain(value.chars()).all(plain) {
            return Err(wrong(
                format!("`{key}={value}` is no damage"),
                "write loss=5%, delay=20ms, jitter=5ms, duplicate=1%, reorder=1%, corrupt=0.1%, rate=10mbit or seed=7",
            ));
        }
        text.push_str(&format!("  {key}: {value}\n"));
    }
    Impairment::from_words(&text)
        .map_err(|message| wrong(message, "the words are those of `impair` in a topology"))
}

/// Damage in words as in the topology.
pub(super) fn words(impairment: &Impairment) -> Vec<(String, String)> {
    let percent = |share: f64| (share > 0.0).then(|| format!("{}%", share * 100.0));
    let time = |time: Duration| (!time.is_zero()).then(|| format!("{}us", time.as_micros()));
    [
        ("loss", percent(impairment.loss)),
        ("delay", time(impairment.delay)),
        ("jitter", time(impairment.jitter)),
        ("duplicate", percent(impairment.duplicate)),
        ("reorder", percent(impairment.reorder)),
        ("corrupt", percent(impairment.corrupt)),
        ("rate", impairment.rate.map(|rate| format!("{rate}bit"))),
        (
            "seed",
            (impairment.seed != 0).then(|| impairment.seed.to_string()),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
