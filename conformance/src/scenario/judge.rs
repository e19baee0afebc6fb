//! Judging a scenario: a pure function of the trace and of what is known besides.

use std::collections::BTreeMap;

use super::drive::OVER;
use super::matcher::{self, Matcher};
use super::{
    Action, Awaited, Expectation, Expected, Fence, Observation, Ping, Scenario, Since, Step,
    WaitFor, ping_number,
};
use crate::finding::{Finding, Outcome};
use crate::trace::{Seen, Trace};

/// Copies of a packet on several links are one packet if they pass within this time.
const ON_ITS_WAY_NS: u64 = 1_000_000_000;

/// What was found about one expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) outcome: Outcome,
    /// Nobody could be asked: the adapter knows no such `show`.
    pub(crate) skipped: bool,
    pub(crate) expected: String,
    pub(crate) seen: String,
    pub(crate) packets: Vec<usize>,
    /// A host that stood still may be the reason.
    pub(crate) in_time: bool,
}

impl Judged {
    fn new(outcome: Outcome, expected: impl Into<String>, seen: impl Into<String>) -> Judged {
        Judged {
            outcome,
            skipped: false,
            expected: expected.into(),
            seen: seen.into(),
            packets: Vec::new(),
            in_time: false,
        }
    }

    fn unseen(needed: impl Into<String>) -> Judged {
        Judged::new(Outcome::Unseen, needed, "nothing of the kind")
    }

    fn by(mut self, packets: impl IntoIterator<Item = usize>) -> Judged {
        self.packets = packets.into_iter().collect();
        self
    }

    /// The same as the finding of a requirement.
    pub(crate) fn finding(&self, requirement: crate::catalogue::Req) -> Finding {
        Finding {
            requirement,
            outcome: self.outcome,
            expected: self.expected.clone(),
            seen: self.seen.clone(),
            packets: self.packets.clone(),
        }
    }
}

impl Scenario {
    /// Judges all expectations, in their order.
    pub(crate) fn judge(&self, trace: &Trace, observations: &[Observation]) -> Vec<Judged> {
        let packets: Vec<&Seen> = trace.iter().collect();
        let moment = |text: &str| trace.mark(text);
        let view = View {
            scenario: self,
            packets,
            begun: self
                .steps
                .iter()
                .map(|step| moment(&step.begins()))
                .collect(),
            ended: self.steps.iter().map(|step| moment(&step.ends())).collect(),
            over: moment(OVER),
        };
        let judge = |expectation| view.judge(expectation, observations);
        self.expectations.iter().map(judge).collect()
    }
}

/// The packets and moments of a run, over or still going on.
pub(super) struct View<'a> {
    pub(super) scenario: &'a Scenario,
    /// In the order of time.
    pub(super) packets: Vec<&'a Seen>,
    /// When each step began and ended.
    pub(super) begun: Vec<Option<u64>>,
    pub(super) ended: Vec<Option<u64>>,
    /// When all steps were over.
    pub(super) over: Option<u64>,
}

impl<'a> View<'a> {
    /// A moment, if it has come.
    pub(super) fn moment(&self, since: &Since) -> Option<u64> {
        match since {
            Since::Beginning => Some(0),
            Since::Step(step) => self.begun.get(*step).copied().flatten(),
            Since::Expectation(_) => self.found(since).map(Seen::time_ns),
        }
    }

    /// Until when a packet counts that has so much time since a moment. What may come at any time has it after the last
    /// step.
    pub(super) fn deadline(&self, since: &Since, within: std::time::Duration) -> Option<u64> {
        let from = match since {
            Since::Beginning => self.over?,
            _ => self.moment(since)?,
        };
        Some(from.saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The packet that a step waited for, or that met an expectation.
    fn found(&self, since: &Since) -> Option<&'a Seen> {
        match since {
            Since::Beginning => None,
            Since::Step(step) => match &self.scenario.steps.get(*step)?.action {
                Action::WaitFor(WaitFor {
                    what: Awaited::Packet(since, matcher),
                    ..
                }) => self.first(self.moment(since)?, matcher),
                _ => None,
            },
            Since::Expectation(number) => {
                let expectation = self.scenario.expectations.get(*number)?;
                match &expectation.what {
                    Expected::Packet(matcher, within) => {
                        let packet = self.first(self.moment(&expectation.since)?, matcher)?;
                        let deadline = self.deadline(&expectation.since, *within);
                        deadline
                            .is_none_or(|deadline| packet.time_ns() <= deadline)
                            .then_some(packet)
                    }
                    _ => None,
                }
            }
        }
    }

    /// The nonce of such a packet.
    pub(super) fn nonce_of(&self, since: &Since) -> Option<u64> {
        self.found(since).and_then(matcher::nonce)
    }

    fn matching<'b>(
        &'b self,
        from: u64,
        matcher: &'b Matcher,
    ) -> impl Iterator<Item = &'a Seen> + 'b {
        self.packets
            .iter()
            .copied()
            .filter(move |packet| packet.time_ns() >= from)
            .filter(|packet| matcher.matches(packet, &|since| self.nonce_of(since)))
    }

    pub(super) fn first(&self, from: u64, matcher: &Matcher) -> Option<&'a Seen> {
        self.matching(from, matcher).next()
    }

    fn judge(&self, expectation: &Expectation, observations: &[Observation]) -> Judged {
        if let Expected::Output(question, within) = &expectation.what {
            let name = &expectation.name;
            let seen = observations.iter().rfind(|seen| seen.name == *name);
            return match seen {
                Some(seen) => output(question, seen, *within),
                None => Judged::unseen(format!("an answer to {}", question.text())),
            };
        }
        let Some(from) = self.moment(&expectation.since) else {
            return Judged::unseen(self.missing(&expectation.since));
        };
        match &expectation.what {
            Expected::Packet(matcher, within) => {
                self.eventually(expectation, from, matcher, *within)
            }
            Expected::Never(matcher, fence) => self.never(expectation, from, matcher, fence),
            Expected::Count(matcher, least, most, fence) => {
                self.count(expectation, from, matcher, (*least, *most), fence)
            }
            Expected::Answered(step, answered) => self.answered(*step, *answered),
            // Above.
            Expected::Output(..) => Judged::unseen("an answer"),
        }
    }

    fn missing(&self, since: &Since) -> String {
        match since {
            Since::Beginning => "the beginning".to_owned(),
            Since::Step(step) => {
                let name = self
                    .scenario
                    .steps
                    .get(*step)
                    .map_or("?", |step| &step.name);
                format!("the step {name}, which did not come")
            }
            Since::Expectation(number) => {
                let name = self
                    .scenario
                    .expectations
                    .get(*number)
                    .map_or("?", |e| &e.name);
                format!("the packet of {name}, which did not come")
            }
        }
    }

    fn eventually(
        &self,
        expectation: &Expectation,
        from: u64,
        matcher: &Matcher,
        within: std::time::Duration,
    ) -> Judged {
        let expected = format!("{} within {within:?}", matcher.text);
        let Some(deadline) = self.deadline(&expectation.since, within) else {
            // The steps did not come to their end: what has been seen counts all the same.
            return match self.first(from, matcher) {
                Some(packet) => {
                    Judged::new(Outcome::Met, expected, packet.summary()).by([packet.number()])
                }
                None => Judged::unseen("the end of all steps"),
            };
        };
        match self.first(from, matcher) {
            Some(packet) if packet.time_ns() <= deadline => {
                Judged::new(Outcome::Met, expected, packet.summary()).by([packet.number()])
            }
            Some(packet) => {
                let late = std::time::Duration::from_nanos(packet.time_ns() - deadline);
                let seen = format!("{late:?} too late: {}", packet.summary());
                let judged = Judged::new(Outcome::Broken, expected, seen).by([packet.number()]);
                Judged {
                    in_time: true,
                    ..judged
                }
            }
            None => Judged {
                in_time: true,
                ..Judged::new(Outcome::Broken, expected, "no such packet")
            },
        }
    }

    /// When the fence stood, and the packets that show it.
    fn fence(&self, since: &Since, from: u64, fence: &Fence) -> Result<(u64, Vec<usize>), String> {
        match fence {
            Fence::Packet(matcher, within) => {
                let found = self.first(from, matcher);
                let deadline = self.deadline(since, *within);
                match found {
                    Some(packet)
                        if deadline.is_none_or(|deadline| packet.time_ns() <= deadline) =>
                    {
                        Ok((packet.time_ns(), vec![packet.number()]))
                    }
                    _ => Err(format!("the fence: {}", matcher.text)),
                }
            }
            Fence::Step(step) => {
                let name = &self.scenario.steps[*step].name;
                let ended = self.ended.get(*step).copied().flatten();
                let ended =
                    ended.ok_or_else(|| format!("the end of the step {name}, the fence"))?;
                if ended < from {
                    return Err(format!(
                        "a fence behind the beginning; {name} was over before"
                    ));
                }
                let Action::Ping(ping) = &self.scenario.steps[*step].action else {
                    return Ok((ended, Vec::new()));
                };
                let replies = self.replies(*step, ping);
                match replies.values().next_back() {
                    Some(reply) => Ok((ended, vec![reply.number()])),
                    None => Err(format!("an answer to the ping {name}, the fence")),
                }
            }
            Fence::Within(within) => self
                .deadline(since, *within)
                .map(|deadline| (deadline, Vec::new()))
                .ok_or_else(|| "the end of all steps".to_owned()),
        }
    }

    fn never(
        &self,
        expectation: &Expectation,
        from: u64,
        matcher: &Matcher,
        fence: &Fence,
    ) -> Judged {
        let expected = format!("never {}", matcher.text);
        // What must not be is broken with or without a fence.
        let found = self.first(from, matcher);
        match (self.fence(&expectation.since, from, fence), found) {
            (Ok((until, _)), Some(packet)) if packet.time_ns() < until => {
                Judged::new(Outcome::Broken, expected, packet.summary()).by([packet.number()])
            }
            (Ok((_, packets)), _) => {
                Judged::new(Outcome::Met, expected, "none before the fence").by(packets)
            }
            (Err(needed), None) => Judged::unseen(needed),
            (Err(_), Some(packet)) => {
                Judged::new(Outcome::Broken, expected, packet.summary()).by([packet.number()])
            }
        }
    }

    fn count(
        &self,
        expectation: &Expectation,
        from: u64,
        matcher: &Matcher,
        (least, most): (u64, Option<u64>),
        fence: &Fence,
    ) -> Judged {
        let (until, _) = match self.fence(&expectation.since, from, fence) {
            Ok(fence) => fence,
            Err(needed) => return Judged::unseen(needed),
        };
        let found = distinct(
            self.matching(from, matcher)
                .take_while(|packet| packet.time_ns() <= until),
        );
        let count = found.len() as u64;
        let wanted = match most {
            Some(most) if most == least => format!("{least}"),
            Some(most) => format!("{least} to {most}"),
            None => format!("at least {least}"),
        };
        let holds = count >= least && most.is_none_or(|most| count <= most);
        let outcome = if holds { Outcome::Met } else { Outcome::Broken };
        let expected = format!("{wanted} times {}", matcher.text);
        let judged = Judged::new(outcome, expected, format!("{count} times"))
            .by(found.iter().map(|packet| packet.number()));
        Judged {
            in_time: count < least,
            ..judged
        }
    }

    /// The replies to a ping that came back in time, by sequence number.
    fn replies(&self, step: usize, ping: &Ping) -> BTreeMap<u16, &'a Seen> {
        let from = self.begun.get(step).copied().flatten().unwrap_or(u64::MAX);
        // A request that waited in the kernel for a cable to come back is answered after nobody listens any more.
        let until = self.ended.get(step).copied().flatten().unwrap_or(u64::MAX);
        let mut asked: BTreeMap<u16, u64> = BTreeMap::new();
        let mut replies = BTreeMap::new();
        for packet in self
            .packets
            .iter()
            .filter(|packet| (from..=until).contains(&packet.time_ns()))
        {
            let Some(number) = ping_number(packet).filter(|number| ping.numbers().contains(number))
            else {
                continue;
            };
            let icmp = packet.ip().and_then(|ip| ip.icmp());
            if packet.sender() == Some(&ping.from)
                && icmp.is_some_and(crate::decode::Icmp::is_echo_request)
            {
                asked.entry(number).or_insert(packet.time_ns());
            }
            let is_reply = packet.receiver() == Some(&ping.from)
                && packet.source() == Some(ping.to)
                && icmp.is_some_and(crate::decode::Icmp::is_echo_reply);
            let in_time = asked
                .get(&number)
                .is_some_and(|sent| u128::from(packet.time_ns() - sent) <= ping.within.as_nanos());
            if is_reply && in_time {
                replies.entry(number).or_insert(*packet);
            }
        }
        replies
    }

    fn answered(&self, step: usize, wanted: bool) -> Judged {
        let Some(Step {
            action: Action::Ping(ping),
            name,
            ..
        }) = self.scenario.steps.get(step)
        else {
            return Judged::unseen("a ping");
        };
        if self.ended.get(step).copied().flatten().is_none() {
            return Judged::unseen(format!("the end of the step {name}"));
        }
        let replies = self.replies(step, ping);
        let count = replies.len();
        let expected = if wanted {
            format!("{} answers from {} to {}", ping.count, ping.to, ping.from)
        } else {
            format!("no answer from {} to {}", ping.to, ping.from)
        };
        let holds = count == usize::from(if wanted { ping.count } else { 0 });
        let outcome = if holds { Outcome::Met } else { Outcome::Broken };
        let judged = Judged::new(
            outcome,
            expected,
            format!("{count} of {} answered", ping.count),
        )
        .by(replies.values().map(|packet| packet.number()));
        Judged {
            in_time: wanted,
            ..judged
        }
    }
}

fn output(question: &super::Question, seen: &Observation, within: std::time::Duration) -> Judged {
    let expected = format!(
        "{} within {within:?}: {}",
        question.text(),
        question.wanted().text()
    );
    if let Some(why) = &seen.unsupported {
        return Judged {
            skipped: true,
            ..Judged::new(Outcome::Unseen, expected, why.clone())
        };
    }
    match question.wanted().missing(seen.exit, &seen.output) {
        None => Judged::new(Outcome::Met, expected, "printed as expected"),
        Some(missing) => Judged {
            in_time: true,
            ..Judged::new(
                Outcome::Broken,
                expected,
                format!(
                    "expected {missing}; it printed: {}",
                    shortened(&seen.output)
                ),
            )
        },
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 600;
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// The first sight of each packet: a packet that crosses several links is captured on each, unchanged but for its TTL.
fn distinct<'a>(packets: impl Iterator<Item = &'a Seen>) -> Vec<&'a Seen> {
    let mut found = Vec::new();
    /// Where a packet has been seen since it was sent, and when last.
    type Way<'a> = (Vec<(&'a str, Option<&'a str>)>, u64);
    let mut under_way: BTreeMap<Vec<u8>, Way<'_>> = BTreeMap::new();
    for packet in packets {
        let Some(ip) = packet.ip() else { continue };
        let place = (packet.link(), packet.sender());
        match under_way.get_mut(&ip.without_ttl()) {
            Some((places, last))
                if packet.time_ns().saturating_sub(*last) <= ON_ITS_WAY_NS
                    && !places.contains(&place) =>
            {
                places.push(place);
                *last = packet.time_ns();
            }
            _ => {
                under_way.insert(ip.without_ttl(), (vec![place], packet.time_ns()));
                found.push(packet);
            }
        }
    }
    found
}
