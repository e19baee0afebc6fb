//! Reading which packets are meant.

use harness::topology::yaml::{Problem, Section, Tree, Value, boolean, items, number, parsed};
use lisp::EidPrefix;

use super::Since;
use super::matcher::{Eid, LocatorMatch, Matcher, Nonce, Place, Record};
use super::read::Reader;
use super::words::{ACTIONS, FLAGS, KINDS, nonce};

/// Kinds that a packet inside a LISP data packet can be.
const INNER: &[&str] = &[
    "any",
    "echo-request",
    "echo-reply",
    "icmp-error",
    "udp",
    "tcp",
];

impl Reader<'_> {
    /// `packet: {...}`. `before` is the number of the step that it stands in: it may name earlier ones.
    pub(super) fn matcher(&mut self, tree: &Tree, what: &str, before: usize) -> Option<Matcher> {
        let problems = self.problems.len();
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let mut matcher = self.ip_keys(
            &mut section,
            what,
            KINDS.iter().map(|(name, _)| *name).collect(),
        );
        let key = |name: &str| format!("{what}: {name}");
        matcher.sent_by = section
            .get("sent-by")
            .and_then(|tree| self.node(tree, &key("sent-by")));
        matcher.received_by = section
            .get("received-by")
            .and_then(|tree| self.node(tree, &key("received-by")));
        matcher.link = section
            .get("link")
            .and_then(|tree| self.link(tree, &key("link")));
        matcher.eid = section
            .get("eid")
            .and_then(|tree| self.eid(tree, &key("eid")));
        if let Some(tree) = section.get("flags") {
            matcher.flags = self.flags(tree, what);
        }
        matcher.nonce = section.get("nonce").and_then(|tree| {
            let expected = "a nonce: decimal, or hex with 0x";
            parsed(tree, &key("nonce"), expected, &mut self.problems, nonce).map(Nonce::Is)
        });
        if let Some(tree) = section.get("nonce-of") {
            if matcher.nonce.is_some() {
                self.problem(Problem::new(
                    tree.at,
                    format!("{what}: `nonce` and `nonce-of` exclude each other"),
                ));
            }
            matcher.nonce = self.nonce_of(tree, what, before);
        }
        matcher.encapsulated = section
            .get("encapsulated")
            .and_then(|tree| boolean(tree, &key("encapsulated"), &mut self.problems));
        matcher.instance_id = section
            .get("instance-id")
            .and_then(|tree| number(tree, &key("instance-id"), 0..=0xff_ffff, &mut self.problems))
            .map(|iid| iid as u32);
        matcher.records = section
            .get("records")
            .and_then(|tree| self.range(tree, &key("records")));
        matcher.record = section
            .get("record")
            .and_then(|tree| self.record(tree, what));
        if let Some(tree) = section.get("inner") {
            let what = key("inner");
            if let Some(mut inner) = Section::open(tree, what.as_str(), &mut self.problems) {
                let mut found = self.ip_keys(&mut inner, &what, INNER.to_vec());
                inner.finish(&mut self.problems);
                found.text = String::new();
                matcher.inner = Some(Box::new(found));
            }
        }
        let at = section.at;
        section.finish(&mut self.problems);
        matcher.text = described(tree);
        let asks = Matcher {
            text: String::new(),
            ..matcher.clone()
        } != Matcher::default();
        if !asks && self.problems.len() == problems {
            self.problem(
                Problem::new(at, format!("{what}: every packet would do"))
                    .hint("say at least its `type`"),
            );
        }
        (self.problems.len() == problems).then_some(matcher)
    }

    /// The keys that any IP packet can have.
    fn ip_keys(
        &mut self,
        section: &mut Section<'_>,
        what: &str,
        kinds: Vec<&'static str>,
    ) -> Matcher {
        let key = |name: &str| format!("{what}: {name}");
        let port = |tree: &Tree, name: &str, reader: &mut Self| {
            number(tree, &key(name), 0..=65535, &mut reader.problems).map(|port| port as u16)
        };
        let choices: Vec<(&'static str, ())> = kinds.into_iter().map(|kind| (kind, ())).collect();
        Matcher {
            kind: section
                .get("type")
                .and_then(|tree| self.choice(tree, &key("type"), &choices))
                .map(|(kind, ())| kind),
            from: section
                .get("from")
                .and_then(|tree| self.place(tree, &key("from"))),
            to: section
                .get("to")
                .and_then(|tree| self.place(tree, &key("to"))),
            source_port: section
                .get("source-port")
                .and_then(|tree| port(tree, "source-port", self)),
            destination_port: section
                .get("destination-port")
                .and_then(|tree| port(tree, "destination-port", self)),
            ttl: section
                .get("ttl")
                .and_then(|tree| self.range(tree, &key("ttl"))),
            of_ping: section
                .get("of-ping")
                .and_then(|tree| self.of_ping(tree, &key("of-ping"))),
            ..Matcher::default()
        }
    }

    /// A node for all its addresses, an address or a prefix.
    fn place(&mut self, tree: &Tree, what: &str) -> Option<Place> {
        let found = self.text(tree, what)?;
        if let Ok(address) = found.parse() {
            return Some(Place::Addresses(vec![address]));
        }
        if let Ok(net) = found.parse() {
            return Some(Place::Net(net));
        }
        let node = self.node(tree, what)?;
        let addresses = self.topology.addresses(&node).map(|net| net.addr());
        Some(Place::Addresses(addresses.collect()))
    }

    pub(super) fn eid(&mut self, tree: &Tree, what: &str) -> Option<Eid> {
        let expected = "an EID like 10.2.0.10 (in the packet's prefix), or a prefix like 10.2.0.0/24 or [7]10.2.0.0/24";
        parsed(
            tree,
            what,
            expected,
            &mut self.problems,
            |text| match text.parse() {
                Ok(address) => Some(Eid::Address(address)),
                Err(_) => text.parse::<EidPrefix>().ok().map(Eid::Prefix),
            },
        )
    }

    fn flags(&mut self, tree: &Tree, what: &str) -> Vec<(&'static str, bool)> {
        let what = format!("{what}: flags");
        let list = match &tree.value {
            Value::List(_) => items(tree, &what, &mut self.problems),
            _ => std::slice::from_ref(tree),
        };
        let mut flags = Vec::new();
        for tree in list {
            let Some(word) = self.text(tree, &what) else {
                continue;
            };
            let (name, set) = match word.strip_prefix("not-") {
                Some(name) => (name, false),
                None => (word.as_str(), true),
            };
            match FLAGS.iter().find(|(flag, _)| *flag == name) {
                Some((flag, _)) => flags.push((*flag, set)),
                None => {
                    let names: Vec<&str> = FLAGS.iter().map(|(flag, _)| *flag).collect();
                    self.unknown(tree.at, &what, &word, &names);
                }
            }
        }
        flags
    }

    /// The step that waited for a packet, or the expectation that one met, whose nonce is meant.
    fn nonce_of(&mut self, tree: &Tree, what: &str, before: usize) -> Option<Nonce> {
        let what = format!("{what}: nonce-of");
        let since = self.since(tree, &what, before)?;
        if let Since::Step(step) = since
            && !self.steps[step].packet
        {
            let problem = Problem::new(tree.at, format!("{what}: this step waits for no packet"));
            self.problem(
                problem.hint("name a `wait-for: {packet: ...}`, or an expectation of a packet"),
            );
            return None;
        }
        Some(Nonce::Of(since))
    }

    fn of_ping(&mut self, tree: &Tree, what: &str) -> Option<std::ops::RangeInclusive<u16>> {
        let name = self.text(tree, what)?;
        let step = self.steps.iter().find(|step| step.name == name);
        if let Some(range) = step.and_then(|step| step.pings.clone()) {
            return Some(range);
        }
        let names: Vec<String> = self
            .steps
            .iter()
            .filter(|step| step.pings.is_some())
            .map(|step| step.name.clone())
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.unknown(tree.at, &format!("{what}: a ping"), &name, &names);
        None
    }

    fn record(&mut self, tree: &Tree, what: &str) -> Option<Record> {
        let what = format!("{what}: record");
        let key = |name: &str| format!("{what}: {name}");
        let mut section = Section::open(tree, what.as_str(), &mut self.problems)?;
        let record = Record {
            eid: section
                .get("eid")
                .and_then(|tree| self.eid(tree, &key("eid"))),
            ttl: section
                .get("ttl")
                .and_then(|tree| self.range(tree, &key("ttl"))),
            action: section
                .get("action")
                .and_then(|tree| self.act(tree, &key("action"))),
            authoritative: section
                .get("authoritative")
                .and_then(|tree| boolean(tree, &key("authoritative"), &mut self.problems)),
            map_version: section
                .get("map-version")
                .and_then(|tree| number(tree, &key("map-version"), 0..=4095, &mut self.problems))
                .map(|version| version as u16),
            locators: section
                .get("locators")
                .map(|tree| self.locators(tree, &key("locators"))),
            locator: section
                .get("locator")
                .and_then(|tree| self.locator(tree, &key("locator"))),
        };
        section.finish(&mut self.problems);
        Some(record)
    }

    /// The action of a negative record: a word, or its code.
    pub(super) fn act(&mut self, tree: &Tree, what: &str) -> Option<u8> {
        if let Value::Number(_) = tree.value {
            return number(tree, what, 0..=7, &mut self.problems).map(|code| code as u8);
        }
        self.choice(tree, what, ACTIONS).map(|(_, code)| code)
    }

    fn locators(&mut self, tree: &Tree, what: &str) -> Vec<std::net::IpAddr> {
        items(tree, what, &mut self.problems)
            .iter()
            .filter_map(|tree| self.address(tree, what))
            .collect()
    }

    fn locator(&mut self, tree: &Tree, what: &str) -> Option<LocatorMatch> {
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let octet = |key: &'static str, section: &mut Section<'_>, reader: &mut Self| {
            let tree = section.get(key)?;
            let what = format!("{what}: {key}");
            number(tree, &what, 0..=255, &mut reader.problems).map(|value| value as u8)
        };
        let flag = |key: &'static str, section: &mut Section<'_>, reader: &mut Self| {
            let tree = section.get(key)?;
            boolean(tree, &format!("{what}: {key}"), &mut reader.problems)
        };
        let found = LocatorMatch {
            address: section
                .get("address")
                .and_then(|tree| self.address(tree, &format!("{what}: address"))),
            priority: octet("priority", &mut section, self),
            weight: octet("weight", &mut section, self),
            local: flag("local", &mut section, self),
            probed: flag("probed", &mut section, self),
            reachable: flag("reachable", &mut section, self),
        };
        section.finish(&mut self.problems);
        Some(found)
    }
}

/// A matcher as somebody would say it: the values of its keys in the order of the file.
fn described(tree: &Tree) -> String {
    match &tree.value {
        Value::Map(entries) => {
            let parts: Vec<String> = entries
                .iter()
                .map(|(key, value)| match (key.name.as_str(), &value.value) {
                    ("type", Value::Text(kind)) => kind.clone(),
                    (name, Value::Map(_)) => format!("{name} ({})", described(value)),
                    (name, _) => format!("{name} {}", described(value)),
                })
                .collect();
            parts.join(", ")
        }
        Value::List(items) => {
            let parts: Vec<String> = items.iter().map(described).collect();
            format!("[{}]", parts.join(" "))
        }
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null => "nothing".to_owned(),
    }
}
