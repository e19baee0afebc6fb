//! Nothing overlaps, and sites stand where a reader looks for them.

use super::super::graph::{GraphEnd, GraphLink, GraphNode, Shape};
use super::*;
use proptest::prelude::*;

fn network(nodes: usize, links: &[(usize, usize)]) -> Graph {
    let end = |node| GraphEnd {
        node,
        labels: vec![format!("eth0 10.{node}.0.1/24")],
    };
    Graph {
        name: "t".to_owned(),
        description: String::new(),
        nodes: (0..nodes)
            .map(|index| GraphNode {
                name: format!("node-{index}"),
                shape: if index == 0 {
                    Shape::Router
                } else {
                    Shape::Host
                },
                role: "host".to_owned(),
                lisp: false,
                facts: vec!["EID 10.0.0.0/24".to_owned(); index % 4],
                state: Vec::new(),
            })
            .collect(),
        links: links
            .iter()
            .map(|(a, b)| GraphLink {
                name: format!("l{a}-{b}"),
                ends: [end(*a), end(*b)],
                note: String::new(),
                impaired: false,
            })
            .collect(),
    }
}

fn assert_apart(places: &Places) {
    for (index, a) in places.boxes.iter().enumerate() {
        assert!(a.x.is_finite() && a.y.is_finite());
        assert!(
            a.x >= -0.1
                && a.y >= -0.1
                && a.right() <= places.width + 0.1
                && a.bottom() <= places.height + 0.1,
            "{index} {a:?}"
        );
        for (other, b) in places.boxes.iter().enumerate().skip(index + 1) {
            let apart =
                a.right() <= b.x || b.right() <= a.x || a.bottom() <= b.y || b.bottom() <= a.y;
            assert!(apart, "{index} {a:?} overlaps {other} {b:?}");
        }
    }
}

#[test]
fn nothing_overlaps_whatever_the_shape() {
    let shapes: Vec<(usize, Vec<(usize, usize)>)> = vec![
        (0, vec![]),
        (1, vec![]),
        (5, vec![]),
        (2, vec![(0, 1), (0, 1)]),
        (
            8,
            vec![(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7)],
        ),
        (
            7,
            vec![(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 0)],
        ),
        (
            9,
            vec![
                (0, 1),
                (0, 2),
                (1, 3),
                (2, 3),
                (1, 2),
                (0, 4),
                (4, 5),
                (0, 6),
                (7, 8),
            ],
        ),
        (
            6,
            (0..6).flat_map(|a| (0..a).map(move |b| (a, b))).collect(),
        ),
        (
            201,
            (0..100)
                .flat_map(|site| [(0, 2 * site + 1), (2 * site + 1, 2 * site + 2)])
                .collect(),
        ),
    ];
    for (nodes, links) in shapes {
        assert_apart(&place(&network(nodes, &links)));
    }
}

#[test]
fn sites_stand_on_both_sides_of_the_core() {
    let places = place(&network(5, &[(1, 2), (2, 0), (0, 3), (3, 4)]));
    let x = |node: usize| places.boxes[node].center_x();
    assert!(x(1) < x(2) && x(2) < x(0) && x(0) < x(3) && x(3) < x(4));
}

proptest! {
    #[test]
    fn nothing_overlaps_in_networks_at_random(
        nodes in 1_usize..45,
        links in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..70),
    ) {
        let links: Vec<(usize, usize)> =
            links.into_iter().map(|(a, b)| (usize::from(a) % nodes, usize::from(b) % nodes)).collect();
        assert_apart(&place(&network(nodes, &links)));
    }
}
