use std::net::IpAddr;
use std::sync::Arc;

use super::super::inner::Inner;
use super::super::route::{Fate, fate, header};
use super::*;
use crate::forwarding::{Counter, Destination, LocatorSet, Role};

fn net(text: &str) -> EidPrefix {
    EidPrefix::new(0, text.parse().unwrap())
}

fn locators(f: &Forwarding, rloc: &str) -> Arc<LocatorSet> {
    let rloc: IpAddr = rloc.parse().unwrap();
    Arc::new(LocatorSet::new(vec![Destination {
        rloc,
        source: Some("192.0.2.1".parse().unwrap()),
        priority: 1,
        weight: 1,
        usable: true,
        ordinal: 0,
        state: f.rlocs().get(rloc),
    }]))
}

fn router() -> Forwarding {
    let f = Forwarding::default();
    f.add_local(LocalEid::new(net("10.1.0.0/24")));
    let set = locators(&f, "198.51.100.1");
    f.insert(net("10.2.0.0/24"), Decision::Encapsulate(set), None);
    f.insert(net("20.0.0.0/8"), Decision::NativelyForward, None);
    f.insert(net("30.0.0.0/8"), Decision::Drop, None);
    f.insert(net("40.0.0.0/8"), Decision::SendMapRequest, None);
    f
}

fn of(f: &Forwarding, source: [u8; 4], destination: [u8; 4]) -> String {
    let packet = udp4(source, destination, 8, true);
    let inner = Inner::parse(&packet).unwrap();
    match fate(&f.snapshot(), &inner, None, 0) {
        Fate::Encapsulate { destination, .. } => format!("to {}", destination.rloc),
        Fate::Native => "native".to_owned(),
        Fate::Miss { iid } => format!("miss in {iid}"),
        Fate::Drop(counter) => counter.name().to_owned(),
    }
}

const HOST: [u8; 4] = [10, 1, 0, 9];

#[test]
fn every_action_of_the_map_cache() {
    let f = router();
    assert_eq!(of(&f, HOST, [10, 2, 0, 2]), "to 198.51.100.1");
    assert_eq!(of(&f, HOST, [20, 0, 0, 1]), "native");
    assert_eq!(of(&f, HOST, [30, 0, 0, 1]), "dropped-by-action");
    assert_eq!(of(&f, HOST, [40, 0, 0, 1]), "miss in 0");
    assert_eq!(of(&f, HOST, [50, 0, 0, 1]), "miss in 0");
}

#[test]
fn only_local_eids_are_encapsulated_except_by_a_proxy() {
    let f = router();
    let stranger = [192, 168, 99, 9];
    assert_eq!(
        of(&f, stranger, [10, 2, 0, 2]),
        Counter::SourceNotEid.name()
    );
    f.set_policy(Policy {
        role: Role::Pitr,
        ..Policy::default()
    });
    assert_eq!(of(&f, stranger, [10, 2, 0, 2]), "to 198.51.100.1");
}

#[test]
fn packets_within_the_site_are_the_kernels() {
    assert_eq!(of(&router(), HOST, [10, 1, 0, 77]), "native");
}

#[test]
fn what_is_no_eid_goes_to_the_petr_where_there_is_one() {
    let f = router();
    let petr = locators(&f, "203.0.113.9");
    f.set_policy(Policy {
        petr: Some(Arc::clone(&petr)),
        ..Policy::default()
    });
    assert_eq!(of(&f, HOST, [20, 0, 0, 1]), "to 203.0.113.9");
    assert_eq!(of(&f, HOST, [50, 0, 0, 1]), "miss in 0");
    assert_eq!(of(&f, HOST, [30, 0, 0, 1]), "dropped-by-action");
    f.set_policy(Policy {
        petr: Some(petr),
        misses_to_petr: true,
        ..Policy::default()
    });
    assert_eq!(of(&f, HOST, [50, 0, 0, 1]), "to 203.0.113.9");
}

#[test]
fn destinations_that_no_site_has_are_dropped() {
    let f = router();
    for destination in [[127, 0, 0, 1], [224, 0, 0, 5], [169, 254, 1, 1], [255; 4]] {
        assert_eq!(of(&f, HOST, destination), Counter::InnerAddress.name());
    }
}

#[test]
fn the_header_says_what_is_claimed_and_nothing_else() {
    let f = router();
    let set = locators(&f, "198.51.100.1");
    let destination = &set.destinations()[0];
    let local = LocalEid {
        locator_status: Some(0b11),
        map_version: Some(5),
        ..LocalEid::new(net("10.1.0.0/24"))
    };
    let entry = f.insert(net("10.2.0.0/24"), Decision::Drop, Some(9));
    let plain = header(&f.snapshot(), 0, Some(&local), None, destination);
    assert_eq!(plain, lisp::wire::DataHeader::default());
    f.set_policy(Policy {
        locator_status_bits: true,
        ..Policy::default()
    });
    let tables = f.snapshot();
    let versions = header(&tables, 7, Some(&local), Some(&entry), destination);
    assert_eq!(versions.instance_id, Some(7));
    assert_eq!(versions.locator_status, Some(0b11));
    assert_eq!(versions.map_version, Some((5, 9)));
    destination.state.request_echo(Some(0x12_3456));
    destination.state.owe_echo(0xab_cdef);
    let echo = header(&tables, 0, None, Some(&entry), destination);
    assert_eq!(
        (echo.nonce, echo.echo_request, echo.map_version),
        (Some(0xab_cdef), false, None)
    );
    let request = header(&tables, 0, None, Some(&entry), destination);
    assert_eq!(
        (request.nonce, request.echo_request),
        (Some(0x12_3456), true)
    );
}
