//! Carrying out the steps, and waiting for what is expected. Nothing is judged here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::judge::View;
use super::matcher::{IDENTIFIER, Matcher};
use super::{
    Action, Awaited, Expected, Fence, LinkChange, Observation, Ping, Question, Scenario, Send,
    Since, Step, WaitFor,
};
use crate::drive::{Drive, Peer, Stop};
use crate::trace::Seen;

/// The mark behind the last step.
pub(super) const OVER: &str = "all steps are over";
/// Between two times that a command is asked.
const AGAIN: Duration = Duration::from_millis(100);
/// Octets of a command's output that are kept.
const KEPT: usize = 64 << 10;

impl Step {
    /// The mark of its beginning.
    pub(super) fn begins(&self) -> String {
        format!("{}: {}", self.name, self.action.text())
    }

    /// The mark of its end.
    pub(super) fn ends(&self) -> String {
        format!("{} is over", self.name)
    }
}

impl Action {
    /// In a few words.
    fn text(&self) -> String {
        match self {
            Action::Ping(ping) if ping.count > 1 => {
                format!("{} pings {} {} times", ping.from, ping.to, ping.count)
            }
            Action::Ping(ping) => format!("{} pings {}", ping.from, ping.to),
            Action::Send(send) => format!("{} sends to {}", send.from, send.message.destination()),
            Action::Start(node) => format!("start {node}"),
            Action::Stop(node) => format!("stop {node}"),
            Action::Kill(node) => format!("kill {node}"),
            Action::Reload { node, .. } => format!("{node} gets other settings"),
            Action::Link { link, change } => match change {
                LinkChange::Up => format!("{link} is plugged in"),
                LinkChange::Down => format!("{link} is pulled out"),
                LinkChange::Set(_) => format!("the damage of {link} changes"),
            },
            Action::MoveHost { host, to, .. } => format!("{host} moves to {to}"),
            Action::Exec(question) => question.text(),
            Action::WaitFor(wait) => match &wait.what {
                Awaited::Packet(_, matcher) => format!("wait for {}", matcher.text),
                Awaited::Output(question) => format!("wait for {}", question.text()),
                Awaited::Registered(nodes) => {
                    format!("wait for the registration of {}", nodes.join(", "))
                }
            },
            Action::Sleep(time) => format!("sleep {time:?}"),
        }
    }
}

impl Scenario {
    /// Carries out the steps.
    pub(crate) fn drive(&self, drive: &mut Drive<'_>) -> Result<(), Stop> {
        let mut run = Running {
            scenario: self,
            began: Instant::now(),
            peers: BTreeMap::new(),
            begun: vec![None; self.steps.len()],
            ended: vec![None; self.steps.len()],
            over: None,
        };
        for (number, step) in self.steps.iter().enumerate() {
            run.check_time(&step.name)?;
            run.begun[number] = Some(drive.mark(&step.begins()));
            run.step(drive, step)?;
            run.ended[number] = Some(drive.mark(&step.ends()));
            run.ask_after(drive, &Since::Step(number))?;
        }
        run.over = Some(drive.mark(OVER));
        run.ask_after(drive, &Since::Beginning)?;
        run.await_packets(drive)
    }
}

/// A scenario that is being carried out.
struct Running<'s> {
    scenario: &'s Scenario,
    began: Instant,
    /// Those that send, by node: their LISP ports stay bound to the end, so that no kernel answers "port unreachable".
    peers: BTreeMap<String, Peer>,
    begun: Vec<Option<u64>>,
    ended: Vec<Option<u64>>,
    over: Option<u64>,
}

impl Running<'_> {
    fn check_time(&self, name: &str) -> Result<(), Stop> {
        if self.began.elapsed() < self.scenario.timeout {
            return Ok(());
        }
        Err(Stop::OutOfTime(format!(
            "the {:?} of the whole scenario were over before the step {name}",
            self.scenario.timeout
        )))
    }

    fn view<'v>(&'v self, packets: &'v [Seen]) -> View<'v> {
        View {
            scenario: self.scenario,
            packets: packets.iter().collect(),
            begun: self.begun.clone(),
            ended: self.ended.clone(),
            over: self.over,
        }
    }

    fn step(&mut self, drive: &mut Drive<'_>, step: &Step) -> Result<(), Stop> {
        match &step.action {
            Action::Ping(ping) => ping.send(drive),
            Action::Send(send) => self.send(drive, send),
            Action::Start(node) => {
                self.peers.remove(node);
                drive.start(node)
            }
            Action::Stop(node) => drive.stop(node),
            Action::Kill(node) => drive.kill(node),
            Action::Reload { node, settings } => drive.reload(node, &settings.to_string()),
            Action::Link { link, change } => {
                let lab = drive.lab();
                match change {
                    LinkChange::Up => lab.set_link_up(link, true)?,
                    LinkChange::Down => lab.set_link_up(link, false)?,
                    LinkChange::Set(damage) => lab.set_impairment(link, damage.clone())?,
                }
                Ok(())
            }
            Action::MoveHost { host, link, to } => Ok(drive.lab().move_host(host, link, to)?),
            Action::Exec(question) => {
                let seen = ask(drive, &step.name, question)?;
                let missing = question.wanted().missing(seen.exit, &seen.output);
                let said = seen.output.clone();
                drive.observe(seen);
                match missing {
                    None => Ok(()),
                    Some(missing) => Err(Stop::Untestable(format!(
                        "step {}: {}: expected {missing}; it printed:\n{}",
                        step.name,
                        question.text(),
                        said.trim()
                    ))),
                }
            }
            Action::WaitFor(wait) => self.wait(drive, step, wait),
            Action::Sleep(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
        }
    }

    fn send(&mut self, drive: &mut Drive<'_>, send: &Send) -> Result<(), Stop> {
        if !self.peers.contains_key(&send.from) {
            let peer = if drive.runs(&send.from) {
                Peer::bare(drive.lab(), &send.from)?
            } else {
                drive.peer(&send.from)?
            };
            self.peers.insert(send.from.clone(), peer);
        }
        let packet = send.message.packet();
        if let Some(peer) = self.peers.get(&send.from) {
            for _ in 0..send.times {
                peer.send(&packet)?;
            }
        }
        Ok(())
    }

    fn wait(&self, drive: &mut Drive<'_>, step: &Step, wait: &WaitFor) -> Result<(), Stop> {
        match &wait.what {
            Awaited::Packet(since, matcher) => {
                let packets = drive.packets(0);
                let from = self.view(&packets).moment(since).unwrap_or_default();
                self.packet(drive, &packets, from, matcher, wait.within)
            }
            Awaited::Output(question) => {
                let seen = ask_until(drive, &step.name, question, wait.within)?;
                let missing = seen
                    .unsupported
                    .clone()
                    .or_else(|| question.wanted().missing(seen.exit, &seen.output));
                drive.observe(seen);
                match missing {
                    None => Ok(()),
                    Some(missing) => Err(Stop::NotSeen(format!(
                        "step {}: {}: not within {:?}: {missing}",
                        step.name,
                        question.text(),
                        wait.within
                    ))),
                }
            }
            Awaited::Registered(nodes) => {
                let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
                drive.registered(&nodes, wait.within)
            }
        }
    }

    /// Waits for a packet. Nonces that it refers to are those of packets that were seen before.
    fn packet(
        &self,
        drive: &Drive<'_>,
        packets: &[Seen],
        from: u64,
        matcher: &Matcher,
        within: Duration,
    ) -> Result<(), Stop> {
        let view = self.view(packets);
        let nonces = |since: &Since| view.nonce_of(since);
        drive
            .wait_for(from, &matcher.text, within, |packet| {
                matcher.matches(packet, &nonces)
            })
            .map(|_| ())
    }

    /// Asks the programs that are to be asked after a step, or after all.
    fn ask_after(&self, drive: &mut Drive<'_>, since: &Since) -> Result<(), Stop> {
        for expectation in &self.scenario.expectations {
            if let Expected::Output(question, within) = &expectation.what
                && expectation.since == *since
            {
                let seen = ask_until(drive, &expectation.name, question, *within)?;
                drive.observe(seen);
            }
        }
        Ok(())
    }

    /// Waits until each packet that is expected has come or its time is over.
    fn await_packets(&self, drive: &mut Drive<'_>) -> Result<(), Stop> {
        for expectation in &self.scenario.expectations {
            let (matcher, within) = match &expectation.what {
                Expected::Packet(matcher, within)
                | Expected::Never(_, Fence::Packet(matcher, within))
                | Expected::Count(_, _, _, Fence::Packet(matcher, within)) => (matcher, *within),
                Expected::Count(matcher, least, _, Fence::Within(within)) => {
                    self.await_count(drive, &expectation.since, matcher, *least, *within)?;
                    continue;
                }
                _ => continue,
            };
            let packets = drive.packets(0);
            let view = self.view(&packets);
            let moments = view
                .moment(&expectation.since)
                .zip(view.deadline(&expectation.since, within));
            // What it counts from did not come: the judge says so.
            let Some((from, deadline)) = moments else {
                continue;
            };
            let left = Duration::from_nanos(deadline.saturating_sub(drive.now_ns()));
            match self.packet(drive, &packets, from, matcher, left) {
                Ok(()) | Err(Stop::NotSeen(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Waits until at least so many have come (copies on several links counted too: never too long), or the time is over.
    fn await_count(
        &self,
        drive: &mut Drive<'_>,
        since: &Since,
        matcher: &Matcher,
        least: u64,
        within: Duration,
    ) -> Result<(), Stop> {
        let packets = drive.packets(0);
        let view = self.view(&packets);
        let Some((from, deadline)) = view.moment(since).zip(view.deadline(since, within)) else {
            return Ok(());
        };
        let nonces = |since: &Since| view.nonce_of(since);
        // Judged is what passed until the deadline; only a count that is reached early ends the waiting.
        let seen = std::cell::RefCell::new(Vec::<Vec<u8>>::new());
        let left = Duration::from_nanos(deadline.saturating_sub(drive.now_ns()));
        let enough = drive.wait_for(from, &matcher.text, left, |packet| {
            if matcher.matches(packet, &nonces)
                && let Some(ip) = packet.ip()
            {
                seen.borrow_mut().push(ip.without_ttl());
            }
            let mut contents = seen.borrow_mut();
            contents.sort();
            contents.dedup();
            contents.len() as u64 >= least
        });
        match enough {
            Ok(_) | Err(Stop::NotSeen(_)) => Ok(()),
            Err(stop) => Err(stop),
        }
    }
}

impl Ping {
    fn send(&self, drive: &Drive<'_>) -> Result<(), Stop> {
        for sequence in self.numbers() {
            let ping = harness::Ping {
                identifier: IDENTIFIER,
                sequence,
                payload: self.payload,
                ttl: self.ttl,
                timeout: self.within,
                ..harness::Ping::default()
            };
            drive.waits(&format!("the echo reply {sequence} from {}", self.to));
            // Whether it was answered is for the judge.
            if let Err(harness::PingError::Lab(error)) =
                drive.lab().ping(&self.from, self.to, &ping)
            {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Asks until the answer is as wanted or the time is over.
fn ask_until(
    drive: &mut Drive<'_>,
    name: &str,
    question: &Question,
    within: Duration,
) -> Result<Observation, Stop> {
    let deadline = Instant::now() + within;
    let mut asked = 0;
    drive.waits(&question.text());
    loop {
        asked += 1;
        // Read before the answer, so that the last one is asked behind the deadline's last look.
        let last = Instant::now() >= deadline;
        let mut seen = ask(drive, name, question)?;
        seen.asked = asked;
        let fine = question.wanted().missing(seen.exit, &seen.output).is_none();
        if fine || last || seen.unsupported.is_some() {
            return Ok(seen);
        }
        std::thread::sleep(AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

fn ask(drive: &Drive<'_>, name: &str, question: &Question) -> Result<Observation, Stop> {
    let mut seen = Observation {
        name: name.to_owned(),
        time_ns: 0,
        command: question.text(),
        exit: None,
        output: String::new(),
        asked: 1,
        unsupported: None,
    };
    let (node, argv, timeout) = match question {
        Question::Exec {
            node,
            argv,
            timeout,
            ..
        } => (node, argv.clone(), *timeout),
        Question::Show { node, what, .. } => match drive.show_command(node, what)? {
            Some(argv) => (node, argv, Duration::from_secs(10)),
            None => {
                seen.time_ns = drive.now_ns();
                seen.unsupported = Some(format!("the adapter of {node} knows no `show: {what}`"));
                return Ok(seen);
            }
        },
    };
    match drive.lab().exec(node, argv, timeout) {
        Ok(output) => {
            seen.exit = match output.exit {
                harness::Exit::Code(code) => Some(code),
                harness::Exit::Signal(_) => None,
            };
            seen.output = output.stdout_text();
            seen.output.push_str(&output.stderr_text());
        }
        Err(error) => seen.output = error.to_string(),
    }
    let mut end = seen.output.len().min(KEPT);
    while !seen.output.is_char_boundary(end) {
        end -= 1;
    }
    seen.output.truncate(end);
    seen.time_ns = drive.now_ns();
    Ok(seen)
}
