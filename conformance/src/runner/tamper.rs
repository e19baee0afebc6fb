//! The lab of a case: what its programs may see, and the sabotage in its links.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use harness::LabOptions;
use harness::inline::{Inline, PacketFate};
use harness::topology::Topology;

use super::Run;
use crate::sabotage::{Frame, Tamper};
use crate::text::panic_message;

/// What went wrong in the sabotage itself, if something did: its packets then passed as they were, and the case proves
/// nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Mishap(Arc<Mutex<Option<String>>>);

impl Mishap {
    /// What happened first.
    pub(super) fn text(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, text: String) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(text);
    }
}

pub(super) fn lab_options(run: &Run<'_>, topology: &Topology) -> (LabOptions, Mishap) {
    let mut options = LabOptions::default();
    let mishap = Mishap::default();
    for program in run.options.implementation.programs() {
        if let Ok(found) = crate::implementation::Found::of(program) {
            // With what lies beside it: scripts, libraries. A folder that every node has for itself is passed over.
            options.visible.extend(found.path.parent().map(Into::into));
            options.visible.push(found.path);
        }
    }
    if let Some(sabotage) = run.sabotage {
        let links = topology.links.iter().filter(|link| {
            link.end(sabotage.node).is_some()
                && (sabotage.links.is_empty() || sabotage.links.contains(&link.name.as_str()))
        });
        options.inline = links
            .map(|link| {
                let what = format!("the sabotage `{}` on the link {}", sabotage.name, link.name);
                let tamper = (sabotage.tamper)();
                inline(&link.name, sabotage.node, what, tamper, mishap.clone())
            })
            .collect();
        if options.inline.is_empty() {
            mishap.note(format!(
                "the sabotage `{}` is in no link: {} has none of the name{}",
                sabotage.name,
                sabotage.node,
                if sabotage.links.is_empty() {
                    String::new()
                } else {
                    format!("s {}", sabotage.links.join(", "))
                }
            ));
        }
    }
    (options, mishap)
}

/// A tamper in a link. One that panics must not take the carrier of all links with it: it is noted, and packets pass.
fn inline(link: &str, node: &str, what: String, mut tamper: Tamper, mishap: Mishap) -> Inline {
    let mut broken = false;
    Inline::new(link, node, move |way, octets, time_ns| {
        if broken {
            return PacketFate::Forward;
        }
        let before = octets.clone();
        let fate = catch_unwind(AssertUnwindSafe(|| {
            tamper(way, &mut Frame::new(octets, time_ns))
        }));
        fate.unwrap_or_else(|panic| {
            broken = true;
            *octets = before;
            mishap.note(format!("{what} panicked: {}", panic_message(&*panic)));
            PacketFate::Forward
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tamper_that_panics_is_named_and_its_packets_pass_as_they_were() {
        let mishap = Mishap::default();
        let mut calls = 0;
        let tamper: Tamper = Box::new(move |_, frame| {
            calls += 1;
            frame.octets()[0] = 9;
            assert!(calls < 2, "octet {} of {calls}", frame.octets()[1]);
            PacketFate::Drop
        });
        let mut function = inline(
            "a",
            "n",
            "the sabotage `x`".to_owned(),
            tamper,
            mishap.clone(),
        )
        .function;
        let way = harness::inline::Way::FromVictim;
        let mut packet = vec![1, 2];
        assert_eq!(function(way, &mut packet, 0), PacketFate::Drop);
        assert_eq!((packet, mishap.text()), (vec![9, 2], None));
        for _ in 0..2 {
            let mut packet = vec![1, 2];
            assert_eq!(function(way, &mut packet, 0), PacketFate::Forward);
            assert_eq!(packet, [1, 2]);
        }
        assert_eq!(
            mishap.text().as_deref(),
            Some("the sabotage `x` panicked: octet 2 of 2")
        );
    }
}
