//! A packet in one line, for messages, packet comments and ladder diagrams.

use std::fmt::Write as _;

use lisp::wire::{ControlMessage, MapRecord};

use super::Seen;
use crate::decode::{Ip, Lisp, Transport};

pub(super) fn of(packet: &Seen) -> String {
    let Some(ip) = packet.ip() else {
        return "no IP".to_owned();
    };
    format!("{} > {}: {}", ip.source, ip.destination, what(packet, ip))
}

/// What a packet is, without its addresses.
pub fn label(packet: &Seen) -> String {
    packet
        .ip()
        .map_or_else(|| "no IP".to_owned(), |ip| what(packet, ip))
}

fn what(packet: &Seen, ip: &Ip) -> String {
    match packet.lisp() {
        Lisp::None => plain(ip),
        Lisp::Malformed(error) => format!("malformed LISP: {error}"),
        Lisp::Data { header, inner } => {
            let mut text = "data".to_owned();
            if let Some(iid) = header.instance_id {
                let _ = write!(text, " iid {iid}");
            }
            match inner {
                Some(inner) => {
                    let _ = write!(
                        text,
                        " [{} > {} ttl {}: {}]",
                        inner.source,
                        inner.destination,
                        inner.ttl,
                        plain(inner)
                    );
                }
                None => text.push_str(" [no inner IP packet]"),
            }
            text
        }
        Lisp::Control {
            message,
            inner: Some(inner),
        } => format!(
            "{} [{} > {}: {}]",
            message.name(),
            inner.source,
            inner.destination,
            control(&inner.message)
        ),
        Lisp::Control {
            message,
            inner: None,
        } => control(message),
    }
}

fn plain(ip: &Ip) -> String {
    match &ip.transport {
        Transport::Udp(udp) => format!("UDP {} > {}", udp.source_port, udp.destination_port),
        Transport::Tcp {
            source_port,
            destination_port,
        } => format!("TCP {source_port} > {destination_port}"),
        Transport::Icmp(icmp) if icmp.is_echo_request() => {
            format!("echo request {}", icmp.echo().1)
        }
        Transport::Icmp(icmp) if icmp.is_echo_reply() => format!("echo reply {}", icmp.echo().1),
        Transport::Icmp(icmp) => format!("ICMP type {} code {}", icmp.kind, icmp.code),
        Transport::Other => format!(
            "protocol {}{}",
            ip.protocol,
            if ip.fragment { ", a fragment" } else { "" }
        ),
    }
}

fn control(message: &ControlMessage) -> String {
    let name = message.name();
    match message {
        ControlMessage::MapRequest(request) => {
            let name = match (request.probe, request.smr, request.smr_invoked) {
                (true, _, _) => "RLOC-probe",
                (_, true, _) => "Solicit-Map-Request",
                (_, _, true) => "SMR-invoked Map-Request",
                _ => name,
            };
            let asked: Vec<String> = request
                .records
                .iter()
                .map(|query| {
                    query
                        .prefix()
                        .map_or_else(|| "?".to_owned(), |prefix| prefix.to_string())
                })
                .collect();
            format!("{name} {} nonce {:016x}", asked.join(" "), request.nonce)
        }
        ControlMessage::MapReply(reply) => {
            let name = if reply.probe { "probe Map-Reply" } else { name };
            format!(
                "{name}{} nonce {:016x}",
                records(&reply.records),
                reply.nonce
            )
        }
        ControlMessage::MapRegister(register) => {
            format!(
                "{name}{} nonce {:016x}",
                records(&register.records),
                register.nonce
            )
        }
        ControlMessage::MapNotify(notify) => {
            format!(
                "{name}{} nonce {:016x}",
                records(&notify.records),
                notify.nonce
            )
        }
        _ => name.to_owned(),
    }
}

fn records(records: &[MapRecord]) -> String {
    let mut text = String::new();
    for record in records {
        let prefix = record
            .eid_prefix()
            .map_or_else(|| "?".to_owned(), |prefix| prefix.to_string());
        let _ = write!(text, " {prefix} ttl {}", record.ttl);
        if record.locators.is_empty() {
            let _ = write!(text, " act {}", record.action.code());
        }
        for locator in &record.locators {
            let rloc = locator
                .rloc
                .ip()
                .map_or_else(|| "?".to_owned(), |ip| ip.to_string());
            let _ = write!(text, " {rloc} {}/{}", locator.priority, locator.weight);
        }
    }
    text
}
