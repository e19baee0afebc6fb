//! Reading what is expected.

use harness::topology::yaml::{Problem, Section, Tree, items, number};

use super::read::{Reader, is_of_packet};
use super::read_steps::PATIENCE;
use super::{Expectation, Expected, Fence, Since};

/// How long an expectation may take where it does not say.
const FORMS: &[&str] = &["eventually", "never", "count"];

impl Reader<'_> {
    pub(super) fn expectations(&mut self, tree: &Tree) -> Vec<Expectation> {
        let mut found = Vec::new();
        for (number, tree) in items(tree, "expectations", &mut self.problems)
            .iter()
            .enumerate()
        {
            // One that is wrong keeps its place, for the numbers of those behind it.
            let expectation = self.expectation(tree, number);
            let (name, packet) = expectation.as_ref().map_or_else(
                || (String::new(), false),
                |expectation| (expectation.name.clone(), is_of_packet(&expectation.what)),
            );
            if let Some(expectation) = expectation {
                let twice = self.steps.iter().any(|step| step.name == name)
                    || self.expectations.iter().any(|(known, _)| *known == name);
                if twice {
                    let message = format!(
                        "expectation `{name}`: a step or another expectation has this name"
                    );
                    self.problem(Problem::new(tree.at, message));
                }
                found.push(expectation);
            }
            self.expectations.push((name, packet));
        }
        found
    }

    fn expectation(&mut self, tree: &Tree, number: usize) -> Option<Expectation> {
        let mut section = Section::open(tree, "expectation", &mut self.problems)?;
        let name = match section.get("name") {
            Some(tree) => self.text(tree, "expectation: name")?,
            None => format!("expectation-{}", number + 1),
        };
        let requirement = section.get("requirement");
        let requirements = requirement.map(|tree| self.requirements(tree));
        let all = self.steps.len();
        let since = section.get("since");
        let since = match since {
            Some(tree) => self.since(tree, "since", all)?,
            None => Since::Beginning,
        };
        let (eventually, never, count) = (
            section.get("eventually"),
            section.get("never"),
            section.get("count"),
        );
        let at = section.at;
        section.finish(&mut self.problems);
        let what = match (eventually, never, count) {
            (Some(tree), None, None) => self.eventually(tree, &since),
            (None, Some(tree), None) => self.never(tree),
            (None, None, Some(tree)) => self.count(tree),
            _ => {
                let message = format!("expectation `{name}`: expected one form");
                let hint = format!("one of {}", FORMS.join(", "));
                self.problem(Problem::new(at, message).hint(hint));
                None
            }
        };
        Some(Expectation {
            name,
            at,
            requirements: requirements.unwrap_or_default(),
            since,
            what: what?,
        })
    }

    fn eventually(&mut self, tree: &Tree, since: &Since) -> Option<Expected> {
        let mut section = Section::open(tree, "eventually", &mut self.problems)?;
        let within = match section.get("within") {
            Some(tree) => self.duration(tree, "eventually: within")?,
            None => PATIENCE,
        };
        let (packet, show, exec) = (
            section.get("packet"),
            section.get("show"),
            section.get("exec"),
        );
        let at = section.at;
        section.finish(&mut self.problems);
        let all = self.steps.len();
        match (packet, show, exec) {
            (Some(tree), None, None) => {
                let matcher = self.matcher(tree, "packet", all)?;
                Some(Expected::Packet(matcher, within))
            }
            (None, Some(tree), None) => self
                .asked(since, at)
                .and(self.show(tree))
                .map(|q| Expected::Output(q, within)),
            (None, None, Some(tree)) => self
                .asked(since, at)
                .and(self.exec(tree, "exec", Some(0)))
                .map(|question| Expected::Output(question, within)),
            _ => {
                let message = "eventually: expected one thing: packet, show or exec";
                self.problem(Problem::new(at, message));
                None
            }
        }
    }

    /// Programs are asked after a step, not after a packet.
    fn asked(&mut self, since: &Since, at: harness::topology::yaml::Position) -> Option<()> {
        if let Since::Expectation(_) = since {
            let message = "eventually: `show` and `exec` are asked after a step; `since` names an expectation";
            self.problem(
                Problem::new(at, message)
                    .hint("add a `wait-for` step for the packet, and name that"),
            );
            return None;
        }
        Some(())
    }

    fn never(&mut self, tree: &Tree) -> Option<Expected> {
        let mut section = Section::open(tree, "never", &mut self.problems)?;
        let packet = section.require("packet", "which packet", &mut self.problems);
        let fence = section.get("fence");
        let at = section.at;
        section.finish(&mut self.problems);
        let all = self.steps.len();
        let matcher = packet.and_then(|tree| self.matcher(tree, "packet", all));
        let fence = self.fence(fence, at, "never");
        Some(Expected::Never(matcher?, fence?))
    }

    fn count(&mut self, tree: &Tree) -> Option<Expected> {
        let mut section = Section::open(tree, "count", &mut self.problems)?;
        let packet = section.require("packet", "which packets", &mut self.problems);
        let mut bound = |key: &'static str, section: &mut Section<'_>| {
            let tree = section.get(key)?;
            number(
                tree,
                &format!("count: {key}"),
                0..=1_000_000,
                &mut self.problems,
            )
        };
        let exactly = bound("exactly", &mut section);
        let least = bound("at-least", &mut section);
        let most = bound("at-most", &mut section);
        let (fence, within) = (section.get("fence"), section.get("within"));
        let at = section.at;
        section.finish(&mut self.problems);
        let all = self.steps.len();
        let matcher = packet.and_then(|tree| self.matcher(tree, "packet", all));
        let (least, most) = match (exactly, least, most) {
            (Some(number), None, None) => (number, Some(number)),
            (None, Some(least), most) if most.is_none_or(|most| least <= most) => (least, most),
            (None, None, Some(most)) => (0, Some(most)),
            _ => {
                let message = "count: expected `exactly`, or `at-least` and `at-most`";
                self.problem(Problem::new(at, message));
                return None;
            }
        };
        let fence = match (fence, within, most) {
            (None, Some(tree), None) => Fence::Within(self.duration(tree, "count: within")?),
            (None, None, None) => Fence::Within(PATIENCE),
            (_, Some(tree), _) => {
                let message = "count: a time shows only lower bounds";
                self.problem(
                    Problem::new(tree.at, message).hint("take `within` away and give a `fence`"),
                );
                return None;
            }
            (fence, None, _) => self.fence(fence, at, "count")?,
        };
        Some(Expected::Count(matcher?, least, most, fence))
    }

    /// `fence: STEP` or `fence: {packet: ..., within: ...}`.
    fn fence(
        &mut self,
        tree: Option<&Tree>,
        at: harness::topology::yaml::Position,
        what: &str,
    ) -> Option<Fence> {
        let Some(tree) = tree else {
            let message = format!(
                "{what}: the key `fence` is missing: expected a later stimulus whose answer is known"
            );
            self.problem(Problem::new(at, message).hint(
                "name a later step that waits (a ping that is answered, a wait-for), or give `{packet: ...}`; when its answer is there, the other would be too",
            ));
            return None;
        };
        if let harness::topology::yaml::Value::Map(_) = tree.value {
            let mut section = Section::open(tree, "fence", &mut self.problems)?;
            let packet = section.require("packet", "which packet", &mut self.problems);
            let within = match section.get("within") {
                Some(tree) => self.duration(tree, "fence: within")?,
                None => PATIENCE,
            };
            section.finish(&mut self.problems);
            let all = self.steps.len();
            return Some(Fence::Packet(self.matcher(packet?, "packet", all)?, within));
        }
        let name = self.text(tree, "fence")?;
        match self.steps.iter().position(|step| step.name == name) {
            Some(step) if self.steps[step].waits => Some(Fence::Step(step)),
            Some(_) => {
                let message =
                    format!("fence: the step `{name}` waits for nothing, so its end says nothing");
                self.problem(
                    Problem::new(tree.at, message)
                        .hint("name a ping that is answered, a wait-for or an exec"),
                );
                None
            }
            None => {
                let names: Vec<String> = self
                    .steps
                    .iter()
                    .filter(|step| step.waits)
                    .map(|step| step.name.clone())
                    .collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.unknown(tree.at, "fence: a step that waits", &name, &names);
                None
            }
        }
    }
}
