//! Packets that wait for their mapping: a bounded number per EID and in total, the oldest dropped first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use lisp::EidPrefix;

use super::settings::HoldLimits;
use crate::forwarding::HeldPacket;

/// The hold queue.
#[derive(Debug, Default)]
pub struct HoldQueue {
    by_eid: HashMap<(u32, IpAddr), VecDeque<u64>>,
    packets: BTreeMap<u64, ((u32, IpAddr), HeldPacket)>,
    next: u64,
}

impl HoldQueue {
    /// Keeps a packet; returns how many older ones had to go.
    pub fn push(&mut self, limits: HoldLimits, iid: u32, eid: IpAddr, packet: HeldPacket) -> u64 {
        if limits.per_eid == 0 || limits.total == 0 {
            return 1;
        }
        let mut dropped = 0;
        let key = (iid, eid);
        while self
            .by_eid
            .get(&key)
            .is_some_and(|q| q.len() >= limits.per_eid)
        {
            let oldest = self.by_eid.get(&key).and_then(|q| q.front().copied());
            dropped += u64::from(oldest.is_some_and(|order| self.take(order).is_some()));
        }
        while self.packets.len() >= limits.total {
            let oldest = self.packets.keys().next().copied();
            dropped += u64::from(oldest.is_some_and(|order| self.take(order).is_some()));
        }
        let order = self.next;
        self.next += 1;
        self.packets.insert(order, (key, packet));
        self.by_eid.entry(key).or_default().push_back(order);
        dropped
    }

    fn take(&mut self, order: u64) -> Option<HeldPacket> {
        let (key, packet) = self.packets.remove(&order)?;
        if let Some(queue) = self.by_eid.get_mut(&key) {
            queue.retain(|other| *other != order);
            if queue.is_empty() {
                self.by_eid.remove(&key);
            }
        }
        Some(packet)
    }

    /// Takes out every packet to an EID inside `prefix`, oldest first.
    pub fn take_inside(&mut self, prefix: &EidPrefix) -> Vec<HeldPacket> {
        let mut orders: Vec<u64> = self
            .by_eid
            .iter()
            .filter(|((iid, eid), _)| prefix.contains(*iid, *eid))
            .flat_map(|(_, queue)| queue.iter().copied())
            .collect();
        orders.sort_unstable();
        orders
            .into_iter()
            .filter_map(|order| self.take(order))
            .collect()
    }

    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HoldLimits = HoldLimits {
        per_eid: 2,
        total: 3,
    };

    fn packet(n: u8) -> HeldPacket {
        HeldPacket {
            iid: 0,
            bytes: vec![n],
        }
    }

    fn eid(n: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, n])
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut queue = HoldQueue::default();
        assert_eq!(queue.push(LIMITS, 0, eid(1), packet(1)), 0);
        assert_eq!(queue.push(LIMITS, 0, eid(1), packet(2)), 0);
        assert_eq!(queue.push(LIMITS, 0, eid(1), packet(3)), 1, "per EID");
        assert_eq!(queue.push(LIMITS, 0, eid(2), packet(4)), 0);
        assert_eq!(queue.push(LIMITS, 0, eid(3), packet(5)), 1, "in total");
        let all = EidPrefix::new(0, "203.0.113.0/24".parse().unwrap());
        assert_eq!(queue.take_inside(&all), [packet(3), packet(4), packet(5)]);
        assert!(queue.is_empty());
        assert!(queue.by_eid.is_empty());
    }
}
