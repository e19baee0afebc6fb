//! Reading the description of a packet to send.

use std::net::IpAddr;

use harness::topology::yaml::{Problem, Section, Tree, Value, boolean, items, number, parsed};
use lisp::auth::MacAlgorithm;
use lisp::{CONTROL_PORT, EidPrefix};

use super::message::{Content, Inner, Mapping, Message, Request};
use super::read::Reader;
use super::words::{nonce, octets};

/// What a packet may carry.
const CONTENTS: &[&str] = &[
    "hex",
    "payload",
    "echo-request",
    "map-request",
    "map-reply",
    "map-register",
    "data",
];
const TTL: u8 = 64;

impl Reader<'_> {
    /// The keys of a packet: its header and one content.
    pub(super) fn message(
        &mut self,
        section: &mut Section<'_>,
        what: &str,
        from: Option<&str>,
    ) -> Option<Message> {
        let key = |name: &str| format!("{what}: {name}");
        let source = section.get("source");
        let destination = section.get("destination");
        let at = section.at;
        let ttl = match section.get("ttl") {
            Some(tree) => number(tree, &key("ttl"), 0..=255, &mut self.problems)? as u8,
            None => TTL,
        };
        let mut port = |name: &'static str, section: &mut Section<'_>| {
            let tree = section.get(name)?;
            number(tree, &key(name), 0..=65535, &mut self.problems).map(|port| port as u16)
        };
        let source_port = port("source-port", section);
        let destination_port = port("destination-port", section);
        let encapsulated = section.get("encapsulated");
        let mut contents: Vec<(&'static str, &Tree)> = Vec::new();
        for name in CONTENTS {
            if let Some(tree) = section.get(name) {
                contents.push((name, tree));
            }
        }
        let &[(kind, content)] = contents.as_slice() else {
            let message = format!("{what}: expected one content, found {}", contents.len());
            self.problem(Problem::new(at, message).hint(format!("one of {}", CONTENTS.join(", "))));
            return None;
        };
        if kind == "hex" {
            return self.whole(content, &key("hex"), [source, destination]);
        }
        let destination = match destination {
            Some(tree) => self.address(tree, &key("destination"))?,
            None => {
                let message = format!(
                    "{what}: the key `destination` is missing: expected an address or a node"
                );
                self.problem(Problem::new(at, message));
                return None;
            }
        };
        let source = match source {
            Some(tree) => self.address(tree, &key("source"))?,
            None => self.own_address(from?, destination, section.at, what)?,
        };
        let encapsulated = match encapsulated {
            Some(tree) => Some(self.ecm(tree, &key("encapsulated"))?),
            None => None,
        };
        let control = kind.starts_with("map-");
        if let (Some(_), false) = (&encapsulated, control) {
            self.problem(Problem::new(
                at,
                format!("{what}: only control messages can be encapsulated in one"),
            ));
        }
        let default_port = match kind {
            "data" => lisp::DATA_PORT,
            _ if control => CONTROL_PORT,
            _ => 9,
        };
        Some(Message {
            source,
            destination,
            ttl,
            source_port: source_port.unwrap_or(49_152),
            destination_port: destination_port.unwrap_or(default_port),
            content: self.content(kind, content, &key(kind))?,
            encapsulated,
        })
    }

    fn whole(&mut self, tree: &Tree, what: &str, others: [Option<&Tree>; 2]) -> Option<Message> {
        if let Some(other) = others.into_iter().flatten().next() {
            self.problem(Problem::new(
                other.at,
                format!("{what}: the octets have addresses of their own"),
            ));
        }
        let expected = "a whole IP packet in hex, two digits per octet";
        let octets = parsed(tree, what, expected, &mut self.problems, octets)?;
        let Some(ip) = crate::decode::ip(&octets) else {
            let problem = Problem::new(
                tree.at,
                format!("{what}: expected {expected}, found no IPv4 or IPv6 header"),
            );
            self.problem(problem.hint("for a UDP payload write `payload`"));
            return None;
        };
        Some(Message {
            source: ip.source,
            destination: ip.destination,
            ttl: ip.ttl,
            source_port: 0,
            destination_port: 0,
            content: Content::Packet(octets),
            encapsulated: None,
        })
    }

    /// The first address of a node of the destination's family.
    fn own_address(
        &mut self,
        node: &str,
        destination: IpAddr,
        at: harness::topology::yaml::Position,
        what: &str,
    ) -> Option<IpAddr> {
        let found = self
            .topology
            .addresses(node)
            .map(|net| net.addr())
            .find(|address| address.is_ipv4() == destination.is_ipv4());
        if found.is_none() {
            let message =
                format!("{what}: node `{node}` has no address of the family of {destination}");
            self.problem(Problem::new(at, message).hint("give a `source`"));
        }
        found
    }

    fn ecm(&mut self, tree: &Tree, what: &str) -> Option<Inner> {
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let source = section.require("source", "the inner source address", &mut self.problems);
        let destination = section.require(
            "destination",
            "the inner destination: the EID",
            &mut self.problems,
        );
        let port = section.get("source-port");
        section.finish(&mut self.problems);
        let source = source.and_then(|tree| self.address(tree, &format!("{what}: source")));
        let destination =
            destination.and_then(|tree| self.address(tree, &format!("{what}: destination")));
        let source_port = match port {
            Some(tree) => number(
                tree,
                &format!("{what}: source-port"),
                0..=65535,
                &mut self.problems,
            )? as u16,
            None => CONTROL_PORT,
        };
        Some(Inner {
            source: source?,
            destination: destination?,
            source_port,
        })
    }

    fn content(&mut self, kind: &str, tree: &Tree, what: &str) -> Option<Content> {
        if kind == "payload" {
            let expected = "octets in hex, two digits per octet";
            return parsed(tree, what, expected, &mut self.problems, octets).map(Content::Payload);
        }
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let content = match kind {
            "echo-request" => self.echo(&mut section, what),
            "map-request" => self.map_request(&mut section, what),
            "map-reply" => self.map_reply(&mut section, what),
            "map-register" => self.map_register(&mut section, what),
            _ => self.data(&mut section, what),
        };
        section.finish(&mut self.problems);
        content
    }

    fn figure(
        &mut self,
        section: &mut Section<'_>,
        what: &str,
        key: &'static str,
        most: u64,
    ) -> Option<Option<u64>> {
        match section.get(key) {
            None => Some(None),
            Some(tree) => number(
                tree,
                &format!("{what}: {key}"),
                0..=most,
                &mut self.problems,
            )
            .map(Some),
        }
    }

    fn flag(&mut self, section: &mut Section<'_>, what: &str, key: &'static str) -> bool {
        section
            .get(key)
            .and_then(|tree| boolean(tree, &format!("{what}: {key}"), &mut self.problems))
            .unwrap_or(false)
    }

    fn nonce(&mut self, section: &mut Section<'_>, what: &str) -> Option<u64> {
        match section.get("nonce") {
            None => Some(1),
            Some(tree) => {
                let what = format!("{what}: nonce");
                parsed(
                    tree,
                    &what,
                    "a nonce: decimal, or hex with 0x",
                    &mut self.problems,
                    nonce,
                )
            }
        }
    }

    fn echo(&mut self, section: &mut Section<'_>, what: &str) -> Option<Content> {
        Some(Content::Echo {
            identifier: self
                .figure(section, what, "identifier", 65535)?
                .unwrap_or(0x4c53) as u16,
            sequence: self.figure(section, what, "sequence", 65535)?.unwrap_or(1) as u16,
            payload: self.figure(section, what, "payload", 60_000)?.unwrap_or(32) as usize,
        })
    }

    fn map_request(&mut self, section: &mut Section<'_>, what: &str) -> Option<Content> {
        let eids = section.require(
            "eid",
            "an EID, a prefix or a list of them",
            &mut self.problems,
        )?;
        let eids: Option<Vec<EidPrefix>> = one_or_many(eids)
            .iter()
            .map(|tree| self.prefix(tree, &format!("{what}: eid")))
            .collect();
        let source_eid = match section.get("source-eid") {
            Some(tree) => Some(self.address(tree, &format!("{what}: source-eid"))?),
            None => None,
        };
        let rlocs = section.require(
            "itr-rlocs",
            "locators to which the answer goes",
            &mut self.problems,
        )?;
        let itr_rlocs: Option<Vec<IpAddr>> = one_or_many(rlocs)
            .iter()
            .map(|tree| self.address(tree, &format!("{what}: itr-rlocs")))
            .collect();
        Some(Content::MapRequest(Request {
            nonce: self.nonce(section, what)?,
            source_eid,
            itr_rlocs: itr_rlocs?,
            eids: eids?,
            authoritative: self.flag(section, what, "authoritative"),
            probe: self.flag(section, what, "probe"),
            smr: self.flag(section, what, "smr"),
            pitr: self.flag(section, what, "pitr"),
            smr_invoked: self.flag(section, what, "smr-invoked"),
        }))
    }

    fn map_reply(&mut self, section: &mut Section<'_>, what: &str) -> Option<Content> {
        Some(Content::MapReply {
            nonce: self.nonce(section, what)?,
            probe: self.flag(section, what, "probe"),
            records: self.mappings(section, what)?,
        })
    }

    fn map_register(&mut self, section: &mut Section<'_>, what: &str) -> Option<Content> {
        let secret = section
            .require("key", "the site's key", &mut self.problems)
            .and_then(|tree| self.text(tree, &format!("{what}: key")));
        let algorithm = match section.get("algorithm") {
            None => MacAlgorithm::HmacSha256_128,
            Some(tree) => {
                let expected = "a MAC such as hmac-sha-256-128 or hmac-sha-1-96";
                parsed(
                    tree,
                    &format!("{what}: algorithm"),
                    expected,
                    &mut self.problems,
                    |text| text.parse().ok(),
                )?
            }
        };
        let key_id = self.figure(section, what, "key-id", 255)?.unwrap_or(0) as u8;
        // A Map-Register whose answer nobody wants is the exception.
        let want_map_notify = match section.get("want-map-notify") {
            Some(tree) => boolean(
                tree,
                &format!("{what}: want-map-notify"),
                &mut self.problems,
            )?,
            None => true,
        };
        Some(Content::MapRegister {
            nonce: self.nonce(section, what)?,
            secret: secret?,
            key_id,
            algorithm,
            want_map_notify,
            proxy_reply: self.flag(section, what, "proxy-reply"),
            merge: self.flag(section, what, "merge"),
            use_ttl: self.flag(section, what, "use-ttl"),
            records: self.mappings(section, what)?,
        })
    }

    fn data(&mut self, section: &mut Section<'_>, what: &str) -> Option<Content> {
        let tree = section.require("inner", "the packet inside", &mut self.problems)?;
        let inner_what = format!("{what}: inner");
        let mut inner = Section::open(tree, inner_what.as_str(), &mut self.problems)?;
        if !inner.has("source") && !inner.has("hex") {
            let message =
                format!("{inner_what}: the key `source` is missing: expected an address or a node");
            self.problem(Problem::new(inner.at, message));
            return None;
        }
        let message = self.message(&mut inner, &inner_what, None);
        inner.finish(&mut self.problems);
        Some(Content::Data {
            nonce: self
                .figure(section, what, "nonce", 0xff_ffff)?
                .map(|n| n as u32),
            locator_status: self
                .figure(section, what, "locator-status", u64::from(u32::MAX))?
                .map(|n| n as u32),
            instance_id: self
                .figure(section, what, "instance-id", 0xff_ffff)?
                .map(|n| n as u32),
            echo_nonce: self.flag(section, what, "echo-nonce"),
            inner: Box::new(message?),
        })
    }

    fn mappings(&mut self, section: &mut Section<'_>, what: &str) -> Option<Vec<Mapping>> {
        let what = format!("{what}: records");
        let tree = section.require("records", "a list of mappings", &mut self.problems)?;
        let list = items(tree, &what, &mut self.problems);
        list.iter()
            .map(|tree| self.one_mapping(tree, &what))
            .collect()
    }

    fn one_mapping(&mut self, tree: &Tree, what: &str) -> Option<Mapping> {
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let eid = section
            .require("eid", "an EID-Prefix", &mut self.problems)
            .and_then(|tree| self.prefix(tree, &format!("{what}: eid")));
        let ttl = self.figure(&mut section, what, "ttl", u64::from(u32::MAX));
        let action = match section.get("action") {
            Some(tree) => self.act(tree, &format!("{what}: action")),
            None => Some(0),
        };
        let authoritative = self.flag(&mut section, what, "authoritative");
        let mut locators = Vec::new();
        if let Some(tree) = section.get("locators") {
            for tree in items(tree, &format!("{what}: locators"), &mut self.problems) {
                let what = format!("{what}: locator");
                let mut section = Section::open(tree, what.as_str(), &mut self.problems)?;
                let address = section.require("address", "the locator", &mut self.problems);
                let address =
                    address.and_then(|tree| self.address(tree, &format!("{what}: address")));
                let priority = self.figure(&mut section, &what, "priority", 255);
                let weight = self.figure(&mut section, &what, "weight", 255);
                section.finish(&mut self.problems);
                locators.push((
                    address?,
                    priority?.unwrap_or(1) as u8,
                    weight?.unwrap_or(100) as u8,
                ));
            }
        }
        section.finish(&mut self.problems);
        Some(Mapping {
            eid: eid?,
            // A day (RFC 6830 6.6.1).
            ttl: ttl?.unwrap_or(1440) as u32,
            action: action?,
            authoritative,
            locators,
        })
    }

    /// An EID-Prefix; an address is one of full length.
    fn prefix(&mut self, tree: &Tree, what: &str) -> Option<EidPrefix> {
        let expected = "an EID like 10.2.0.10, or a prefix like 10.2.0.0/24 or [7]10.2.0.0/24";
        parsed(
            tree,
            what,
            expected,
            &mut self.problems,
            |text| match text.parse::<IpAddr>() {
                Ok(address) => Some(EidPrefix::new(0, address.into())),
                Err(_) => text.parse().ok(),
            },
        )
    }
}

fn one_or_many(tree: &Tree) -> &[Tree] {
    match &tree.value {
        Value::List(list) => list,
        _ => std::slice::from_ref(tree),
    }
}
