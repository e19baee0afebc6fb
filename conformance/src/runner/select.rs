//! Which cases run.

use crate::case::Case;

/// What `--case`, `--requirement`, `--role` and `--slow` ask for. All that are given must hold.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Globs of ids.
    pub cases: Vec<String>,
    /// Globs of requirement ids.
    pub requirements: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Long cases too.
    pub slow: bool,
}

impl Selection {
    /// Whether a case is asked for.
    pub fn takes(&self, case: &Case) -> bool {
        let any = |globs: &[String], text: &str| globs.iter().any(|glob| glob_matches(glob, text));
        let named = !self.cases.is_empty() && any(&self.cases, case.id);
        (self.cases.is_empty() || named)
            && (self.requirements.is_empty()
                || case
                    .requirements
                    .iter()
                    .any(|requirement| any(&self.requirements, requirement.id())))
            && (self.roles.is_empty()
                || self
                    .roles
                    .iter()
                    .any(|role| case.roles.contains(&role.as_str())))
            && (self.slow || !case.slow)
    }
}

/// Whether a glob (`*` any run of characters, `?` one) matches a whole text.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[t] => (g, t) = (g + 1, t + 1),
            _ => {
                let Some((at, from)) = star else { return false };
                (g, t, star) = (at + 1, from + 1, Some((at, from + 1)));
            }
        }
    }
    glob[g..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("rfc6830::*", "rfc6830::s5_3::x", true),
            ("*s5_3*", "rfc6830::s5_3::x", true),
            ("rfc6830::s5_?::x", "rfc6830::s5_3::x", true),
            ("rfc6830", "rfc6830::s5_3::x", false),
            ("*y", "rfc6830::s5_3::x", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }
}
