//! Why there are PETRs: a provider that drops what comes from a site with an EID as source (RFC 6832 6).

use std::time::Duration;

use super::{Ping, untunnel, way_text};
use crate::case::Case;
use crate::cases::common::{edit_outgoing, ip, seconds};
use crate::catalogue::Req;
use crate::drive::{Drive, Stop};
use crate::finding::Findings;
use crate::sabotage::Sabotage;
use crate::trace::{Seen, Trace};

const MOTIVE: Req = Req::new("rfc6832-6-petr-motive-urpf");

const LEGACY: &str = "203.0.113.10";
const LEGACY6: &str = "2001:db8:f::10";
const SITE: &str = "192.0.2.2";

const NATIVE: &str = "without a PETR";
const CHANGED: &str = "when the PETR came into use";
const PETR: &str = "with a PETR";
/// What the edge's kernel counted before, between and after: the texts of the marks begin so.
const COUNTED: &str = "dropped by the edge's uRPF";

inventory::submit! {
    Case {
        id: "rfc6832::s6::what_strict_urpf_drops_passes_through_the_petr",
        title: "Natively forwarded packets with an EID as source die at a strict uRPF edge; encapsulated to the PETR they arrive. Both families.",
        topology: "interworking-urpf",
        roles: &["itr", "petr"],
        requirements: &[MOTIVE],
        timeout: seconds(40),
        drive,
        judges: &[dies_natively, passes_encapsulated, kernel_agrees],
        sabotages: &[
            Sabotage {
                name: "forgets the PETR",
                node: "xtr-a",
                links: &["access"],
                kills: &[MOTIVE],
                tamper: || edit_outgoing(untunnel),
            },
            // Nothing that the provider could object to, so it lets it pass.
            Sabotage {
                name: "has the provider's address as source without a PETR",
                node: "xtr-a",
                links: &["access"],
                kills: &[MOTIVE],
                tamper: || edit_outgoing(|frame| {
                    if frame.ip().is_some_and(|packet| packet.icmp().is_some() && packet.destination == ip(LEGACY)) {
                        frame.edit_addresses(|header| {
                            if let lisp::ip::IpHeader::V4(v4) = header {
                                v4.source = std::net::Ipv4Addr::new(192, 0, 2, 2);
                            }
                            true
                        });
                    }
                }),
            },
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let rules = drive
        .lab()
        .exec("edge", ["nft", "-f", "/run/urpf.nft"], seconds(5))?;
    if !rules.exit.success() {
        return Err(Stop::Untestable(format!(
            "the edge's IPv6 filter cannot be loaded (nftables with `fib` is needed): {}",
            rules.stderr_text().trim()
        )));
    }
    drive.registered(&["xtr-a"], seconds(10))?;
    drive.mark(NATIVE);
    pings(drive, 1)?;
    count(drive, NATIVE)?;
    drive.reload("xtr-a", "{use-petr: [{address: 192.0.2.14}]}")?;
    // A program is told to read its files again, not asked whether it has: the first answer shows it.
    for sequence in 101..=120 {
        if drive.ping("host-a", ip(LEGACY), sequence, Duration::from_millis(250))? {
            break;
        }
    }
    count(drive, CHANGED)?;
    drive.mark(PETR);
    pings(drive, 11)?;
    count(drive, PETR)
}

/// Two pings of each family; whether they are answered is for the judges.
fn pings(drive: &mut Drive<'_>, first: u16) -> Result<(), Stop> {
    for sequence in [first, first + 1] {
        drive.ping("host-a", ip(LEGACY), sequence, seconds(1))?;
        drive.ping("host-a", ip(LEGACY6), sequence + 4, seconds(1))?;
    }
    Ok(())
}

/// Marks how many packets the edge's reverse-path filters dropped so far: IPv4 by the kernel's counter, IPv6 by the rule's.
fn count(drive: &Drive<'_>, when: &str) -> Result<(), Stop> {
    let run = |argv: &[&str]| -> Result<String, Stop> {
        let output = drive.lab().exec("edge", argv.iter().copied(), seconds(5))?;
        Ok(output.stdout_text())
    };
    let netstat = run(&["cat", "/proc/net/netstat"])?;
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let v4 = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "IPReversePathFilter")
        .map_or("?", |(_, value)| value);
    let rules = run(&["nft", "list", "ruleset"])?;
    let v6 = rules
        .split_once("packets ")
        .and_then(|(_, rest)| rest.split(' ').next())
        .unwrap_or("?");
    drive.mark(&format!("{COUNTED} {when}: {v4} and {v6}"));
    Ok(())
}

fn sequences(first: u16) -> [u16; 4] {
    [first, first + 1, first + 4, first + 5]
}

fn dies_natively(trace: &Trace, findings: &mut Findings) {
    for sequence in sequences(1) {
        let way = Ping::Request(sequence).way(trace);
        let at_edge = way
            .iter()
            .find(|packet| packet.receiver() == Some("edge") && !packet.is_data());
        let Some(at_edge) = at_edge else {
            findings.unseen(
                MOTIVE,
                format!("echo request {sequence}, natively at the edge"),
            );
            continue;
        };
        let out = way.iter().find(|packet| packet.sender() == Some("edge"));
        findings.check(
            MOTIVE,
            out.is_none(),
            out.unwrap_or(at_edge).to_owned(),
            "without a PETR: dropped by the edge",
            way_text(&way),
        );
    }
}

fn passes_encapsulated(trace: &Trace, findings: &mut Findings) {
    for sequence in sequences(11) {
        let way = Ping::Request(sequence).way(trace);
        let Some(sent) = way.first() else {
            findings.unseen(MOTIVE, format!("echo request {sequence} of host-a"));
            continue;
        };
        let tunnel: Option<&&Seen> = way
            .iter()
            .find(|packet| packet.sender() == Some("xtr-a") && packet.is_data());
        let own = tunnel.is_some_and(|packet| packet.source() == Some(ip(SITE)));
        let arrived = way.iter().any(|p| p.receiver() == Some("legacy"));
        findings.check(
            MOTIVE,
            own && arrived,
            tunnel.unwrap_or(sent).to_owned(),
            format!("with a PETR: through the edge from {SITE}, and at the legacy host"),
            way_text(&way),
        );
    }
}

/// The filters themselves say so: two packets of each family before the PETR is used, none after.
fn kernel_agrees(trace: &Trace, findings: &mut Findings) {
    let counted = |when: &str| {
        let text = format!("{COUNTED} {when}: ");
        trace
            .marks
            .iter()
            .find_map(|mark| mark.text.strip_prefix(&text).map(str::to_owned))
    };
    match (counted(NATIVE), counted(CHANGED), counted(PETR)) {
        (Some(native), Some(before), Some(after)) => findings.check(
            MOTIVE,
            native == "2 and 2" && after == before,
            Vec::new(),
            "2 IPv4 and 2 IPv6 packets dropped by the edge's filters without a PETR, none more with it",
            format!("{native}; from {before} to {after} with it"),
        ),
        _ => findings.unseen(MOTIVE, "the counters of the edge's filters"),
    }
}
