//! Taking out what names the machine: paths, the host, the user.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Names that say nothing about anybody.
const COMMON: &[&str] = &["localhost", "root", "host", "user", "nobody"];
/// Shorter words are found by chance in the octets of packets.
const SHORTEST_IN_PACKETS: usize = 4;

/// Knows what names the machine, and what stands for it.
#[derive(Debug, Clone, Default)]
pub struct Scrubber {
    /// Paths and what stands for them, longest first.
    paths: Vec<(String, &'static str)>,
    /// Words and what stands for them.
    words: Vec<(String, &'static str)>,
}

impl Scrubber {
    /// For this machine. Words of `kept` (names of nodes and links) stay: there they name the lab.
    pub fn of_this_machine<'a>(kept: impl Iterator<Item = &'a str>) -> Scrubber {
        let kept: BTreeSet<&str> = kept.chain(COMMON.iter().copied()).collect();
        let folder = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten();
        let executable = std::env::current_exe().ok();
        let mut paths: Vec<(Option<String>, &'static str)> = vec![
            (
                folder(crate::home::checkout().map(PathBuf::from)),
                "CHECKOUT",
            ),
            (
                folder(
                    executable
                        .as_ref()
                        .and_then(|path| path.parent())
                        .map(PathBuf::from),
                ),
                "BIN",
            ),
            (folder(std::env::current_dir().ok()), "CWD"),
            (folder(std::env::home_dir()), "HOME"),
            (folder(user.as_ref().map(|user| user.dir.clone())), "HOME"),
        ];
        if let Some(path) = std::env::var_os("CARGO_HOME") {
            paths.push((folder(Some(path.into())), "CARGO_HOME"));
        }
        let host = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        let short = host
            .as_ref()
            .and_then(|name| name.split('.').next().map(str::to_owned));
        let words = [
            (host, "HOSTNAME"),
            (short, "HOSTNAME"),
            (user.map(|user| user.name), "USERNAME"),
            (std::env::var("USER").ok(), "USERNAME"),
            (std::env::var("LOGNAME").ok(), "USERNAME"),
            (std::env::var("SUDO_USER").ok(), "USERNAME"),
        ];
        let named = |(text, name): (Option<String>, &'static str)| Some((text?, name));
        Scrubber::new(
            paths.into_iter().filter_map(named),
            words
                .into_iter()
                .filter_map(named)
                .filter(|(word, _)| !kept.contains(word.as_str())),
        )
    }

    /// For given paths and words.
    pub fn new(
        paths: impl IntoIterator<Item = (String, &'static str)>,
        words: impl IntoIterator<Item = (String, &'static str)>,
    ) -> Scrubber {
        // The root folder and empty words are everywhere.
        let mut paths: Vec<(String, &'static str)> = paths
            .into_iter()
            .filter(|(path, _)| path.len() > 1)
            .collect();
        let mut words: Vec<(String, &'static str)> = words
            .into_iter()
            .filter(|(word, _)| word.len() > 1)
            .collect();
        for list in [&mut paths, &mut words] {
            list.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
            list.dedup();
        }
        Scrubber { paths, words }
    }

    /// Also takes out a folder.
    #[must_use]
    pub fn and(mut self, path: &std::path::Path, name: &'static str) -> Scrubber {
        self.paths.push((path.display().to_string(), name));
        Scrubber::new(self.paths, self.words)
    }

    /// Text without them.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.paths {
            text = replaced(
                &text,
                path,
                name,
                |c| c.is_alphanumeric() || "-_".contains(c),
                false,
            );
        }
        for (word, name) in &self.words {
            text = replaced(&text, word, name, |c| c.is_alphanumeric() || c == '-', true);
        }
        text
    }

    /// Overwrites them in octets, without changing their length; whether there were any.
    pub fn octets(&self, octets: &mut [u8]) -> bool {
        let mut found = false;
        let long = |text: &&String| text.len() >= SHORTEST_IN_PACKETS;
        let all = self.paths.iter().chain(&self.words).map(|(text, _)| text);
        for text in all.filter(long) {
            let wanted = text.as_bytes();
            let mut at = 0;
            while at + wanted.len() <= octets.len() {
                if octets[at..].starts_with(wanted) {
                    octets[at..at + wanted.len()].fill(b'x');
                    found = true;
                }
                at += 1;
            }
        }
        found
    }
}

/// Replaces `wanted` where no letter of its kind follows (and, `alone`, none comes before).
fn replaced(
    text: &str,
    wanted: &str,
    name: &str,
    letter: impl Fn(char) -> bool,
    alone: bool,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(wanted) {
        let (before, behind) = (&rest[..at], &rest[at + wanted.len()..]);
        let joined = behind.starts_with(&letter)
            || alone && (before.ends_with(&letter) || before.is_empty() && out.ends_with(&letter));
        out.push_str(before);
        out.push_str(if joined { wanted } else { name });
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_words_go_and_others_stay() {
        let own = |text: &str| text.to_owned();
        let scrubber = Scrubber::new(
            [
                (own("/home/joe"), "HOME"),
                (own("/home/joe/lab"), "CHECKOUT"),
                (own("/"), "ROOT"),
            ],
            [(own("joe"), "USERNAME"), (own("big"), "HOSTNAME")],
        );
        for (from, to) in [
            ("/home/joe/lab/target/xtr", "CHECKOUT/target/xtr"),
            ("/home/joe/x /home/joel", "HOME/x /home/joel"),
            (
                "joe@big: bigger, joe-2, (joe)",
                "USERNAME@HOSTNAME: bigger, joe-2, (USERNAME)",
            ),
            ("a/b", "a/b"),
        ] {
            assert_eq!(scrubber.text(from), to);
        }
        let mut octets = b"..GET /home/joe/lab/x big".to_vec();
        assert!(scrubber.octets(&mut octets));
        assert_eq!(octets, b"..GET xxxxxxxxxxxxx/x big");
        assert!(!scrubber.octets(&mut octets));
    }
}
