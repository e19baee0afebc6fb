//! From the YAML tree to a scenario: every key, every value, every name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use harness::topology::yaml::{
    FileError, Position, Problem, Section, Tree, Value, boolean, entries, items, nearest, parsed,
    text,
};
use harness::topology::{NodeKind, Topology};

use super::words::{DURATION, duration};
use super::{Action, Expected, SCENARIO_FORMAT, Scenario, Since};
use crate::catalogue::Req;

/// The moment before all steps: programs start there.
const BEGINNING: &str = "beginning";

/// What the parts of the reader share.
pub(super) struct Reader<'a> {
    pub(super) topology: &'a Topology,
    pub(super) problems: Vec<Problem>,
    /// Steps in order: name, place, and whether one can tell from its end that something has happened.
    pub(super) steps: Vec<StepName>,
    /// Expectations so far: name, and whether a packet meets them.
    pub(super) expectations: Vec<(String, bool)>,
    /// The sequence number of the next ping.
    pub(super) next_ping: u16,
}

/// What others may know of a step.
pub(super) struct StepName {
    pub(super) name: String,
    pub(super) at: Position,
    /// The sequence numbers of its pings.
    pub(super) pings: Option<std::ops::RangeInclusive<u16>>,
    /// It ends when something has been seen.
    pub(super) waits: bool,
    /// It waits for a packet, which has a nonce.
    pub(super) packet: bool,
}

/// Reads a scenario. `beside` is the topology where it does not come from the file.
pub(super) fn read(
    file: &str,
    source: &str,
    beside: Option<(Topology, String)>,
) -> Result<Scenario, FileError> {
    let wrong = |problems: Vec<Problem>| FileError::of_text(file, source, problems);
    let tree = Tree::parse(source).map_err(|problem| wrong(vec![problem]))?;
    let mut problems = Vec::new();
    let Some(mut top) = Section::open(&tree, "scenario", &mut problems) else {
        return Err(wrong(problems));
    };
    format(&mut top, &mut problems);
    let name = top.require("name", "a name for the scenario", &mut problems);
    let name = name.and_then(|tree| word(tree, &mut problems));
    let title = top.require("title", "one sentence: what is expected", &mut problems);
    let title = title.and_then(|tree| text(tree, "title", &mut problems));
    let network = top.require(
        "topology",
        "a name of topologies/, a path, or nodes and links",
        &mut problems,
    );
    let (topology, topology_text) = match (beside, network) {
        (Some(beside), _) => beside,
        (None, Some(tree)) => match network_of(tree, file, source, &mut problems)? {
            Some(found) => found,
            None => return Err(wrong(problems)),
        },
        (None, None) => return Err(wrong(problems)),
    };
    let implementation = top
        .get("implementation")
        .and_then(|tree| implementation(tree, &mut problems));
    let mut reader = Reader {
        topology: &topology,
        problems,
        steps: Vec::new(),
        expectations: Vec::new(),
        next_ping: 1,
    };
    let settings = top.get("settings").map(|tree| reader.settings(tree));
    let start = top
        .get("start")
        .and_then(|tree| boolean(tree, "start", &mut reader.problems))
        .unwrap_or(true);
    let timeout = top
        .get("timeout")
        .and_then(|tree| reader.duration(tree, "timeout"))
        .unwrap_or(Duration::from_secs(60));
    let steps = match top.get("steps") {
        Some(tree) => reader.steps(tree),
        None => Vec::new(),
    };
    let mut expectations = Vec::new();
    let problems_before = reader.problems.len();
    for (number, step) in steps.iter().enumerate() {
        if let Action::Ping(_) = step.action
            && let Some(expectation) = reader.answered(number, tree_of_step(&tree, number))
        {
            expectations.push(expectation);
        }
    }
    if let Some(tree) = top.get("expectations") {
        expectations.extend(reader.expectations(tree));
    }
    // Expectations that are written but wrong have their own problems already.
    if expectations.is_empty() && reader.problems.len() == problems_before {
        let at = top.at;
        reader
            .problem(Problem::new(at, "scenario: nothing is expected").hint(
                "write `expectations:` with at least one; without any, every run would pass",
            ));
    }
    let mut problems = reader.problems;
    top.finish(&mut problems);
    match (name, title) {
        (Some(name), Some(title)) if problems.is_empty() => Ok(Scenario {
            name,
            title,
            topology_text,
            text: source.to_owned(),
            source: None,
            implementation,
            settings: settings.unwrap_or_default(),
            start,
            timeout,
            steps,
            expectations,
            topology,
        }),
        _ => Err(wrong(problems)),
    }
}

fn format(top: &mut Section<'_>, problems: &mut Vec<Problem>) {
    if let Some(format) = top.require("format", "`format: 1`", problems)
        && format.to_json().as_u64() != Some(SCENARIO_FORMAT)
    {
        let message = format!(
            "format: expected {SCENARIO_FORMAT}, found {}",
            format.describe()
        );
        problems.push(Problem::new(format.at, message).hint("this version reads format 1 only"));
    }
}

/// The tree of the step of a number, for what its expectation needs again.
fn tree_of_step(tree: &Tree, number: usize) -> Option<&Tree> {
    let Value::Map(top) = &tree.value else {
        return None;
    };
    let (_, steps) = top.iter().find(|(key, _)| key.name == "steps")?;
    match &steps.value {
        Value::List(items) => items.get(number),
        _ => None,
    }
}

/// Reads the topology: from another file, or from this one.
fn network_of(
    tree: &Tree,
    file: &str,
    source: &str,
    problems: &mut Vec<Problem>,
) -> Result<Option<(Topology, String)>, FileError> {
    if let Value::Map(keys) = &tree.value {
        if keys
            .iter()
            .any(|(key, _)| key.name == "nodes" || key.name == "format")
        {
            return Topology::of_tree(file, source, tree.clone(), &[]).map(Some);
        }
        let Some(mut section) = Section::open(tree, "topology", problems) else {
            return Ok(None);
        };
        let name = section
            .require("name", "a name of topologies/, or a path", problems)
            .and_then(|tree| text(tree, "topology: name", problems).map(|name| (tree.at, name)));
        let mut parameters = Vec::new();
        if let Some(with) = section.get("with") {
            for (key, value) in entries(with, "topology: with", problems) {
                if let Some(value) = text(value, "topology: with", problems) {
                    parameters.push((key.name.clone(), value));
                }
            }
        }
        section.finish(problems);
        return match name {
            Some((at, name)) => load(&name, at, &parameters, file, problems),
            None => Ok(None),
        };
    }
    match text(tree, "topology", problems) {
        Some(name) => load(&name, tree.at, &[], file, problems),
        None => Ok(None),
    }
}

fn load(
    name: &str,
    at: Position,
    parameters: &[(String, String)],
    file: &str,
    problems: &mut Vec<Problem>,
) -> Result<Option<(Topology, String)>, FileError> {
    let is_path = name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml");
    let path = if is_path {
        let beside = Path::new(file).parent().unwrap_or(Path::new(""));
        beside.join(name)
    } else {
        crate::home::topology_file(name)
    };
    if path.is_file() {
        return Topology::load_whole(&path, parameters).map(Some);
    }
    let problem = if is_path {
        Problem::new(at, format!("topology: there is no file {}", path.display()))
            .hint("paths are relative to the scenario's file")
    } else {
        let known = known_topologies();
        let problem = Problem::new(at, format!("topology: there is no topology `{name}`"));
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint(format!("topologies/ has {}", known.join(", "))),
        }
    };
    problems.push(problem);
    Ok(None)
}

fn known_topologies() -> Vec<String> {
    let folder = crate::home::topologies();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".yaml").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn word(tree: &Tree, problems: &mut Vec<Problem>) -> Option<String> {
    let name = text(tree, "name", problems)?;
    let good = (1..=63).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !good {
        problems.push(
            Problem::new(
                tree.at,
                "name: expected 1 to 63 lower case letters, digits, `-` or `_`",
            )
            .hint("the name becomes the case's id, scenario::NAME, and a folder"),
        );
    }
    good.then_some(name)
}

/// `mine`, or `{xtr: mine, msmr: ours}`.
fn implementation(tree: &Tree, problems: &mut Vec<Problem>) -> Option<String> {
    if !matches!(tree.value, Value::Map(_)) {
        return text(tree, "implementation", problems);
    }
    let pairs: Vec<String> = entries(tree, "implementation", problems)
        .iter()
        .filter_map(|(key, value)| {
            let adapter = text(value, "implementation", problems)?;
            Some(format!("{}={adapter}", key.name))
        })
        .collect();
    Some(pairs.join(","))
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn text(&mut self, tree: &Tree, what: &str) -> Option<String> {
        text(tree, what, &mut self.problems)
    }

    pub(super) fn duration(&mut self, tree: &Tree, what: &str) -> Option<Duration> {
        parsed(tree, what, DURATION, &mut self.problems, duration)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        tree: &Tree,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<(&'static str, T)> {
        let found = self.text(tree, what)?;
        let hit = choices.iter().find(|(name, _)| *name == found);
        if hit.is_none() {
            let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
            self.unknown(tree.at, what, &found, &names);
        }
        hit.copied()
    }

    /// A name that nothing has.
    pub(super) fn unknown(&mut self, at: Position, what: &str, found: &str, names: &[&str]) {
        let problem = Problem::new(
            at,
            format!("{what}: expected one of those below, found `{found}`"),
        );
        self.problems
            .push(match nearest(found, names.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None if names.is_empty() => problem.hint("there is none"),
                None => problem.hint(names.join(", ")),
            });
    }

    /// The name of a node.
    pub(super) fn node(&mut self, tree: &Tree, what: &str) -> Option<String> {
        let name = self.text(tree, what)?;
        if self.topology.node(&name).is_some() {
            return Some(name);
        }
        let topology = self.topology;
        let names: Vec<&str> = topology.nodes.iter().map(|n| n.name.as_str()).collect();
        self.unknown(
            tree.at,
            &format!("{what}: a node of `{}`", topology.name),
            &name,
            &names,
        );
        None
    }

    /// The name of a node that runs a program.
    pub(super) fn program(&mut self, tree: &Tree, what: &str) -> Option<String> {
        let name = self.node(tree, what)?;
        if self.topology.node(&name)?.role.is_some() {
            return Some(name);
        }
        let problem = Problem::new(
            tree.at,
            format!("{what}: node `{name}` has no `role`: no program runs there"),
        );
        self.problem(problem.hint("use `exec` for commands of your own"));
        None
    }

    /// The name of a link.
    pub(super) fn link(&mut self, tree: &Tree, what: &str) -> Option<String> {
        let name = self.text(tree, what)?;
        if self.topology.link(&name).is_some() {
            return Some(name);
        }
        let topology = self.topology;
        let names: Vec<&str> = topology.links.iter().map(|l| l.name.as_str()).collect();
        self.unknown(
            tree.at,
            &format!("{what}: a link of `{}`", topology.name),
            &name,
            &names,
        );
        None
    }

    /// An address, or a node for its first address.
    pub(super) fn address(&mut self, tree: &Tree, what: &str) -> Option<IpAddr> {
        let found = self.text(tree, what)?;
        if let Ok(address) = found.parse() {
            return Some(address);
        }
        if found.contains([':', '/']) || found.starts_with(|c: char| c.is_ascii_digit()) {
            let expected = "an address like 10.2.0.10 or 2001:db8::10, or a node";
            let message = format!("{what}: expected {expected}, found {}", tree.describe());
            self.problem(Problem::new(tree.at, message));
            return None;
        }
        let node = self.node(tree, what)?;
        let address = self.topology.addresses(&node).next();
        if address.is_none() {
            let message = format!("{what}: node `{node}` has no address");
            self.problem(
                Problem::new(tree.at, message).hint("name a host or a router, or an address"),
            );
        }
        address.map(|net| net.addr())
    }

    /// The names of requirements: one, or a list.
    pub(super) fn requirements(&mut self, tree: &Tree) -> Vec<Req> {
        let list = match &tree.value {
            Value::List(_) => items(tree, "requirement", &mut self.problems),
            _ => std::slice::from_ref(tree),
        };
        let mut found = Vec::new();
        for tree in list {
            let Some(id) = self.text(tree, "requirement") else {
                continue;
            };
            match Req::find(&id) {
                Some(requirement) => found.push(requirement),
                None => {
                    let problem = Problem::new(
                        tree.at,
                        format!("requirement: the catalogue has no row `{id}`"),
                    );
                    let near = nearest(&id, Req::all().map(Req::id));
                    self.problem(problem.hint(match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "`lisplab coverage --json` lists all".to_owned(),
                    }));
                }
            }
        }
        found
    }

    fn settings(&mut self, tree: &Tree) -> BTreeMap<String, serde_json::Value> {
        let mut settings = BTreeMap::new();
        for (key, value) in entries(tree, "settings", &mut self.problems) {
            let name = Tree {
                at: key.at,
                value: Value::Text(key.name.clone()),
            };
            if let Some(node) = self.program(&name, "settings")
                && let Some(keys) = self.mapping(value, "settings")
            {
                settings.insert(node, keys);
            }
        }
        settings
    }

    /// Settings of a node: a mapping, as it is.
    pub(super) fn mapping(&mut self, tree: &Tree, what: &str) -> Option<serde_json::Value> {
        if matches!(tree.value, Value::Map(_)) {
            return Some(tree.to_json());
        }
        let message = format!(
            "{what}: expected a mapping of settings, found {}",
            tree.describe()
        );
        self.problem(
            Problem::new(tree.at, message).hint("docs/adapters.md lists the settings of each role"),
        );
        None
    }

    /// A moment: a step, or an earlier expectation that a packet meets.
    pub(super) fn since(&mut self, tree: &Tree, what: &str, before: usize) -> Option<Since> {
        let name = self.text(tree, what)?;
        if name == BEGINNING {
            return Some(Since::Beginning);
        }
        let step = self.steps[..before]
            .iter()
            .position(|step| step.name == name);
        let expectation = self
            .expectations
            .iter()
            .position(|(known, packet)| *packet && *known == name);
        match (step, expectation) {
            (Some(step), _) => Some(Since::Step(step)),
            (None, Some(expectation)) => Some(Since::Expectation(expectation)),
            (None, None) => {
                let names: Vec<String> = self.steps[..before]
                    .iter()
                    .map(|step| step.name.clone())
                    .chain(
                        self.expectations
                            .iter()
                            .filter(|(_, packet)| *packet)
                            .map(|(name, _)| name.clone()),
                    )
                    .collect();
                let names: Vec<&str> = std::iter::once(BEGINNING)
                    .chain(names.iter().map(String::as_str))
                    .collect();
                let what =
                    format!("{what}: an earlier step, or an earlier expectation of a packet");
                self.unknown(tree.at, &what, &name, &names);
                None
            }
        }
    }

    /// Whether a node is a bridge.
    pub(super) fn is_bridge(&self, name: &str) -> bool {
        self.topology
            .node(name)
            .is_some_and(|node| node.kind == NodeKind::Bridge)
    }
}

/// Whether an expectation is met by one packet, so that others can count from it.
pub(super) fn is_of_packet(expected: &Expected) -> bool {
    matches!(expected, Expected::Packet(..))
}
