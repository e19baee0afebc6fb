//! `xtr lig`: asks the mapping system and shows its answer (RFC 6835).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use daemon::Failure;
use daemon::table::Table;
use lisp::wire::{ControlMessage, Ecm, EidQuery, MapRecord, MapReply, MapRequest};
use lisp::{Address, CONTROL_PORT, EidPrefix};
use serde_json::{Value, json};

use super::output::say;
use crate::config::Loaded;
use crate::core::show::action_name;
use crate::core::{Random, Settings};
use crate::shell::{Host, System};

/// Times that the Map-Resolver is asked.
const TRIES: u32 = 3;
/// Largest UDP payload.
const LARGEST: usize = 65_535;

#[derive(Debug, Args)]
pub(super) struct Lig {
    /// The EID to ask for, an IPv4 or IPv6 address; `self` or `self6`: the site's own first EID-Prefix of the family.
    eid: Asked,
    /// Its Instance ID; of `self`, the EID-Prefix says it.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..1 << 24))]
    instance_id: u32,
    /// Map-Resolver to ask, instead of the configuration's first one.
    #[arg(long)]
    resolver: Option<IpAddr>,
    /// How long to wait for an answer to one Map-Request, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Eid(IpAddr),
    /// "Ligging yourself" (RFC 6835 3.3): the site's own first EID-Prefix.
    Own {
        v6: bool,
    },
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "self" => Ok(Self::Own { v6: false }),
            "self6" => Ok(Self::Own { v6: true }),
            _ => text.parse().map(Self::Eid).map_err(|_| {
                format!("expected an IPv4 or IPv6 address, `self` or `self6`, found `{text}`")
            }),
        }
    }
}

/// A Map-Request's EID and Source-EID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Question {
    eid: EidPrefix,
    source: Option<IpAddr>,
}

struct Answer {
    from: SocketAddr,
    after: Duration,
    reply: MapReply,
}

impl Lig {
    /// Asks and prints.
    pub(super) fn run(&self, loaded: &Loaded) -> Result<(), Failure> {
        let host = Host::read()?;
        let settings = loaded.setup(&host)?.settings;
        let resolver = self
            .resolver
            .or(settings.map_resolvers.first().copied())
            .ok_or_else(|| {
                Failure::Usage("expected `map-resolvers` or --resolver, found neither".into())
            })?;
        let own = settings.source_for(resolver).ok_or_else(|| {
            let family = if resolver.is_ipv4() { "IPv4" } else { "IPv6" };
            Failure::Usage(format!(
                "expected an own locator to be answered at, found none for {family} as {resolver} is"
            ))
        })?;
        let question = self.question(&settings)?;
        let answer = self.ask(question, resolver, own)?;
        let Some(answer) = answer else {
            return Err(Failure::Findings(format!(
                "no Map-Reply for {} from {resolver} to {TRIES} Map-Requests",
                question.eid
            )));
        };
        if self.json {
            say(&format!("{:#}\n", answer.to_json()))
        } else {
            say(&answer.to_text())
        }
    }

    /// RFC 6835 4.1: of the own EID-Prefix with its host bits zero, which is the Source-EID as well.
    fn question(&self, settings: &Settings) -> Result<Question, Failure> {
        let v6 = match self.eid {
            Asked::Eid(eid) => {
                return Ok(Question {
                    eid: EidPrefix::host(self.instance_id, eid),
                    source: None,
                });
            }
            Asked::Own { v6 } => v6,
        };
        let mut own = settings.database.iter().map(|mapping| mapping.prefix);
        let first = own.find(|own| own.prefix.addr().is_ipv6() == v6);
        let first = first.ok_or_else(|| {
            let family = if v6 { "IPv6" } else { "IPv4" };
            Failure::Usage(format!(
                "expected an {family} EID-Prefix of the site in `eid-prefixes`, found none"
            ))
        })?;
        let address = first.prefix.network();
        Ok(Question {
            eid: EidPrefix::host(first.iid, address),
            source: Some(address),
        })
    }

    fn ask(
        &self,
        question: Question,
        resolver: IpAddr,
        own: IpAddr,
    ) -> Result<Option<Answer>, Failure> {
        let failed = |what: &'static str| move |e: std::io::Error| Failure::host(what, e);
        let socket =
            UdpSocket::bind((own, 0)).map_err(failed("binding a UDP port on the own locator"))?;
        let port = socket
            .local_addr()
            .map_err(failed("reading the own port"))?
            .port();
        let mut random = System::open()?;
        let mut nonces = Vec::new();
        let mut buffer = vec![0; LARGEST];
        for _ in 0..TRIES {
            let nonce = random.next_u64();
            nonces.push(nonce);
            let request = MapRequest {
                nonce,
                itr_rlocs: vec![own.into()],
                records: vec![EidQuery::new(question.eid)],
                source_eid: question.source.map_or(Address::None, |source| {
                    Address::from_eid(question.eid.iid, source)
                }),
                ..MapRequest::default()
            };
            let message = ControlMessage::MapRequest(request);
            let eid = question.eid.prefix.addr();
            let ecm = Ecm::wrap(own, eid, port, CONTROL_PORT, 64, &message);
            let payload = ControlMessage::Encapsulated(ecm).to_vec();
            let sent = Instant::now();
            socket
                .send_to(&payload, (resolver, CONTROL_PORT))
                .map_err(failed("sending a Map-Request"))?;
            let until = sent + Duration::from_secs(self.wait);
            while let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            {
                socket
                    .set_read_timeout(Some(left))
                    .map_err(failed("setting a timeout"))?;
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                if let Ok(ControlMessage::MapReply(reply)) =
                    ControlMessage::parse(&buffer[..length])
                    && nonces.contains(&reply.nonce)
                {
                    let after = sent.elapsed();
                    return Ok(Some(Answer { from, after, reply }));
                }
            }
        }
        Ok(None)
    }
}

impl Answer {
    fn to_text(&self) -> String {
        let millis = self.after.as_secs_f64() * 1000.0;
        let mut text = format!("Map-Reply from {} after {millis:.1} ms\n", self.from.ip());
        for record in &self.reply.records {
            text += &format!("{}, ttl: {} min", name(record), record.ttl);
            text += if record.authoritative {
                ", authoritative\n"
            } else {
                "\n"
            };
            if record.locators.is_empty() {
                text += &format!("  Negative, action: {}\n", action_name(record.action));
                continue;
            }
            let mut table = Table::new(["Locator", "State", "Pri/Wgt"]).indented(2);
            for locator in &record.locators {
                table.row([
                    locator.rloc.to_string(),
                    if locator.reachable {
                        "up"
                    } else {
                        "unreachable"
                    }
                    .to_owned(),
                    format!("{}/{}", locator.priority, locator.weight),
                ]);
            }
            text += &table.to_string();
        }
        text
    }

    fn to_json(&self) -> Value {
        let records: Vec<Value> = self
            .reply
            .records
            .iter()
            .map(|record| {
                let locators: Vec<Value> = record
                    .locators
                    .iter()
                    .map(|locator| {
                        json!({
                            "rloc": locator.rloc.to_string(),
                            "reachable": locator.reachable,
                            "priority": locator.priority,
                            "weight": locator.weight,
                        })
                    })
                    .collect();
                json!({
                    "prefix": name(record),
                    "ttl": record.ttl,
                    "authoritative": record.authoritative,
                    "action": action_name(record.action),
                    "locators": locators,
                })
            })
            .collect();
        let micros = u64::try_from(self.after.as_micros()).unwrap_or(u64::MAX);
        json!({"from": self.from.ip(), "after-us": micros, "records": records})
    }
}

fn name(record: &MapRecord) -> String {
    match record.eid_prefix() {
        Some(prefix) => prefix.to_string(),
        None => format!("{}/{}", record.eid, record.eid_mask_len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "eid-prefixes:
  - {prefix: 10.1.0.0/24, instance-id: 7, locators: [{address: 192.0.2.1}]}
  - {prefix: 10.9.0.0/24, locators: [{address: 192.0.2.1}]}
";

    fn question(asked: &str) -> Result<Question, Failure> {
        let host = Host {
            addresses: vec!["192.0.2.1".parse().unwrap()],
            register_nonce: 0,
        };
        let setup = Loaded::parse("xtr.yaml", SITE)
            .unwrap()
            .setup(&host)
            .unwrap();
        let lig = Lig {
            eid: asked.parse().unwrap(),
            instance_id: 3,
            resolver: None,
            wait: 2,
            json: false,
        };
        lig.question(&setup.settings)
    }

    #[test]
    fn self_is_the_first_own_prefix_with_host_bits_zero() {
        let own = question("self").unwrap();
        assert_eq!(own.eid, "[7]10.1.0.0/32".parse().unwrap());
        assert_eq!(own.source, Some("10.1.0.0".parse().unwrap()));
        assert!(question("self6").is_err());
        let other = question("10.2.0.9").unwrap();
        assert_eq!(
            (other.eid, other.source),
            ("[3]10.2.0.9/32".parse().unwrap(), None)
        );
        assert!("myself".parse::<Asked>().is_err());
    }
}
