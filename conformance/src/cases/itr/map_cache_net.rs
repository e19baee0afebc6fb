//! What the cases about an ITR's Map-Requests and map-cache share: its peers with a scripted mapping system, a fence that
//! orders what happens, and questions to a trace.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harness::inline::{PacketFate, Way};
use lisp::wire::{ControlMessage, EidQuery, MapRecord, MapReply, MapRequest};
use lisp::{Address, CONTROL_PORT, EidPrefix};

use crate::cases::common::{ip, locator, notify, prefix, record, reply, udp};
use crate::cases::fences::special_leaves;
use crate::decode::{Ip, Lisp};
use crate::drive::{Drive, Echo, Peer, Stop};
use crate::finding::{Findings, Packets};
use crate::sabotage::Tamper;
use crate::trace::{Seen, Trace};

/// The box under test.
pub(super) const ITR: &str = "xtr";
/// The topology of these cases.
pub(super) const TOPOLOGY: &str = "one-xtr";
/// The link between the ITR and the core.
pub(super) const CORE: &[&str] = &["rloc"];
/// The ITR's own locator.
pub(super) const OWN: &str = "192.0.2.2";
/// The scripted Map-Resolver.
pub(super) const RESOLVER: &str = "198.51.100.10";
/// The locator of the remote site.
pub(super) const REMOTE: &str = "192.0.2.34";
/// The locator of the other remote site.
pub(super) const OTHER: &str = "192.0.2.66";
/// Waits for something that a box does at once.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// EIDs of fences: no case asks for anything in here.
const FENCES: [u8; 3] = [10, 2, 250];
/// Sequence numbers of fences begin here.
const FENCE: u16 = 60_000;

/// What the mapping system answers: the last entry that covers what is asked.
type Book = Arc<Mutex<Vec<(EidPrefix, Vec<MapRecord>)>>>;

/// The peers around the ITR.
pub(super) struct Net {
    /// Map-Server and Map-Resolver. It answers Encapsulated Map-Requests out of its book, and is silent about the rest.
    pub(super) mapping: Peer,
    /// The site's host.
    pub(super) site: Peer,
    /// A remote tunnel router, silent.
    pub(super) remote: Peer,
    /// Another one: a locator where no port is closed, so that nothing speaks against it.
    _other: Peer,
    /// The Instance ID of the site's host.
    pub(super) instance: u32,
    book: Book,
    fences: Cell<u8>,
}

/// A Map-Request as it came to a peer.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Its nonce.
    pub(super) nonce: u64,
    /// Where its answer goes.
    pub(super) to: (IpAddr, u16),
}

impl Net {
    /// Sets up the peers. The mapping system confirms registrations and answers about fences.
    pub(super) fn up(drive: &Drive<'_>) -> Result<Net, Stop> {
        let mut net = Net {
            mapping: drive.peer("mapping")?,
            site: drive.peer("site")?,
            remote: drive.peer("remote")?,
            _other: drive.peer("other")?,
            instance: 0,
            book: Book::default(),
            fences: Cell::new(0),
        };
        let book = Arc::clone(&net.book);
        let own = net.mapping.address();
        net.mapping
            .respond(move |packet, lisp| answer(&book, own, packet, lisp))?;
        Ok(net)
    }

    /// From now on the mapping system answers what lies in `asked` with these records; with none it is silent.
    pub(super) fn answer(&self, asked: &str, records: Vec<MapRecord>) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.push((prefix(asked), records));
    }

    /// From now on the mapping system answers what lies in `eid` with a mapping of `eid` to one locator.
    pub(super) fn map(&self, eid: &str, rloc: &str) {
        self.answer(eid, vec![record(eid, vec![locator(rloc, 1, 100)])]);
    }

    /// An echo request of the site's host.
    pub(super) fn send(&self, to: &str, sequence: u16) -> Result<(), Stop> {
        let to = ip(to);
        let from = self.host(to);
        Ok(self.site.send(&Echo::new(from, to, sequence).request())?)
    }

    /// The address of the site's host that is of the family of this one.
    fn host(&self, to: IpAddr) -> IpAddr {
        let of_family = |own: &&IpAddr| own.is_ipv4() == to.is_ipv4();
        let from = self.site.addresses().iter().find(of_family);
        from.copied().unwrap_or(self.site.address())
    }

    /// A fence: packets to an EID that nobody asked for, until one arrives encapsulated at the remote site, and then a
    /// special one ([`fences`](crate::cases::fences)). By then the ITR has dealt with everything that was sent to it before:
    /// control messages, because the fence's own Map-Reply came behind them and was in use; and packets of the site of
    /// either kind. That the first packet missed is not enough for those that take a slower path: an ITR that drops it may
    /// ask for its mapping before they are out, and carry the next one on its fast path.
    pub(super) fn fence(&self, drive: &Drive<'_>) -> Result<(), Stop> {
        let number = self.fences.get();
        self.fences.set(number + 1);
        let [a, b, c] = FENCES;
        let eid = Ipv4Addr::new(a, b, c, number).to_string();
        let sequence = FENCE + u16::from(number);
        let begin = drive.now_ns();
        let what = format!("the fence's packet {sequence} at the remote site");
        let mut last = Stop::NotSeen(what.clone());
        // An ITR that drops on a miss needs a second packet, and needs it when the Map-Reply was taken in.
        for _ in 0..20 {
            self.send(&eid, sequence)?;
            match drive.wait_for(begin, &what, Duration::from_millis(250), |packet| {
                packet.receiver() == Some("remote") && inner_sequence(packet) == Some(sequence)
            }) {
                Ok(_) => {
                    let to = ip(&eid);
                    return special_leaves(drive, &self.site, (self.host(to), to), ITR);
                }
                Err(Stop::NotSeen(text)) => last = Stop::NotSeen(text),
                Err(stop) => return Err(stop),
            }
        }
        Err(last)
    }

    /// Resolves an EID: sends it a packet, waits for the Map-Reply, and for everything that follows from that.
    pub(super) fn resolve(&self, drive: &Drive<'_>, to: &str, sequence: u16) -> Result<(), Stop> {
        let begin = drive.now_ns();
        self.send(to, sequence)?;
        let asked = EidPrefix::host(self.instance, ip(to));
        let question =
            drive.wait_for(begin, &format!("a Map-Request for {to}"), SOON, |packet| {
                is_question(packet, &asked) && packet.receiver() == Some("mapping")
            })?;
        let nonce = question.map_request().map_or(0, |request| request.nonce);
        drive.wait_for(begin, &format!("the Map-Reply for {to}"), SOON, |packet| {
            packet.receiver() == Some(ITR)
                && packet.map_reply().is_some_and(|reply| reply.nonce == nonce)
        })?;
        self.fence(drive)
    }

    /// Sends a Map-Reply of the mapping system to a question.
    pub(super) fn reply(
        &self,
        question: &Question,
        nonce: u64,
        records: Vec<MapRecord>,
    ) -> Result<(), Stop> {
        self.reply_octets(question, &reply(nonce, records).to_vec())
    }

    /// Sends octets where the Map-Reply to a question goes.
    pub(super) fn reply_octets(&self, question: &Question, octets: &[u8]) -> Result<(), Stop> {
        let from = (self.mapping.address(), CONTROL_PORT);
        Ok(self.mapping.udp(from, question.to, octets)?)
    }

    /// The remote site solicits a Map-Request about its EID-Prefix (RFC 6830 6.6.2).
    pub(super) fn solicit(&self, drive: &Drive<'_>, eid: &str) -> Result<(), Stop> {
        let request = MapRequest {
            smr: true,
            nonce: drive.random(),
            source_eid: Address::from(prefix("10.1.0.10/32").prefix.addr()),
            itr_rlocs: vec![Address::from(self.remote.address())],
            records: vec![EidQuery::new(prefix(eid))],
            ..MapRequest::default()
        };
        let from = (self.remote.address(), 50_777);
        Ok(self
            .remote
            .control(from, ip(OWN), &ControlMessage::MapRequest(request))?)
    }
}

/// Waits at the mapping system for the next Map-Request about something in `eid`.
pub(super) fn wait_question(
    drive: &Drive<'_>,
    since: u64,
    eid: &str,
) -> Result<(Seen, Question), Stop> {
    let asked = prefix(eid);
    let seen = drive.wait_for(since, &format!("a Map-Request for {eid}"), SOON, |packet| {
        packet.receiver() == Some("mapping") && is_question(packet, &asked)
    })?;
    let question = question_of(&seen)
        .ok_or_else(|| Stop::Untestable("a Map-Request without an IPv4 ITR-RLOC".to_owned()))?;
    Ok((seen, question))
}

fn question_of(packet: &Seen) -> Option<Question> {
    let request = packet.map_request()?;
    let port = packet
        .ecm()
        .map(|inner| inner.source_port)
        .or_else(|| packet.udp().map(|udp| udp.source_port))?;
    let rloc = request
        .itr_rlocs
        .iter()
        .filter_map(Address::ip)
        .find(IpAddr::is_ipv4)?;
    Some(Question {
        nonce: request.nonce,
        to: (rloc, port),
    })
}

fn answer(book: &Book, own: IpAddr, packet: &Ip, lisp: &Lisp) -> Vec<Vec<u8>> {
    let Lisp::Control { message, inner } = lisp else {
        return Vec::new();
    };
    if let ControlMessage::MapRegister(register) = &**message
        && register.want_map_notify
    {
        let octets = notify(register, &crate::cases::common::key("key-of-site"));
        let back = (packet.source, CONTROL_PORT);
        return vec![udp((own, CONTROL_PORT), back, &octets)];
    }
    let Some(inner) = inner else {
        return Vec::new();
    };
    let ControlMessage::MapRequest(request) = &*inner.message else {
        return Vec::new();
    };
    let Some(asked) = request.records.first().and_then(EidQuery::prefix) else {
        return Vec::new();
    };
    let records = records_for(book, &asked);
    let to = request
        .itr_rlocs
        .iter()
        .filter_map(Address::ip)
        .find(IpAddr::is_ipv4);
    match to {
        Some(to) if !records.is_empty() => {
            let octets = reply(request.nonce, records).to_vec();
            vec![udp((own, CONTROL_PORT), (to, inner.source_port), &octets)]
        }
        _ => Vec::new(),
    }
}

fn records_for(book: &Book, asked: &EidPrefix) -> Vec<MapRecord> {
    let [a, b, c] = FENCES;
    let fences = prefix(&format!("{a}.{b}.{c}.0/24")).prefix;
    if fences.contains(&asked.prefix) {
        let host = record("0.0.0.0/0", vec![locator(REMOTE, 1, 100)]);
        return vec![MapRecord {
            eid: asked.to_address(),
            eid_mask_len: asked.prefix.prefix_len(),
            ..host
        }];
    }
    let book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.iter()
        .rev()
        .find(|(prefix, _)| prefix.covers(asked))
        .map(|(_, records)| records.clone())
        .unwrap_or_default()
}

/// Whether a packet is a Map-Request (no probe, no SMR) about something in `prefix`.
pub(super) fn is_question(packet: &Seen, prefix: &EidPrefix) -> bool {
    packet.map_request().is_some_and(|request| {
        !request.probe
            && !request.smr
            && request
                .records
                .iter()
                .filter_map(EidQuery::prefix)
                .any(|asked| prefix.covers(&asked))
    })
}

/// The ITR's Map-Requests about something in `eid`, as they left it.
pub(super) fn questions<'a>(trace: &'a Trace, eid: &str) -> Vec<&'a Seen> {
    let eid = prefix(eid);
    trace
        .originated(ITR)
        .filter(|packet| is_question(packet, &eid))
        .collect()
}

/// As [`questions`], from a marked moment on.
pub(super) fn questions_since<'a>(trace: &'a Trace, mark: &str, eid: &str) -> Vec<&'a Seen> {
    let start = trace.mark(mark).unwrap_or(u64::MAX);
    let mut all = questions(trace, eid);
    all.retain(|packet| packet.time_ns() >= start);
    all
}

/// The sequence number of a plain echo request.
pub(super) fn sequence(packet: &Seen) -> Option<u16> {
    echo_request(packet.ip()?)
}

/// The sequence number of an encapsulated echo request.
pub(super) fn inner_sequence(packet: &Seen) -> Option<u16> {
    echo_request(packet.data()?.1)
}

fn echo_request(packet: &Ip) -> Option<u16> {
    let icmp = packet.icmp()?;
    icmp.is_echo_request().then(|| icmp.echo().1)
}

/// What became of a packet of the site.
#[derive(Debug, Clone, Copy)]
pub(super) enum Became<'a> {
    /// It left in a LISP data packet.
    Encapsulated(&'a Seen),
    /// It left as it was.
    Native(&'a Seen),
    /// It did not leave.
    Nothing,
}

impl Became<'_> {
    /// In words.
    pub(super) fn text(self) -> String {
        match self {
            Became::Encapsulated(packet) => match packet.destination() {
                Some(to) => format!("encapsulated to {to}"),
                None => "encapsulated".to_owned(),
            },
            Became::Native(_) => "forwarded natively".to_owned(),
            Became::Nothing => "it did not leave".to_owned(),
        }
    }

    /// The locator that it was encapsulated to.
    pub(super) fn rloc(self) -> Option<IpAddr> {
        match self {
            Became::Encapsulated(packet) => packet.destination(),
            _ => None,
        }
    }

    /// Evidence, with the packet as the host sent it.
    pub(super) fn with(self, sent: &Seen) -> Packets {
        match self {
            Became::Encapsulated(packet) | Became::Native(packet) => Packets::from([sent, packet]),
            Became::Nothing => Packets::from(sent),
        }
    }
}

/// What became of the site's packet with a sequence number.
pub(super) fn became(trace: &Trace, number: u16) -> Became<'_> {
    let left = || trace.sent_by(ITR).filter(|packet| packet.link() == "rloc");
    if let Some(packet) = left().find(|packet| inner_sequence(packet) == Some(number)) {
        return Became::Encapsulated(packet);
    }
    match left().find(|packet| sequence(packet) == Some(number)) {
        Some(packet) => Became::Native(packet),
        None => Became::Nothing,
    }
}

/// The site's packet with a sequence number, as the host sent it.
pub(super) fn sent(trace: &Trace, number: u16) -> Option<&Seen> {
    trace
        .sent_by("site")
        .find(|packet| sequence(packet) == Some(number))
}

/// Judges where a packet of the site went: encapsulated to `rloc`, and to no other.
pub(super) fn goes_to(
    trace: &Trace,
    findings: &mut Findings,
    requirement: crate::catalogue::Req,
    number: u16,
    rloc: &str,
) {
    let Some(packet) = sent(trace, number) else {
        findings.unseen(requirement, format!("packet {number} of the site"));
        return;
    };
    let became = became(trace, number);
    findings.check(
        requirement,
        became.rloc() == Some(ip(rloc)),
        became.with(packet),
        format!("packet {number} encapsulated to {rloc}"),
        became.text(),
    );
}

/// Judges that a packet of the site left in no LISP packet.
pub(super) fn not_encapsulated(
    trace: &Trace,
    findings: &mut Findings,
    requirement: crate::catalogue::Req,
    number: u16,
) {
    let Some(packet) = sent(trace, number) else {
        findings.unseen(requirement, format!("packet {number} of the site"));
        return;
    };
    let became = became(trace, number);
    findings.check(
        requirement,
        became.rloc().is_none(),
        became.with(packet),
        format!("packet {number} not encapsulated"),
        became.text(),
    );
}

/// Judges that the ITR asked nothing about `eid` from a marked moment on.
pub(super) fn nothing_asked(
    trace: &Trace,
    findings: &mut Findings,
    requirement: crate::catalogue::Req,
    mark: &str,
    eid: &str,
) {
    if trace.mark(mark).is_none() {
        findings.unseen(requirement, format!("the moment \"{mark}\""));
        return;
    }
    let asked = questions_since(trace, mark, eid);
    findings.check(
        requirement,
        asked.is_empty(),
        &asked,
        format!("no Map-Request about {eid} after \"{mark}\""),
        format!("{} Map-Requests", asked.len()),
    );
}

/// Judges that the ITR asked about `eid` from a marked moment on.
pub(super) fn something_asked(
    trace: &Trace,
    findings: &mut Findings,
    requirement: crate::catalogue::Req,
    mark: &str,
    eid: &str,
) {
    if trace.mark(mark).is_none() {
        findings.unseen(requirement, format!("the moment \"{mark}\""));
        return;
    }
    let asked = questions_since(trace, mark, eid);
    let seen = asked
        .first()
        .map_or("none".to_owned(), |packet| packet.summary());
    findings.check(
        requirement,
        !asked.is_empty(),
        &asked,
        format!("a Map-Request about {eid} after \"{mark}\""),
        seen,
    );
}

/// A sabotage of Map-Replies on their way to the ITR. `change` says whether it changed anything.
pub(super) fn replies_in(mut change: impl FnMut(&mut MapReply) -> bool + Send + 'static) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::ToVictim {
            frame.edit_control(|message| match message {
                ControlMessage::MapReply(reply) => change(reply),
                _ => false,
            });
        }
        PacketFate::Forward
    })
}

/// A sabotage of the first record of Map-Replies on their way to the ITR that has a prefix in `eid`.
pub(super) fn records_in(eid: &'static str, change: fn(&mut MapRecord)) -> Tamper {
    let eid = prefix(eid);
    replies_in(move |reply| {
        let inside =
            |record: &&mut MapRecord| record.eid_prefix().is_some_and(|found| eid.covers(&found));
        match reply.records.iter_mut().find(inside) {
            Some(record) => {
                change(record);
                true
            }
            None => false,
        }
    })
}

/// A sabotage of Map-Requests that the ITR sends.
pub(super) fn requests_out(
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

/// A sabotage that sends the ITR's Map-Requests (no probes, no SMRs) a second time, `later`.
pub(super) fn requests_twice(later: Duration) -> Tamper {
    Box::new(move |way, frame| {
        if way == Way::FromVictim && frame_question(frame) {
            PacketFate::Duplicate(later)
        } else {
            PacketFate::Forward
        }
    })
}

/// A sabotage that loses the ITR's Map-Requests whose question is one of `which`.
pub(super) fn requests_lost(which: fn(EidPrefix) -> bool) -> Tamper {
    Box::new(move |way, frame| {
        let about = |request: &MapRequest| {
            let asked = request.records.first().and_then(EidQuery::prefix);
            asked.is_some_and(which)
        };
        if way == Way::FromVictim && frame_request(frame).as_ref().is_some_and(about) {
            PacketFate::Drop
        } else {
            PacketFate::Forward
        }
    })
}

fn frame_question(frame: &crate::sabotage::Frame<'_>) -> bool {
    frame_request(frame).is_some_and(|request| !request.probe && !request.smr)
}

/// The Map-Request in a frame, encapsulated or not.
pub(super) fn frame_request(frame: &crate::sabotage::Frame<'_>) -> Option<MapRequest> {
    match frame.control()? {
        ControlMessage::MapRequest(request) => Some(request),
        ControlMessage::Encapsulated(ecm) => match *ecm.decode_inner().ok()?.message {
            ControlMessage::MapRequest(request) => Some(request),
            _ => None,
        },
        _ => None,
    }
}
