//! Reading the steps.

use std::time::Duration;

use harness::topology::yaml::{Key, Problem, Section, Tree, Value, entries, items, number, parsed};
use harness::topology::{Impairment, NodeKind};

use super::read::{Reader, StepName};
use super::words::{RANGE, range};
use super::{
    Action, Awaited, Expectation, Expected, LinkChange, Output, Ping, Question, Send, Since, Step,
    WaitFor,
};

/// What a step may be.
pub(super) const ACTIONS: &[&str] = &[
    "ping",
    "send",
    "start",
    "stop",
    "kill",
    "reload",
    "link",
    "move-host",
    "exec",
    "wait-for",
    "sleep",
];
const WITHIN: Duration = Duration::from_secs(2);
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

impl Reader<'_> {
    pub(super) fn steps(&mut self, tree: &Tree) -> Vec<Step> {
        let list = items(tree, "steps", &mut self.problems);
        let mut steps = Vec::new();
        for (number, tree) in list.iter().enumerate() {
            let Some((name, action)) = self.step(tree, number) else {
                // Its place is kept, so that later ones keep their numbers.
                self.steps.push(StepName {
                    name: format!("step-{}", number + 1),
                    at: tree.at,
                    pings: None,
                    waits: false,
                    packet: false,
                });
                continue;
            };
            if let Some(other) = self.steps.iter().find(|step| step.name == name) {
                let message = format!("step `{name}`: another step has this name, at {}", other.at);
                self.problem(
                    Problem::new(tree.at, message).hint("names are how expectations find steps"),
                );
            }
            self.steps.push(StepName {
                name: name.clone(),
                at: tree.at,
                pings: match &action {
                    Action::Ping(ping) => Some(ping.numbers()),
                    _ => None,
                },
                waits: matches!(
                    action,
                    Action::Ping(_) | Action::WaitFor(_) | Action::Exec(_)
                ),
                packet: matches!(
                    &action,
                    Action::WaitFor(WaitFor {
                        what: Awaited::Packet(..),
                        ..
                    })
                ),
            });
            steps.push(Step {
                name,
                at: tree.at,
                action,
            });
        }
        steps
    }

    /// `- ping: {...}`, with an optional `name` beside it.
    fn step(&mut self, tree: &Tree, number: usize) -> Option<(String, Action)> {
        let keys = entries(tree, "step", &mut self.problems);
        let mut name = None;
        let mut found: Vec<(&Key, &Tree)> = Vec::new();
        for (key, value) in keys {
            match key.name.as_str() {
                "name" => name = self.text(value, "step: name"),
                known if ACTIONS.contains(&known) => found.push((key, value)),
                other => self.unknown(key.at, "step", other, ACTIONS),
            }
        }
        let name = name.unwrap_or_else(|| format!("step-{}", number + 1));
        match found.as_slice() {
            [(key, value)] => {
                let action = self.action(&key.name, value, number)?;
                Some((name, action))
            }
            several => {
                let message = format!(
                    "step `{name}`: expected one thing to do, found {}",
                    several.len()
                );
                self.problem(
                    Problem::new(tree.at, message).hint(format!("one of {}", ACTIONS.join(", "))),
                );
                None
            }
        }
    }

    fn action(&mut self, kind: &str, tree: &Tree, number: usize) -> Option<Action> {
        match kind {
            "ping" => self.ping(tree).map(Action::Ping),
            "send" => self.send(tree).map(Action::Send),
            "start" => self.program(tree, "start").map(Action::Start),
            "stop" => self.program(tree, "stop").map(Action::Stop),
            "kill" => self.program(tree, "kill").map(Action::Kill),
            "reload" => self.reload(tree),
            "link" => self.link_change(tree),
            "move-host" => self.move_host(tree),
            "exec" => self.exec(tree, "exec", Some(0)).map(Action::Exec),
            "wait-for" => self.wait_for(tree, number).map(Action::WaitFor),
            _ => self.duration(tree, "sleep").map(Action::Sleep),
        }
    }

    fn ping(&mut self, tree: &Tree) -> Option<Ping> {
        let mut section = Section::open(tree, "ping", &mut self.problems)?;
        let from = section.require("from", "the node that sends it", &mut self.problems);
        let to = section.require("to", "an address or a node", &mut self.problems);
        let count = section.get("count");
        let within = section.get("within");
        let payload = section.get("payload");
        let ttl = section.get("ttl");
        // Read once more for the expectation that it makes.
        section.get("answered");
        section.get("requirement");
        section.finish(&mut self.problems);
        let mut bounded = |tree: Option<&Tree>, what, range| {
            tree.map(|tree| number(tree, what, range, &mut self.problems))
        };
        let count = bounded(count, "ping: count", 1..=1000).unwrap_or(Some(1))? as u16;
        let payload = bounded(payload, "ping: payload", 0..=60_000).unwrap_or(Some(56))? as usize;
        let ttl = match bounded(ttl, "ping: ttl", 1..=255) {
            Some(ttl) => Some(ttl? as u8),
            None => None,
        };
        let within = match within {
            Some(tree) => self.duration(tree, "ping: within")?,
            None => WITHIN,
        };
        let from = from.and_then(|tree| self.node(tree, "ping: from"));
        let to = to.and_then(|tree| self.address(tree, "ping: to"));
        let first = self.next_ping;
        self.next_ping = match first.checked_add(count) {
            Some(next) => next,
            None => {
                self.problem(Problem::new(
                    tree.at,
                    "ping: more than 65535 pings in one scenario",
                ));
                return None;
            }
        };
        Some(Ping {
            from: from?,
            to: to?,
            count,
            first,
            within,
            payload,
            ttl,
        })
    }

    /// The expectation that `answered` of a ping makes.
    pub(super) fn answered(&mut self, step: usize, tree: Option<&Tree>) -> Option<Expectation> {
        let Value::Map(keys) = &tree?.value else {
            return None;
        };
        let (_, ping) = keys.iter().find(|(key, _)| key.name == "ping")?;
        // What is wrong in it was said when the step was read.
        let mut section = Section::open(ping, "ping", &mut Vec::new())?;
        let (answered, requirement) = (section.get("answered"), section.get("requirement"));
        let requirements = requirement.map(|tree| self.requirements(tree));
        let Some(answered) = answered else {
            if let Some(tree) = requirement {
                let message = "ping: a `requirement` without `answered`: nothing is expected";
                self.problem(
                    Problem::new(tree.at, message)
                        .hint("add `answered: true` or `answered: false`"),
                );
            }
            return None;
        };
        let at = answered.at;
        let answered =
            harness::topology::yaml::boolean(answered, "ping: answered", &mut self.problems)?;
        let name = self.steps.get(step)?.name.clone();
        self.expectations.push((name.clone(), false));
        Some(Expectation {
            name,
            at,
            requirements: requirements.unwrap_or_default(),
            since: Since::Step(step),
            what: Expected::Answered(step, answered),
        })
    }

    fn send(&mut self, tree: &Tree) -> Option<Send> {
        let mut section = Section::open(tree, "send", &mut self.problems)?;
        let from = section
            .require("from", "the node that sends it", &mut self.problems)
            .and_then(|tree| self.node(tree, "send: from"));
        let times = section.get("times").map_or(Some(1), |tree| {
            number(tree, "send: times", 1..=10_000, &mut self.problems)
        });
        let message = self.message(&mut section, "send", from.as_deref());
        section.finish(&mut self.problems);
        Some(Send {
            from: from?,
            times: times? as u16,
            message: message?,
        })
    }

    fn reload(&mut self, tree: &Tree) -> Option<Action> {
        let mut section = Section::open(tree, "reload", &mut self.problems)?;
        let node = section
            .require("node", "the node of the program", &mut self.problems)
            .and_then(|tree| self.program(tree, "reload: node"));
        let settings = section
            .require(
                "settings",
                "a mapping of settings to replace",
                &mut self.problems,
            )
            .and_then(|tree| self.mapping(tree, "reload: settings"));
        section.finish(&mut self.problems);
        Some(Action::Reload {
            node: node?,
            settings: settings?,
        })
    }

    fn link_change(&mut self, tree: &Tree) -> Option<Action> {
        let mut section = Section::open(tree, "link", &mut self.problems)?;
        let link = section
            .require("link", "the link", &mut self.problems)
            .and_then(|tree| self.link(tree, "link"));
        let state = section.get("state");
        let set = section.get("set");
        let at = section.at;
        section.finish(&mut self.problems);
        let change = match (state, set) {
            (Some(tree), None) => self
                .choice(
                    tree,
                    "link: state",
                    &[("up", LinkState::Up), ("down", LinkState::Down)],
                )
                .map(|(_, state)| match state {
                    LinkState::Up => LinkChange::Up,
                    LinkState::Down => LinkChange::Down,
                }),
            (None, Some(tree)) => Some(LinkChange::Set(Impairment::read(
                tree,
                "link: set",
                &mut self.problems,
            )?)),
            _ => {
                let message = "link: expected either `state` or `set`";
                self.problem(Problem::new(at, message).hint("`state: down` pulls the cable; `set: {loss: 5%}` damages it, `set: {}` heals it"));
                None
            }
        };
        Some(Action::Link {
            link: link?,
            change: change?,
        })
    }

    fn move_host(&mut self, tree: &Tree) -> Option<Action> {
        let mut section = Section::open(tree, "move-host", &mut self.problems)?;
        let host = section
            .require("host", "the host", &mut self.problems)
            .and_then(|tree| {
                self.node(tree, "move-host: host")
                    .map(|host| (tree.at, host))
            });
        let to_tree = section.require("to", "the bridge that it moves to", &mut self.problems);
        let to = to_tree.and_then(|tree| self.node(tree, "move-host: to"));
        let link = section.get("link");
        let link = match link {
            Some(tree) => Some(self.link(tree, "move-host: link")?),
            None => None,
        };
        section.finish(&mut self.problems);
        let ((at, host), to) = (host?, to?);
        if !self.is_bridge(&to) {
            let problem = Problem::new(
                to_tree?.at,
                format!("move-host: expected a node of kind bridge, found `{to}`"),
            );
            self.problem(
                problem.hint(
                    "a host moves from LAN to LAN: link hosts and routers of a LAN to a bridge",
                ),
            );
            return None;
        }
        let lans: Vec<&str> = self
            .topology
            .interfaces(&host)
            .filter(|(candidate, _, far)| {
                link.as_ref().is_none_or(|link| candidate.name == *link)
                    && self
                        .topology
                        .node(&far.node)
                        .is_some_and(|node| node.kind == NodeKind::Bridge)
            })
            .map(|(candidate, _, _)| candidate.name.as_str())
            .collect();
        match lans.as_slice() {
            [lan] => {
                let link = (*lan).to_owned();
                Some(Action::MoveHost { host, link, to })
            }
            [] => {
                let problem =
                    Problem::new(at, format!("move-host: `{host}` has no link to a bridge"));
                self.problem(problem.hint("link it to a node of kind bridge"));
                None
            }
            several => {
                let message = format!(
                    "move-host: `{host}` has several links to bridges: {}",
                    several.join(", ")
                );
                self.problem(Problem::new(at, message).hint("say which with `link`"));
                None
            }
        }
    }

    /// `exec: {node, command, ...}`.
    pub(super) fn exec(&mut self, tree: &Tree, what: &str, exit: Option<i32>) -> Option<Question> {
        let mut section = Section::open(tree, what, &mut self.problems)?;
        let node = section
            .require("node", "the node", &mut self.problems)
            .and_then(|tree| self.node(tree, &format!("{what}: node")));
        let command = section.require(
            "command",
            "a list: the program and its arguments",
            &mut self.problems,
        );
        let argv = command.map(|tree| self.texts(tree, &format!("{what}: command")));
        let timeout = match section.get("timeout") {
            Some(tree) => self.duration(tree, &format!("{what}: timeout"))?,
            None => Duration::from_secs(10),
        };
        let wanted = self.output(&mut section, what, exit);
        section.finish(&mut self.problems);
        let argv = argv?;
        if argv.is_empty() {
            self.problem(Problem::new(
                command?.at,
                format!("{what}: command: expected a program"),
            ));
            return None;
        }
        Some(Question::Exec {
            node: node?,
            argv,
            timeout,
            wanted: wanted?,
        })
    }

    /// `show: {node, what, ...}`.
    pub(super) fn show(&mut self, tree: &Tree) -> Option<Question> {
        let mut section = Section::open(tree, "show", &mut self.problems)?;
        let node = section
            .require("node", "the node of the program", &mut self.problems)
            .and_then(|tree| self.program(tree, "show: node"));
        let what = section
            .require(
                "what",
                "what to show: map-cache, database, sites",
                &mut self.problems,
            )
            .and_then(|tree| self.text(tree, "show: what"));
        let wanted = self.output(&mut section, "show", Some(0));
        let at = section.at;
        section.finish(&mut self.problems);
        let wanted = wanted?;
        if wanted.contains.is_empty() && wanted.lacks.is_empty() && wanted.lines.is_empty() {
            let problem = Problem::new(at, "show: nothing is asked of the output");
            self.problem(problem.hint("add `contains`, `lacks` or `lines`"));
        }
        Some(Question::Show {
            node: node?,
            what: what?,
            wanted,
        })
    }

    fn output(
        &mut self,
        section: &mut Section<'_>,
        what: &str,
        exit: Option<i32>,
    ) -> Option<Output> {
        let mut list = |key: &'static str, reader: &mut Self| match section.get(key) {
            Some(tree) => reader.texts(tree, &format!("{what}: {key}")),
            None => Vec::new(),
        };
        let (contains, lacks, lines) = (
            list("contains", self),
            list("lacks", self),
            list("lines", self),
        );
        let exit = match section.get("exit") {
            None => exit,
            Some(tree) if matches!(&tree.value, Value::Text(word) if word == "any") => None,
            Some(tree) => Some(parsed(
                tree,
                &format!("{what}: exit"),
                "an exit code from 0 to 255, or any",
                &mut self.problems,
                |text| text.parse::<u8>().ok().map(i32::from),
            )?),
        };
        Some(Output {
            exit,
            contains,
            lacks,
            lines,
        })
    }

    /// A text, or a list of texts.
    fn texts(&mut self, tree: &Tree, what: &str) -> Vec<String> {
        let list = match &tree.value {
            Value::List(list) => list.as_slice(),
            _ => std::slice::from_ref(tree),
        };
        list.iter()
            .filter_map(|tree| self.text(tree, what))
            .collect()
    }

    fn wait_for(&mut self, tree: &Tree, step: usize) -> Option<WaitFor> {
        let mut section = Section::open(tree, "wait-for", &mut self.problems)?;
        let within = match section.get("within") {
            Some(tree) => self.duration(tree, "wait-for: within")?,
            None => PATIENCE,
        };
        let since = section.get("since");
        let asked = [
            ("packet", section.get("packet")),
            ("show", section.get("show")),
            ("exec", section.get("exec")),
            ("registered", section.get("registered")),
        ];
        let at = section.at;
        section.finish(&mut self.problems);
        let given: Vec<(&str, &Tree)> = asked
            .into_iter()
            .filter_map(|(key, tree)| Some((key, tree?)))
            .collect();
        let &[(kind, tree)] = given.as_slice() else {
            let message = format!(
                "wait-for: expected one thing to wait for, found {}",
                given.len()
            );
            self.problem(Problem::new(at, message).hint("one of packet, show, exec, registered"));
            return None;
        };
        if let (Some(since), false) = (since, kind == "packet") {
            let message = "wait-for: only packets have a `since`";
            self.problem(Problem::new(since.at, message));
        }
        let what = match kind {
            "packet" => {
                let since = match since {
                    Some(tree) => self.since(tree, "wait-for: since", step)?,
                    // What the step before caused may have come before this one began.
                    None if step > 0 => Since::Step(step - 1),
                    None => Since::Beginning,
                };
                Awaited::Packet(since, self.matcher(tree, "packet", step)?)
            }
            "show" => Awaited::Output(self.show(tree)?),
            "exec" => Awaited::Output(self.exec(tree, "exec", Some(0))?),
            _ => {
                let nodes = match &tree.value {
                    Value::List(list) => list.as_slice(),
                    _ => std::slice::from_ref(tree),
                };
                let nodes: Vec<Option<String>> = nodes
                    .iter()
                    .map(|tree| self.program(tree, "wait-for: registered"))
                    .collect();
                Awaited::Registered(nodes.into_iter().collect::<Option<_>>()?)
            }
        };
        Some(WaitFor { what, within })
    }

    pub(super) fn range(
        &mut self,
        tree: &Tree,
        what: &str,
    ) -> Option<std::ops::RangeInclusive<u64>> {
        parsed(tree, what, RANGE, &mut self.problems, range)
    }
}

#[derive(Clone, Copy)]
enum LinkState {
    Up,
    Down,
}
