//! What the template of a ladder diagram draws.

use super::ladder_shapes::Arrow;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Rect {
    pub(super) class: &'static str,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) radius: u8,
}

#[derive(Serialize)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) x1: f64,
    pub(super) y1: f64,
    pub(super) x2: f64,
    pub(super) y2: f64,
}

#[derive(Serialize)]
pub(super) struct Text {
    pub(super) class: &'static str,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) anchor: &'static str,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct Label {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) label: String,
    pub(super) detail: String,
}

#[derive(Serialize)]
pub(super) struct BadgeLine {
    pub(super) y: f64,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct Badge {
    pub(super) class: &'static str,
    pub(super) symbol: char,
    pub(super) path: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) text_x: f64,
    pub(super) lines: Vec<BadgeLine>,
}

#[derive(Serialize)]
pub(super) struct Packet {
    pub(super) tooltip: String,
    pub(super) class: &'static str,
    pub(super) arrow: Arrow,
    pub(super) lines: Vec<Label>,
    pub(super) badges: Vec<Badge>,
}
