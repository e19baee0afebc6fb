//! Where the lines of a network touch its boxes.

use super::graph::Graph;
use super::graph_layout::{Frame, Places};

/// Which side of a box a line uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Face {
    Left,
    Right,
    Top,
    Bottom,
}

/// The side of `from` that looks to `to`.
pub(super) fn faces(from: &Frame, to: &Frame) -> Face {
    if to.x >= from.right() {
        Face::Right
    } else if to.right() <= from.x {
        Face::Left
    } else if to.y >= from.bottom() {
        Face::Bottom
    } else {
        Face::Top
    }
}

/// Where each line touches its two boxes. Lines on the same side of a box are spread in the order of their other ends;
/// the middle box takes them at the height of the other end, so that they run straight.
pub(super) fn ports(graph: &Graph, places: &Places) -> Vec<[(f64, f64); 2]> {
    let mut found = vec![[(0.0, 0.0); 2]; graph.links.len()];
    let mut spread = |straight: bool| {
        for (index, frame) in places.boxes.iter().enumerate() {
            if places.middles.contains(&index) != straight {
                continue;
            }
            for face in [Face::Left, Face::Right, Face::Top, Face::Bottom] {
                let mut here: Vec<(f64, usize, usize)> = Vec::new();
                for (number, link) in graph.links.iter().enumerate() {
                    for end in 0..2 {
                        let other = &places.boxes[link.ends[1 - end].node];
                        if link.ends[end].node == index && faces(frame, other) == face {
                            let upright = matches!(face, Face::Top | Face::Bottom);
                            here.push((
                                if upright {
                                    other.center_x()
                                } else {
                                    other.center_y()
                                },
                                number,
                                end,
                            ));
                        }
                    }
                }
                here.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let many = here.len() as f64;
                for (place, (_, number, end)) in here.into_iter().enumerate() {
                    let share = (place as f64 + 1.0) / (many + 1.0);
                    let other = found[number][1 - end];
                    found[number][end] = match face {
                        Face::Left | Face::Right => {
                            let x = if face == Face::Left {
                                frame.x
                            } else {
                                frame.right()
                            };
                            (
                                x,
                                if straight {
                                    other.1
                                } else {
                                    frame.y + frame.height * share
                                },
                            )
                        }
                        Face::Top | Face::Bottom => {
                            let y = if face == Face::Top {
                                frame.y
                            } else {
                                frame.bottom()
                            };
                            (
                                if straight {
                                    other.0
                                } else {
                                    frame.x + frame.width * share
                                },
                                y,
                            )
                        }
                    };
                }
            }
        }
    };
    spread(false);
    spread(true);
    found
}
