//! What is repeated for as long as it is not heeded, and then less often: at most ten repetitions, and a pause of 30 seconds
//! (RFC 9301 5.3; RFC 9302 7.1 for solicitations because of an old map-version).

use std::time::Duration;

use harness::inline::{PacketFate, Way};

use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::{Frame, Tamper};
use crate::trace::Seen;

/// One and ten repetitions.
pub(crate) const MOST: usize = 11;
/// The pause of 30 s, less what a host's timers differ.
const PAUSE_NS: u64 = 29_900_000_000;
/// A second, less 5 %.
pub(crate) const SECOND_NS: u64 = 950_000_000;
/// So long a pause is not waited for any longer.
const ENOUGH_NS: u64 = 45_000_000_000;

/// Calls `send` twice a second until what `repeated` picks has paused and come again, has come more often than it may, or
/// has stayed away for longer than the pause. The packets number themselves from 1.
pub(crate) fn until_paused(
    drive: &Drive,
    what: &str,
    mut send: impl FnMut(u16) -> Result<(), Stop>,
    repeated: impl Fn(&Seen) -> bool,
) -> Result<(), Stop> {
    let begin = drive.now_ns();
    let mut last: Option<u64> = None;
    let mut count = 0;
    for number in 1.. {
        send(number)?;
        let since = last.map_or(begin, |at| at + 1);
        match drive.wait_for(since, what, Duration::from_millis(500), &repeated) {
            Ok(seen) => {
                let gap = seen.time_ns() - last.unwrap_or(seen.time_ns());
                last = Some(seen.time_ns());
                count += 1;
                if gap >= PAUSE_NS || count > MOST {
                    return Ok(());
                }
            }
            Err(stop @ Stop::NotSeen(_)) => match last {
                None if drive.now_ns() - begin > 10_000_000_000 => return Err(stop),
                Some(at) if drive.now_ns() - at > ENOUGH_NS => return Ok(()),
                _ => {}
            },
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// A repetition up to its first pause.
pub(crate) struct Pace<'t> {
    /// What came before the pause.
    pub(crate) run: Vec<&'t Seen>,
    /// The first one after it.
    pub(crate) next: Option<&'t Seen>,
}

impl<'t> Pace<'t> {
    /// Of packets in the order of time.
    pub(crate) fn of(packets: &[&'t Seen]) -> Pace<'t> {
        let pause = packets
            .windows(2)
            .position(|pair| pair[1].time_ns() - pair[0].time_ns() >= PAUSE_NS);
        let end = pause.map_or(packets.len(), |at| at + 1);
        Pace {
            run: packets[..end].to_vec(),
            next: packets.get(end).copied(),
        }
    }

    /// Two that follow each other by less than a second.
    pub(crate) fn too_close(&self) -> Option<[&'t Seen; 2]> {
        let pair = self
            .run
            .windows(2)
            .find(|pair| pair[1].time_ns() - pair[0].time_ns() < SECOND_NS)?;
        Some([pair[0], pair[1]])
    }

    /// Whether a moment lies in the pause, a second after its begin.
    pub(crate) fn rests_at(&self, time_ns: u64) -> bool {
        let begun = |last: &&Seen| time_ns > last.time_ns() + 1_000_000_000;
        self.run.last().is_some_and(begun) && self.next.is_none_or(|next| time_ns < next.time_ns())
    }

    /// When they came, in seconds from the first on.
    pub(crate) fn text(&self) -> String {
        let first = self.run.first().map_or(0, |packet| packet.time_ns());
        let seconds = |packet: &&Seen| format!("{:.1}", (packet.time_ns() - first) as f64 / 1e9);
        let run: Vec<String> = self.run.iter().map(seconds).collect();
        let next = self.next.as_ref().map_or("nothing".to_owned(), seconds);
        format!("at {} s; after the pause: {next}", run.join(", "))
    }
}

/// Judges Map-Requests about an EID that nobody answers about; `sent`: when packets went to it.
pub(crate) fn pauses(requirement: Req, asked: &[&Seen], sent: &[u64], findings: &mut Findings) {
    let pace = Pace::of(asked);
    let in_the_pause = sent.iter().filter(|at| pace.rests_at(**at)).count();
    if asked.len() < 2 || (pace.run.len() <= MOST && in_the_pause == 0) {
        findings.unseen(
            requirement,
            "Map-Requests for an EID that nobody answers about, and traffic for it afterwards",
        );
        return;
    }
    if let Some([one, two]) = pace.too_close() {
        findings.broken(
            requirement,
            [one, two],
            "a second between two Map-Requests for one EID",
            format!("{} ms", (two.time_ns() - one.time_ns()) / 1_000_000),
        );
    }
    findings.check(
        requirement,
        pace.run.len() <= MOST,
        &pace.run,
        "one Map-Request and at most ten more before a pause of 30 s",
        pace.text(),
    );
}

/// Sends what `which` picks again, three seconds after the last time that it may be sent.
pub(crate) fn once_more(which: impl Fn(&Frame<'_>) -> bool + Send + 'static) -> Tamper {
    let mut count = 0;
    Box::new(move |way, frame| {
        count += usize::from(way == Way::FromVictim && which(frame));
        if way == Way::FromVictim && count == MOST && which(frame) {
            return PacketFate::Duplicate(Duration::from_secs(3));
        }
        PacketFate::Forward
    })
}
