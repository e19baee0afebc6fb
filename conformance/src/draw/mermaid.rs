//! A topology as a Mermaid flowchart, for pages that render it (GitHub and GitLab do).

use std::fmt::Write as _;

use super::graph::{Graph, Shape};

pub(super) fn flowchart(graph: &Graph) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "%% {}", one_line(&graph.name));
    let _ = writeln!(out, "flowchart LR");
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut lines = vec![format!("<b>{}</b>", entity(&node.name)), entity(&node.role)];
        lines.extend(node.lines().iter().map(|fact| entity(fact.trim())));
        let text = lines.join("<br/>");
        let (open, close) = match node.shape {
            Shape::Host => ("([", "])"),
            Shape::Router => ("[", "]"),
            Shape::Bridge => ("[[", "]]"),
        };
        let class = if node.lisp { ":::lisp" } else { "" };
        let _ = writeln!(out, "  n{index}{open}\"{text}\"{close}{class}");
    }
    for link in &graph.links {
        let [a, b] = &link.ends;
        let mut lines = vec![entity(&link.name)];
        if !link.note.is_empty() {
            lines.push(entity(&link.note));
        }
        for end in &link.ends {
            let name = graph
                .nodes
                .get(end.node)
                .map_or("", |node| node.name.as_str());
            lines.push(entity(&format!("{name}: {}", end.labels.join(", "))));
        }
        let line = if link.impaired { "-.-" } else { "---" };
        let _ = writeln!(
            out,
            "  n{} {line}|\"{}\"| n{}",
            a.node,
            lines.join("<br/>"),
            b.node
        );
    }
    let _ = writeln!(out, "  classDef lisp stroke-width:3px");
    out
}

/// Mermaid has no escape but the entity; everything that could end a quoted text or begin markup becomes one.
fn entity(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            'a'..='z'
            | 'A'..='Z'
            | '0'..='9'
            | ' '
            | '.'
            | ','
            | ':'
            | '/'
            | '-'
            | '_'
            | '('
            | ')'
            | '['
            | ']'
            | '+'
            | '%' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "#{};", c as u32);
            }
        }
    }
    out
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
