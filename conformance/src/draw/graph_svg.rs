//! The picture of a network as SVG: boxes from the layout, lines between them with names and addresses.

use serde::Serialize;

use super::graph::{Graph, GraphLink, GraphNode, Shape};
use super::graph_layout::{FACT_LINE, Frame, Places, SMALL, TITLE, place};
use super::graph_ports::{Face, faces, ports};
use super::template;
use super::text::{width, wrap};

const MARGIN: f64 = 20.0;
const HEAD: f64 = 56.0;
const LEGEND: f64 = 40.0;

#[derive(Serialize)]
struct Text {
    class: &'static str,
    x: f64,
    y: f64,
    anchor: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Box {
    class: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    radius: u8,
    tooltip: String,
    texts: Vec<Text>,
}

#[derive(Serialize)]
struct Link {
    class: &'static str,
    path: String,
    tooltip: String,
    texts: Vec<Text>,
}

#[derive(Serialize)]
struct Picture<'a> {
    styled: bool,
    name: &'a str,
    description: &'a str,
    text: String,
    width: f64,
    height: f64,
    links: Vec<Link>,
    boxes: Vec<Box>,
    texts: Vec<Text>,
}

/// Renders the whole document.
pub(super) fn svg(graph: &Graph, styled: bool) -> String {
    let mut environment = template::environment();
    environment
        .add_template("graph.svg", include_str!("templates/graph.svg"))
        .expect("the graph template is part of the program and compiles");
    let mut places = place(graph);
    for frame in &mut places.boxes {
        frame.x += MARGIN;
        frame.y += HEAD;
    }
    let mut boxes: Vec<Box> = (0..graph.nodes.len())
        .map(|index| boxed(graph, &places, index))
        .collect();
    let links = lines(graph, &places);
    let (legend, legend_boxes, legend_width) = legend(graph, &places);
    boxes.extend(legend_boxes);
    let heading = width(&graph.name, 16.0) + 2.0 * MARGIN;
    let picture_width = (places.width + 2.0 * MARGIN)
        .max(heading)
        .max(legend_width)
        .max(420.0)
        .ceil();
    let mut texts = legend;
    texts.push(text("title", MARGIN, 26.0, "start", graph.name.clone()));
    let summary = wrap(&graph.description, 12.0, picture_width - 2.0 * MARGIN, 1)
        .pop()
        .unwrap_or_default();
    texts.push(text("dim", MARGIN, 43.0, "start", summary));
    let picture = Picture {
        styled,
        name: &graph.name,
        description: &graph.description,
        text: in_words(graph),
        width: picture_width,
        height: (HEAD + places.height + 16.0 + LEGEND).ceil(),
        links,
        boxes,
        texts,
    };
    template::render(&environment, "graph.svg", &picture)
}

fn boxed(graph: &Graph, places: &Places, index: usize) -> Box {
    let node = &graph.nodes[index];
    let frame = places.boxes[index];
    let facts = if places.detailed {
        node.lines()
    } else {
        Vec::new()
    };
    let content = 34.0 + FACT_LINE * facts.len() as f64 + if facts.is_empty() { 0.0 } else { 6.0 };
    let top = frame.y + (frame.height - content) / 2.0;
    let room = frame.width - 12.0;
    let center = frame.center_x();
    let name = wrap(&node.name, TITLE * 1.08, room, 1)
        .pop()
        .unwrap_or_default();
    let role = wrap(&node.role, SMALL, room, 1).pop().unwrap_or_default();
    let mut texts = vec![
        text("name", center, top + 13.0, "middle", name),
        text("dim", center, top + 28.0, "middle", role),
    ];
    for (line, fact) in facts.iter().enumerate() {
        let indent = if fact.starts_with(' ') { 10.0 } else { 0.0 };
        let shown = wrap(fact.trim(), SMALL, room - indent, 1)
            .pop()
            .unwrap_or_default();
        let widest = facts
            .iter()
            .map(|fact| width(fact, SMALL))
            .fold(0.0, f64::max)
            .min(room);
        let left = center - widest / 2.0 + indent;
        texts.push(text(
            "fact",
            left,
            top + 48.0 + FACT_LINE * line as f64,
            "start",
            shown,
        ));
    }
    let shape = match node.shape {
        Shape::Host => "host",
        Shape::Router => "router",
        Shape::Bridge => "bridge",
    };
    Box {
        class: if node.lisp {
            format!("{shape} lisp")
        } else {
            shape.to_owned()
        },
        x: round(frame.x),
        y: round(frame.y),
        width: round(frame.width),
        height: round(frame.height),
        radius: if node.shape == Shape::Host { 14 } else { 3 },
        tooltip: format!("{} ({})\n{}", node.name, node.role, words(node, "\n")),
        texts,
    }
}

fn lines(graph: &Graph, places: &Places) -> Vec<Link> {
    let ends: Vec<[(f64, f64); 2]> = ports(graph, places);
    graph
        .links
        .iter()
        .zip(ends)
        .map(|(link, [from, to])| {
            let (a, b) = (
                &places.boxes[link.ends[0].node],
                &places.boxes[link.ends[1].node],
            );
            let (path, texts) = match faces(a, b) {
                _ if link.ends[0].node == link.ends[1].node => (String::new(), Vec::new()),
                Face::Left | Face::Right => sideways(link, from, to, places),
                Face::Top | Face::Bottom => upright(link, from, to, places),
            };
            Link {
                class: if link.impaired {
                    "wire impaired"
                } else {
                    "wire"
                },
                path,
                tooltip: link_in_words(graph, link),
                texts,
            }
        })
        .collect()
}

fn sideways(
    link: &GraphLink,
    from: (f64, f64),
    to: (f64, f64),
    places: &Places,
) -> (String, Vec<Text>) {
    let (left, right, left_end, right_end) = if from.0 <= to.0 {
        (from, to, &link.ends[0], &link.ends[1])
    } else {
        (to, from, &link.ends[1], &link.ends[0])
    };
    if !places.detailed {
        let bend = (right.0 - left.0) / 2.0;
        let path = format!(
            "M{} {}C{} {} {} {} {} {}",
            left.0,
            left.1,
            left.0 + bend,
            left.1,
            right.0 - bend,
            right.1,
            right.0,
            right.1
        );
        return (path, Vec::new());
    }
    let reach = |labels: &[String]| {
        labels
            .iter()
            .map(|label| width(label, SMALL))
            .fold(0.0, f64::max)
            + 12.0
    };
    let mut reaches = [reach(&left_end.labels), reach(&right_end.labels)];
    let room = right.0 - left.0;
    if reaches[0] + reaches[1] > room {
        reaches = [room / 2.0; 2];
    }
    let (inner_left, inner_right) = (left.0 + reaches[0], right.0 - reaches[1]);
    let path = format!(
        "M{} {}H{} L{} {}H{}",
        round(left.0),
        round(left.1),
        round(inner_left),
        round(inner_right),
        round(right.1),
        round(right.0)
    );
    let mut texts = Vec::new();
    for (row, label) in left_end.labels.iter().enumerate() {
        texts.push(text(
            "port",
            left.0 + 6.0,
            left.1 + 13.0 + 12.0 * row as f64,
            "start",
            label.clone(),
        ));
    }
    for (row, label) in right_end.labels.iter().enumerate() {
        texts.push(text(
            "port",
            right.0 - 6.0,
            right.1 + 13.0 + 12.0 * row as f64,
            "end",
            label.clone(),
        ));
    }
    let middle = ((inner_left + inner_right) / 2.0, (left.1 + right.1) / 2.0);
    let slanted = (left.1 - right.1).abs() > 1.0;
    let above = if slanted { 4.0 } else { -5.0 };
    texts.push(text(
        "link",
        middle.0,
        middle.1 + above,
        "middle",
        link.name.clone(),
    ));
    if !link.note.is_empty() {
        let below = if slanted { 17.0 } else { -18.0 };
        texts.push(text(
            "note",
            middle.0,
            middle.1 + below,
            "middle",
            link.note.clone(),
        ));
    }
    (path, texts)
}

fn upright(
    link: &GraphLink,
    from: (f64, f64),
    to: (f64, f64),
    places: &Places,
) -> (String, Vec<Text>) {
    let (top, bottom, top_end, bottom_end) = if from.1 <= to.1 {
        (from, to, &link.ends[0], &link.ends[1])
    } else {
        (to, from, &link.ends[1], &link.ends[0])
    };
    let between = |frame: &Frame| {
        frame.y > top.1
            && frame.bottom() < bottom.1
            && frame.x < top.0.max(bottom.0)
            && frame.right() > top.0.min(bottom.0)
    };
    let blocked = places.boxes.iter().any(between);
    let a = &places.boxes[top_end.node];
    if blocked {
        // Around the boxes between, on the side away from the middle of the picture.
        let outwards = if a.center_x() < places.width / 2.0 {
            -1.0
        } else {
            1.0
        };
        let b = &places.boxes[bottom_end.node];
        let edge = |frame: &Frame| {
            if outwards < 0.0 {
                frame.x
            } else {
                frame.right()
            }
        };
        let (start, end) = ((edge(a), a.center_y()), (edge(b), b.center_y()));
        let reach = 26.0 * outwards;
        let path = format!(
            "M{} {}C{} {} {} {} {} {}",
            start.0,
            start.1,
            start.0 + reach,
            start.1,
            end.0 + reach,
            end.1,
            end.0,
            end.1
        );
        return (path, Vec::new());
    }
    let path = format!(
        "M{} {}L{} {}",
        round(top.0),
        round(top.1),
        round(bottom.0),
        round(bottom.1)
    );
    let roomy = bottom.1 - top.1 > 60.0 && places.detailed;
    if !roomy {
        return (path, Vec::new());
    }
    let mut texts = Vec::new();
    for (row, label) in top_end.labels.iter().enumerate() {
        texts.push(text(
            "port",
            top.0 + 6.0,
            top.1 + 15.0 + 12.0 * row as f64,
            "start",
            label.clone(),
        ));
    }
    let rows = bottom_end.labels.len();
    for (row, label) in bottom_end.labels.iter().enumerate() {
        texts.push(text(
            "port",
            bottom.0 + 6.0,
            bottom.1 - 7.0 - 12.0 * (rows - 1 - row) as f64,
            "start",
            label.clone(),
        ));
    }
    let free_top = top.1 + 15.0 + 12.0 * (top_end.labels.len() as f64 - 1.0);
    let free_bottom = bottom.1 - 7.0 - 12.0 * rows as f64;
    let middle = (free_top + free_bottom) / 2.0 + 8.0;
    texts.push(text("link", top.0 - 6.0, middle, "end", link.name.clone()));
    texts.push(text(
        "note",
        top.0 - 6.0,
        middle + 13.0,
        "end",
        link.note.clone(),
    ));
    (path, texts)
}

fn legend(graph: &Graph, places: &Places) -> (Vec<Text>, Vec<Box>, f64) {
    let y = HEAD + places.height + 22.0;
    let mut texts = Vec::new();
    let mut boxes = Vec::new();
    let mut x = MARGIN;
    let has = |shape| graph.nodes.iter().any(|node| node.shape == shape);
    let entries = [
        ("host", "host", 9_u8, has(Shape::Host)),
        ("router", "router: forwards", 3, has(Shape::Router)),
        ("bridge", "bridge: one LAN", 3, has(Shape::Bridge)),
        (
            "router lisp",
            "strong border: speaks LISP",
            3,
            graph.nodes.iter().any(|node| node.lisp),
        ),
    ];
    for (class, words, radius, used) in entries {
        if !used {
            continue;
        }
        boxes.push(Box {
            class: class.to_owned(),
            x,
            y,
            width: 30.0,
            height: 18.0,
            radius,
            tooltip: words.to_owned(),
            texts: Vec::new(),
        });
        texts.push(text("dim", x + 38.0, y + 13.0, "start", words.to_owned()));
        x += 38.0 + width(words, SMALL) + 22.0;
    }
    if !places.detailed {
        let words = "point at a box or a line for its addresses";
        texts.push(text("dim", x, y + 13.0, "start", words.to_owned()));
        x += width(words, SMALL) + 22.0;
    }
    (texts, boxes, x + MARGIN)
}

fn link_in_words(graph: &Graph, link: &GraphLink) -> String {
    let mut words = link.name.clone();
    for end in &link.ends {
        let name = graph
            .nodes
            .get(end.node)
            .map_or("", |node| node.name.as_str());
        words.push_str(&format!("\n{name} {}", end.labels.join(", ")));
    }
    if !link.note.is_empty() {
        words.push_str(&format!("\n{}", link.note));
    }
    words
}

fn in_words(graph: &Graph) -> String {
    let nodes = graph
        .nodes
        .iter()
        .map(|node| format!("{} ({}): {}", node.name, node.role, words(node, "; ")));
    let links = graph
        .links
        .iter()
        .map(|link| link_in_words(graph, link).replace('\n', "; "));
    nodes.chain(links).collect::<Vec<_>>().join("\n")
}

fn words(node: &GraphNode, between: &str) -> String {
    node.words().collect::<Vec<_>>().join(between)
}

fn text(class: &'static str, x: f64, y: f64, anchor: &'static str, text: String) -> Text {
    Text {
        class,
        x: round(x),
        y: round(y),
        anchor,
        text,
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
