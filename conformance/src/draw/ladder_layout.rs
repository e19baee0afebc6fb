//! Where everything of a ladder diagram goes.

use super::ladder::{Column, Event, Kind, Ladder, Mark, MarkKind, Row, numbers, seconds};
use super::ladder_parts::{Badge, BadgeLine, Label, Line, Packet, Rect, Text};
use super::ladder_shapes::{arrow, badge_path};
use super::template;
use super::text::{width, wrap};
use serde::Serialize;

/// Width of the column of times and packet numbers.
const GUTTER: f64 = 172.0;
/// Room for judges' words, when there are any.
const MARKS: f64 = 320.0;
const HEAD: f64 = 62.0;
const EDGE: f64 = 16.0;
const FONT: f64 = 12.0;
const LINE: f64 = 15.0;
/// A silence that is drawn as a break: longer than this, and much longer than what is usual in the trace.
const SILENCE_NS: u64 = 400_000_000;

/// Renders the whole document.
pub(super) fn svg(ladder: &Ladder, styled: bool) -> String {
    let mut environment = template::environment();
    environment
        .add_template("ladder.svg", include_str!("templates/ladder.svg"))
        .expect("the ladder template is part of the program and compiles");
    template::render(
        &environment,
        "ladder.svg",
        &Sheet {
            styled,
            ..Sheet::lay_out(ladder)
        },
    )
}

#[derive(Serialize)]
struct Sheet {
    /// Whether the document brings its own style.
    styled: bool,
    title: String,
    description: String,
    #[serde(skip)]
    columns: Vec<(String, f64)>,
    /// Right end of the part that arrows and labels may use.
    #[serde(skip)]
    right: f64,
    width: f64,
    /// Where the next row begins; at the end, the height of the document.
    #[serde(rename = "height")]
    y: f64,
    #[serde(skip)]
    start_ns: u64,
    rects: Vec<Rect>,
    lines: Vec<Line>,
    texts: Vec<Text>,
    packets: Vec<Packet>,
}

impl Sheet {
    fn lay_out(ladder: &Ladder) -> Sheet {
        let columns = ladder.all_columns();
        let spacing = column_spacing(&columns);
        let first = GUTTER + (spacing / 2.0).max(50.0);
        let placed: Vec<(String, f64)> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| (column.name.clone(), first + spacing * index as f64))
            .collect();
        let last = placed.last().map_or(first, |(_, x)| *x);
        let right = (last + (spacing / 2.0).max(50.0)).max(GUTTER + 420.0);
        let marked = ladder
            .rows
            .iter()
            .any(|row| matches!(row, Row::Packet(event) if !event.marks.is_empty()));
        let mut sheet = Sheet {
            styled: true,
            title: format!("Ladder diagram: {}", ladder.title),
            description: ladder.text(),
            columns: placed,
            right,
            width: (right + if marked { MARKS } else { EDGE }).ceil(),
            y: HEAD,
            start_ns: ladder.start_ns(),
            rects: Vec::new(),
            lines: Vec::new(),
            texts: Vec::new(),
            packets: Vec::new(),
        };
        sheet.heads(&columns, spacing);
        sheet.rows(&ladder.rows);
        sheet.legend(ladder);
        sheet
    }

    fn heads(&mut self, columns: &[Column], spacing: f64) {
        self.text("dim", GUTTER - 78.0, 34.0, "end", "seconds".to_owned());
        self.text("dim", GUTTER - 68.0, 34.0, "start", "packet".to_owned());
        let places: Vec<f64> = self.columns.iter().map(|(_, x)| *x).collect();
        for (column, x) in columns.iter().zip(places) {
            let box_width = spacing - 14.0;
            let y = 10.0;
            self.rects.push(Rect {
                class: "head",
                x: x - box_width / 2.0,
                y,
                width: box_width,
                height: 40.0,
                radius: 6,
            });
            let name = wrap(&column.name, 13.0, box_width - 8.0, 1)
                .pop()
                .unwrap_or_default();
            let name_y = if column.role.is_empty() { 35.0 } else { 27.0 };
            self.text("name", x, name_y, "middle", name);
            let role = wrap(&column.role, 11.0, box_width - 8.0, 1)
                .pop()
                .unwrap_or_default();
            self.text("dim", x, 43.0, "middle", role);
        }
        self.lifelines(50.0, HEAD, false);
    }

    fn rows(&mut self, rows: &[Row]) {
        let threshold = silence(rows);
        let mut before = None;
        for row in rows {
            let now = row.time_ns();
            if let Some(before) = before
                && now.saturating_sub(before) >= threshold
            {
                self.gap(now - before);
            }
            before = Some(now);
            match row {
                Row::Note { time_ns, text } => self.note(*time_ns, text),
                Row::Packet(event) => self.packet(event),
            }
        }
        let y = self.y;
        self.lifelines(y, y + 10.0, false);
        self.y += 10.0;
    }

    fn gap(&mut self, ns: u64) {
        let (y, height) = (self.y, 34.0);
        self.lifelines(y, y + height, true);
        let middle = (GUTTER + self.right) / 2.0;
        self.text(
            "dim halo",
            middle,
            y + 21.0,
            "middle",
            format!("⋮  {} without a packet shown here  ⋮", duration(ns)),
        );
        self.y += height;
    }

    fn note(&mut self, time_ns: u64, text: &str) {
        let lines = wrap(text, FONT, self.right - GUTTER - 24.0, 4);
        let height = LINE * lines.len() as f64 + 9.0;
        let y = self.y;
        self.lifelines(y, y + height + 6.0, false);
        self.rects.push(Rect {
            class: "note",
            x: GUTTER,
            y: y + 2.0,
            width: self.right - GUTTER - 2.0,
            height,
            radius: 3,
        });
        self.text(
            "num dim",
            GUTTER - 78.0,
            y + 16.0,
            "end",
            seconds(time_ns.saturating_sub(self.start_ns)),
        );
        for (index, line) in lines.into_iter().enumerate() {
            self.text(
                "note-text",
                GUTTER + 12.0,
                y + 16.5 + LINE * index as f64,
                "start",
                line,
            );
        }
        self.y += height + 6.0;
    }

    fn packet(&mut self, event: &Event) {
        let xs: Vec<f64> = event.path.iter().map(|name| self.x_of(name)).collect();
        let from = xs.first().copied().unwrap_or(GUTTER);
        let top = self.y;
        let (low, high) = xs
            .iter()
            .fold((from, from), |(low, high), x| (low.min(*x), high.max(*x)));
        let text_lines = self.label_lines(event);
        let mut y = top + 4.0;
        let mut lines = Vec::new();
        for (label, detail) in text_lines {
            y += LINE;
            let half = line_width(&label, &detail) / 2.0;
            let lowest = GUTTER + 4.0 + half;
            let x = ((low + high) / 2.0)
                .min(self.right - 8.0 - half)
                .max(lowest);
            lines.push(Label {
                x: round(x),
                y: y - 3.0,
                label,
                detail,
            });
        }
        let arrow_y = y + 4.0;
        let arrow = arrow(&xs, arrow_y);
        let (badges, badges_end) = self.badges(&event.marks, top);
        let bottom = (arrow_y + arrow.drop + 11.0).max(badges_end);
        if event.marks.iter().any(|mark| mark.kind == MarkKind::Fail) {
            let wash_width = self.width - 8.0;
            self.rects.push(Rect {
                class: "wash-fail",
                x: 4.0,
                y: top + 1.0,
                width: wash_width,
                height: bottom - top - 2.0,
                radius: 4,
            });
        }
        self.lifelines(top, bottom, false);
        self.text(
            "num dim",
            GUTTER - 78.0,
            arrow_y,
            "end",
            seconds(event.time_ns.saturating_sub(self.start_ns)),
        );
        let number_lines = wrap(&numbers(&event.numbers), 11.0, 76.0, 2);
        let up = 12.0 * (number_lines.len().max(1) - 1) as f64;
        for (index, line) in number_lines.into_iter().enumerate() {
            self.text(
                "num dim",
                GUTTER - 68.0,
                arrow_y - up + 12.0 * index as f64,
                "start",
                line,
            );
        }
        self.packets.push(Packet {
            tooltip: tooltip(event, self.start_ns),
            class: event.kind.class(),
            arrow,
            lines,
            badges,
        });
        self.y = bottom;
    }

    /// Label and details on one line where they fit, otherwise broken; only the first line has the label.
    fn label_lines(&self, event: &Event) -> Vec<(String, String)> {
        let room = self.right - GUTTER - 12.0;
        if line_width(&event.label, &event.detail) <= room {
            return vec![(event.label.clone(), event.detail.clone())];
        }
        let mut lines = vec![(
            wrap(&event.label, FONT, room, 1).pop().unwrap_or_default(),
            String::new(),
        )];
        lines.extend(
            wrap(&event.detail, FONT, room, 3)
                .into_iter()
                .map(|line| (String::new(), line)),
        );
        lines
    }

    fn badges(&self, marks: &[Mark], top: f64) -> (Vec<Badge>, f64) {
        let x = self.right + 12.0;
        let mut y = top + 4.0;
        let mut badges = Vec::new();
        for mark in marks {
            let center = y + 9.0;
            let lines = wrap(
                &mark.text,
                FONT * if mark.kind == MarkKind::Fail {
                    1.1
                } else {
                    1.0
                },
                MARKS - 46.0,
                5,
            );
            let lines: Vec<BadgeLine> = lines
                .into_iter()
                .enumerate()
                .map(|(index, text)| BadgeLine {
                    y: center + 4.0 + LINE * index as f64,
                    text,
                })
                .collect();
            y += LINE * lines.len().max(1) as f64 + 5.0;
            badges.push(Badge {
                class: mark.kind.class(),
                symbol: mark.kind.symbol(),
                path: badge_path(mark.kind, x, center),
                x,
                y: center + 4.0,
                text_x: x + 15.0,
                lines,
            });
        }
        (badges, y)
    }

    fn legend(&mut self, ladder: &Ladder) {
        self.y += 6.0;
        let y = self.y + 12.0;
        let mut x = GUTTER;
        for (kind, name) in [
            (Kind::Control, "LISP control message"),
            (Kind::Data, "LISP data packet"),
            (Kind::Plain, "other packet"),
        ] {
            let used = ladder
                .rows
                .iter()
                .any(|row| matches!(row, Row::Packet(event) if event.kind == kind));
            if !used {
                continue;
            }
            let arrow = arrow(&[x, x + 36.0], y - 4.0);
            let line = Label {
                x: round(x + 44.0 + width(name, FONT) / 2.0),
                y,
                label: String::new(),
                detail: name.to_owned(),
            };
            self.packets.push(Packet {
                tooltip: name.to_owned(),
                class: kind.class(),
                arrow,
                lines: vec![line],
                badges: Vec::new(),
            });
            x += 44.0 + width(name, FONT) + 28.0;
        }
        self.text(
            "dim",
            x,
            y,
            "start",
            "small circle: a node that passed the packet on".to_owned(),
        );
        self.width = self
            .width
            .max((x + width("small circle: a node that passed the packet on", 11.0) + EDGE).ceil());
        self.y = (y + 14.0).ceil();
    }

    fn lifelines(&mut self, from: f64, to: f64, broken: bool) {
        let class = if broken { "life broken" } else { "life" };
        for (_, x) in &self.columns {
            // One line per stretch: rows that follow each other grow the line of the row before.
            let grown = self
                .lines
                .iter_mut()
                .rev()
                .take(self.columns.len() * 2)
                .find(|line| line.x1 == *x && line.y2 == from && line.class == class);
            match grown {
                Some(line) => line.y2 = to,
                None => self.lines.push(Line {
                    class,
                    x1: *x,
                    y1: from,
                    x2: *x,
                    y2: to,
                }),
            }
        }
    }

    fn text(&mut self, class: &'static str, x: f64, y: f64, anchor: &'static str, text: String) {
        if !text.is_empty() {
            self.texts.push(Text {
                class,
                x: round(x),
                y: round(y),
                anchor,
                text,
            });
        }
    }

    fn x_of(&self, name: &str) -> f64 {
        self.columns
            .iter()
            .find(|(column, _)| column == name)
            .map_or(GUTTER, |(_, x)| *x)
    }
}

fn column_spacing(columns: &[Column]) -> f64 {
    let widest = columns
        .iter()
        .map(|column| width(&column.name, 13.5).max(width(&column.role, 11.0)))
        .fold(0.0, f64::max);
    let least: f64 = match columns.len() {
        0..=4 => 190.0,
        5..=6 => 150.0,
        _ => 132.0,
    };
    least.max((widest + 30.0).min(220.0)).round()
}

/// What counts as a silence in this trace: well above the usual distance of packets, so that a ping every second is not
/// a row of silences.
fn silence(rows: &[Row]) -> u64 {
    let mut distances: Vec<u64> = rows
        .windows(2)
        .map(|pair| pair[1].time_ns().saturating_sub(pair[0].time_ns()))
        .collect();
    distances.sort_unstable();
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(0);
    SILENCE_NS.max(usual.saturating_mul(4))
}

fn line_width(label: &str, detail: &str) -> f64 {
    // The label is bold.
    width(label, FONT) * 1.08 + width(detail, FONT) + 4.0
}

fn tooltip(event: &Event, start_ns: u64) -> String {
    format!(
        "{} {}\n{}\n{} s  {}\nlinks: {}",
        event.label,
        event.detail,
        event.path.join(" → "),
        seconds(event.time_ns.saturating_sub(start_ns)),
        numbers(&event.numbers),
        event.links.join(", ")
    )
}

fn duration(ns: u64) -> String {
    match ns {
        0..10_000_000_000 => format!("{:.2} s", ns as f64 / 1e9),
        10_000_000_000..120_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => format!("{:.1} min", ns as f64 / 60e9),
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
