//! `lisplab poor`: the suite against programs that are no LISP routers at all. Nothing may pass.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use conformance::baseline::Baseline;
use conformance::runner::{Options, Run};
use conformance::suite;
use conformance::verdict::Verdict;

use super::progress::Lines;
use super::test::{How, Which};
use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
    /// Only this program.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// For programs; see docs/formats.md.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProgramArgs {
    /// How it is poor.
    kind: Kind,
}

/// How a program is poor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Never answers.
    Silent,
    /// Sends back what it gets.
    Echo,
    /// Answers with random octets.
    Random,
}

impl Kind {
    const ALL: [(Kind, &'static str); 3] = [
        (Kind::Silent, "silent"),
        (Kind::Echo, "echo"),
        (Kind::Random, "random"),
    ];
}

pub(crate) fn run(args: &Args) -> Exit {
    let cases = match args.which.cases() {
        Ok(cases) => cases,
        Err(problem) => return complain(problem, Exit::Input),
    };
    if let Err(error) = harness::host::enter() {
        return complain(error, Exit::Host);
    }
    let mut passed = 0;
    let mut record = Vec::new();
    for (_, name) in Kind::ALL
        .into_iter()
        .filter(|(kind, _)| args.kind.is_none_or(|wanted| wanted == *kind))
    {
        let options = match args.how.options_for(name, args.which.takes_slow()) {
            // Everything fails here, and nobody wants to replay it.
            Ok(options) => Options {
                bundles: false,
                ..options
            },
            Err((problem, exit)) => return complain(problem, exit),
        };
        let runs: Vec<Run<'_>> = cases
            .iter()
            .map(|case| Run {
                case,
                sabotage: None,
                repetition: 0,
                options: &options,
            })
            .collect();
        let progress = Lines::new(runs.len());
        let results = suite::run(&runs, &options, &Baseline::default(), &progress);
        progress.finish();
        let passes = results
            .cases
            .iter()
            .filter(|case| matches!(case.verdict, Verdict::Pass | Verdict::Warn));
        let passes: Vec<&str> = passes.map(|case| case.id.as_str()).collect();
        let refused = results
            .cases
            .iter()
            .filter(|case| case.verdict.is_failure())
            .count();
        passed += passes.len();
        if args.json {
            record.push(serde_json::json!({
                "program": name, "cases": results.cases.len(), "refused": refused, "passed": passes,
            }));
            continue;
        }
        for case in passes {
            super::print(&format!("{name} passed {case}\n"));
        }
        super::print(&format!(
            "{name}: {refused} of {} cases turned it down\n",
            results.cases.len()
        ));
    }
    if args.json {
        super::print_json(&serde_json::json!({"format": 1, "programs": record}));
    }
    if passed == 0 {
        Exit::Fine
    } else {
        Exit::Findings
    }
}

/// The program itself.
pub(crate) fn program(args: &ProgramArgs) -> Exit {
    let sockets: std::io::Result<Vec<UdpSocket>> = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, lisp::CONTROL_PORT)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, lisp::DATA_PORT)),
        // On a host without IPv6 it is poor in IPv4 only.
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, lisp::CONTROL_PORT)),
    ]
    .into_iter()
    .filter(|address| address.is_ipv4() || std::path::Path::new("/proc/net/if_inet6").exists())
    .map(bind)
    .collect();
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(error) => return complain(format!("binding the LISP ports: {error}"), Exit::Host),
    };
    eprintln!("ready");
    std::thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| serve(socket, args.kind));
        }
    });
    Exit::Fine
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let domain = if address.is_ipv4() {
        socket2::Domain::IPV4
    } else {
        socket2::Domain::IPV6
    };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[allow(clippy::disallowed_methods, reason = "any number will do")]
fn serve(socket: &UdpSocket, kind: Kind) {
    let mut state = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.subsec_nanos().into())
        | 1u64;
    let mut buffer = vec![0; 65_536];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let answer = &mut buffer[..length];
        match kind {
            Kind::Silent => continue,
            Kind::Echo => {}
            Kind::Random => {
                for octet in answer.iter_mut() {
                    // xorshift64
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *octet = state as u8;
                }
            }
        }
        // To the port that asked, where a reply would go.
        let _ = socket.send_to(answer, from);
    }
}
