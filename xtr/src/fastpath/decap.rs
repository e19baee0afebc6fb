//! The ETR half of the program: LISP data packets to a locator of this box leave toward the site.
//!
//! Only those that claim nothing but an Instance ID, carry a zero UDP checksum (nobody has to verify it, RFC 6830 5.3),
//! and hold a packet for a local EID with a way into the site; everything else is the daemon's.

use super::asm::{Alu, Cond, Helper, Reg, Size};
use super::code::{
    Code, ETHERNET, LISP_LEN, OUTER_LEN, UDP_LEN, addresses_at, fib, protocol_at, skb, stack,
    ttl_at,
};
use super::maps::{Maps, settings, total};
use Reg::{R0, R1, R2, R3, R6, R7, R9};

/// Flags of `bpf_skb_adjust_room`.
const DECAP_L3: [i32; 2] = [1 << 7, 1 << 8];

/// The I bit of a LISP header (RFC 6830 5.3).
const INSTANCE: i32 = 0x08;

/// A packet of the locator side of one family.
pub(super) fn from_locator(code: &mut Code, maps: &Maps, over: usize) {
    let outer = stack::OUTER[over];
    let before = ETHERNET + OUTER_LEN[over] + UDP_LEN + LISP_LEN;
    code.map_value(R9, maps.settings.fd());
    code.next_unless(settings::DECAPSULATE);
    // Outer, UDP, LISP and an inner IPv4 header lie behind each other here as in the packet.
    let all = OUTER_LEN[over] + UDP_LEN + LISP_LEN + OUTER_LEN[0];
    code.read(ETHERNET, outer, all);
    code.get(Size::Byte, R1, outer + protocol_at(over));
    code.next_if(Cond::Ne, R1, 17);
    code.get_be16(R1, stack::UDP + 2);
    code.next_if(Cond::Ne, R1, i32::from(lisp::DATA_PORT));
    code.get(Size::Half, R1, stack::UDP + 6);
    code.next_if(Cond::Ne, R1, 0);
    code.check_header(over, outer, ETHERNET, false);
    code.get_be16(R1, stack::UDP + 4);
    code.alu(Alu::Add, R1, OUTER_LEN[over]);
    code.next_if(Cond::Ne, R1, R7);

    code.get(Size::Byte, R1, stack::LISP);
    code.load(Size::Word, R2, R9, settings::FOREIGN_FLAGS);
    code.alu(Alu::And, R2, R1);
    code.next_if(Cond::Ne, R2, 0);
    code.put(Size::Word, stack::INSTANCE, 0);
    let no_instance = code.label();
    code.alu(Alu::And, R1, INSTANCE);
    code.jump_if(Cond::Eq, R1, 0, no_instance);
    code.get(Size::Word, R1, stack::LISP + 4);
    code.big_endian(R1, 32);
    code.alu(Alu::Rsh, R1, 8);
    code.big_endian(R1, 32);
    code.put(Size::Word, stack::INSTANCE, R1);
    code.bind(no_instance);

    code.put(Size::Double, stack::INNER_AT, before);
    code.get(Size::Byte, R1, stack::INNER);
    code.alu(Alu::Rsh, R1, 4);
    let holds_v6 = code.label();
    code.jump_if(Cond::Eq, R1, 6, holds_v6);
    code.next_if(Cond::Ne, R1, 4);
    to_site(code, maps, over, 0);
    code.bind(holds_v6);
    to_site(code, maps, over, 1);
}

/// The outer destination is a locator of this box.
fn own_locator(code: &mut Code, maps: &Maps, over: usize) {
    let outer = stack::OUTER[over];
    if over == 0 {
        code.put(Size::Word, stack::KEY, 0);
        code.put(Size::Word, stack::KEY + 4, 0);
        code.put(Size::Word, stack::KEY + 8, 0xffffu32.to_be() as i32);
        code.copy(outer + 16, stack::KEY + 12, 1);
    } else {
        code.copy(outer + 24, stack::KEY, 4);
    }
    code.look_up(maps.rlocs.fd());
}

/// An inner packet of one family behind an outer header of the other or the same.
fn to_site(code: &mut Code, maps: &Maps, over: usize, family: usize) {
    let (outer, inner) = (stack::OUTER[over], stack::INNER);
    let taken = OUTER_LEN[over] + UDP_LEN + LISP_LEN;
    if family == 1 {
        code.read(ETHERNET + taken, inner, OUTER_LEN[family]);
    }
    code.check_header(family, inner, ETHERNET + taken, true);
    code.segments(family, inner);
    code.note_place_and_time(maps);

    let (unknown, known) = (code.label(), code.label());
    let length = describe_flow(code, maps, over, family);
    code.hash_addresses(family, inner);
    code.find_flow(maps.flows(1), length, unknown);
    code.jump(known);
    code.bind(unknown);
    resolve(code, maps, over, family);
    code.keep_flow(maps.flows(1), length);
    code.bind(known);

    // A packet that still has to be cut keeps the marks of its tunnel: devices that cut themselves would be misled.
    let single = code.label();
    code.load(Size::Word, R1, R6, skb::GSO_SIZE);
    code.jump_if(Cond::Eq, R1, 0, single);
    code.get(Size::Double, R1, stack::NOTE);
    code.next_if(Cond::Eq, R1, 0);
    code.bind(single);
    leaving_tos_and_ttl(code, over, outer, family);
    code.find_total(maps, total::DECAPSULATED);

    let flags = if over == family { 0 } else { DECAP_L3[family] };
    code.adjust_room(-taken, flags);
    code.write(inner, if family == 0 { 12 } else { 8 });
    code.count(maps, stack::TOTAL);
    code.count_known(maps, stack::TOTAL);
    code.send();
}

/// Everything that the tables and the kernel's routes are asked with; the length of that.
fn describe_flow(code: &mut Code, maps: &Maps, over: usize, family: usize) -> i16 {
    let (outer, inner) = (stack::OUTER[over], stack::INNER);
    code.begin_flow(maps, (over << 1 | family) as i32, family, inner);
    code.copy(stack::INSTANCE, stack::FLOW + 8, 1);
    let addresses = inner + addresses_at(family)[0];
    let mut length = if family == 0 {
        code.copy(addresses, stack::FLOW + 16, 2);
        24
    } else {
        code.copy(addresses, stack::FLOW + 16, 8);
        48
    };
    let destination = outer + addresses_at(over)[1];
    // Traffic class and flow label.
    let class = (family == 1).then_some(inner);
    if over == 0 {
        code.copy(destination, stack::FLOW + 12, 1);
        if let Some(class) = class {
            code.copy(class, stack::FLOW + length, 1);
            code.put(Size::Word, stack::FLOW + length + 4, 0);
            length += 8;
        }
    } else {
        match class {
            Some(class) => code.copy(class, stack::FLOW + 12, 1),
            None => code.put(Size::Word, stack::FLOW + 12, 0),
        }
        code.copy(destination, stack::FLOW + length, 4);
        length += 16;
    }
    length
}

/// Finds out whether the packet is this site's, and its way there; `NOTE` says whether a joined one may take it.
fn resolve(code: &mut Code, maps: &Maps, over: usize, family: usize) {
    let inner = stack::INNER;
    let per_family = &maps.families[family];
    own_locator(code, maps, over);
    code.check_addresses(family, inner);
    let destination = inner + addresses_at(family)[1];
    code.copy(stack::INSTANCE, stack::KEY + 4, 1);
    for (map, instance) in [(&per_family.locals, true), (&per_family.site, false)] {
        code.longest_match(map.fd(), family, destination, instance);
        code.load(Size::Word, R1, R0, 0);
        code.next_if(Cond::Ne, R1, 1);
    }
    if family == 1 {
        code.next_unless(settings::ROUTES_V6);
    }
    // Where a packet from the TUN device would go.
    code.route_of(family, inner, 0);
    code.load(Size::Word, R1, R9, settings::TUNNEL);
    code.put(Size::Word, stack::FIB + fib::IFINDEX, R1);
    code.route();
    code.load(Size::Word, R1, R9, settings::TUNNEL);
    code.get(Size::Word, R2, stack::FIB + fib::IFINDEX);
    code.next_if(Cond::Eq, R1, R2);
    code.keep_route();

    let real = code.label();
    code.put(Size::Double, stack::NOTE, 0);
    code.get(Size::Double, R1, stack::INTERFACE);
    code.put(Size::Word, stack::KEY, R1);
    code.map(R1, maps.virtuals.fd());
    code.address(R2, stack::KEY);
    code.call(Helper::MapLookup);
    code.jump_if(Cond::Eq, R0, 0, real);
    code.put(Size::Double, stack::NOTE, 1);
    code.bind(real);
}

/// Gives the inner header the DSCP from outside, the ECN field by the edition's table and the smaller TTL, less this
/// hop (RFC 6830 5.3).
fn leaving_tos_and_ttl(code: &mut Code, over: usize, outer: i16, family: usize) {
    let inner = stack::INNER;
    code.tos(over, outer, R1);
    code.tos(family, inner, R2);
    code.mov(R3, R1);
    code.alu(Alu::And, R2, 3);
    code.alu(Alu::And, R3, 3);
    code.alu(Alu::Lsh, R2, 2);
    code.alu(Alu::Or, R2, R3);
    code.alu(Alu::Lsh, R2, 2);
    code.load(Size::Double, R3, R9, settings::ECN);
    code.alu(Alu::Rsh, R3, R2);
    code.alu(Alu::And, R3, 0x0f);
    code.next_if(Cond::Eq, R3, i32::from(settings::ECN_DAEMON));
    code.alu(Alu::And, R1, 0xfc);
    code.alu(Alu::Or, R1, R3);
    if family == 0 {
        code.put(Size::Byte, inner + 1, R1);
    } else {
        code.get_be16(R2, inner);
        code.alu(Alu::And, R2, 0xf00f);
        code.alu(Alu::Lsh, R1, 4);
        code.alu(Alu::Or, R2, R1);
        code.put_be16(inner, R2);
    }
    let smaller = code.label();
    code.get(Size::Byte, R1, inner + ttl_at(family));
    code.get(Size::Byte, R2, outer + ttl_at(over));
    code.jump_if(Cond::Le, R1, R2, smaller);
    code.mov(R1, R2);
    code.bind(smaller);
    code.next_if(Cond::Le, R1, 1);
    code.alu(Alu::Sub, R1, 1);
    code.put(Size::Byte, inner + ttl_at(family), R1);
    if family == 0 {
        code.checksum_ipv4(inner);
    }
}
