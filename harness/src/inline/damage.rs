//! What an impaired link does to each packet, decided from a seed alone: the same packets with the same seed have the same
//! fate, whatever the timing.

use std::time::Duration;

use crate::topology::Impairment;

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough to lose packets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 to 1, 1 excluded.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The damage in one direction of a link.
pub(crate) struct Damage {
    impairment: Impairment,
    random: Random,
    /// When the line is free again, and when the last packet in order leaves, in ns.
    line_free: u64,
    last_departure: u64,
}

/// What happens to a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Address resolution is not damaged and goes at once.
    Spared,
    Lost,
    /// The queue of a link with a rate was full.
    Overflow,
    Goes {
        /// When it leaves, in ns; at once if that is past.
        at: u64,
        /// Whether it leaves twice.
        twice: bool,
        /// Whether it overtakes.
        overtakes: bool,
        /// Whether a bit was flipped.
        corrupted: bool,
    },
}

/// A link with a rate drops what would have to wait longer.
const LONGEST_QUEUE: Duration = Duration::from_secs(1);
/// Ethernet header: never corrupted, or the packet would not even arrive.
const HEADER: usize = 14;

impl Damage {
    pub(crate) fn new(impairment: &Impairment, direction: u64) -> Damage {
        let mut random = Random(impairment.seed ^ (direction << 63));
        random.next();
        Damage {
            impairment: impairment.clone(),
            random,
            line_free: 0,
            last_departure: 0,
        }
    }

    /// Decides about a packet that arrives at `now` (ns), and flips a bit of it if it is to be corrupted.
    pub(crate) fn decide(&mut self, packet: &mut [u8], now: u64) -> Fate {
        let Impairment {
            loss,
            delay,
            jitter,
            duplicate,
            reorder,
            corrupt,
            rate,
            ..
        } = self.impairment;
        if is_address_resolution(packet) {
            // Its timing depends on the hosts' caches: if it took part, the seed would not decide alone.
            return Fate::Spared;
        }
        // Each packet draws the same numbers, whatever becomes of it.
        let draw = [(); 5].map(|()| self.random.share());
        let place = self.random.next();
        if draw[0] < loss {
            return Fate::Lost;
        }
        let corrupted = draw[1] < corrupt && packet.len() > HEADER;
        if corrupted {
            let bits = (packet.len() - HEADER) as u64 * 8;
            let bit = place % bits;
            packet[HEADER + (bit / 8) as usize] ^= 1 << (bit % 8);
        }
        let mut at = now;
        if let Some(rate) = rate {
            at = self.line_free.max(now);
            if at - now > LONGEST_QUEUE.as_nanos() as u64 {
                return Fate::Overflow;
            }
            at += packet.len() as u64 * 8 * 1_000_000_000 / rate.max(1);
            self.line_free = at;
        }
        let overtakes = draw[3] < reorder;
        if !overtakes {
            let wait = delay + jitter.mul_f64(draw[4]);
            // Jitter stretches and squeezes the stream, but only `reorder` changes its order.
            at = (at + wait.as_nanos() as u64).max(self.last_departure);
            self.last_departure = at;
        }
        Fate::Goes {
            at,
            twice: draw[2] < duplicate,
            overtakes,
            corrupted,
        }
    }
}

/// ARP, IPv6 neighbour and router discovery (ICMPv6 133 to 137) and multicast listener reports (130 to 132 and 143, behind
/// a hop-by-hop header).
fn is_address_resolution(packet: &[u8]) -> bool {
    const ICMPV6: u8 = 58;
    match packet.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => match packet.get(20) {
            Some(&ICMPV6) => packet
                .get(54)
                .is_some_and(|kind| (133..=137).contains(kind)),
            Some(0) if packet.get(54) == Some(&ICMPV6) => packet
                .get(62)
                .is_some_and(|kind| matches!(kind, 130..=132 | 143)),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(impairment: &Impairment, direction: u64) -> Vec<(Fate, Vec<u8>)> {
        let mut damage = Damage::new(impairment, direction);
        (0..5000u64)
            .map(|n| {
                let mut packet = vec![0; 100];
                packet[12] = 8;
                let fate = damage.decide(&mut packet, n * 1_000_000);
                (fate, packet)
            })
            .collect()
    }

    #[test]
    fn the_seed_decides() {
        let impairment = Impairment {
            loss: 0.1,
            duplicate: 0.05,
            corrupt: 0.02,
            reorder: 0.03,
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(2),
            seed: 7,
            ..Impairment::default()
        };
        let first = fates(&impairment, 0);
        assert_eq!(first, fates(&impairment, 0));
        assert_ne!(first, fates(&impairment, 1), "the directions differ");
        let other = Impairment {
            seed: 8,
            ..impairment
        };
        assert_ne!(first, fates(&other, 0));
        let lost = first.iter().filter(|(fate, _)| *fate == Fate::Lost).count();
        assert!((400..600).contains(&lost), "{lost} of 5000 at 10%");
        let changed = first
            .iter()
            .filter(|(_, p)| p.iter().any(|&o| o != 0 && o != 8))
            .count();
        assert!((50..150).contains(&changed), "{changed} of 5000 at 2%");
        assert!(
            first
                .iter()
                .all(|(_, packet)| packet[12] == 8 && packet[..12] == [0; 12])
        );
    }

    #[test]
    fn jitter_keeps_the_order_and_a_rate_spaces_packets() {
        let impairment = Impairment {
            jitter: Duration::from_millis(50),
            ..Impairment::default()
        };
        let times: Vec<u64> = fates(&impairment, 0)
            .into_iter()
            .map(|(fate, _)| match fate {
                Fate::Goes { at, .. } => at,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(times.is_sorted());
        let slow = Impairment {
            rate: Some(8000),
            ..Impairment::default()
        };
        let mut damage = Damage::new(&slow, 0);
        // 100 octets at 8000 bit/s take 100 ms each; what would wait more than a second is dropped.
        let fates: Vec<Fate> = (0..20).map(|_| damage.decide(&mut [0; 100], 0)).collect();
        let sent = fates
            .iter()
            .filter(|f| matches!(f, Fate::Goes { .. }))
            .count();
        assert_eq!(sent, 11);
        assert!(matches!(
            fates[1],
            Fate::Goes {
                at: 200_000_000,
                ..
            }
        ));
    }

    #[test]
    fn address_resolution_is_spared() {
        let all = Impairment {
            loss: 1.0,
            ..Impairment::default()
        };
        let mut arp = [0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(Damage::new(&all, 0).decide(&mut arp, 5), Fate::Spared);
        assert_eq!(Damage::new(&all, 0).decide(&mut [0; 42], 5), Fate::Lost);
    }
}
