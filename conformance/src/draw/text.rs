//! Measuring and breaking text without a font: widths are estimates on the safe side for the common sans-serif faces.

/// Estimated width of `text` in pixels at a font size of `size` pixels.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| advance(c) * size).sum()
}

fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '(' | ')'
        | '[' | ']' => 0.37,
        'f' | 't' | 'r' | '/' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.95,
        'A'..='Z' => 0.70,
        '0'..='9' | 'a'..='z' => 0.62,
        c if (c as u32) < 0x1100 => 0.65,
        _ => 1.0,
    }
}

/// Breaks `text` at spaces into lines that are at most `limit` pixels wide at the given font size. A word that is wider
/// than a line is broken inside; after `max_lines` lines the rest is replaced by an ellipsis.
pub(crate) fn wrap(text: &str, size: f64, limit: f64, max_lines: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let spaced = if line.is_empty() {
                word.to_owned()
            } else {
                format!("{line} {word}")
            };
            if width(&spaced, size) <= limit {
                line = spaced;
                break;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                continue;
            }
            let cut = fitting(word, size, limit);
            lines.push(word[..cut].to_owned());
            word = &word[cut..];
        }
        if lines.len() > max_lines {
            break;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > max_lines {
        lines.truncate(max_lines);
        if let Some(last) = lines.last_mut() {
            let cut = fitting(last, size, limit - size);
            last.truncate(cut);
            last.push('…');
        }
    }
    lines
}

/// Length in octets of the longest prefix of `word` that fits, at least one character.
fn fitting(word: &str, size: f64, limit: f64) -> usize {
    let mut total = 0.0;
    for (index, c) in word.char_indices() {
        total += advance(c) * size;
        if total > limit && index > 0 {
            return index;
        }
    }
    word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_limit_and_lose_nothing() {
        let text = "nonce 3f2a… EID [7]2001:db8:1::/48 TTL 1440 locators 192.0.2.1 198.51.100.1";
        let lines = wrap(text, 12.0, 160.0, 20);
        assert!(lines.len() > 2);
        assert!(
            lines.iter().all(|line| width(line, 12.0) <= 160.0),
            "{lines:?}"
        );
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn a_word_wider_than_the_line_is_broken_and_a_long_text_ends_in_an_ellipsis() {
        let lines = wrap(&"é".repeat(500), 12.0, 100.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…'));
        assert!(
            lines.iter().all(|line| width(line, 12.0) <= 101.0),
            "{lines:?}"
        );
    }

    #[test]
    fn a_limit_of_nothing_still_ends() {
        assert!(!wrap("abc def", 12.0, 0.0, 3).is_empty());
    }
}
