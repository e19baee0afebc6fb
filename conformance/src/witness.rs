//! tshark as a second witness: what our codec reads in a capture, another dissector reads too.

use std::path::Path;
use std::process::Command;

use lisp::wire::ControlMessage;

use crate::decode::Lisp;
use crate::results::CaseResult;
use crate::trace::{Seen, Trace};
use crate::verdict::Verdict;

/// What the witness says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Nothing malformed, same field values.
    Agrees,
    /// tshark is not installed.
    Absent,
    /// A packet, and what is seen otherwise.
    Disagrees(String),
}

/// Fields that both read, as tshark names them.
const FIELDS: &[&str] = &[
    "frame.number",
    "_ws.malformed",
    "frame.protocols",
    "lisp.type",
    "lisp.nonce",
    "lisp.records",
    "lisp-data.flags",
    "ip.ttl",
    "udp.length",
];

/// Layers about which the witness is heard. What a host sends inside a tunnel is its own business: by its ports alone
/// tshark takes some of it for a protocol that it is not, and then finds it malformed.
const LAYERS: &[&str] = &[
    "eth",
    "ethertype",
    "ip",
    "ipv6",
    "udp",
    "tcp",
    "icmp",
    "icmpv6",
    "lisp",
    "lisp-data",
    "data",
];

/// Asks tshark about every LISP packet of a capture that the boxes under test sent.
///
/// # Errors
/// tshark is there and does not answer.
pub fn check(capture: &Path, trace: &Trace) -> Result<Statement, String> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(capture).args([
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]);
    command.args(["-o", "ip.check_checksum:TRUE"]);
    for field in FIELDS {
        command.arg("-e").arg(field);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Statement::Absent),
        Err(error) => return Err(error.to_string()),
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    if lines.len() != trace.packets.len() {
        return Ok(Statement::Disagrees(format!(
            "{} packets, where we count {}",
            lines.len(),
            trace.packets.len()
        )));
    }
    for packet in trace.judged() {
        let Some(line) = lines.get(packet.number() - 1) else {
            continue;
        };
        if let Some(what) = difference(packet, line) {
            return Ok(Statement::Disagrees(format!(
                "packet {}: {what}",
                packet.number()
            )));
        }
    }
    Ok(Statement::Agrees)
}

/// Lets the witness make a case's verdict worse. An absent witness counts only if it is `required`.
pub fn weigh(capture: &Path, trace: &Trace, required: bool, result: &mut CaseResult) {
    let (verdict, reason) = match check(capture, trace) {
        Ok(Statement::Agrees) => return,
        Ok(Statement::Absent) if !required => return,
        Ok(Statement::Absent) => (
            Verdict::Untestable,
            "tshark is required as second witness and is not installed".to_owned(),
        ),
        Ok(Statement::Disagrees(what)) => (
            Verdict::Fail,
            format!("tshark, the second witness, sees it otherwise: {what}"),
        ),
        Err(what) => (
            Verdict::Untestable,
            format!("tshark could not be asked: {what}"),
        ),
    };
    if verdict > result.verdict {
        result.verdict = verdict;
        result.reason = Some(reason);
    }
}

/// Whether a layer of tshark's chain is one that is meant; extension headers are named `ipv6.*`.
fn is_known(layer: &str) -> bool {
    let protocol = layer.split('.').next().unwrap_or(layer);
    LAYERS.contains(&protocol)
}

fn difference(packet: &Seen, line: &[&str]) -> Option<String> {
    let field = |name: &str| {
        let at = FIELDS.iter().position(|field| *field == name)?;
        line.get(at)
            .map(|text| text.split(',').collect::<Vec<_>>())
            .filter(|values| !values[0].is_empty())
    };
    let lisp = packet.lisp();
    if matches!(lisp, Lisp::None | Lisp::Malformed(_)) {
        return None;
    }
    let differs = |what: &str, ours: String, theirs: Option<String>| {
        theirs
            .filter(|theirs| *theirs != ours)
            .map(|theirs| format!("{what}: {ours} for us, {theirs} for tshark"))
    };
    let number = |text: &str| {
        text.strip_prefix("0x").map_or_else(
            || text.parse().ok(),
            |hex| u64::from_str_radix(hex, 16).ok(),
        )
    };
    // tshark does not know Map-Notify-Ack (type 5).
    if matches!(packet.control(), Some(ControlMessage::MapNotifyAck(_))) {
        return None;
    }
    let guessed = field("frame.protocols")
        .is_some_and(|chain| chain[0].split(':').any(|layer| !is_known(layer)));
    if field("_ws.malformed").is_some() && !guessed {
        return Some("malformed for tshark".to_owned());
    }
    match lisp {
        Lisp::Data { header, .. } => {
            let mut octets = [0; 8];
            header.emit(&mut octets);
            let theirs = field("lisp-data.flags").and_then(|values| number(values[0]));
            differs(
                "flags",
                octets[0].to_string(),
                theirs.map(|flags| flags.to_string()),
            )
        }
        Lisp::Control { message, .. } => {
            let theirs = field("lisp.type").and_then(|values| number(values[0]));
            if let Some(what) = differs(
                "type",
                message.kind().to_string(),
                theirs.map(|kind| kind.to_string()),
            ) {
                return Some(what);
            }
            let nonce = match packet.message()? {
                ControlMessage::MapRequest(message) => message.nonce,
                ControlMessage::MapReply(message) => message.nonce,
                ControlMessage::MapRegister(message) => message.nonce,
                ControlMessage::MapNotify(message) => message.nonce,
                _ => return None,
            };
            let theirs = field("lisp.nonce").and_then(|values| number(values[values.len() - 1]));
            differs(
                "nonce",
                nonce.to_string(),
                theirs.map(|nonce| nonce.to_string()),
            )
        }
        _ => None,
    }
}
