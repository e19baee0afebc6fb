//! Templates, and the one place where text becomes markup.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

const LADDER_STYLE: &str = include_str!("templates/ladder.css");
const GRAPH_STYLE: &str = include_str!("templates/graph.css");

/// An environment in which every value is escaped for XML and HTML, whatever the template is called. Characters that
/// XML forbids and characters that change the direction of text are made visible instead of being passed on.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(
        syntax
            .build()
            .expect("only white space is configured, which cannot clash"),
    );
    environment.set_formatter(|out, state, value| {
        if value.is_safe() || value.kind() != ValueKind::String {
            return minijinja::escape_formatter(out, state, value);
        }
        let text = value.as_str().unwrap_or_default();
        out.write_str(&escape(text)).map_err(minijinja::Error::from)
    });
    for (name, style) in [("ladder_style", LADDER_STYLE), ("graph_style", GRAPH_STYLE)] {
        environment.add_global(name, Value::from_safe_string(style.to_owned()));
    }
    environment
}

/// Renders a template that was compiled into the program with a context of our own making.
pub(crate) fn render<C: Serialize>(
    environment: &Environment<'_>,
    name: &str,
    context: &C,
) -> String {
    environment
        .get_template(name)
        .and_then(|template| template.render(Serde(context)))
        .unwrap_or_else(|error| panic!("the built-in template {name} does not render: {error:#}"))
}

/// Escapes text for use in XML or HTML content and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if is_harmful(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || (c as u32) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_log_says_becomes_markup() {
        assert_eq!(
            escape("<a href='x'>\"&"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;"
        );
        assert_eq!(
            escape("\u{1b}[31mred\0 \u{202e}abc\r\n"),
            "\u{fffd}[31mred\u{fffd} \u{fffd}abc\n"
        );
    }

    #[test]
    fn templates_escape_by_default() {
        let mut environment = environment();
        environment
            .add_template("t", "<p title=\"{{ a }}\">{{ a }}</p>")
            .unwrap();
        let html = render(
            &environment,
            "t",
            &std::collections::BTreeMap::from([("a", "\"><script>")]),
        );
        assert_eq!(
            html,
            "<p title=\"&quot;&gt;&lt;script&gt;\">&quot;&gt;&lt;script&gt;</p>"
        );
    }
}
