//! Reading small YAML files of ours and of users, with errors that point at the line.

use std::path::Path;

use serde::de::DeserializeOwned;

/// Reads a value. The error is `FILE:LINE:COLUMN: what is wrong`, with the line and a mark below it.
///
/// # Errors
/// The text is no YAML, or not of the form of the value.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
        // The place stands in front already.
        let said = error.to_string();
        let said = said.trim_start_matches("error: ");
        let said = said
            .strip_prefix(&format!("line {line} column {column}: "))
            .unwrap_or(said);
        let said = said
            .strip_suffix(&format!(" at line {line}, column {column}"))
            .unwrap_or(said);
        at(path, text, line, column, said)
    })
}

/// The error for something at a place; line and column from 1, 0 if the place is not known.
pub(crate) fn at(path: &Path, text: &str, line: usize, column: usize, problem: &str) -> String {
    let path = path.display();
    let Some(content) = line.checked_sub(1).and_then(|line| text.lines().nth(line)) else {
        return format!("{path}: {problem}");
    };
    let before = column.saturating_sub(1);
    // Of a very long line what is around the place.
    let start = before.saturating_sub(60);
    let shown: String = content.chars().skip(start).take(120).collect();
    let gutter = line.to_string();
    format!(
        "{path}:{line}:{column}: {problem}\n  {gutter} | {shown}\n  {:width$} | {:mark$}^",
        "",
        "",
        width = gutter.len(),
        mark = before - start
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        #[expect(dead_code, reason = "only read")]
        colour: u8,
    }

    #[test]
    fn errors_point_at_the_place() {
        let wrong = |text: &str| read::<Thing>(Path::new("a.yaml"), text).unwrap_err();
        let unknown = wrong("colour: 1\nsize: 2\n");
        assert!(
            unknown.starts_with("a.yaml:2:1: unknown field `size`"),
            "{unknown}"
        );
        assert!(unknown.ends_with("\n  2 | size: 2\n    | ^"), "{unknown}");
        let kind = wrong("colour: red\n");
        assert!(kind.starts_with("a.yaml:1:9: "), "{kind}");
        assert!(!kind.contains("line 1"), "{kind}");
        let no_yaml = wrong("colour: [\n");
        assert!(
            no_yaml.starts_with("a.yaml:") && !no_yaml.contains("<input>"),
            "{no_yaml}"
        );
    }
}
