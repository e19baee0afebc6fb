//! `lisplab capture`: what passes the links of a lab, as text or into a file.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use conformance::edition::Edition;
use conformance::trace::Trace;
use harness::named::{NamedCapture, NamedLab};
use harness::pcapng::Writer;
use harness::{Direction, Packet};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use serde_json::json;

use super::Which;
use crate::cli::interrupt::signals;
use crate::cli::lab::{find, finish, of_lab};
use crate::cli::{Exit, print_bytes, print_line, say};

/// How long one look at the rings waits for a packet: within it an interrupt is noticed.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    which: Which,
    /// The links; all of them if none is given.
    #[arg(value_name = "LINK")]
    links: Vec<String>,
    /// Write a pcapng file instead of text.
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets.
    #[arg(long, short, value_name = "PACKETS")]
    count: Option<u64>,
    /// Also what is no IP, such as ARP.
    #[arg(long)]
    all: bool,
    /// For programs: an object for each packet instead of text; see docs/formats.md.
    #[arg(long, conflicts_with = "write")]
    json: bool,
}

pub(crate) fn capture(args: &CaptureArgs) -> Exit {
    finish(
        find(args.which.lab.as_deref())
            .map_err(of_lab)
            .and_then(|lab| {
                // Before the capture's thread exists, which inherits the mask: the signals come to the descriptor alone.
                let signals = signals()?;
                let mut out = match &args.write {
                    None => None,
                    Some(path) => {
                        let file = File::create(path).map_err(|error| {
                            let problem = format!("cannot write {}: {error}", path.display());
                            (problem, Exit::Input)
                        })?;
                        Some(BufWriter::new(file))
                    }
                };
                let capture = lab.capture(&args.links).map_err(of_lab)?;
                let result = match out.take() {
                    Some(file) => Writer::new(file, capture.interfaces()).and_then(|mut writer| {
                        let counted = follow(&lab, capture, &signals, args.count, |packet| {
                            writer.packet(packet)?;
                            Ok(true)
                        })?;
                        writer.flush()?;
                        Ok(counted)
                    }),
                    None => {
                        let mut start = None;
                        follow(&lab, capture, &signals, args.count, |packet| {
                            Ok(show(packet, &mut start, args))
                        })
                    }
                };
                let (packets, lost) =
                    result.map_err(|error| (format!("the capture ends: {error}"), Exit::Input))?;
                let into = args
                    .write
                    .as_ref()
                    .map(|path| format!(" into {}", path.display()))
                    .unwrap_or_default();
                say(&format!("{packets} packets{into}\n"));
                if lost > 0 {
                    say(&format!(
                        "{lost} more were lost by the capture: this host is too busy\n"
                    ));
                }
                Ok(Exit::Fine)
            }),
    )
}

/// Gives each packet to `take`, until a signal comes, the lab ends, the count is full or `take` returns false. How many
/// packets, and how many were lost.
fn follow(
    lab: &NamedLab,
    mut capture: NamedCapture,
    signals: &SignalFd,
    count: Option<u64>,
    mut take: impl FnMut(&Packet) -> std::io::Result<bool>,
) -> std::io::Result<(u64, u64)> {
    let mut taken = 0;
    let mut give = |packets: &[Packet]| -> std::io::Result<bool> {
        for packet in packets {
            if count.is_some_and(|count| taken >= count) {
                return Ok(false);
            }
            if !take(packet)? {
                return Ok(false);
            }
            taken += 1;
        }
        Ok(count.is_none_or(|count| taken < count))
    };
    loop {
        let packets = capture.next(LOOK);
        let quiet = packets.is_empty();
        if !give(&packets)? {
            return Ok((taken, 0));
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let interrupted = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if interrupted || (quiet && !lab.is_up()) {
            let (packets, drops) = capture.finish();
            give(&packets)?;
            return Ok((taken, drops.iter().map(|drop| drop.packets).sum()));
        }
    }
}

/// Prints a packet; false when nobody reads any more.
fn show(packet: &Packet, start: &mut Option<u64>, args: &CaptureArgs) -> bool {
    let start = *start.get_or_insert(packet.time_ns);
    let trace = Trace::from_packets(vec![packet.clone()], Edition::default());
    let Some(seen) = trace.iter().next() else {
        return true;
    };
    if seen.ip().is_none() && !args.all {
        return true;
    }
    let summary = seen.summary();
    if args.json {
        return print_line(&json!({
            "number": packet.number,
            "time_ns": packet.time_ns,
            "link": packet.link(),
            "from": packet.from_node(),
            "to": packet.to_node(),
            "octets": packet.original_len,
            "summary": summary,
        }));
    }
    let seconds = packet.time_ns.saturating_sub(start) as f64 / 1e9;
    let way = match packet.direction {
        Direction::Unknown => packet.link().to_owned(),
        _ => format!(
            "{}: {} -> {}",
            packet.link(),
            packet.from_node().unwrap_or("?"),
            packet.to_node().unwrap_or("?")
        ),
    };
    let number = packet.number;
    print_bytes(format!("{number:>5} {seconds:11.6} {way:<32} {summary}\n").as_bytes())
}
