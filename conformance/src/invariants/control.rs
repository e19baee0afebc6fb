//! Control messages: ports, lengths, checksums, reserved bits (RFC 6830 6.1).

use lisp::CONTROL_PORT;
use lisp::wire::ControlMessage;

use super::Invariant;
use super::every::{every, expect};
use crate::catalogue::Req;
use crate::decode::Lisp;
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};
use crate::words;

const CHECKSUM: Req = Req::new("rfc6830-6.1-control-cksum-tx");
const LENGTH: Req = Req::new("rfc6830-6.1-control-len");
const TYPES: Req = Req::new("rfc6830-6.1.1-types");
const REQUEST_PORTS: Req = Req::new("rfc6830-6.1-mreq-ports");
const REGISTER_PORTS: Req = Req::new("rfc6830-6.1.6-ports");
const NOTIFY_PORTS: Req = Req::new("rfc6830-6.1.7-ports");
const REQUEST_RESERVED: Req = Req::new("rfc6830-6.1.2-reserved");
const REPLY_RESERVED: Req = Req::new("rfc6830-6.1.4-reserved");
const REGISTER_RESERVED: Req = Req::new("rfc6830-6.1.6-reserved");
const ECM_RESERVED: Req = Req::new("rfc6830-6.1.8-reserved");
const ECM_OUTER: Req = Req::new("rfc6830-6.1.8-outer");
const ECM_INNER_PORTS: Req = Req::new("rfc6830-6.1.8-inner-ports");
const ECM_NOT_4341: Req = Req::new("rfc6830-6.1.8-no-4341");
const ECM_INNER_CHECKSUM: Req = Req::new("rfc6830-6.1.8-inner-cksum");
const ECM_ONLY_REQUESTS: Req = Req::new("rfc6830-6.1.8-only-mreq");
const ECM_NO_PROBE: Req = Req::new("rfc6830-6.1.8-no-probe-in-ecm");
const AUTH_LENGTH: Req = Req::new("rfc6830-6.1.6-auth-len");

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "control messages are well formed",
        requirements: &[CHECKSUM, LENGTH, TYPES],
        judge: form,
    },
    Invariant {
        name: "the ports of control messages",
        requirements: &[REQUEST_PORTS, REGISTER_PORTS, NOTIFY_PORTS],
        judge: ports,
    },
    Invariant {
        name: "reserved bits of control messages",
        requirements: &[
            REQUEST_RESERVED,
            REPLY_RESERVED,
            REGISTER_RESERVED,
            ECM_RESERVED,
        ],
        judge: reserved,
    },
    Invariant {
        name: "Encapsulated Control Messages",
        requirements: &[
            ECM_OUTER,
            ECM_INNER_PORTS,
            ECM_NOT_4341,
            ECM_INNER_CHECKSUM,
            ECM_ONLY_REQUESTS,
            ECM_NO_PROBE,
        ],
        judge: encapsulated,
    },
    Invariant {
        name: "authentication data",
        requirements: &[AUTH_LENGTH],
        judge: authentication,
    },
];

fn form(trace: &Trace, findings: &mut Findings) {
    let control = || {
        trace
            .judged()
            .filter(|packet| matches!(packet.lisp(), Lisp::Control { .. }))
    };
    let claimed = trace.judged().filter(|packet| {
        !packet.is_data() && matches!(packet.lisp(), Lisp::Control { .. } | Lisp::Malformed(_))
    });
    every(
        findings,
        TYPES,
        "a control message of a known type that can be decoded",
        claimed,
        |packet| match packet.lisp() {
            Lisp::Malformed(error) => Err(error.to_string()),
            _ => Ok(()),
        },
    );
    // The list of messages in 6.1 leaves the Map-Notify out (ambiguities A11).
    let summed = control()
        .filter(|packet| trace.edition == Edition::Rfc9300 || packet.map_notify().is_none());
    every(
        findings,
        CHECKSUM,
        "a right UDP checksum that is not zero",
        summed,
        |packet| {
            let Some(udp) = packet.udp() else {
                return Ok(());
            };
            expect(udp.checksum != 0 && udp.checksum_ok, || {
                format!("checksum {:#06x}", udp.checksum)
            })
        },
    );
    // What follows the message makes it one that cannot be decoded.
    let whole = trace.judged().filter(|packet| match packet.lisp() {
        Lisp::Malformed(error) => !packet.is_data() && is_surplus(error),
        other => matches!(other, Lisp::Control { .. }),
    });
    every(
        findings,
        LENGTH,
        "UDP length = UDP header and LISP message",
        whole,
        |packet| {
            if let Lisp::Malformed(error) = packet.lisp() {
                return Err(error.to_string());
            }
            let (Some(udp), Some(message)) = (packet.udp(), packet.control()) else {
                return Ok(());
            };
            let message = message.buffer_len();
            expect(usize::from(udp.length) == 8 + message, || {
                format!("UDP length {}, message of {message} octets", udp.length)
            })
        },
    );
}

/// Whether a message was read to its end, and octets are left.
fn is_surplus(error: &lisp::DecodeError) -> bool {
    error.field == "end of message"
}

fn ports(trace: &Trace, findings: &mut Findings) {
    let of = |test: fn(&ControlMessage) -> bool| {
        trace
            .judged()
            .filter(move |packet| packet.control().is_some_and(test))
    };
    let destination = |packet: &Seen| {
        let port = packet.udp().map_or(0, |udp| udp.destination_port);
        expect(port == CONTROL_PORT, || format!("destination port {port}"))
    };
    let requests = of(|message| matches!(message, ControlMessage::MapRequest(_)));
    every(
        findings,
        REQUEST_PORTS,
        "UDP destination port 4342",
        requests,
        destination,
    );
    let registers = of(|message| matches!(message, ControlMessage::MapRegister(_)));
    every(
        findings,
        REGISTER_PORTS,
        "UDP destination port 4342",
        registers,
        destination,
    );
    let notifies = of(|message| matches!(message, ControlMessage::MapNotify(_)));
    every(
        findings,
        NOTIFY_PORTS,
        "UDP source and destination port 4342",
        notifies,
        |packet| {
            let ports = packet
                .udp()
                .map(|udp| (udp.source_port, udp.destination_port));
            expect(ports == Some((CONTROL_PORT, CONTROL_PORT)), || {
                format!("ports {}", words::ports(ports))
            })
        },
    );
}

fn reserved(trace: &Trace, findings: &mut Findings) {
    let newer = trace.edition == Edition::Rfc9300;
    let zero = "reserved bits 0";
    // A Map-Server hands requests on unaltered, so only what a box asks itself is its own work.
    let requests = trace
        .judged()
        .filter(|packet| packet.map_request().is_some() && own_request(trace, packet));
    every(findings, REQUEST_RESERVED, zero, requests, |packet| {
        let Some(request) = packet.map_request() else {
            return Ok(());
        };
        let assigned_later = !newer && (request.local_xtr || request.dont_reply);
        expect(
            request.reserved == 0
                && !assigned_later
                && request.records.iter().all(|query| query.reserved == 0),
            || {
                format!(
                    "bits 10-16 {:#09b}, L {}, D {}",
                    request.reserved,
                    u8::from(request.local_xtr),
                    u8::from(request.dont_reply)
                )
            },
        )
    });
    let replies = trace.judged().filter(|packet| packet.map_reply().is_some());
    every(findings, REPLY_RESERVED, zero, replies, |packet| {
        let bits = packet.map_reply().map_or(0, |reply| reply.reserved);
        expect(bits == 0, || format!("bits 7-23 {bits:#x}"))
    });
    let registers = trace
        .judged()
        .filter(|packet| packet.map_register().is_some());
    every(findings, REGISTER_RESERVED, zero, registers, |packet| {
        let Some(register) = packet.map_register() else {
            return Ok(());
        };
        let later = [
            register.security,
            register.eid_notify,
            register.use_ttl,
            register.merge,
            register.xtr_site_id.is_some(),
        ];
        expect(
            register.reserved == 0 && !register.rtr && (newer || !later.contains(&true)),
            || {
                format!(
                    "bits 7-18 {:#x}, S E T a I {}, R {}",
                    register.reserved,
                    words::listed(later.map(u8::from)),
                    u8::from(register.rtr)
                )
            },
        )
    });
    let ecms = trace.judged().filter(|packet| as_ecm(packet).is_some());
    every(findings, ECM_RESERVED, zero, ecms, |packet| {
        let bits = as_ecm(packet).map_or(0, |ecm| ecm.reserved);
        expect(bits == 0, || format!("bits 6-31 {bits:#x}"))
    });
}

fn encapsulated(trace: &Trace, findings: &mut Findings) {
    let ecms = || trace.judged().filter(|packet| as_ecm(packet).is_some());
    let own = || ecms().filter(|packet| own_request(trace, packet));
    every(
        findings,
        ECM_OUTER,
        "UDP destination port 4342 and a checksum that is not zero",
        ecms(),
        |packet| {
            let Some(udp) = packet.udp() else {
                return Ok(());
            };
            expect(
                udp.destination_port == CONTROL_PORT && udp.checksum != 0,
                || {
                    format!(
                        "destination port {}, checksum {:#06x}",
                        udp.destination_port, udp.checksum
                    )
                },
            )
        },
    );
    every(
        findings,
        ECM_INNER_PORTS,
        "inner UDP destination port 4342",
        own(),
        |packet| {
            let port = packet.ecm().map_or(0, |inner| inner.destination_port);
            expect(port == CONTROL_PORT, || {
                format!("inner destination port {port}")
            })
        },
    );
    every(
        findings,
        ECM_NOT_4341,
        "no inner port 4341",
        own(),
        |packet| {
            let ports = packet
                .ecm()
                .map(|inner| (inner.source_port, inner.destination_port));
            let data =
                ports.is_some_and(|(source, destination)| source == 4341 || destination == 4341);
            expect(!data, || format!("inner ports {}", words::ports(ports)))
        },
    );
    every(
        findings,
        ECM_INNER_CHECKSUM,
        "an inner UDP checksum that is right and not zero",
        own(),
        |packet| {
            let inner = as_ecm(packet).and_then(|ecm| crate::decode::ip(&ecm.inner));
            let udp = inner.as_ref().and_then(|ip| ip.udp());
            expect(
                udp.is_some_and(|udp| udp.checksum != 0 && udp.checksum_ok),
                || format!("inner checksum {:#06x}", udp.map_or(0, |udp| udp.checksum)),
            )
        },
    );
    every(
        findings,
        ECM_ONLY_REQUESTS,
        "only Map-Requests inside",
        ecms(),
        |packet| {
            let name = packet.ecm().map(|inner| inner.message.name());
            let request = packet
                .ecm()
                .is_some_and(|inner| matches!(*inner.message, ControlMessage::MapRequest(_)));
            expect(request, || {
                format!(
                    "a {} inside",
                    name.unwrap_or("packet that cannot be decoded")
                )
            })
        },
    );
    every(
        findings,
        ECM_NO_PROBE,
        "no RLOC-probe inside",
        own(),
        |packet| {
            expect(
                !packet.map_request().is_some_and(|request| request.probe),
                || "P is set inside".to_owned(),
            )
        },
    );
}

fn authentication(trace: &Trace, findings: &mut Findings) {
    let signed = trace
        .judged()
        .filter(|packet| packet.map_register().is_some() || packet.map_notify().is_some());
    let expected = "12 octets of HMAC-SHA-1-96 or 16 of HMAC-SHA-256-128";
    // RFC 9301 12.5: algorithm 3 derives a key for each message of HMAC-SHA-256-128.
    let derived = trace.edition == crate::edition::Edition::Rfc9300;
    every(findings, AUTH_LENGTH, expected, signed, |packet| {
        let auth = match (packet.map_register(), packet.map_notify()) {
            (Some(register), _) => &register.auth,
            (_, Some(notify)) => &notify.auth,
            _ => return Ok(()),
        };
        expect(
            matches!(
                (auth.algorithm, auth.data.len()),
                (1, 12) | (2, 16) | (0, 0)
            ) || derived && (auth.algorithm, auth.data.len()) == (3, 16),
            || {
                format!(
                    "algorithm {} with {} octets",
                    auth.algorithm,
                    auth.data.len()
                )
            },
        )
    });
}

fn as_ecm(packet: &Seen) -> Option<&lisp::wire::Ecm> {
    match packet.control()? {
        ControlMessage::Encapsulated(ecm) => Some(ecm),
        _ => None,
    }
}

/// Whether the sender asks for itself, rather than handing on what somebody else asked.
pub(super) fn own_request(trace: &Trace, packet: &Seen) -> bool {
    match (packet.ecm(), packet.sender()) {
        (Some(inner), Some(node)) => trace.has_address(node, inner.source),
        _ => true,
    }
}
