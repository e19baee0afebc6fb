//! What a PITR does when nobody answers (RFC 9301 5.3).

use lisp::wire::ControlMessage;

use super::pitr_questions::{HOST_A, is_question, of_proxy};
use crate::case::Case;
use crate::cases::common::{ip, mapping_system, seconds};
use crate::cases::paces::{once_more, pauses, until_paused};
use crate::catalogue::Req;
use crate::drive::{Drive, Echo, Stop};
use crate::edition::Edition;
use crate::finding::Findings;
use crate::trace::{Seen, Trace};

const RETRANSMIT: Req = Req::new("rfc9301-5.3-retransmit");

inventory::submit! {
    Case {
        id: "rfc9301::s5_3::a_pitr_pauses_after_ten_unanswered_repetitions",
        title: "A PITR with traffic for an EID that nobody answers about asks once and at most ten times more, a second or more apart, and then not for 30 seconds.",
        topology: "interworking",
        settings: &[("pxtr", "{roles: [pitr], petr-sources: [], on-miss: drop}")],
        editions: &[Edition::Rfc9300],
        roles: &["pitr"],
        features: &["pitr"],
        requirements: &[RETRANSMIT],
        timeout: seconds(180),
        slow: true,
        start: false,
        drive,
        judges: &[judge],
        sabotages: &[
            of_proxy("asks once more in the pause", &[RETRANSMIT], || once_more(|frame| {
                matches!(frame.control(), Some(ControlMessage::Encapsulated(_)))
            })),
            of_proxy("repeats within a second", &[RETRANSMIT], || Box::new(|way, frame| {
                use harness::inline::{PacketFate, Way};
                match frame.control() {
                    Some(ControlMessage::Encapsulated(_)) if way == Way::FromVictim => {
                        PacketFate::Duplicate(std::time::Duration::from_millis(300))
                    }
                    _ => PacketFate::Forward,
                }
            })),
        ],
        ..Case::BASE
    }
}

fn drive(drive: &mut Drive<'_>) -> Result<(), Stop> {
    let mut mapping = drive.peer("msmr")?;
    mapping_system(&mut mapping, "key-of-site-a", |_| Vec::new())?;
    // Peers, so that nothing answers there that ports are closed.
    let (_site, _edge) = (drive.peer("xtr-a")?, drive.peer("edge")?);
    let legacy = drive.peer("legacy")?;
    drive.start("pxtr")?;
    until_paused(
        drive,
        "a Map-Request that nobody answers",
        |number| {
            let echo = Echo::new(legacy.address(), ip(HOST_A), number);
            Ok(legacy.send(&echo.request())?)
        },
        |packet| is_question(packet, HOST_A),
    )
}

fn judge(trace: &Trace, findings: &mut Findings) {
    let asked: Vec<&Seen> = trace
        .originated("pxtr")
        .filter(|packet| is_question(packet, HOST_A))
        .collect();
    let sent = trace
        .sent_by("legacy")
        .filter(|packet| packet.destination() == Some(ip(HOST_A)))
        .map(Seen::time_ns)
        .collect::<Vec<u64>>();
    pauses(RETRANSMIT, &asked, &sent, findings);
}
