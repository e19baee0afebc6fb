//! `lisplab up`, `exec`, `status` and `down`: labs that stay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::implementation::{Found, Implementation, render};
use conformance::suite;
use harness::named::{self, NamedLab, NamedOptions, Registry, Service};
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
    /// Start no programs.
    #[arg(long)]
    bare: bool,
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
    /// The lab; the only one that is up if not given.
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    /// The lab; the only one that is up if not given.
    name: Option<String>,
}

/// What went wrong, and the exit code that goes with it.
type Problem = (String, Exit);

pub(crate) fn up(args: &UpArgs) -> Exit {
    finish(try_up(args))
}

fn try_up(args: &UpArgs) -> Result<Exit, Problem> {
    let input = |problem: String| (problem, Exit::Input);
    let path = Path::new(&args.topology);
    let path = if path.is_file() || args.topology.contains(['/', '.']) {
        PathBuf::from(path)
    } else {
        conformance::home::topology_file(&args.topology)
    };
    let mut topology = Topology::load(&path).map_err(|error| input(error.to_string()))?;
    let mut services = Vec::new();
    let mut ready_timeout = Duration::from_secs(10);
    if !args.bare {
        let implementation =
            Implementation::load(&args.implementation).map_err(|error| input(error.to_string()))?;
        suite::build(&implementation).map_err(|problem| (problem, Exit::Host))?;
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
            let rendered = render(adapter, program, &topology, node)
                .map_err(|error| input(error.to_string()))?;
            let found =
                Found::of(program).map_err(|error| input(format!("{}: {error}", node.name)))?;
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
    }
    let mut options = NamedOptions::new(&topology);
    // The mapping system first: otherwise the first Map-Registers meet nobody.
    services.sort_by_key(|(registers_others, _)| !registers_others);
    options.services = services.into_iter().map(|(_, service)| service).collect();
    options.ready_timeout = ready_timeout;
    if let Some(name) = &args.name {
        options.name.clone_from(name);
    }
    let registry = Registry::of("lisplab").map_err(of_lab)?;
    let lab = named::up(&registry, &topology, options).map_err(of_lab)?;
    super::print(&format!(
        "{} is up; its programs' outputs are in {}\n  lisplab exec NODE COMMAND...   runs a command in a node\n  lisplab down {}\n",
        lab.name(),
        lab.logs().display(),
        lab.name()
    ));
    Ok(Exit::Fine)
}

pub(crate) fn exec(args: &ExecArgs) -> std::process::ExitCode {
    let result = find(args.lab.as_deref()).and_then(|lab| lab.exec(&args.node, &args.command));
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
    finish(
        find(args.name.as_deref())
            .and_then(|lab| lab.status())
            .map_err(of_lab)
            .map(|status| {
                if args.json {
                    let mut text =
                        serde_json::to_string_pretty(&status).expect("a status serializes");
                    text.push('\n');
                    super::print(&text);
                    return Exit::Fine;
                }
                let mut text = format!(
                    "{} ({}), up {} s, held by process {}\n",
                    status.name, status.topology, status.uptime, status.holder
                );
                for node in &status.nodes {
                    let services: Vec<String> = node
                        .services
                        .iter()
                        .map(|service| match service.exit {
                            None => format!("{} runs (pid {})", service.name, service.pid),
                            Some(exit) => format!("{} ended: {exit}", service.name),
                        })
                        .collect();
                    let role = node.role.as_deref().unwrap_or("-");
                    text.push_str(&format!(
                        "  {:<16} {role:<10} {}\n",
                        node.name,
                        services.join(", ")
                    ));
                }
                for link in &status.links {
                    let state = if link.up { "up" } else { "down" };
                    text.push_str(&format!(
                        "  {:<16} {} -- {} {state}\n",
                        link.name, link.ends[0], link.ends[1]
                    ));
                }
                super::print(&text);
                Exit::Fine
            }),
    )
}

pub(crate) fn down(args: &DownArgs) -> Exit {
    finish(
        find(args.name.as_deref())
            .and_then(NamedLab::down)
            .map_err(of_lab)
            .map(|()| Exit::Fine),
    )
}

fn find(name: Option<&str>) -> Result<NamedLab, LabError> {
    let registry = Registry::of("lisplab")?;
    match name {
        Some(name) => registry.open(name),
        None => registry.only(),
    }
}

fn of_lab(error: LabError) -> Problem {
    let exit = if error.exit_code() == 2 {
        Exit::Input
    } else {
        Exit::Host
    };
    (error.to_string(), exit)
}

fn finish(result: Result<Exit, Problem>) -> Exit {
    result.unwrap_or_else(|(problem, exit)| complain(problem, exit))
}
