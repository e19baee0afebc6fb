//! What tables and routes said about a flow, kept for its next packets.
//!
//! It holds until a table is written (each write counts [`Maps::generation`] up) or the kernel's coarse clock ticks (1 to
//! 10 ms, `CONFIG_HZ`), whichever comes first: so changes of the tables take effect with the next packet, and those of
//! routes, rules and interfaces, which nobody announces to programs, within a tick. What differs from packet to packet of
//! a flow (lengths, TTL, checksums, flags) is looked at each time.
//!
//! Each processor has flows of its own. Programs at one hook do not interrupt each other on one processor; where they
//! might (`PREEMPT_RT`), nothing is kept.

use super::asm::{Alu, Cond, Label, Reg, Size};
use super::code::{Code, protocol_at, stack};
use super::maps::{Flows, Maps, flow, usage};
use Reg::{R0, R1, R2, R3};

impl Code {
    /// Begins the description of a flow with what every one has: the generation of the tables, protocol, TOS octet (IPv4)
    /// and which program's branch this is.
    pub(super) fn begin_flow(&mut self, maps: &Maps, branch: i32, family: usize, header: i16) {
        self.map_value(R1, maps.generation.fd());
        self.load(Size::Double, R1, R1, 0);
        if family == 0 {
            self.alu(Alu::Lsh, R1, 8);
            self.get(Size::Byte, R2, header + 1);
            self.alu(Alu::Or, R1, R2);
        }
        self.alu(Alu::Lsh, R1, 8);
        self.get(Size::Byte, R2, header + protocol_at(family));
        self.alu(Alu::Or, R1, R2);
        self.alu(Alu::Lsh, R1, 8);
        self.alu(Alu::Or, R1, branch);
        self.put(Size::Double, stack::FLOW, R1);
    }

    /// Looks for the flow that is described by `length` octets and has the hash in `R2`. Goes on at `unknown` where
    /// nothing is kept that holds for a packet of this length.
    pub(super) fn find_flow(&mut self, flows: Option<&Flows>, length: i16, unknown: Label) {
        self.put(Size::Double, stack::KNOWN, 0);
        let Some(flows) = flows else {
            self.jump(unknown);
            return;
        };
        self.alu(Alu::And, R2, flows.places as i32 - 1);
        let map = flows.map.fd();
        self.find_place(map, stack::PROCESSOR, flows.places, stack::FLOW_AT);
        self.get(Size::Double, R2, stack::NOW);
        self.load(Size::Double, R1, R0, flow::TIME);
        self.jump_if(Cond::Ne, R1, R2, unknown);
        for at in (0..length).step_by(8) {
            self.load(Size::Double, R1, R0, flow::KEY + at);
            self.get(Size::Double, R2, stack::FLOW + at);
            self.jump_if(Cond::Ne, R1, R2, unknown);
        }
        self.load(Size::Double, R1, R0, flow::WIRE);
        self.get(Size::Double, R2, stack::WIRE);
        self.jump_if(Cond::Gt, R2, R1, unknown);
        for (from, to) in ANSWER {
            self.load(Size::Double, R1, R0, from);
            self.put(Size::Double, to, R1);
        }
        self.put(Size::Double, stack::KNOWN, 1);
    }

    /// Keeps what was found out for the flow.
    pub(super) fn keep_flow(&mut self, flows: Option<&Flows>, length: i16) {
        if flows.is_none() {
            return;
        }
        self.get(Size::Double, R3, stack::FLOW_AT);
        for at in (0..length).step_by(8) {
            self.get(Size::Double, R1, stack::FLOW + at);
            self.store(Size::Double, R3, flow::KEY + at, R1);
        }
        let proven = [(flow::TIME, stack::NOW), (flow::WIRE, stack::WIRE)];
        for (to, from) in proven.into_iter().chain(ANSWER) {
            self.get(Size::Double, R1, from);
            self.store(Size::Double, R3, to, R1);
        }
    }

    /// Counts the packet at a place of `totals` if its way was known.
    pub(super) fn count_known(&mut self, maps: &Maps, place: i16) {
        self.get(Size::Double, R1, place);
        self.get(Size::Double, R3, stack::KNOWN);
        self.add_to(maps, usage::KNOWN, R3);
    }
}

/// What is kept, and where it stands while a packet is looked at.
const ANSWER: [(i16, i16); 6] = [
    (flow::INTERFACE, stack::INTERFACE),
    (flow::NEIGHBOUR, stack::NEIGHBOUR),
    (flow::NEIGHBOUR + 8, stack::NEIGHBOUR + 8),
    (flow::NEIGHBOUR + 16, stack::NEIGHBOUR + 16),
    (flow::LISP, stack::LISP),
    (flow::NOTE, stack::NOTE),
];
