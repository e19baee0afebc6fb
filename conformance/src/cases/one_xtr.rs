//! What the cases at `one-xtr` share in which a remote site talks back: its locators, its mapping, its probe replies, data
//! both ways, and tampering with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, DataHeader, EidQuery, Locator, MapRecord, MapReply, MapRequest};
use lisp::{CONTROL_PORT, EidPrefix};

use crate::cases::common::{notify, record, reply, request, udp};
use crate::cases::fences::{special, special_leaves, with_checksum};
use crate::decode::{Ip, Lisp};
use crate::drive::{Drive, Echo, Peer, Stop, data_packet};
use crate::sabotage::{Frame, Sabotage, Tamper};
use crate::trace::{Seen, Trace};

/// The box under test.
pub(crate) const XTR: &str = "xtr";
/// The topology of these cases.
pub(crate) const TOPOLOGY: &str = "one-xtr";
/// Waits for something that a box does at once.
pub(crate) const SOON: Duration = Duration::from_secs(5);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The locator of the box under test.
pub(crate) const RLOC: IpAddr = v4(192, 0, 2, 2);
/// A host of its site.
pub(crate) const HOST: IpAddr = v4(10, 1, 0, 10);
/// Map-Server and Map-Resolver.
pub(crate) const MAPPING: IpAddr = v4(198, 51, 100, 10);
/// The remote site's first locator.
pub(crate) const REMOTE: IpAddr = v4(192, 0, 2, 34);
/// Its second one, or a stranger.
pub(crate) const OTHER: IpAddr = v4(192, 0, 2, 66);
/// The first one's IPv6 address.
pub(crate) const REMOTE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x33, 0, 0, 0, 2));
/// The second one's IPv6 address.
pub(crate) const OTHER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x65, 0, 0, 0, 2));
/// The remote site.
pub(crate) const REMOTE_SITE: &str = "10.2.0.0/24";
/// A host of the remote site.
pub(crate) const REMOTE_HOST: IpAddr = v4(10, 2, 0, 10);
/// Source port of data packets of peers.
const DATA_FROM: u16 = 61_007;
/// Source port of control messages of peers.
pub(crate) const CONTROL_FROM: u16 = 50_207;

/// What the mapping system says.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Its records; the first that covers what is asked is the answer.
    pub(crate) records: Vec<MapRecord>,
    /// E bit of its Map-Replies.
    pub(crate) echo_nonce: bool,
}

/// The peers around the box, and what the mapping system says just now.
pub(crate) struct Net {
    /// Map-Server and Map-Resolver.
    pub(crate) mapping: Peer,
    /// The host of the site.
    pub(crate) site: Peer,
    /// The remote site's first locator.
    pub(crate) remote: Peer,
    /// Its second one, or a stranger.
    pub(crate) other: Peer,
    answers: Arc<Mutex<Answers>>,
}

impl Net {
    /// Peers, with a mapping system that confirms registrations and answers with these records.
    pub(crate) fn up(drive: &Drive, records: Vec<MapRecord>) -> Result<Net, Stop> {
        Self::answering(
            drive,
            Answers {
                records,
                echo_nonce: false,
            },
        )
    }

    /// As [`up`](Net::up), all of the answer given.
    pub(crate) fn answering(drive: &Drive, answers: Answers) -> Result<Net, Stop> {
        let answers = Arc::new(Mutex::new(answers));
        let mut mapping = drive.peer("mapping")?;
        let said = Arc::clone(&answers);
        mapping.respond(move |ip, lisp| {
            let answers = said.lock().unwrap_or_else(PoisonError::into_inner);
            confirmed(ip, lisp)
                .or_else(|| answered(lisp, &answers))
                .into_iter()
                .collect()
        })?;
        Ok(Net {
            mapping,
            site: drive.peer("site")?,
            remote: drive.peer("remote")?,
            other: drive.peer("other")?,
            answers,
        })
    }

    /// From now on the mapping system says this.
    pub(crate) fn teach_all(&self, answers: Answers) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    /// The site's host sends an echo reply, which nobody answers, to a remote EID; waits until it leaves in a tunnel.
    pub(crate) fn say(&self, drive: &Drive, to: IpAddr, sequence: u16) -> Result<Seen, Stop> {
        self.say_within(drive, to, sequence, SOON)
    }

    /// As [`say`](Net::say), waiting no longer than this.
    pub(crate) fn say_within(
        &self,
        drive: &Drive,
        to: IpAddr,
        sequence: u16,
        within: Duration,
    ) -> Result<Seen, Stop> {
        let since = drive.now_ns();
        self.offer(to, sequence)?;
        let what = format!("data packet {sequence} from the site in a tunnel");
        drive.wait_for(since, &what, within, |packet| {
            left(packet) == Some(sequence)
        })
    }

    /// A fence for what the site sends: as [`say`](Net::say), and a special packet behind it
    /// ([`fences`](crate::cases::fences)).
    pub(crate) fn say_last(&self, drive: &Drive, to: IpAddr, sequence: u16) -> Result<(), Stop> {
        self.say(drive, to, sequence)?;
        special_leaves(drive, &self.site, (HOST, to), XTR)
    }

    /// As [`say`](Net::say), without waiting.
    pub(crate) fn offer(&self, to: IpAddr, sequence: u16) -> Result<(), Stop> {
        self.site.send(&Echo::new(HOST, to, sequence).reply())?;
        Ok(())
    }

    /// A remote EID sends an echo reply through a locator's peer; waits until it is delivered to the site.
    pub(crate) fn hear(
        &self,
        drive: &Drive,
        from: (&Peer, IpAddr),
        header: &DataHeader,
        sequence: u16,
    ) -> Result<Seen, Stop> {
        let since = drive.now_ns();
        self.tunnel(from, header, REMOTE_HOST, sequence)?;
        let what = format!("data packet {sequence} at the site");
        drive.wait_for(since, &what, SOON, |packet| {
            delivered(packet) == Some(sequence)
        })
    }

    /// A fence for what arrives in tunnels: as [`hear`](Net::hear), with nothing claimed in the header, and a special packet
    /// with the number [`special`] behind it.
    pub(crate) fn hear_last(
        &self,
        drive: &Drive,
        from: (&Peer, IpAddr),
        sequence: u16,
    ) -> Result<(), Stop> {
        let header = DataHeader::default();
        self.hear(drive, from, &header, sequence)?;
        let since = drive.now_ns();
        let sequence = special(sequence);
        let inner = Echo::new(REMOTE_HOST, HOST, sequence).reply();
        let outer = data_packet((from.1, DATA_FROM), RLOC, &header, &inner, 64);
        from.0.send(&with_checksum(&outer))?;
        let what = format!("data packet {sequence}, with a UDP checksum, at the site");
        drive.wait_for(since, &what, SOON, |packet| {
            delivered(packet) == Some(sequence)
        })?;
        Ok(())
    }

    /// A remote EID's echo reply in a tunnel, without waiting. `from` is the peer that sends it, and the outer source.
    pub(crate) fn tunnel(
        &self,
        from: (&Peer, IpAddr),
        header: &DataHeader,
        eid: IpAddr,
        sequence: u16,
    ) -> Result<(), Stop> {
        let inner = Echo::new(eid, HOST, sequence).reply();
        from.0.data((from.1, DATA_FROM), RLOC, header, &inner)?;
        Ok(())
    }

    /// An SMR about a remote prefix.
    pub(crate) fn solicit(
        &self,
        from: (&Peer, IpAddr),
        nonce: u64,
        prefix: &str,
    ) -> Result<(), Stop> {
        let smr = MapRequest {
            smr: true,
            ..request(nonce, Some(HOST), &[from.1], prefix)
        };
        let message = ControlMessage::MapRequest(smr);
        from.0.control((from.1, CONTROL_FROM), RLOC, &message)?;
        Ok(())
    }
}

/// The Map-Notify for a Map-Register that asks for one.
pub(crate) fn confirmed(ip: &Ip, lisp: &Lisp) -> Option<Vec<u8>> {
    let Lisp::Control { message, .. } = lisp else {
        return None;
    };
    let ControlMessage::MapRegister(register) = &**message else {
        return None;
    };
    let octets = notify(register, &crate::cases::common::key("key-of-site"));
    let to = (ip.source, CONTROL_PORT);
    register
        .want_map_notify
        .then(|| udp((MAPPING, CONTROL_PORT), to, &octets))
}

fn answered(lisp: &Lisp, answers: &Answers) -> Option<Vec<u8>> {
    let Lisp::Control {
        inner: Some(inner), ..
    } = lisp
    else {
        return None;
    };
    let ControlMessage::MapRequest(request) = &*inner.message else {
        return None;
    };
    let asked = request.records.first().and_then(EidQuery::prefix)?;
    let covers = |record: &&MapRecord| {
        let prefix = record.eid_prefix();
        prefix.is_some_and(|prefix| prefix.covers(&asked))
    };
    let record = answers.records.iter().find(covers)?;
    let to = request.itr_rlocs.iter().filter_map(lisp::Address::ip);
    let to = to.into_iter().find(IpAddr::is_ipv4)?;
    let message = MapReply {
        echo_nonce: answers.echo_nonce,
        ..reply(request.nonce, vec![record.clone()])
    };
    let octets = message.to_vec();
    Some(udp(
        (MAPPING, CONTROL_PORT),
        (to, inner.source_port),
        &octets,
    ))
}

/// The mapping of a remote prefix: locators in the order of the wire, the first preferred.
pub(crate) fn mapping(prefix: &str, locators: &[IpAddr]) -> MapRecord {
    let ranked = (1..).zip(locators);
    let locators: Vec<Locator> = ranked
        .map(|(priority, rloc)| crate::cases::common::locator(&rloc.to_string(), priority, 100))
        .collect();
    record(prefix, locators)
}

/// Lets a peer answer RLOC-probes: `answer` gets the probed address and gives the source of the reply and its record.
pub(crate) fn answer_probes(
    peer: &mut Peer,
    mut answer: impl FnMut(IpAddr, &MapRequest) -> Option<(IpAddr, MapRecord)> + Send + 'static,
) -> Result<(), Stop> {
    peer.respond(move |ip, lisp| {
        let Some((probe, port)) = probe_of(ip, lisp) else {
            return Vec::new();
        };
        let Some((source, record)) = answer(ip.destination, probe) else {
            return Vec::new();
        };
        let to = probe.itr_rlocs.iter().filter_map(lisp::Address::ip);
        let Some(to) = to.into_iter().find(|to| to.is_ipv4() == source.is_ipv4()) else {
            return Vec::new();
        };
        let message = MapReply {
            probe: true,
            ..reply(probe.nonce, vec![record])
        };
        vec![udp((source, CONTROL_PORT), (to, port), &message.to_vec())]
    })?;
    Ok(())
}

fn probe_of<'a>(ip: &Ip, lisp: &'a Lisp) -> Option<(&'a MapRequest, u16)> {
    match lisp {
        Lisp::Control {
            message,
            inner: None,
        } => match &**message {
            ControlMessage::MapRequest(request) if request.probe => {
                Some((request, ip.udp()?.source_port))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A record with p on these locators.
pub(crate) fn marked(mut record: MapRecord, probed: &[IpAddr]) -> MapRecord {
    for locator in &mut record.locators {
        locator.probed = locator.rloc.ip().is_some_and(|rloc| probed.contains(&rloc));
    }
    record
}

/// The sequence number of a data packet that leaves the box for another site.
pub(crate) fn left(packet: &Seen) -> Option<u16> {
    if packet.sender() != Some(XTR) {
        return None;
    }
    Some(packet.data()?.1.icmp()?.echo().1)
}

/// The sequence number of a packet that the box delivers to its site.
pub(crate) fn delivered(packet: &Seen) -> Option<u16> {
    if packet.sender() != Some(XTR) || packet.link() != "site" {
        return None;
    }
    let icmp = packet.ip()?.icmp()?;
    (icmp.kind == 0).then(|| icmp.echo().1)
}

/// The data packets that left the box from a marked moment on, with their sequence numbers.
pub(crate) fn data_since<'a>(
    trace: &'a Trace,
    mark: &str,
) -> impl Iterator<Item = (u16, &'a Seen)> {
    trace
        .since(mark)
        .filter_map(|packet| Some((left(packet)?, packet)))
}

/// The data packet with a sequence number as it left the box.
pub(crate) fn data(trace: &Trace, sequence: u16) -> Option<&Seen> {
    trace.iter().find(|packet| left(packet) == Some(sequence))
}

/// RLOC-probes that the box sends.
pub(crate) fn probes(trace: &Trace) -> Vec<&Seen> {
    trace
        .originated(XTR)
        .filter(|packet| packet.map_request().is_some_and(|request| request.probe))
        .collect()
}

/// What a Map-Request asks for.
pub(crate) fn question(packet: &Seen) -> Option<EidPrefix> {
    packet.map_request()?.records.first()?.prefix()
}

/// Map-Requests of the box about a prefix or parts of it that are neither probes nor SMRs, from a moment on.
pub(crate) fn questions<'a>(trace: &'a Trace, since: u64, about: &str) -> Vec<&'a Seen> {
    let about = crate::cases::common::prefix(about);
    trace
        .originated(XTR)
        .filter(|packet| packet.time_ns() >= since && asks(packet, &about))
        .collect()
}

/// Whether a packet is a Map-Request about a prefix or a part of it, neither a probe nor an SMR.
pub(crate) fn asks(packet: &Seen, about: &EidPrefix) -> bool {
    packet
        .map_request()
        .is_some_and(|request| !request.probe && !request.smr)
        && question(packet).is_some_and(|asked| about.covers(&asked) || asked.covers(about))
}

/// Whether a packet went to the Map-Resolver inside an Encapsulated Control Message.
pub(crate) fn to_resolver(packet: &Seen) -> bool {
    packet.ecm().is_some() && packet.destination() == Some(MAPPING)
}

/// A sabotage of the box on its link to the core.
pub(crate) const fn spoils(
    name: &'static str,
    kills: &'static [crate::catalogue::Req],
    tamper: fn() -> Tamper,
) -> Sabotage {
    Sabotage {
        name,
        node: XTR,
        links: &["rloc"],
        kills,
        tamper,
    }
}

/// The inner echo's sequence number of a data packet that is being tampered with.
pub(crate) fn sequence_of(frame: &Frame<'_>) -> Option<u16> {
    match crate::decode::lisp(&frame.ip()?) {
        Lisp::Data {
            inner: Some(inner), ..
        } => Some(inner.icmp()?.echo().1),
        _ => None,
    }
}

/// Sends a packet to another IPv4 address.
pub(crate) fn redirect(frame: &mut Frame<'_>, to: IpAddr) {
    frame.edit_addresses(|header| match (header, to) {
        (lisp::ip::IpHeader::V4(header), IpAddr::V4(to)) => {
            header.destination = to;
            true
        }
        _ => false,
    });
}

/// Sends the data packets that `which` picks by their sequence number to another locator.
pub(crate) fn misdirect(to: IpAddr, mut which: impl FnMut(u16) -> bool + Send + 'static) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && sequence_of(frame).is_some_and(&mut which) {
            redirect(frame, to);
        }
        PacketFate::Forward
    })
}

/// Swallows what the victim sends.
pub(crate) fn swallow(mut which: impl FnMut(&Frame<'_>) -> bool + Send + 'static) -> Tamper {
    Box::new(move |way, frame| match way {
        Way::FromVictim if which(frame) => PacketFate::Drop,
        _ => PacketFate::Forward,
    })
}

/// Changes Map-Requests that the victim sends, encapsulated or not.
pub(crate) fn on_requests(
    mut change: impl FnMut(&mut MapRequest) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapRequest(request) => change(request),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// Changes the LISP header of data packets that the victim sends.
pub(crate) fn on_headers(
    mut change: impl FnMut(&mut DataHeader) -> bool + Send + 'static,
) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim {
            frame.edit_data(|header, _| change(header));
        }
        PacketFate::Forward
    })
}

/// Where the packets went, for a finding.
pub(crate) fn destination(packet: &Seen) -> String {
    packet
        .destination()
        .map_or_else(|| "nowhere".to_owned(), |to| format!("to {to}"))
}
