//! `lisplab up`, `exec`, `status` and `down`: labs that stay.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::implementation::{Found, Implementation, render};
use conformance::suite;
use harness::named::{self, NamedLab, NamedOptions, Registry, Service, Status};
use harness::topology::Topology;
use harness::{LabError, Program};

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// A topology file, or the name of one of topologies/.
    #[arg(value_name = "TOPOLOGY")]
    topology: String,
    /// What the lab is called; the topology's name if not given.
    #[arg(long)]
    name: Option<String>,
    /// Values for the topology's parameters: sites=50.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Start no programs.
    #[arg(long)]
    bare: bool,
    /// For programs: the status of the lab instead of advice.
    #[arg(long)]
    json: bool,
    /// Whose programs: an adapter, a path, or PROGRAM=ADAPTER,...
    #[arg(long, value_name = "NAME", default_value = "lisplab")]
    implementation: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// The lab; the only one that is up if not given.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// The node.
    node: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The lab; all that are up if not given.
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    /// The lab; the only one that is up if not given.
    name: Option<String>,
    /// All labs of this user that are up.
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// For programs: which labs were taken down, and of which what a crash had left was removed.
    #[arg(long)]
    json: bool,
}

/// What went wrong, and the exit code that goes with it.
pub(crate) type Problem = (String, Exit);

pub(crate) fn up(args: &UpArgs) -> Exit {
    finish(try_up(args))
}

fn try_up(args: &UpArgs) -> Result<Exit, Problem> {
    let path = topology_path(&args.topology);
    let mut topology = Topology::load_with(&path, &args.parameters)
        .map_err(|error| (error.to_string(), Exit::Input))?;
    let mut options = NamedOptions::new(&topology);
    if !args.bare {
        let (services, ready_timeout) = services(&args.implementation, &mut topology)?;
        options.services = services;
        options.ready_timeout = ready_timeout;
    }
    if let Some(name) = &args.name {
        options.name.clone_from(name);
    }
    let registry = Registry::of("lisplab").map_err(of_lab)?;
    let lab = named::up(&registry, &topology, options).map_err(of_lab)?;
    if args.json {
        let status = lab.status().map_err(of_lab)?;
        super::print_json(&status);
        return Ok(Exit::Fine);
    }
    let name = lab.name();
    super::print(&format!(
        "{name} is up\n  lisplab status {name}             its nodes, programs and links\n  lisplab exec NODE -- COMMAND...   run a command in a node; lisplab shell NODE\n  lisplab logs NODE                 what its programs say; lisplab capture\n  lisplab down {name}\n"
    ));
    Ok(Exit::Fine)
}

/// The programs of a topology's nodes in the order in which they start, with what they want of the kernel written into the
/// nodes; and how long the slowest may take to be ready.
pub(crate) fn services(
    implementation: &str,
    topology: &mut Topology,
) -> Result<(Vec<Service>, Duration), Problem> {
    let input = |problem: String| (problem, Exit::Input);
    let implementation =
        Implementation::load(implementation).map_err(|error| input(error.to_string()))?;
    suite::build(&implementation).map_err(|problem| (problem, Exit::Host))?;
    let mut services = Vec::new();
    let mut ready_timeout = Duration::from_secs(10);
    for at in 0..topology.nodes.len() {
        let Some((adapter, program)) = topology.nodes[at]
            .role
            .as_deref()
            .and_then(|role| implementation.program(role))
        else {
            continue;
        };
        let sysctls = program
            .sysctls
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        topology.nodes[at].sysctls.extend(sysctls);
        let node = &topology.nodes[at];
        let rendered =
            render(adapter, program, topology, node).map_err(|error| input(error.to_string()))?;
        let found = Found::of(program).map_err(|error| input(format!("{}: {error}", node.name)))?;
        let mut argv = vec![found.path.display().to_string()];
        argv.extend(rendered.arguments);
        let mut start = Program::new(argv).named(&program.binary);
        for (file, text) in rendered.files {
            start = start.file(file, text);
        }
        for (name, value) in rendered.environment {
            start = start.env(name, value);
        }
        ready_timeout = ready_timeout.max(program.ready.within.0);
        let service = Service {
            node: node.name.clone(),
            program: start,
            ready: program.ready.log.clone(),
        };
        services.push((program.registers_others(), service));
    }
    // The mapping system first: otherwise the first Map-Registers meet nobody.
    services.sort_by_key(|(registers_others, _)| !registers_others);
    let services = services.into_iter().map(|(_, service)| service).collect();
    Ok((services, ready_timeout))
}

/// A file, or the name of one of topologies/.
pub(crate) fn topology_path(topology: &str) -> PathBuf {
    let path = Path::new(topology);
    if path.is_file() || topology.contains(['/', '.']) {
        path.to_owned()
    } else {
        conformance::home::topology_file(topology)
    }
}

/// Reads `NAME=VALUE`.
pub(crate) fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE like sites=50".to_owned()),
    }
}

pub(crate) fn exec(args: &ExecArgs) -> std::process::ExitCode {
    ended(find(args.lab.as_deref()).and_then(|lab| {
        let path = own_programs_too();
        lab.exec_with(&args.node, &args.command, &path)
    }))
}

/// The environment in which the routers' own commands are found without their path: `xtr show map-cache`.
pub(crate) fn own_programs_too() -> Vec<(String, OsString)> {
    let mut folders: Vec<PathBuf> = std::env::current_exe()
        .ok()
        .and_then(|lisplab| lisplab.parent().map(Path::to_owned))
        .into_iter()
        .collect();
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    std::env::join_paths(folders)
        .map(|path| vec![("PATH".to_owned(), path)])
        .unwrap_or_default()
}

/// The exit code of a command that ran in a node.
pub(crate) fn ended(result: Result<harness::Exit, LabError>) -> std::process::ExitCode {
    match result {
        Ok(harness::Exit::Code(code)) => {
            std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        // As shells do.
        Ok(harness::Exit::Signal(signal)) => {
            std::process::ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
        }
        Err(error) => std::process::ExitCode::from(finish(Err(of_lab(error))) as u8),
    }
}

pub(crate) fn status(args: &StatusArgs) -> Exit {
    finish(try_status(args).map_err(of_lab))
}

fn try_status(args: &StatusArgs) -> Result<Exit, LabError> {
    let registry = Registry::of("lisplab")?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => registry.names()?,
    };
    let mut all = Vec::new();
    for name in &names {
        match registry.open(name).and_then(|lab| lab.status()) {
            Ok(status) => all.push(status),
            // Of several, one may be going down just now.
            Err(_) if args.name.is_none() && names.len() > 1 => {}
            Err(error) => return Err(error),
        }
    }
    if args.json {
        match (&args.name, all.first()) {
            (Some(_), Some(status)) => super::print_json(status),
            _ => super::print_json(&all),
        }
        return Ok(Exit::Fine);
    }
    let text = match all.as_slice() {
        [] => "no lab is up; make one with `lisplab up TOPOLOGY`\n".to_owned(),
        [status] => describe(status),
        several => several.iter().map(headline).collect(),
    };
    super::print(&text);
    Ok(Exit::Fine)
}

fn headline(status: &Status) -> String {
    let programs = status.nodes.iter().flat_map(|node| &node.services);
    let running = programs
        .clone()
        .filter(|service| service.exit.is_none())
        .count();
    format!(
        "{:<20} {}, up {} s, {} nodes, {running} of {} programs run, held by process {}\n",
        status.name,
        status.topology,
        status.uptime,
        status.nodes.len(),
        programs.count(),
        status.holder
    )
}

fn describe(status: &Status) -> String {
    let mut text = format!(
        "{} ({}), up {} s, held by process {}\n",
        status.name, status.topology, status.uptime, status.holder
    );
    for node in &status.nodes {
        let services: Vec<String> = node
            .services
            .iter()
            .map(|service| match service.exit {
                None if service.stopped => {
                    format!("{} is stopped (pid {})", service.name, service.pid)
                }
                None => format!("{} runs (pid {})", service.name, service.pid),
                Some(exit) => format!("{} ended: {exit}", service.name),
            })
            .collect();
        let role = node.role.as_deref().unwrap_or("-");
        let line = format!("  {:<16} {role:<10} {}", node.name, services.join(", "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for link in &status.links {
        let state = if link.up { "up" } else { "down" };
        let damage: Vec<String> = link
            .impair
            .iter()
            .map(|(key, value)| format!(" {key}={value}"))
            .collect();
        text.push_str(&format!(
            "  {:<16} {} -- {} {state}{}\n",
            link.name,
            link.ends[0],
            link.ends[1],
            damage.concat()
        ));
    }
    text
}

pub(crate) fn down(args: &DownArgs) -> Exit {
    finish(try_down(args).map_err(of_lab))
}

fn try_down(args: &DownArgs) -> Result<Exit, LabError> {
    let registry = Registry::of("lisplab")?;
    // What crashed labs left behind first: asking for such a one by its name is no mistake.
    let removed = registry.clean()?;
    if !args.json {
        for name in &removed {
            super::print(&format!("removed what was left of {name}\n"));
        }
    }
    let labs = match &args.name {
        _ if args.all => {
            let names = registry.names()?.into_iter();
            names
                .map(|name| registry.open(&name))
                .collect::<Result<_, _>>()?
        }
        Some(name) if removed.contains(name) => Vec::new(),
        None if !removed.is_empty() && registry.names()?.is_empty() => Vec::new(),
        name => vec![find(name.as_deref())?],
    };
    let mut down = Vec::new();
    for lab in labs {
        down.push(lab.name().to_owned());
        lab.down()?;
    }
    if args.json {
        super::print_json(&serde_json::json!({"down": down, "removed": removed}));
    }
    Ok(Exit::Fine)
}

pub(crate) fn find(name: Option<&str>) -> Result<NamedLab, LabError> {
    let registry = Registry::of("lisplab")?;
    match name {
        Some(name) => registry.open(name),
        None => registry.only(),
    }
}

pub(crate) fn of_lab(error: LabError) -> Problem {
    let exit = if error.exit_code() == 2 {
        Exit::Input
    } else {
        Exit::Host
    };
    (error.to_string(), exit)
}

pub(crate) fn finish(result: Result<Exit, Problem>) -> Exit {
    result.unwrap_or_else(|(problem, exit)| complain(problem, exit))
}
