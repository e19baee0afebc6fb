//! Arrows and badges of a ladder diagram as SVG path data.

use super::ladder::MarkKind;
use serde::Serialize;

/// How much lower an arrow goes on after it turned back.
const TURN: f64 = 7.0;

#[derive(Serialize)]
pub(super) struct Hop {
    x: f64,
    y: f64,
}

#[derive(Serialize)]
pub(super) struct Arrow {
    path: String,
    tip: String,
    hops: Vec<Hop>,
    #[serde(skip)]
    /// How much lower than its beginning it ends.
    pub(super) drop: f64,
}

/// The line through all columns of `xs` and the tip at its end. Where the way turns back (a core between two columns of
/// the same side), the line goes on a little lower.
pub(super) fn arrow(xs: &[f64], y: f64) -> Arrow {
    let (from, to) = (
        xs.first().copied().unwrap_or(0.0),
        xs.last().copied().unwrap_or(0.0),
    );
    if xs.len() < 3 && from == to {
        return Arrow {
            path: format!("M{from} {y}h26v12h-20"),
            tip: format!("M{} {}l8 -4v8z", from + 1.0, y + 12.0),
            hops: Vec::new(),
            drop: 12.0,
        };
    }
    let mut path = format!("M{from} {y}");
    let mut at = y;
    let mut hops = Vec::new();
    for (index, pair) in xs.windows(2).enumerate() {
        let turns = index > 0 && (pair[0] - xs[index - 1]) * (pair[1] - pair[0]) <= 0.0;
        if turns {
            path.push_str(&format!("v{TURN}"));
            at += TURN;
        }
        if index > 0 {
            hops.push(Hop {
                x: pair[0],
                y: if turns { at - TURN / 2.0 } else { at },
            });
        }
        let last = index + 2 == xs.len();
        let back = if pair[1] >= pair[0] { -1.0 } else { 1.0 };
        path.push_str(&format!(
            "H{}",
            if last { pair[1] + 8.0 * back } else { pair[1] }
        ));
    }
    let back = if xs.len() < 2 || to >= xs[xs.len() - 2] {
        -1.0
    } else {
        1.0
    };
    Arrow {
        path,
        tip: format!("M{to} {at}l{} -4.5v9z", 9.0 * back),
        hops,
        drop: at - y,
    }
}

/// A circle for pass, an octagon for fail, a triangle for warn, a square for a hint: the shape says it without colour.
pub(super) fn badge_path(kind: MarkKind, x: f64, y: f64) -> String {
    match kind {
        MarkKind::Pass => format!("M{} {y}a8 8 0 1 0 16 0a8 8 0 1 0 -16 0z", x - 8.0),
        MarkKind::Fail => format!("M{} {}h7l5 5v7l-5 5h-7l-5 -5v-7z", x - 3.5, y - 8.5),
        MarkKind::Warn => format!("M{x} {}l10 17h-20z", y - 11.0),
        MarkKind::Info => format!("M{} {}h16v16h-16z", x - 8.0, y - 8.0),
    }
}
