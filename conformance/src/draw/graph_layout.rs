//! Where the boxes of a network go: the middle of the network (mostly the core) as one tall box, sites to its left and
//! right with the hosts outermost, single boxes (servers, hosts without a site) above and below it.

use std::collections::{BTreeSet, VecDeque};

use super::graph::Graph;
use super::graph_measure::{joins, sizes};

/// Beyond this many boxes only names and roles are drawn; the rest is in the tooltips.
const DETAILED: usize = 40;
pub(super) const TITLE: f64 = 13.0;
pub(super) const SMALL: f64 = 11.0;
pub(super) const FACT_LINE: f64 = 14.0;
pub(super) const BETWEEN: f64 = 22.0;
/// Height that one line and its name need where several meet the same side of a box, labels aside.
const PORT: f64 = 28.0;
/// Height of one label.
const LABEL: f64 = 12.0;
const ROW: usize = 4;

/// A rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    pub(super) fn center_x(&self) -> f64 {
        self.x + self.width / 2.0
    }

    pub(super) fn center_y(&self) -> f64 {
        self.y + self.height / 2.0
    }

    pub(super) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// A finished layout.
#[derive(Debug)]
pub(super) struct Places {
    /// One per node of the graph, in its order.
    pub(super) boxes: Vec<Frame>,
    /// The nodes in the middle, one per connected part: their box is as tall as their part.
    pub(super) middles: BTreeSet<usize>,
    /// Whether facts and interface labels are drawn.
    pub(super) detailed: bool,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Places all boxes. Parts that are not connected stand below each other.
pub(super) fn place(graph: &Graph) -> Places {
    let count = graph.nodes.len();
    let detailed = count <= DETAILED;
    let mut neighbours = vec![BTreeSet::new(); count];
    for link in &graph.links {
        let (a, b) = (link.ends[0].node, link.ends[1].node);
        if a != b {
            neighbours[a].insert(b);
            neighbours[b].insert(a);
        }
    }
    let mut canvas = Canvas {
        graph,
        neighbours,
        detailed,
        boxes: sizes(graph, detailed),
    };
    let mut places = Places {
        boxes: Vec::new(),
        middles: BTreeSet::new(),
        detailed,
        width: 0.0,
        height: 0.0,
    };
    for part in parts(&canvas.neighbours, &(0..count).collect()) {
        let middle = canvas.middle_of(&part);
        let extent = canvas.place_part(&part, middle, places.height);
        places.middles.insert(middle);
        places.width = places.width.max(extent.width);
        places.height = extent.bottom() + BETWEEN * 2.0;
    }
    places.height = (places.height - BETWEEN * 2.0).max(0.0);
    places.boxes = canvas.boxes;
    places
}

/// Connected parts of the subgraph `of`, in the order of their first node.
fn parts(neighbours: &[BTreeSet<usize>], of: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let mut left = of.clone();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut part = vec![first];
        let mut queue = VecDeque::from([first]);
        while let Some(node) = queue.pop_front() {
            for next in &neighbours[node] {
                if left.remove(next) {
                    part.push(*next);
                    queue.push_back(*next);
                }
            }
        }
        part.sort_unstable();
        found.push(part);
    }
    found
}

/// A side of the middle: layers of nodes, the first next to the middle, each from top to bottom.
struct Side {
    layers: Vec<Vec<usize>>,
    height: f64,
}

pub(super) struct Canvas<'a> {
    pub(super) graph: &'a Graph,
    pub(super) neighbours: Vec<BTreeSet<usize>>,
    pub(super) detailed: bool,
    pub(super) boxes: Vec<Frame>,
}

impl Canvas<'_> {
    /// The node from which the farthest is nearest; among equals one that forwards and has most neighbours.
    fn middle_of(&self, part: &[usize]) -> usize {
        let key = |node: usize| {
            let farthest = self
                .distances(node)
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(0);
            let end_system = self.graph.nodes[node].shape == super::graph::Shape::Host
                || self.graph.nodes[node].lisp;
            (
                end_system && part.len() > 2,
                farthest,
                usize::MAX - self.neighbours[node].len(),
                node,
            )
        };
        part.iter()
            .copied()
            .min_by_key(|node| key(*node))
            .unwrap_or_default()
    }

    fn distances(&self, from: usize) -> Vec<Option<usize>> {
        let mut distances = vec![None; self.neighbours.len()];
        distances[from] = Some(0);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            for next in &self.neighbours[node] {
                if distances[*next].is_none() {
                    distances[*next] = Some(distance + 1);
                    queue.push_back((*next, distance + 1));
                }
            }
        }
        distances
    }

    fn place_part(&mut self, part: &[usize], middle: usize, top: f64) -> Frame {
        let mut rest: BTreeSet<usize> = part.iter().copied().collect();
        rest.remove(&middle);
        let (mut above, mut below, mut branches) = (Vec::new(), Vec::new(), Vec::new());
        let found = parts(&self.neighbours, &rest);
        let rows_make_sense = self.detailed && found.iter().any(|branch| branch.len() > 1);
        for branch in found {
            match branch[..] {
                [single]
                    if rows_make_sense && self.graph.nodes[single].lisp && below.len() < ROW =>
                {
                    below.push(single)
                }
                [single]
                    if rows_make_sense && !self.graph.nodes[single].lisp && above.len() < ROW =>
                {
                    above.push(single)
                }
                _ => branches.push(branch),
            }
        }
        let distances = self.distances(middle);
        let mut sides = [
            Side {
                layers: Vec::new(),
                height: 0.0,
            },
            Side {
                layers: Vec::new(),
                height: 0.0,
            },
        ];
        for branch in &branches {
            let side = usize::from(sides[1].height < sides[0].height);
            self.stack(branch, &distances, &mut sides[side]);
        }
        let row_height = |row: &[usize], boxes: &[Frame]| {
            row.iter()
                .map(|node| boxes[*node].height)
                .fold(0.0, f64::max)
        };
        let drop = self
            .vertical_gap(&above, middle)
            .max(self.vertical_gap(&below, middle));
        let head = if above.is_empty() {
            0.0
        } else {
            row_height(&above, &self.boxes) + drop
        };
        let tall = sides
            .iter()
            .map(|side| side.height)
            .fold(self.boxes[middle].height.max(60.0), f64::max);
        for side in &sides {
            let lower = top + head + (tall - side.height) / 2.0;
            for node in side.layers.iter().flatten() {
                self.boxes[*node].y += lower;
            }
        }
        let row_widths = self.row_width(&above).max(self.row_width(&below));
        let frame = &mut self.boxes[middle];
        (frame.y, frame.height) = (top + head, tall);
        frame.width = frame.width.max(row_widths).max(110.0);
        let extent_width = self.place_columns(middle, &sides);
        let middle_box = self.boxes[middle];
        for (row, is_above) in [(&above, true), (&below, false)] {
            let mut x = middle_box.center_x() - self.row_width(row) / 2.0 + BETWEEN / 2.0;
            for node in row {
                let slot = self.slot(*node);
                let frame = &mut self.boxes[*node];
                frame.x = x + (slot - frame.width) / 2.0;
                frame.y = if is_above {
                    middle_box.y - drop - frame.height
                } else {
                    middle_box.bottom() + drop
                };
                x += slot + BETWEEN;
            }
        }
        let foot = if below.is_empty() {
            0.0
        } else {
            row_height(&below, &self.boxes) + drop
        };
        Frame {
            x: 0.0,
            y: top,
            width: extent_width,
            height: head + tall + foot,
        }
    }

    /// Puts the nodes of a branch into the layers of a side, below what is there.
    fn stack(&mut self, branch: &[usize], distances: &[Option<usize>], side: &mut Side) {
        let depth = branch
            .iter()
            .filter_map(|node| distances[*node])
            .max()
            .unwrap_or(1);
        let mut layers = vec![Vec::new(); depth];
        for node in branch {
            layers[distances[*node].unwrap_or(1).saturating_sub(1)].push(*node);
        }
        self.order(&mut layers);
        self.heights_for_ports(&layers);
        for pass in 0..3 {
            let outwards = pass == 1;
            for step in 0..depth {
                let at = if outwards { step } else { depth - 1 - step };
                let towards = if outwards {
                    at.checked_sub(1)
                } else {
                    Some(at + 1).filter(|next| *next < depth)
                };
                let anchor: Vec<usize> =
                    towards.map(|next| layers[next].clone()).unwrap_or_default();
                self.settle(&layers[at], &anchor);
            }
        }
        let all = || layers.iter().flatten().copied();
        let highest = all()
            .map(|node| self.boxes[node].y)
            .fold(f64::MAX, f64::min);
        let offset = side.height + if side.height > 0.0 { BETWEEN } else { 0.0 } - highest;
        for node in layers.iter().flatten() {
            self.boxes[*node].y += offset;
            side.height = side.height.max(self.boxes[*node].bottom());
        }
        for (index, layer) in layers.into_iter().enumerate() {
            if side.layers.len() <= index {
                side.layers.push(Vec::new());
            }
            side.layers[index].extend(layer);
        }
    }

    /// Fewer crossings: each layer ordered by the mean place of its neighbours in the layer before, then after.
    fn order(&self, layers: &mut [Vec<usize>]) {
        for round in 0..4 {
            for step in 1..layers.len() {
                let (at, by) = if round % 2 == 0 {
                    (step, step - 1)
                } else {
                    (layers.len() - 1 - step, layers.len() - step)
                };
                let anchor = layers[by].clone();
                let mean = |node: &usize| {
                    let places: Vec<f64> = anchor
                        .iter()
                        .enumerate()
                        .filter(|(_, other)| self.neighbours[*node].contains(other))
                        .map(|(place, _)| place as f64)
                        .collect();
                    if places.is_empty() {
                        f64::MAX
                    } else {
                        places.iter().sum::<f64>() / places.len() as f64
                    }
                };
                layers[at].sort_by(|a, b| mean(a).total_cmp(&mean(b)));
            }
        }
    }

    fn heights_for_ports(&mut self, layers: &[Vec<usize>]) {
        for (index, layer) in layers.iter().enumerate() {
            for node in layer {
                let ports = |other: Option<&Vec<usize>>| {
                    let Some(other) = other else { return 1 };
                    self.graph
                        .links
                        .iter()
                        .filter(|link| joins(link, *node).is_some_and(|end| other.contains(&end)))
                        .count()
                };
                let before = index.checked_sub(1).and_then(|before| layers.get(before));
                let most = ports(before).max(ports(layers.get(index + 1)));
                if self.detailed {
                    let lines = self.link_lines(*node) as f64;
                    let needed = if most > 1 {
                        PORT + LABEL * lines
                    } else {
                        2.0 * LABEL * lines + 8.0
                    };
                    let frame = &mut self.boxes[*node];
                    frame.height = frame.height.max(needed * most.max(1) as f64);
                }
            }
        }
    }

    /// Moves a layer next to the boxes that it is joined with, keeps its order and overlaps nothing.
    fn settle(&mut self, layer: &[usize], anchor: &[usize]) {
        let wished: Vec<Option<f64>> = layer
            .iter()
            .map(|node| {
                let centers: Vec<f64> = anchor
                    .iter()
                    .filter(|other| self.neighbours[*node].contains(other))
                    .map(|other| self.boxes[*other].center_y())
                    .collect();
                let mean = centers.iter().sum::<f64>() / centers.len().max(1) as f64;
                (!centers.is_empty()).then(|| mean - self.boxes[*node].height / 2.0)
            })
            .collect();
        let mut lowest = f64::MIN;
        let mut moved = Vec::new();
        for (index, (node, wish)) in layer.iter().zip(&wished).enumerate() {
            let current = self.boxes[*node].y;
            let y = wish.unwrap_or(current).max(lowest);
            moved.extend(wish.map(|wish| y - wish));
            self.boxes[*node].y = y;
            let next = layer.get(index + 1).copied();
            lowest = y + self.boxes[*node].height + self.gap_below(*node, next);
        }
        let back = moved.iter().sum::<f64>() / moved.len().max(1) as f64;
        for node in layer {
            self.boxes[*node].y -= back;
        }
    }

    /// Sets all x and returns the width that is taken.
    fn place_columns(&mut self, middle: usize, sides: &[Side; 2]) -> f64 {
        let mut x = 0.0;
        let widths = |boxes: &[Frame], layer: &[usize]| {
            layer
                .iter()
                .map(|node| boxes[*node].width)
                .fold(0.0, f64::max)
        };
        let gaps = sides.each_ref().map(|side| {
            let mut before = vec![middle];
            let mut gaps = Vec::new();
            for layer in &side.layers {
                gaps.push(self.horizontal_gap(middle, &before, layer));
                before.clone_from(layer);
            }
            gaps
        });
        for (index, layer) in sides[0].layers.iter().enumerate().rev() {
            let column = widths(&self.boxes, layer);
            for node in layer {
                self.boxes[*node].width = column;
                self.boxes[*node].x = x;
            }
            x += column + gaps[0][index];
        }
        self.boxes[middle].x = x;
        x = self.boxes[middle].right();
        for (index, layer) in sides[1].layers.iter().enumerate() {
            x += gaps[1][index];
            let column = widths(&self.boxes, layer);
            for node in layer {
                self.boxes[*node].width = column;
                self.boxes[*node].x = x;
            }
            x += column;
        }
        x
    }
}

#[cfg(test)]
#[path = "graph_layout_tests.rs"]
mod tests;
