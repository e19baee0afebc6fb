//! The ITR half of the program: what a site interface receives for a mapped EID leaves toward its locator.
//!
//! The program decides as `dataplane::route::fate` does for the plainest of packets, and leaves every other one to the
//! daemon. That the packet is the tunnel's at all, the kernel's own rules and routes say: it would go to the TUN device.

use super::asm::{Alu, Cond, Helper, Operand, Reg, Size};
use super::code::{
    Code, ETHERNET, LISP_LEN, OUTER_LEN, UDP_LEN, addresses_at, fib, protocol_at, skb, stack,
    ttl_at,
};
use super::maps::{DESTINATIONS, Maps, PORTS, destination, entry, settings, source, total};
use Reg::{R0, R1, R2, R3, R5, R6, R7, R8, R9};

/// Flags of `bpf_skb_adjust_room`.
const ENCAP_L3: [i32; 2] = [1 << 1, 1 << 2];
const ENCAP_L4_UDP: i32 = 1 << 4;

/// A packet of the site of one family.
pub(super) fn from_site(code: &mut Code, maps: &Maps, family: usize) {
    let header = stack::INNER;
    code.map_value(R9, maps.settings.fd());
    code.next_unless(settings::ENCAPSULATE);
    code.read(ETHERNET, header, OUTER_LEN[family]);
    code.check_header(family, header, ETHERNET, false);
    code.get(Size::Byte, R1, header + ttl_at(family));
    code.next_if(Cond::Le, R1, 1);
    code.put(Size::Double, stack::INNER_AT, ETHERNET);
    read_ports(code, family, header);
    flow_hash(code, family, header);
    code.segments(family, header);
    code.note_place_and_time(maps);
    code.leave_bursts(maps, family, header);

    let (unknown, chosen) = (code.label(), code.label());
    describe_flow(code, maps, family, header);
    code.get(Size::Double, R2, stack::HASH);
    code.find_flow(maps.flows(0), FLOW_LEN[family], unknown);
    code.jump(chosen);
    code.bind(unknown);
    resolve(code, maps, family, header);
    code.bind(chosen);
    find_destination(code, maps);
    // R8 is the destination from here on.
    code.get(Size::Double, R1, stack::WIRE);
    code.load(Size::Word, R2, R8, destination::LIMIT);
    code.next_if(Cond::Gt, R1, R2);

    let ours = code.label();
    code.get(Size::Double, R1, stack::KNOWN);
    code.jump_if(Cond::Ne, R1, 0, ours);
    for_the_tunnel(code, maps, family, header);
    code.bind(ours);

    code.find_total(maps, total::ENCAPSULATED);
    let over_v6 = code.label();
    code.load(Size::Word, R1, R8, destination::FAMILY);
    code.jump_if(Cond::Eq, R1, 6, over_v6);
    code.next_if(Cond::Ne, R1, 4);
    to_locator(code, maps, family, 0);
    code.bind(over_v6);
    to_locator(code, maps, family, 1);
}

/// Lengths of the flows' descriptions.
const FLOW_LEN: [i16; 2] = [24, 56];

/// Everything that the tables and the kernel's routes are asked with.
fn describe_flow(code: &mut Code, maps: &Maps, family: usize, header: i16) {
    code.begin_flow(maps, family as i32, family, header);
    code.load(Size::Word, R1, R6, skb::IFINDEX);
    code.put(Size::Word, stack::FLOW + 8, R1);
    code.copy(stack::PORTS, stack::FLOW + 12, 1);
    let from = header + addresses_at(family)[0];
    if family == 0 {
        code.copy(from, stack::FLOW + 16, 2);
    } else {
        code.copy(from, stack::FLOW + 16, 8);
        // Traffic class and flow label.
        code.copy(header, stack::FLOW + 48, 1);
        code.put(Size::Word, stack::FLOW + 52, 0);
    }
}

/// Finds out whose packet it is and which locator it goes to: `NOTE` is the index of the destination then, `LISP` the
/// header.
fn resolve(code: &mut Code, maps: &Maps, family: usize, header: i16) {
    let per_family = &maps.families[family];
    let [from, to] = addresses_at(family).map(|at| header + at);
    // This decides most of them: first of all.
    code.longest_match(per_family.sources.fd(), family, from, false);
    code.load(Size::Word, R1, R0, source::INSTANCE);
    code.load(Size::Double, R2, R0, source::HEADER);
    code.put(Size::Word, stack::KEY + 4, R1);
    code.put(Size::Double, stack::LISP, R2);
    code.load(Size::Word, R1, R0, source::TABLE);
    code.put(Size::Double, stack::TABLE, R1);
    code.longest_match(per_family.cache.fd(), family, to, true);
    code.load(Size::Word, R1, R0, entry::KIND);
    code.next_if(Cond::Eq, R1, entry::DAEMON as i32);
    code.load(Size::Word, R8, R0, entry::INDEX);
    code.put(Size::Double, stack::NOTE, R8);
    code.put(Size::Double, stack::SCRATCH, R1);
    code.check_addresses(family, header);

    let chosen = code.label();
    code.get(Size::Double, R1, stack::SCRATCH);
    code.jump_if(Cond::Eq, R1, entry::ONE as i32, chosen);
    code.next_if(Cond::Ne, R1, entry::SET as i32);
    code.put(Size::Word, stack::KEY, R8);
    code.look_up(maps.sets.fd());
    code.get(Size::Double, R1, stack::HASH);
    code.alu(Alu::Rsh, R1, 56);
    code.alu(Alu::Lsh, R1, 2);
    code.alu(Alu::Add, R0, R1);
    code.load(Size::Word, R1, R0, 0);
    code.put(Size::Double, stack::NOTE, R1);
    code.bind(chosen);
}

/// Would the kernel give it to the TUN device?
fn for_the_tunnel(code: &mut Code, maps: &Maps, family: usize, header: i16) {
    if family == 1 {
        not_elsewhere(code, maps, header + addresses_at(family)[1]);
    }
    code.route_of(family, header, 0);
    code.copy_ports();
    code.load(Size::Word, R1, R6, skb::IFINDEX);
    code.put(Size::Word, stack::FIB + fib::IFINDEX, R1);
    if family == 0 {
        code.route();
    } else {
        code.get(Size::Double, R1, stack::TABLE);
        code.put(Size::Word, stack::FIB + fib::TABLE, R1);
        code.route_in_table();
    }
    code.load(Size::Word, R1, R9, settings::TUNNEL);
    code.get(Size::Word, R2, stack::FIB + fib::IFINDEX);
    code.next_if(Cond::Ne, R1, R2);
}

/// Where programs ask for routes of IPv6, the kernel leaves `suppress_prefixlength` out of the rules: the default route
/// of the main table would hide the tunnel's table. So the rules are followed here: the destination has no route of its
/// own, and the tunnel's table is asked directly.
fn not_elsewhere(code: &mut Code, maps: &Maps, address: i16) {
    let nowhere = code.label();
    code.put(Size::Word, stack::KEY, 128);
    code.copy(address, stack::KEY + 4, 4);
    code.map(R1, maps.specific.fd());
    code.address(R2, stack::KEY);
    code.call(Helper::MapLookup);
    code.jump_if(Cond::Eq, R0, 0, nowhere);
    code.load(Size::Word, R1, R0, 0);
    code.next_if(Cond::Ne, R1, 0);
    code.bind(nowhere);
    code.next_unless(settings::ROUTES_V6);
}

impl Code {
    /// Ports of the question for a route.
    fn copy_ports(&mut self) {
        self.get(Size::Half, R1, stack::PORTS);
        self.put(Size::Half, stack::FIB + fib::SOURCE_PORT, R1);
        self.get(Size::Half, R1, stack::PORTS + 2);
        self.put(Size::Half, stack::FIB + fib::PORT, R1);
    }
}

/// Puts the ports of TCP, UDP and SCTP on the stack, zeros for ICMP. Other protocols and extension headers, LISP
/// inside, and traceroutes in edition 6830 are the daemon's.
fn read_ports(code: &mut Code, family: usize, header: i16) {
    let (ported, udp, done) = (code.label(), code.label(), code.label());
    code.put(Size::Double, stack::PORTS, 0);
    code.get(Size::Byte, R1, header + protocol_at(family));
    for protocol in [6, 17, 132] {
        code.jump_if(Cond::Eq, R1, protocol, ported);
    }
    code.next_if(Cond::Ne, R1, [1, 58][family]);
    code.jump(done);
    code.bind(ported);
    code.next_if(Cond::Lt, R7, OUTER_LEN[family] + UDP_LEN);
    code.read(ETHERNET + OUTER_LEN[family], stack::PORTS, 4);
    code.get(Size::Byte, R1, header + protocol_at(family));
    code.jump_if(Cond::Eq, R1, 17, udp);
    code.jump(done);
    code.bind(udp);
    code.get_be16(R1, stack::PORTS + 2);
    code.next_if(Cond::Eq, R1, i32::from(lisp::DATA_PORT));
    code.load(Size::Word, R2, R9, settings::TRACEROUTES);
    code.jump_if(Cond::Eq, R2, 0, done);
    code.jump_if(
        Cond::Lt,
        R1,
        i32::from(*crate::dataplane::TRACEROUTE_PORTS.start()),
        done,
    );
    let last = i32::from(*crate::dataplane::TRACEROUTE_PORTS.end());
    code.next_if(Cond::Le, R1, last);
    code.bind(done);
}

/// The same number as `Inner::flow_hash`, before its last shift.
fn flow_hash(code: &mut Code, family: usize, header: i16) {
    code.hash_addresses(family, header);
    let (unlabelled, done) = (code.label(), code.label());
    if family == 1 {
        code.get(Size::Word, R1, header);
        code.big_endian(R1, 32);
        code.alu(Alu::And, R1, 0x000f_ffff);
        code.jump_if(Cond::Eq, R1, 0, unlabelled);
        code.mix(Some(R1));
        code.jump(done);
    }
    code.bind(unlabelled);
    code.get(Size::Byte, R5, header + protocol_at(family));
    code.jump_if(Cond::Eq, R5, [1, 58][family], done);
    code.get(Size::Word, R1, stack::PORTS);
    code.alu(Alu::Lsh, R5, 32);
    code.alu(Alu::Or, R1, R5);
    code.mix(Some(R1));
    code.bind(done);
    code.mix(None);
    code.put(Size::Double, stack::HASH, R2);
}

/// `R8 =` the destination whose index is `NOTE`; its use is found too.
fn find_destination(code: &mut Code, maps: &Maps) {
    code.get(Size::Double, R2, stack::NOTE);
    code.find_place(maps.used.fd(), stack::REGION, DESTINATIONS, stack::USE);
    code.get(Size::Double, R1, stack::NOTE);
    code.put(Size::Word, stack::KEY, R1);
    code.look_up(maps.destinations.fd());
    code.mov(R8, R0);
}

/// Sends the packet to the destination in R8 over one family.
fn to_locator(code: &mut Code, maps: &Maps, family: usize, over: usize) {
    let inner = stack::INNER;
    let outer = stack::OUTER[over];
    let room = OUTER_LEN[over] + UDP_LEN + LISP_LEN;
    code.mov(R1, R7);
    code.alu(Alu::Add, R1, room);
    code.next_if(Cond::Gt, R1, 65_535);
    source_port(code, over);

    // TTL and TOS as they are behind this hop (RFC 6830 5.3).
    code.tos(family, inner, R1);
    code.get(Size::Byte, R2, inner + ttl_at(family));
    code.alu(Alu::Sub, R2, 1);
    code.put(Size::Byte, inner + ttl_at(family), R2);
    outer_header(code, over);
    if family == 0 {
        code.checksum_ipv4(inner);
    }

    let known = code.label();
    code.get(Size::Double, R1, stack::KNOWN);
    code.jump_if(Cond::Ne, R1, 0, known);
    if over == 1 {
        code.next_unless(settings::ROUTES_V6);
    }
    // As a packet of this box: asked for from its loopback interface.
    code.route_of(over, outer, room);
    code.get(Size::Half, R1, stack::UDP);
    code.put(Size::Half, stack::FIB + fib::SOURCE_PORT, R1);
    code.put(Size::Half, stack::FIB + fib::PORT, port_word());
    code.put(Size::Word, stack::FIB + fib::IFINDEX, 1);
    code.route();
    code.keep_route();
    code.keep_flow(maps.flows(0), FLOW_LEN[family]);
    code.bind(known);

    code.adjust_room(room, ENCAP_L3[over] | ENCAP_L4_UDP);
    // Up to what changed in the inner header.
    let changed = if family == 0 { 12 } else { 8 };
    code.write(outer, room + changed);
    code.count(maps, stack::USE);
    code.count_time(stack::USE);
    code.count(maps, stack::TOTAL);
    code.count_known(maps, stack::TOTAL);
    code.send();
}

/// Port 4341 as it lies in a header.
fn port_word() -> Operand {
    Operand::Imm(i32::from(lisp::DATA_PORT.to_be()))
}

/// The outer source port of the flow, the same as `PortPool::of_flow` chooses.
fn source_port(code: &mut Code, over: usize) {
    code.get(Size::Double, R1, stack::HASH);
    code.alu(Alu::Rsh, R1, 32);
    code.alu(Alu::And, R1, 0x00ff_ffff);
    code.load(Size::Word, R2, R9, settings::PORT_COUNTS[over]);
    code.next_if(Cond::Eq, R2, 0);
    code.alu(Alu::Mod, R1, R2);
    // Says to the verifier what the division means.
    code.alu(Alu::And, R1, PORTS as i32 - 1);
    code.alu(Alu::Lsh, R1, 1);
    code.mov(R2, R9);
    code.alu(Alu::Add, R2, R1);
    code.load(Size::Half, R1, R2, settings::PORTS[over]);
    code.put(Size::Half, stack::UDP, R1);
}

/// Writes outer IP and UDP header to the stack (RFC 6830 5.1, 5.2: DF set, UDP checksum zero): TOS from R1, TTL from R2.
fn outer_header(code: &mut Code, over: usize) {
    let outer = stack::OUTER[over];
    code.mov(R3, R7);
    code.alu(Alu::Add, R3, UDP_LEN + LISP_LEN);
    if over == 0 {
        code.put(Size::Byte, outer, 0x45);
        code.put(Size::Byte, outer + 1, R1);
        code.mov(R5, R3);
        code.alu(Alu::Add, R5, 20);
        code.put_be16(outer + 2, R5);
        code.put(Size::Half, outer + 4, 0);
        code.put(Size::Byte, outer + 6, 0x40);
        code.put(Size::Byte, outer + 7, 0);
        code.put(Size::Byte, outer + 8, R2);
        code.put(Size::Byte, outer + 9, 17);
        for (from, to) in [(destination::SOURCE, 12), (destination::RLOC, 16)] {
            // IPv4 stands in the last four octets.
            code.load(Size::Word, R5, R8, from + 12);
            code.put(Size::Word, outer + to, R5);
        }
    } else {
        code.alu(Alu::Lsh, R1, 4);
        code.alu(Alu::Or, R1, 0x6000);
        code.put_be16(outer, R1);
        code.put(Size::Half, outer + 2, 0);
        code.mov(R5, R3);
        code.put_be16(outer + 4, R5);
        code.put(Size::Byte, outer + 6, 17);
        code.put(Size::Byte, outer + 7, R2);
        for (from, to) in [(destination::SOURCE, 8), (destination::RLOC, 24)] {
            for word in 0..2 {
                code.load(Size::Double, R5, R8, from + 8 * word);
                code.put(Size::Double, outer + to + 8 * word, R5);
            }
        }
    }
    code.put(Size::Half, stack::UDP + 2, port_word());
    code.put_be16(stack::UDP + 4, R3);
    code.put(Size::Half, stack::UDP + 6, 0);
    if over == 0 {
        code.checksum_ipv4(outer);
    }
}
