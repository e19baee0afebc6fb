//! How much room boxes and the labels of their lines need.

use super::graph::{Graph, GraphLink};
use super::graph_layout::{BETWEEN, Canvas, FACT_LINE, Frame, SMALL, TITLE};
use super::text::width;

pub(super) fn sizes(graph: &Graph, detailed: bool) -> Vec<Frame> {
    graph
        .nodes
        .iter()
        .map(|node| {
            let facts = if detailed { node.lines() } else { Vec::new() };
            let title = width(&node.name, TITLE) * 1.08;
            let widest = facts
                .iter()
                .map(|fact| width(fact, SMALL))
                .chain([title, width(&node.role, SMALL)])
                .fold(0.0, f64::max);
            Frame {
                width: (widest + 24.0).clamp(92.0, 280.0).round(),
                height: if detailed {
                    44.0 + FACT_LINE * facts.len() as f64 + if facts.is_empty() { 0.0 } else { 6.0 }
                } else {
                    38.0
                },
                ..Frame::default()
            }
        })
        .collect()
}

/// The other end of a link of `node`.
pub(super) fn joins(link: &GraphLink, node: usize) -> Option<usize> {
    match (link.ends[0].node, link.ends[1].node) {
        (a, b) if a == node => Some(b),
        (a, b) if b == node => Some(a),
        _ => None,
    }
}

impl Canvas<'_> {
    /// Width that a box of a row takes: labels of its line stand to the right of the line.
    pub(super) fn slot(&self, node: usize) -> f64 {
        let labels = self.label_width(node);
        self.boxes[node].width.max(labels * 2.0 + 16.0)
    }

    pub(super) fn row_width(&self, row: &[usize]) -> f64 {
        row.iter().map(|node| self.slot(*node) + BETWEEN).sum()
    }

    pub(super) fn vertical_gap(&self, row: &[usize], middle: usize) -> f64 {
        let lines = row
            .iter()
            .map(|node| self.label_lines(*node) + self.label_lines_towards(middle, *node))
            .max()
            .unwrap_or(0);
        46.0 + 13.0 * lines as f64
    }

    /// Room below a box: more where a line leads to the next one.
    pub(super) fn gap_below(&self, node: usize, next: Option<usize>) -> f64 {
        match next {
            Some(next) if self.detailed && self.neighbours[node].contains(&next) => {
                self.vertical_gap(&[next], node)
            }
            _ if self.detailed => BETWEEN,
            _ => BETWEEN / 2.0,
        }
    }

    /// Most labels that an end of a line has, of all lines of a box, on either side.
    pub(super) fn link_lines(&self, node: usize) -> usize {
        let links = self
            .graph
            .links
            .iter()
            .filter(|link| joins(link, node).is_some());
        links
            .flat_map(|link| &link.ends)
            .map(|end| end.labels.len())
            .max()
            .unwrap_or(0)
    }

    pub(super) fn horizontal_gap(&self, middle: usize, inner: &[usize], outer: &[usize]) -> f64 {
        if !self.detailed {
            return 64.0;
        }
        let mut gap: f64 = 96.0;
        for link in &self.graph.links {
            let [a, b] = &link.ends;
            let crosses = |x: usize, y: usize| inner.contains(&x) && outer.contains(&y);
            if crosses(a.node, b.node) || crosses(b.node, a.node) {
                let widest = |labels: &[String]| {
                    labels
                        .iter()
                        .map(|label| width(label, SMALL))
                        .fold(0.0, f64::max)
                };
                let ends = widest(&a.labels) + widest(&b.labels) + 34.0;
                let name = width(&link.name, SMALL).max(width(&link.note, SMALL)) + 10.0;
                // Lines of the middle box run straight, with the name above; others may slant, with the name between.
                let straight = inner == [middle];
                gap = gap.max(if straight {
                    ends.max(name + 30.0)
                } else {
                    ends + name
                });
            }
        }
        gap.round()
    }

    pub(super) fn label_width(&self, node: usize) -> f64 {
        let labels = self
            .graph
            .links
            .iter()
            .filter(|link| joins(link, node).is_some());
        labels
            .flat_map(|link| {
                link.ends
                    .iter()
                    .flat_map(|end| &end.labels)
                    .chain([&link.name, &link.note])
            })
            .map(|label| width(label, SMALL))
            .fold(0.0, f64::max)
    }

    pub(super) fn label_lines(&self, node: usize) -> usize {
        let ends = self
            .graph
            .links
            .iter()
            .flat_map(|link| &link.ends)
            .filter(|end| end.node == node);
        ends.map(|end| end.labels.len()).max().unwrap_or(0)
    }

    pub(super) fn label_lines_towards(&self, middle: usize, node: usize) -> usize {
        let links = self
            .graph
            .links
            .iter()
            .filter(|link| joins(link, node) == Some(middle));
        links
            .flat_map(|link| &link.ends)
            .filter(|end| end.node == middle)
            .map(|end| end.labels.len())
            .max()
            .unwrap_or(0)
    }
}
