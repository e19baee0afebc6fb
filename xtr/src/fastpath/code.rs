//! What both programs do: reading headers, looking things up, asking for routes, sending.
//!
//! Helper functions of the kernel lose R1 to R5. R6 is the packet in every program, R7 the length of the packet that
//! is looked at; what else has to stay lives on the stack.

use super::asm::{Alu, Asm, Cond, Helper, Label, Operand, Reg, Size};
use super::maps::{Maps, total, usage};
use super::sys::MapFd;
use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R9, R10};

/// Fields of `struct __sk_buff`.
pub(super) mod skb {
    pub(crate) const LEN: i16 = 0;
    pub(crate) const PKT_TYPE: i16 = 4;
    pub(crate) const PROTOCOL: i16 = 16;
    pub(crate) const VLAN_PRESENT: i16 = 20;
    pub(crate) const IFINDEX: i16 = 40;
    pub(crate) const GSO_SIZE: i16 = 176;
}

/// Fields of `struct bpf_fib_lookup`.
pub(super) mod fib {
    pub(crate) const FAMILY: i16 = 0;
    pub(crate) const PROTOCOL: i16 = 1;
    pub(crate) const SOURCE_PORT: i16 = 2;
    pub(crate) const PORT: i16 = 4;
    pub(crate) const LENGTH: i16 = 6;
    pub(crate) const IFINDEX: i16 = 8;
    pub(crate) const TOS: i16 = 12;
    pub(crate) const SOURCE: i16 = 16;
    pub(crate) const DESTINATION: i16 = 32;
    pub(crate) const TABLE: i16 = 48;
    pub(crate) const SIZE: i32 = 64;
    /// Flags of the look-up.
    pub(crate) const DIRECT: i32 = 1 << 0;
    pub(crate) const IN_TABLE: i32 = 1 << 3;
    pub(crate) const SKIP_NEIGH: i32 = 1 << 2;
}

/// The stack, downwards from the frame pointer.
pub(super) mod stack {
    /// The inner IP header, at most 40 octets.
    pub(crate) const INNER: i16 = -40;
    pub(crate) const LISP: i16 = -48;
    pub(crate) const UDP: i16 = -56;
    /// The outer IP header lies right before the UDP header.
    pub(crate) const OUTER: [i16; 2] = [-76, -96];
    pub(crate) const FIB: i16 = -160;
    pub(crate) const KEY: i16 = -184;
    pub(crate) const NEIGHBOUR: i16 = -208;
    /// First octets behind the inner IP header.
    pub(crate) const PORTS: i16 = -216;
    pub(crate) const HASH: i16 = -224;
    /// Length of the longest packet that a joined one is cut into.
    pub(crate) const WIRE: i16 = -232;
    /// Packets that it stands for.
    pub(crate) const COUNT: i16 = -240;
    pub(crate) const USE: i16 = -256;
    pub(crate) const INTERFACE: i16 = -264;
    pub(crate) const SCRATCH: i16 = -272;
    /// Offset of the inner IP header in the packet.
    pub(crate) const INNER_AT: i16 = -280;
    pub(crate) const TOTAL: i16 = -288;
    pub(crate) const TABLE: i16 = -296;
    /// Instance ID of a data packet, in network order.
    pub(crate) const INSTANCE: i16 = -304;
    /// Number of the processor.
    pub(crate) const PROCESSOR: i16 = -312;
    /// Number of its region of counters.
    pub(crate) const REGION: i16 = -416;
    /// The flow that the packet belongs to (see `flows`), at most 64 octets.
    pub(crate) const FLOW: i16 = -376;
    /// Where something about it is kept.
    pub(crate) const FLOW_AT: i16 = -384;
    /// The coarse clock, nanoseconds.
    pub(crate) const NOW: i16 = -392;
    /// Not zero where the way of the flow was known.
    pub(crate) const KNOWN: i16 = -400;
    /// What a program keeps of its own for a flow.
    pub(crate) const NOTE: i16 = -408;
}

pub(super) const AF: [i32; 2] = [libc::AF_INET, libc::AF_INET6];
/// Length of an Ethernet header.
pub(super) const ETHERNET: i32 = 14;
pub(super) const OUTER_LEN: [i32; 2] = [20, 40];
pub(super) const UDP_LEN: i32 = 8;
pub(super) const LISP_LEN: i32 = 8;
/// The program behind this one, or the kernel, has the packet.
const NEXT: i32 = -1;
const DROP: i32 = 2;
/// `BPF_ADJ_ROOM_MAC`.
const ROOM_AT_MAC: i32 = 1;
/// `BPF_F_ADJ_ROOM_FIXED_GSO`: the segments of a joined packet stay as they are.
const FIXED_GSO: i32 = 1 << 0;

/// A program that is being written, and where it gives packets to the daemon.
pub(super) struct Code {
    pub(super) asm: Asm,
    /// The packet is as it came, and somebody else's.
    pub(super) next: Label,
    /// It was changed already: nobody can have it.
    pub(super) lost: Label,
}

impl std::ops::Deref for Code {
    type Target = Asm;

    fn deref(&self) -> &Asm {
        &self.asm
    }
}

impl std::ops::DerefMut for Code {
    fn deref_mut(&mut self) -> &mut Asm {
        &mut self.asm
    }
}

impl Code {
    /// Begins with the checks that hold for every packet: for this box, without a VLAN tag; then one branch a family.
    pub(super) fn begin() -> (Self, [Label; 2]) {
        let mut asm = Asm::default();
        let (next, lost) = (asm.label(), asm.label());
        let families = [asm.label(), asm.label()];
        let mut code = Self { asm, next, lost };
        code.mov(R6, R1);
        code.load(Size::Word, R1, R6, skb::PKT_TYPE);
        code.jump_if(Cond::Ne, R1, 0, next);
        code.load(Size::Word, R1, R6, skb::VLAN_PRESENT);
        code.jump_if(Cond::Ne, R1, 0, next);
        code.load(Size::Word, R1, R6, skb::PROTOCOL);
        for (family, protocol) in families.iter().zip([0x0800u16, 0x86dd]) {
            code.jump_if(Cond::Eq, R1, i32::from(protocol.to_be()), *family);
        }
        code.jump(next);
        (code, families)
    }

    /// Ends the program.
    pub(super) fn end(mut self) -> Result<Vec<super::asm::Insn>, super::asm::AsmError> {
        let (next, lost) = (self.next, self.lost);
        self.bind(next);
        self.mov(R0, NEXT);
        self.exit();
        self.bind(lost);
        self.mov(R0, DROP);
        self.exit();
        self.asm.finish()
    }

    /// The packet is not for us where the comparison holds.
    pub(super) fn next_if(&mut self, cond: Cond, left: Reg, right: impl Into<Operand>) {
        let next = self.next;
        self.jump_if(cond, left, right, next);
    }

    /// Nor where a setting (of the map value in R9) is zero.
    pub(super) fn next_unless(&mut self, setting: i16) {
        self.load(Size::Word, R1, R9, setting);
        self.next_if(Cond::Eq, R1, 0);
    }

    /// Loads from the stack.
    pub(super) fn get(&mut self, size: Size, dst: Reg, at: i16) {
        self.load(size, dst, R10, at);
    }

    /// Stores on the stack.
    pub(super) fn put(&mut self, size: Size, at: i16, value: impl Into<Operand>) {
        self.store(size, R10, at, value);
    }

    /// `dst =` a field of 16 bits on the stack, in host order.
    pub(super) fn get_be16(&mut self, dst: Reg, at: i16) {
        self.get(Size::Half, dst, at);
        self.big_endian(dst, 16);
    }

    /// Stores a register's lowest 16 bits in network order; the register is changed.
    pub(super) fn put_be16(&mut self, at: i16, value: Reg) {
        self.big_endian(value, 16);
        self.put(Size::Half, at, value);
    }

    /// `dst =` frame pointer + offset.
    pub(super) fn address(&mut self, dst: Reg, at: i16) {
        self.mov(dst, R10);
        self.alu(Alu::Add, dst, i32::from(at));
    }

    /// Copies octets of the packet to the stack; a shorter packet is not for us.
    pub(super) fn read(&mut self, offset: impl Into<Operand>, at: i16, length: i32) {
        self.mov(R1, R6);
        self.mov(R2, offset);
        self.address(R3, at);
        self.mov(R4, length);
        self.call(Helper::LoadBytes);
        self.next_if(Cond::Ne, R0, 0);
    }

    /// Copies words of the stack.
    pub(super) fn copy(&mut self, from: i16, to: i16, words: i16) {
        for n in 0..words {
            self.get(Size::Word, R1, from + 4 * n);
            self.put(Size::Word, to + 4 * n, R1);
        }
    }

    /// `R0 =` the value under the key on the stack; none: not for us.
    pub(super) fn look_up(&mut self, map: MapFd) {
        self.map(R1, map);
        self.address(R2, stack::KEY);
        self.call(Helper::MapLookup);
        self.next_if(Cond::Eq, R0, 0);
    }

    /// Looks an address on the stack up in a trie, behind an Instance ID that `stack::KEY + 4` holds already, or
    /// without one.
    pub(super) fn longest_match(&mut self, map: MapFd, family: usize, at: i16, instance: bool) {
        let words = if family == 0 { 1 } else { 4 };
        let before = if instance { 4 } else { 0 };
        let bits = i32::from(words) * 32 + i32::from(before) * 8;
        self.put(Size::Word, stack::KEY, bits);
        self.copy(at, stack::KEY + 4 + before, words);
        self.look_up(map);
    }

    /// `R2 =` the folded sum of the 16-bit words of an IPv4 header of 20 octets on the stack.
    pub(super) fn sum_ipv4(&mut self, at: i16) {
        self.get(Size::Word, R2, at);
        for n in 1..5 {
            self.get(Size::Word, R1, at + 4 * n);
            self.alu(Alu::Add, R2, R1);
        }
        // At most 35 bits: to 20, to 17, to 16.
        for _ in 0..3 {
            self.mov(R1, R2);
            self.alu(Alu::Rsh, R1, 16);
            self.alu(Alu::And, R2, 0xffff);
            self.alu(Alu::Add, R2, R1);
        }
    }

    /// Writes the checksum of an IPv4 header on the stack.
    pub(super) fn checksum_ipv4(&mut self, at: i16) {
        self.put(Size::Half, at + 10, 0);
        self.sum_ipv4(at);
        self.alu(Alu::Xor, R2, 0xffff);
        self.put(Size::Half, at + 10, R2);
    }

    /// An IP header on the stack, without options or extension headers; `R7 =` its total length. The packet has to
    /// end there (`before` octets lie before the header). IPv4 with a wrong checksum is not for us; fragments only
    /// where they are welcome.
    pub(super) fn check_header(&mut self, family: usize, at: i16, before: i32, fragments: bool) {
        self.get(Size::Byte, R1, at);
        if family == 0 {
            self.next_if(Cond::Ne, R1, 0x45);
            self.get_be16(R7, at + 2);
            self.next_if(Cond::Lt, R7, 20);
            if !fragments {
                self.get_be16(R1, at + 6);
                self.alu(Alu::And, R1, 0x3fff);
                self.next_if(Cond::Ne, R1, 0);
            }
            self.sum_ipv4(at);
            self.next_if(Cond::Ne, R2, 0xffff);
        } else {
            self.alu(Alu::Rsh, R1, 4);
            self.next_if(Cond::Ne, R1, 6);
            self.get_be16(R7, at + 4);
            self.alu(Alu::Add, R7, 40);
        }
        self.load(Size::Word, R1, R6, skb::LEN);
        self.alu(Alu::Sub, R1, before);
        self.next_if(Cond::Ne, R7, R1);
    }

    /// Addresses that need a second look are the daemon's: loopback, link-local, multicast, unspecified.
    pub(super) fn check_addresses(&mut self, family: usize, header: i16) {
        for at in addresses_at(family).map(|a| header + a) {
            if family == 0 {
                self.get(Size::Byte, R1, at);
                for wrong in [0, 127] {
                    self.next_if(Cond::Eq, R1, wrong);
                }
                self.next_if(Cond::Ge, R1, 224);
                self.get_be16(R1, at);
                self.next_if(Cond::Eq, R1, 169 << 8 | 254);
            } else {
                self.get_be16(R1, at);
                self.next_if(Cond::Ge, R1, 0xfe80);
                self.get(Size::Double, R1, at);
                self.next_if(Cond::Eq, R1, 0);
            }
        }
    }

    /// Of a packet of `R7` octets whose IP header is on the stack and starts at `INNER_AT`: the length of the longest
    /// packet that leaves for it, and how many do.
    pub(super) fn segments(&mut self, family: usize, header: i16) {
        let (single, datagram, known) = (self.label(), self.label(), self.label());
        let done = self.label();
        let ip = OUTER_LEN[family];
        self.load(Size::Word, R1, R6, skb::GSO_SIZE);
        self.jump_if(Cond::Eq, R1, 0, single);
        self.get(Size::Byte, R1, header + protocol_at(family));
        self.jump_if(Cond::Eq, R1, 17, datagram);
        self.next_if(Cond::Ne, R1, 6);
        self.get(Size::Double, R2, stack::INNER_AT);
        self.alu(Alu::Add, R2, ip + 12);
        self.read(R2, stack::SCRATCH, 1);
        // Length of IP and TCP header: the data offset counts words of 32 bits in its high half.
        self.get(Size::Byte, R2, stack::SCRATCH);
        self.alu(Alu::Rsh, R2, 4);
        self.alu(Alu::Lsh, R2, 2);
        self.alu(Alu::Add, R2, ip);
        self.jump(known);
        self.bind(datagram);
        self.mov(R2, ip + 8);
        self.bind(known);
        self.next_if(Cond::Ge, R2, R7);
        self.load(Size::Word, R1, R6, skb::GSO_SIZE);
        self.mov(R3, R7);
        self.alu(Alu::Sub, R3, R2);
        self.alu(Alu::Add, R3, R1);
        self.alu(Alu::Sub, R3, 1);
        self.alu(Alu::Div, R3, R1);
        self.put(Size::Double, stack::COUNT, R3);
        self.alu(Alu::Add, R2, R1);
        self.put(Size::Double, stack::WIRE, R2);
        self.jump_if(Cond::Le, R2, R7, done);
        self.put(Size::Double, stack::WIRE, R7);
        self.jump(done);
        self.bind(single);
        self.put(Size::Double, stack::WIRE, R7);
        self.put(Size::Double, stack::COUNT, 1);
        self.bind(done);
    }

    /// `R2 =` the next state of a hash over words of 64 bits, as `Inner::flow_hash` has it; `R3` is lost.
    pub(super) fn mix(&mut self, word: Option<Reg>) {
        if let Some(word) = word {
            self.alu(Alu::Xor, R2, word);
        }
        self.imm64(R3, 0xff51_afd7_ed55_8ccd);
        self.alu(Alu::Mul, R2, R3);
        self.mov(R3, R2);
        self.alu(Alu::Rsh, R3, 29);
        self.alu(Alu::Xor, R2, R3);
    }

    /// `R2 =` the hash of a flow so far: over both addresses of a header on the stack; `R1`, `R3` and `R5` are lost.
    pub(super) fn hash_addresses(&mut self, family: usize, header: i16) {
        self.imm64(R2, 0x9e37_79b9_7f4a_7c15);
        if family == 1 {
            for at in [8, 16, 24, 32] {
                self.get(Size::Double, R1, header + at);
                self.mix(Some(R1));
            }
            return;
        }
        // Two halves, in the order in which eight octets would be read.
        let (low, high) = if cfg!(target_endian = "little") {
            (12, 16)
        } else {
            (16, 12)
        };
        self.get(Size::Word, R1, header + low);
        self.get(Size::Word, R5, header + high);
        self.alu(Alu::Lsh, R5, 32);
        self.alu(Alu::Or, R1, R5);
        self.mix(Some(R1));
    }

    /// `into =` the TOS octet or traffic class of a header on the stack.
    pub(super) fn tos(&mut self, family: usize, header: i16, into: Reg) {
        if family == 0 {
            self.get(Size::Byte, into, header + 1);
        } else {
            self.get_be16(into, header);
            self.alu(Alu::Rsh, into, 4);
            self.alu(Alu::And, into, 0xff);
        }
    }

    /// Empties the question for a route.
    pub(super) fn clear_route(&mut self) {
        for n in 0..8 {
            self.put(Size::Double, stack::FIB + 8 * n, 0);
        }
    }

    /// Asks the kernel where it would send what the question on the stack describes, by rules and routes; `R0 = 0`:
    /// on, through the interface and neighbour in the answer.
    pub(super) fn route(&mut self) {
        self.route_with(0);
    }

    /// As [`Code::route`], but by the routes of the table alone that the question names.
    pub(super) fn route_in_table(&mut self) {
        self.route_with(fib::DIRECT | fib::IN_TABLE);
    }

    fn route_with(&mut self, flags: i32) {
        self.mov(R1, R6);
        self.address(R2, stack::FIB);
        self.mov(R3, fib::SIZE);
        self.mov(R4, flags | fib::SKIP_NEIGH);
        self.call(Helper::FibLookup);
        self.next_if(Cond::Ne, R0, 0);
    }

    /// The question for a route of an IP header on the stack, of a packet that is so much longer than `WIRE` says; ports
    /// and interface are the caller's.
    pub(super) fn route_of(&mut self, family: usize, header: i16, longer: i32) {
        self.clear_route();
        self.put(Size::Byte, stack::FIB + fib::FAMILY, AF[family]);
        self.get(Size::Byte, R1, header + protocol_at(family));
        self.put(Size::Byte, stack::FIB + fib::PROTOCOL, R1);
        if family == 0 {
            self.get(Size::Byte, R1, header + 1);
            self.put(Size::Byte, stack::FIB + fib::TOS, R1);
            self.copy(header + 12, stack::FIB + fib::SOURCE, 1);
            self.copy(header + 16, stack::FIB + fib::DESTINATION, 1);
        } else {
            // Traffic class and flow label, in network order, without the version.
            self.get(Size::Word, R1, header);
            self.alu(Alu::And, R1, 0x0fff_ffffu32.to_be() as i32);
            self.put(Size::Word, stack::FIB + fib::TOS, R1);
            self.copy(header + 8, stack::FIB + fib::SOURCE, 4);
            self.copy(header + 24, stack::FIB + fib::DESTINATION, 4);
        }
        self.get(Size::Double, R1, stack::WIRE);
        self.alu(Alu::Add, R1, longer);
        self.put(Size::Half, stack::FIB + fib::LENGTH, R1);
    }

    /// Keeps the neighbour and the interface of the answer.
    pub(super) fn keep_route(&mut self) {
        self.get(Size::Word, R1, stack::FIB + fib::IFINDEX);
        self.put(Size::Double, stack::INTERFACE, R1);
        self.get(Size::Byte, R1, stack::FIB + fib::FAMILY);
        self.put(Size::Word, stack::NEIGHBOUR, R1);
        self.copy(stack::FIB + fib::DESTINATION, stack::NEIGHBOUR + 4, 4);
    }

    /// Notes the processor and the time.
    pub(super) fn note_place_and_time(&mut self, maps: &Maps) {
        self.call(Helper::ProcessorId);
        self.put(Size::Double, stack::PROCESSOR, R0);
        self.alu(Alu::And, R0, maps.regions as i32 - 1);
        self.put(Size::Double, stack::REGION, R0);
        self.call(Helper::CoarseNanoseconds);
        self.put(Size::Double, stack::NOW, R0);
    }

    /// The place of the index in `R2`, in an array with regions of `entries` each, the number of which is on the stack;
    /// its address goes to the stack.
    pub(super) fn find_place(&mut self, map: MapFd, region: i16, entries: u32, to: i16) {
        self.get(Size::Double, R1, region);
        self.alu(Alu::Mul, R1, entries as i32);
        self.alu(Alu::Add, R1, R2);
        self.put(Size::Word, stack::KEY, R1);
        self.look_up(map);
        self.put(Size::Double, to, R0);
    }

    /// Finds the processor's total.
    pub(super) fn find_total(&mut self, maps: &Maps, index: u32) {
        self.mov(R2, index as i32);
        self.find_place(maps.totals.fd(), stack::REGION, total::COUNT, stack::TOTAL);
    }

    /// Adds the packet to a place that [`Code::find_place`] found.
    pub(super) fn count(&mut self, maps: &Maps, place: i16) {
        self.get(Size::Double, R1, place);
        self.get(Size::Double, R3, stack::COUNT);
        self.add_to(maps, usage::PACKETS, R3);
        self.add_to(maps, usage::OCTETS, R7);
    }

    /// Adds to a word of the place in `R1`. Programs at one hook do not interrupt each other on one processor; with
    /// others they may share the word. `R2` is lost.
    pub(super) fn add_to(&mut self, maps: &Maps, field: i16, number: Reg) {
        if maps.shared {
            self.atomic_add(R1, field, number);
            return;
        }
        self.load(Size::Double, R2, R1, field);
        self.alu(Alu::Add, R2, number);
        self.store(Size::Double, R1, field, R2);
    }

    /// Notes the time at such a place.
    pub(super) fn count_time(&mut self, place: i16) {
        self.get(Size::Double, R1, place);
        self.get(Size::Double, R2, stack::NOW);
        self.store(Size::Double, R1, usage::LAST, R2);
    }

    /// Makes (or, negative, takes) room behind the Ethernet header. The last moment at which the packet can be
    /// somebody else's.
    pub(super) fn adjust_room(&mut self, octets: i32, flags: i32) {
        self.mov(R1, R6);
        self.mov(R2, octets);
        self.mov(R3, ROOM_AT_MAC);
        self.mov(R4, flags | FIXED_GSO);
        self.call(Helper::AdjustRoom);
        self.next_if(Cond::Ne, R0, 0);
    }

    /// Writes octets of the stack behind the Ethernet header, keeping a checksum that the device worked out.
    pub(super) fn write(&mut self, at: i16, length: i32) {
        const RECOMPUTE: i32 = 1;
        let lost = self.lost;
        self.mov(R1, R6);
        self.mov(R2, ETHERNET);
        self.address(R3, at);
        self.mov(R4, length);
        self.mov(R5, RECOMPUTE);
        self.call(Helper::StoreBytes);
        self.jump_if(Cond::Ne, R0, 0, lost);
    }

    /// Sends the packet to the neighbour that was kept.
    pub(super) fn send(&mut self) {
        const NEIGHBOUR_LEN: i32 = 20;
        self.get(Size::Double, R1, stack::INTERFACE);
        self.address(R2, stack::NEIGHBOUR);
        self.mov(R3, NEIGHBOUR_LEN);
        self.mov(R4, 0);
        self.call(Helper::RedirectNeigh);
        self.exit();
    }
}

/// Offset of protocol or next header.
pub(super) fn protocol_at(family: usize) -> i16 {
    if family == 0 { 9 } else { 6 }
}

/// Offsets of source and destination address.
pub(super) fn addresses_at(family: usize) -> [i16; 2] {
    if family == 0 { [12, 16] } else { [8, 24] }
}

/// Offset of TTL or hop limit.
pub(super) fn ttl_at(family: usize) -> i16 {
    if family == 0 { 8 } else { 7 }
}
