//! The generalized SMR lab: EID-Prefixes of both families lose their interface, route or configuration while another site still sends to them
//! (RFC 6830 6.6.2; RFC 6833 4.1, 4.3). Here: what is done; `steps` and `ends` judge it.

pub(crate) mod cases;
pub(crate) mod ends;
mod long;
pub(crate) mod sabotages;
pub(crate) mod steps;

use std::time::Duration;

use lisp::EidPrefix;

use super::Ping;
use crate::cases::common::{ip, prefix, seconds};
use crate::drive::{Drive, Stop};
use crate::trace::{Seen, Trace};

const OLD: &str = "198.51.100.10";
const NEW: &str = "198.51.100.130";
const PROXY: &str = "192.0.2.14";
/// The locator of xTR 1.
const SITE_1: &str = "192.0.2.2";

const DOWN: &str = "the prefixes are gone";
const TOLD: &str = "told that nobody is registered";
const UP: &str = "the prefixes are back";

/// One family of the prefixes that lose their interface.
#[derive(Debug, Clone, Copy)]
struct Family {
    prefix: &'static str,
    host: &'static str,
    /// Echo sequence numbers of this family start here.
    first: u16,
}

const FAMILIES: [Family; 2] = [
    Family {
        prefix: "172.16.2.0/24",
        host: "172.16.2.10",
        first: 0,
    },
    Family {
        prefix: "2001:db8:1::/64",
        host: "2001:db8:1::10",
        first: 1000,
    },
];

impl Family {
    fn prefix(self) -> EidPrefix {
        prefix(self.prefix)
    }

    fn before(self) -> u16 {
        self.first + 1
    }

    fn into_the_void(self) -> u16 {
        self.first + 2
    }

    fn while_asking(self) -> u16 {
        self.first + 3
    }

    fn afterwards(self) -> u16 {
        self.first + 4
    }

    fn settling(self) -> std::ops::Range<u16> {
        self.first + 20..self.first + 60
    }

    fn recovery(self) -> std::ops::Range<u16> {
        self.first + 100..self.first + 400
    }

    /// Whether a message about `asked` is about this prefix, or about a host of it.
    fn concerns(self, asked: Option<EidPrefix>) -> bool {
        asked.is_some_and(|asked| self.prefix().covers(&asked))
    }

    /// xTR 1 solicits a Map-Request for this prefix.
    fn is_smr(self, packet: &Seen) -> bool {
        packet.sender() == Some("xtr-1")
            && packet.map_request().is_some_and(|request| {
                request.smr && request.records.iter().any(|q| self.concerns(q.prefix()))
            })
    }

    /// xTR 2 asks for this prefix.
    fn is_question(self, packet: &Seen) -> bool {
        packet.sender() == Some("xtr-2")
            && packet.map_request().is_some_and(|request| {
                !request.probe
                    && !request.smr
                    && request.records.iter().any(|q| self.concerns(q.prefix()))
            })
    }

    /// xTR 2 is answered about this prefix, with locators or without.
    fn is_answer(self, packet: &Seen, positive: bool) -> bool {
        packet.receiver() == Some("xtr-2")
            && packet.map_reply().is_some_and(|reply| {
                reply.records.iter().any(|record| {
                    record
                        .eid_prefix()
                        .is_some_and(|eid| eid.contains(0, ip(self.host)))
                        && record.locators.is_empty() != positive
                })
            })
    }

    /// The first SMR after the interface went down.
    fn solicitation(self, trace: &Trace) -> Option<&Seen> {
        trace.since(DOWN).find(|packet| self.is_smr(packet))
    }

    /// The first negative Map-Reply at xTR 2 after that.
    fn refusal(self, trace: &Trace) -> Option<&Seen> {
        trace
            .since(DOWN)
            .find(|packet| self.is_answer(packet, false))
    }
}

fn registered_at_both(drive: &Drive<'_>) -> Result<(), Stop> {
    drive.registered(&["xtr-1", "xtr-2"], seconds(10))?;
    let what = "the registration of xtr-1 at the new Map-Server";
    drive.wait_for(0, what, seconds(5), |packet| {
        packet.map_notify().is_some()
            && packet.source() == Some(ip(NEW))
            && packet.receiver() == Some("xtr-1")
    })?;
    Ok(())
}

/// Why xTR 1 has the prefixes no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cases) enum Loss {
    /// Their interface goes down.
    Interface,
    /// The site's routes to them go; the interface stays.
    Route,
    /// An operator takes them out of the configuration.
    Configuration,
}

impl Loss {
    fn begins(self, drive: &mut Drive<'_>) -> Result<(), Stop> {
        match self {
            Loss::Interface => run(drive, "ip link set dev site-b down"),
            Loss::Route => FAMILIES.iter().try_for_each(|family| {
                run(drive, &format!("ip route del {} dev site-b", family.prefix))
            }),
            Loss::Configuration => drive.reload("xtr-1", WITHOUT),
        }
    }

    fn ends(self, drive: &mut Drive<'_>) -> Result<(), Stop> {
        match self {
            Loss::Interface => run(drive, "ip link set dev site-b up"),
            Loss::Route => FAMILIES.iter().try_for_each(|family| {
                run(drive, &format!("ip route add {} dev site-b", family.prefix))
            }),
            Loss::Configuration => drive.reload("xtr-1", WITH),
        }
    }
}

const WITHOUT: &str = "eid-prefixes: [{prefix: 172.16.1.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]";
const WITH: &str = "eid-prefixes: [
    {prefix: 172.16.1.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]},
    {prefix: 172.16.2.0/24, locators: [{address: 192.0.2.2, priority: 1, weight: 100}]},
    {prefix: '2001:db8:1::/64', locators: [{address: 192.0.2.2, priority: 1, weight: 100}]}]";

fn run(drive: &Drive<'_>, command: &str) -> Result<(), Stop> {
    let output = drive.lab().exec("xtr-1", command.split(' '), seconds(5))?;
    if output.exit.success() {
        return Ok(());
    }
    Err(Stop::Untestable(format!(
        "`{command}` at xtr-1: {}",
        output.stderr_text().trim()
    )))
}

/// Sends with `send` until something is seen that passed at or after `since`, at most `times` times.
fn send_until(
    drive: &Drive<'_>,
    (since, what): (u64, &str),
    times: u16,
    each: Duration,
    mut send: impl FnMut() -> Result<(), Stop>,
    seen: impl Fn(&Seen) -> bool,
) -> Result<(), Stop> {
    let mut last = Ok(());
    for _ in 0..times {
        send()?;
        match drive.wait_for(since, what, each, &seen) {
            Err(stop @ Stop::NotSeen(_)) => last = Err(stop),
            other => return other.map(drop),
        }
    }
    last
}

/// The whole story, with pings of host-2: gone, asked about, told, back again.
pub(in crate::cases) fn story(drive: &mut Drive<'_>, loss: Loss) -> Result<(), Stop> {
    registered_at_both(drive)?;
    for family in FAMILIES {
        drive.ping("host-2", ip(family.host), family.before(), seconds(2))?;
    }
    drive.stop("msmr-old")?;
    let down = drive.mark(DOWN);
    loss.begins(drive)?;
    let short = Duration::from_millis(100);
    for family in FAMILIES {
        // xTR 1 learns of its interface from its kernel, in its own time: until it solicits.
        let what = format!("an SMR for {}", family.prefix);
        let ping = |sequence| {
            let answered = drive.ping("host-2", ip(family.host), sequence, short);
            answered.map(drop)
        };
        send_until(
            drive,
            (down, &what),
            50,
            short,
            || ping(family.into_the_void()),
            |packet| family.is_smr(packet),
        )?;
        let what = format!("the SMR-invoked Map-Request for {}", family.prefix);
        drive.wait_for(down, &what, seconds(5), |packet| family.is_question(packet))?;
        ping(family.while_asking())?;
    }
    for family in FAMILIES {
        let what = format!("the negative Map-Reply for {} at xtr-2", family.prefix);
        drive.wait_for(down, &what, seconds(20), |packet| {
            family.is_answer(packet, false)
        })?;
    }
    drive.mark(TOLD);
    for family in FAMILIES {
        settles(drive, family)?;
        drive.ping(
            "host-2",
            ip(family.host),
            family.afterwards(),
            Duration::from_millis(500),
        )?;
    }
    let up = drive.mark(UP);
    loss.ends(drive)?;
    recovers(drive, up)
}

/// The negative Map-Reply is on the wire; it is in use when a packet no longer goes to xTR 1. Whether that comes is for the
/// judges, who look at the packet after these.
fn settles(drive: &Drive<'_>, family: Family) -> Result<(), Stop> {
    let short = Duration::from_millis(50);
    let begin = drive.now_ns();
    for sequence in family.settling() {
        drive.ping("host-2", ip(family.host), sequence, short)?;
        let what = format!("echo request {sequence} out of xtr-2 not to xtr-1");
        let elsewhere = drive.wait_for(begin, &what, short, |packet| {
            packet.sender() == Some("xtr-2")
                && packet.destination() != Some(ip(SITE_1))
                && family
                    .settling()
                    .any(|sent| Ping::Request(sent).is_in(packet))
        });
        match elsewhere {
            Err(Stop::NotSeen(_)) => {}
            seen => return seen.map(drop),
        }
    }
    Ok(())
}

/// Pings until the sender has a mapping again - by an SMR, or when its negative entry ends after a minute - and then
/// until it is in use: one is answered, and one left for xTR 1. Over a PETR an answer alone does not tell.
fn recovers(drive: &Drive<'_>, up: u64) -> Result<(), Stop> {
    let short = Duration::from_millis(250);
    for family in FAMILIES {
        let mut sequences = family.recovery();
        let mut ping = || match sequences.next() {
            Some(sequence) => drive.ping("host-2", ip(family.host), sequence, short),
            None => Ok(true),
        };
        let what = format!("a mapping of {} at xtr-2 again", family.prefix);
        send_until(
            drive,
            (up, &what),
            150,
            short,
            || ping().map(drop),
            |packet| family.is_answer(packet, true),
        )?;
        let begin = drive.now_ns();
        for _ in 0..20 {
            if !ping()? {
                continue;
            }
            let what = "an echo request out of xtr-2 to xtr-1";
            let tunnelled = drive.wait_for(begin, what, Duration::from_millis(50), |packet| {
                packet.sender() == Some("xtr-2")
                    && packet.destination() == Some(ip(SITE_1))
                    && family
                        .recovery()
                        .any(|sent| Ping::Request(sent).is_in(packet))
            });
            match tunnelled {
                Err(Stop::NotSeen(_)) => {}
                Err(stop) => return Err(stop),
                Ok(_) => break,
            }
        }
    }
    Ok(())
}
