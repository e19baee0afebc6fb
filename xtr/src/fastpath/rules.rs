//! The rules that hold for every packet, in the form that the programs read.

use super::maps::{Ports, put, settings};
use crate::dataplane::decapsulated_tos;
use crate::forwarding::{Edition, Policy};

/// What stays as it was at the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Constants {
    /// Index of the TUN device.
    pub(super) tunnel: u32,
    /// Source ports.
    pub(super) ports: Ports,
    /// Packets in quick succession from which on the daemon joins a flow's; 0: never.
    pub(super) joined: u32,
}

/// The value of the `settings` map.
pub(super) fn settings_value(policy: &Policy, constants: &Constants) -> Vec<u8> {
    let mut value = vec![0; settings::LENGTH];
    // Address translation happens in the kernel on the way that programs avoid.
    let free = policy.translated.is_empty();
    // Each source of a dynamic EID-Prefix has to be seen.
    let encapsulate = free && !policy.report_sources;
    let heeds_status = policy.locator_status_bits && !policy.public_internet;
    let foreign_flags: u32 = if heeds_status { 0xf7 } else { 0xb7 };
    let traceroutes = policy.edition == Edition::Rfc6830;
    for (at, number) in [
        (settings::ENCAPSULATE, u32::from(encapsulate)),
        (settings::DECAPSULATE, u32::from(free)),
        (settings::TUNNEL, constants.tunnel),
        (settings::JOINED, constants.joined),
        (settings::TRACEROUTES, u32::from(traceroutes)),
        (settings::FOREIGN_FLAGS, foreign_flags),
    ] {
        put(&mut value, at, &number.to_ne_bytes());
    }
    put(
        &mut value,
        settings::ECN,
        &ecn_table(policy.edition).to_ne_bytes(),
    );
    for (family, ports) in constants.ports.iter().enumerate() {
        let count = ports.len() as u32;
        put(
            &mut value,
            settings::PORT_COUNTS[family],
            &count.to_ne_bytes(),
        );
        for (n, port) in ports.iter().enumerate() {
            put(
                &mut value,
                settings::PORTS[family] + 2 * n as i16,
                &port.to_be_bytes(),
            );
        }
    }
    value
}

/// The ECN field with which a packet leaves, four bits for each pair of inner and outer field.
fn ecn_table(edition: Edition) -> u64 {
    let mut table = 0;
    for inner in 0..4u8 {
        for outer in 0..4u8 {
            let field = decapsulated_tos(edition, outer, inner).unwrap_or(settings::ECN_DAEMON);
            table |= u64::from(field) << (4 * (inner << 2 | outer));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use lisp::EidPrefix;

    use super::*;

    #[test]
    fn the_ecn_table_is_that_of_the_edition() {
        for edition in [Edition::Rfc6830, Edition::Rfc9300] {
            let table = ecn_table(edition);
            for (inner, outer) in (0..4u8).flat_map(|i| (0..4u8).map(move |o| (i, o))) {
                let field = (table >> (4 * (inner << 2 | outer)) & 0x0f) as u8;
                match decapsulated_tos(edition, outer, inner) {
                    Some(tos) => assert_eq!(field, tos),
                    None => assert_eq!(field, settings::ECN_DAEMON),
                }
            }
        }
    }

    #[test]
    fn what_needs_the_daemon_is_left_to_it() {
        let served = |policy: Policy| {
            let value = settings_value(&policy, &Constants::default());
            [settings::ENCAPSULATE, settings::DECAPSULATE]
                .map(|at| value[at as usize..at as usize + 4].iter().any(|b| *b != 0))
        };
        let plain = Policy::default();
        assert_eq!(served(plain.clone()), [true, true]);
        let translated = vec![EidPrefix::new(0, "10.1.0.0/24".parse().unwrap())];
        let translating = Policy {
            translated,
            ..plain.clone()
        };
        assert_eq!(served(translating), [false, false]);
        let mobile = Policy {
            report_sources: true,
            ..plain
        };
        assert_eq!(served(mobile), [false, true]);
    }
}
