//! `$(...)` in topology files: whole numbers, parameters, `+ - * / %` and brackets.

use std::collections::BTreeMap;

use super::section::nearest;
use super::tree::Value;

/// What a name stands for.
pub(super) type Names = BTreeMap<String, Value>;

/// Fills in all `$(...)` of a text. A text that is nothing but one `$(...)` becomes what it stands for; others stay text.
pub(super) fn fill(text: &str, names: &Names) -> Result<Value, String> {
    if let Some(inner) = whole(text) {
        return evaluate(inner, names);
    }
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        filled.push_str(&rest[..start]);
        let length =
            closing(&rest[start..]).ok_or_else(|| format!("`$(` without its `)` in {text:?}"))?;
        match evaluate(&rest[start + 2..start + length - 1], names)? {
            Value::Number(number) => filled.push_str(&number.to_string()),
            Value::Text(text) => filled.push_str(&text),
            Value::Bool(value) => filled.push_str(&value.to_string()),
            _ => return Err("expected a number or text to fill in".to_owned()),
        }
        rest = &rest[start + length..];
    }
    filled.push_str(rest);
    Ok(Value::Text(filled))
}

/// What is between the brackets, if the text is one `$(...)` and nothing else.
fn whole(text: &str) -> Option<&str> {
    let length = text.starts_with("$(").then(|| closing(text)).flatten()?;
    (length == text.len()).then(|| &text[2..length - 1])
}

/// The length of the `$(...)` at the start of a text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn evaluate(text: &str, names: &Names) -> Result<Value, String> {
    let name = text.trim();
    if let Some(value) = names.get(name) {
        return Ok(value.clone());
    }
    let mut parser = Parser {
        text,
        rest: text,
        names,
        depth: 0,
    };
    let number = parser.sum()?;
    if !parser.peek().is_empty() {
        return Err(format!(
            "expected the end of `{text}`, found {:?}",
            parser.peek()
        ));
    }
    Ok(Value::Number(number.into()))
}

/// A whole number that an expression stands for.
pub(super) fn number(text: &str, names: &Names) -> Result<i64, String> {
    let text = whole(text.trim()).unwrap_or(text);
    match evaluate(text, names)? {
        Value::Number(number) => number
            .as_i64()
            .ok_or_else(|| format!("expected a whole number, found {number}")),
        _ => Err(format!("expected a whole number, found `{text}`")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    names: &'a Names,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> &str {
        self.rest.trim_start()
    }

    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.trim_start();
        let taken = rest.strip_prefix(character);
        self.rest = taken.unwrap_or(rest);
        taken.is_some()
    }

    fn sum(&mut self) -> Result<i64, String> {
        let mut value = self.product()?;
        loop {
            let next = if self.take('+') {
                let right = self.product()?;
                value.checked_add(right)
            } else if self.take('-') {
                let right = self.product()?;
                value.checked_sub(right)
            } else {
                return Ok(value);
            };
            value = next.ok_or_else(|| format!("`{}` is too large", self.text))?;
        }
    }

    fn product(&mut self) -> Result<i64, String> {
        let mut value = self.atom()?;
        loop {
            let operator = ['*', '/', '%'].into_iter().find(|&c| self.take(c));
            let Some(operator) = operator else {
                return Ok(value);
            };
            let right = self.atom()?;
            let next = match operator {
                '*' => value.checked_mul(right),
                '/' => value.checked_div(right),
                _ => value.checked_rem(right),
            };
            value =
                next.ok_or_else(|| format!("`{}` divides by zero or is too large", self.text))?;
        }
    }

    fn atom(&mut self) -> Result<i64, String> {
        if self.take('(') {
            self.depth += 1;
            if self.depth > 32 {
                return Err("expected at most 32 nested brackets".to_owned());
            }
            let value = self.sum()?;
            self.depth -= 1;
            if !self.take(')') {
                return Err(format!(
                    "expected `)` in `{}`, found {:?}",
                    self.text,
                    self.peek()
                ));
            }
            return Ok(value);
        }
        let rest = self.rest.trim_start();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        self.rest = after;
        if word.is_empty() {
            return Err(format!(
                "expected a number or a parameter in `{}`, found {:?}",
                self.text, after
            ));
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word
                .parse()
                .map_err(|_| format!("expected a number, found `{word}`"));
        }
        match self.names.get(word) {
            Some(Value::Number(number)) if number.as_i64().is_some() => {
                Ok(number.as_i64().unwrap_or_default())
            }
            Some(_) => Err(format!("`{word}` is not a whole number")),
            None => Err(match nearest(word, self.names.keys().map(String::as_str)) {
                Some(near) => format!("there is no parameter `{word}`; did you mean `{near}`?"),
                None => format!(
                    "there is no parameter `{word}`; there are {}",
                    self.names
                        .keys()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_filled_in() {
        let names = Names::from([
            ("n".to_owned(), Value::Number(700.into())),
            ("who".to_owned(), Value::Text("me".to_owned())),
        ]);
        let text = |text: &str| match fill(text, &names) {
            Ok(Value::Text(text)) => text,
            Ok(Value::Number(number)) => format!("number {number}"),
            other => format!("{other:?}"),
        };
        assert_eq!(text("10.$(n / 256).$(n % 256).1/24"), "10.2.188.1/24");
        assert_eq!(text("$((n + 1) * 2 - 3)"), "number 1399");
        assert_eq!(text("$(who)-$(n)"), "me-700");
        assert_eq!(text("plain (text) $ x"), "plain (text) $ x");
        for (wrong, words) in [
            ("$(m)", "no parameter `m`"),
            ("$(n", "without its"),
            ("$(n / 0)", "divides by zero"),
            ("$(n +)", "expected a number"),
            ("$(who + 1)", "not a whole number"),
            ("$(9223372036854775807 + 1)", "too large"),
            ("$(1 2)", "expected the end"),
        ] {
            let error = fill(wrong, &names).expect_err(wrong);
            assert!(error.contains(words), "{wrong}: {error}");
        }
        let deep = format!("$({}1{})", "(".repeat(1000), ")".repeat(1000));
        assert!(fill(&deep, &names).is_err());
    }
}
