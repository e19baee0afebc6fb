//! The forms of single values: names, addresses, prefixes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::{Position, Problem};
use super::section::{parsed, text};
use super::tree::Tree;

type Problems = Vec<Problem>;

pub(super) fn check_word(name: &str, at: Position, what: &str, problems: &mut Problems) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=63).contains(&name.len())
        && name.chars().all(usable)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !good {
        problems.push(Problem::new(
            at,
            format!(
                "{what}: expected a name of 1 to 63 letters, digits, `-`, `_` or `.` that begins with a letter or digit"
            ),
        ));
    }
    good
}

pub(super) fn word(tree: &Tree, what: &str, problems: &mut Problems) -> Option<String> {
    let word = text(tree, what, problems)?;
    check_word(&word, tree.at, what, problems).then_some(word)
}

pub(super) fn ip(tree: &Tree, what: &str, problems: &mut Problems) -> Option<IpAddr> {
    parsed(
        tree,
        what,
        "an IP address like 192.0.2.1 or 2001:db8::1",
        problems,
        |text| text.parse().ok(),
    )
}

/// An address with prefix length, that can be given to an interface.
pub(super) fn address(tree: &Tree, what: &str, problems: &mut Problems) -> Option<IpNet> {
    let expected = "an address with prefix length like 192.0.2.1/30 or 2001:db8::1/64";
    let net: IpNet = parsed(tree, what, expected, problems, |text| text.parse().ok())?;
    let addr = net.addr();
    let is_network = net.prefix_len() < net.max_prefix_len() - 1 && addr == net.network();
    let is_broadcast = addr.is_ipv4() && net.prefix_len() < 31 && addr == net.broadcast();
    if addr.is_unspecified()
        || addr.is_multicast()
        || addr.is_loopback()
        || is_network
        || is_broadcast
    {
        let why = if is_network {
            "the address of the subnet itself"
        } else if is_broadcast {
            "the broadcast address of its subnet"
        } else if addr.is_multicast() {
            "a multicast address"
        } else if addr.is_loopback() {
            "a loopback address"
        } else {
            "the unspecified address"
        };
        problems.push(
            Problem::new(
                tree.at,
                format!("{what}: expected an address for one interface, found {net}, {why}"),
            )
            .hint(format!("take an address inside {}", net.trunc())),
        );
        return None;
    }
    Some(net)
}

/// A destination: all bits behind the prefix length are zero.
pub(super) fn prefix(tree: &Tree, what: &str, problems: &mut Problems) -> Option<IpNet> {
    let expected = "a prefix like 10.0.0.0/8 or 2001:db8::/32";
    let net: IpNet = parsed(tree, what, expected, problems, |text| text.parse().ok())?;
    if net.addr() != net.network() {
        problems.push(
            Problem::new(
                tree.at,
                format!(
                    "{what}: expected a prefix, found {net} with bits set behind the prefix length"
                ),
            )
            .hint(format!(
                "write {}, or {}/{} for the one address",
                net.trunc(),
                net.addr(),
                net.max_prefix_len()
            )),
        );
        return None;
    }
    Some(net)
}

pub(super) fn mac(tree: &Tree, what: &str, problems: &mut Problems) -> Option<[u8; 6]> {
    parsed(
        tree,
        what,
        "a unicast Ethernet address like 02:00:00:00:00:01",
        problems,
        |text| {
            let mut mac = [0; 6];
            let mut parts = text.split(':');
            for octet in &mut mac {
                let part = parts.next().filter(|part| part.len() == 2)?;
                *octet = u8::from_str_radix(part, 16).ok()?;
            }
            (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
        },
    )
}

/// What Linux takes as the name of an interface, without the names that mean something else in /proc/sys.
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name != "lo"
        && name != "all"
        && name != "default"
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '/' && c != ':' && c != '%')
}
