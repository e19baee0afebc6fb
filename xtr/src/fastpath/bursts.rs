//! Small datagrams in quick succession are left to the daemon. It joins them (UDP segmentation), so that the core and the
//! far end handle many as one; the programs can only send each by itself, which costs more than the trip to the daemon
//! once there are tens of thousands a second.
//!
//! A flow that was left to the daemon stays there until it has been quiet for as long as its packets may wait in the TUN
//! device: otherwise the programs would overtake them.

use super::asm::{Alu, Cond, Reg, Size};
use super::code::{Code, protocol_at, skb, stack};
use super::maps::{BURSTS, Maps, burst, settings};
use Reg::{R0, R1, R2, R3, R6, R9};

/// Packets of a flow within [`WINDOW`] from which on the daemon has it.
pub(super) const MANY: u32 = 400;
/// Nanoseconds.
const WINDOW: i32 = 8_000_000;
/// Nanoseconds without a packet after which the programs may have the flow again.
pub(super) const QUIET: i32 = 50_000_000;
/// Octets, from the IP header on, up to which joining is worth the copy.
const SMALL: i32 = 512;

impl Code {
    /// Ends the program where the packet belongs to a flow that the daemon joins. Flow hash, length and time are on the
    /// stack.
    pub(super) fn leave_bursts(&mut self, maps: &Maps, family: usize, header: i16) {
        let (same, counting, joined, done) =
            (self.label(), self.label(), self.label(), self.label());
        self.get(Size::Byte, R1, header + protocol_at(family));
        self.jump_if(Cond::Ne, R1, 17, done);
        self.load(Size::Word, R1, R9, settings::JOINED);
        self.jump_if(Cond::Eq, R1, 0, done);
        self.get(Size::Double, R2, stack::HASH);
        self.alu(Alu::And, R2, BURSTS as i32 - 1);
        self.put(Size::Word, stack::KEY, R2);
        self.look_up(maps.bursts.fd());
        self.get(Size::Double, R2, stack::HASH);
        self.get(Size::Double, R3, stack::NOW);
        self.load(Size::Double, R1, R0, burst::FLOW);
        self.jump_if(Cond::Eq, R1, R2, same);

        // The place of another flow, unless nobody needs it any more.
        self.load(Size::Double, R1, R0, burst::UNTIL);
        self.jump_if(Cond::Gt, R1, R3, done);
        self.store(Size::Double, R0, burst::FLOW, R2);
        self.store(Size::Double, R0, burst::SINCE, R3);
        self.store(Size::Double, R0, burst::PACKETS, 1);
        self.jump(done);

        self.bind(same);
        self.load(Size::Double, R1, R0, burst::UNTIL);
        self.jump_if(Cond::Gt, R1, R3, joined);
        self.load(Size::Word, R1, R6, skb::GSO_SIZE);
        self.jump_if(Cond::Ne, R1, 0, done);
        self.get(Size::Double, R1, stack::WIRE);
        self.jump_if(Cond::Gt, R1, SMALL, done);
        self.load(Size::Double, R1, R0, burst::SINCE);
        self.mov(R2, R3);
        self.alu(Alu::Sub, R2, R1);
        self.jump_if(Cond::Le, R2, WINDOW, counting);
        self.store(Size::Double, R0, burst::SINCE, R3);
        self.store(Size::Double, R0, burst::PACKETS, 1);
        self.jump(done);
        self.bind(counting);
        self.load(Size::Double, R1, R0, burst::PACKETS);
        self.alu(Alu::Add, R1, 1);
        self.store(Size::Double, R0, burst::PACKETS, R1);
        self.load(Size::Word, R2, R9, settings::JOINED);
        self.jump_if(Cond::Lt, R1, R2, done);
        self.bind(joined);
        self.alu(Alu::Add, R3, QUIET);
        self.store(Size::Double, R0, burst::UNTIL, R3);
        let next = self.next;
        self.jump(next);
        self.bind(done);
    }
}
