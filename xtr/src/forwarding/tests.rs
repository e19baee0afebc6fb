use super::*;
use std::net::Ipv4Addr;

fn prefix(text: &str) -> EidPrefix {
    EidPrefix::new(0, text.parse().unwrap())
}

fn destination(forwarding: &Forwarding, rloc: &str, priority: u8, weight: u8) -> Destination {
    let rloc: IpAddr = rloc.parse().unwrap();
    Destination {
        rloc,
        source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        priority,
        weight,
        usable: true,
        ordinal: 0,
        state: forwarding.rlocs().get(rloc),
    }
}

fn shares(set: &LocatorSet) -> Vec<(IpAddr, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for slot in 0..256u32 {
        if let Some(d) = set.pick(slot << 24 | 0x1234) {
            *counts.entry(d.rloc).or_insert(0) += 1;
        }
    }
    counts.into_iter().collect()
}

#[test]
fn longest_match_wins_and_removal_uncovers_the_shorter() {
    let f = Forwarding::default();
    f.insert(prefix("10.0.0.0/8"), Decision::Drop, None);
    f.insert(prefix("10.1.0.0/16"), Decision::NativelyForward, None);
    let at = |a: &str| f.longest_match(0, a.parse().unwrap()).map(|e| e.prefix);
    assert_eq!(at("10.1.2.3"), Some(prefix("10.1.0.0/16")));
    assert_eq!(at("10.2.2.3"), Some(prefix("10.0.0.0/8")));
    assert_eq!(at("11.0.0.1"), None);
    f.remove(&prefix("10.1.0.0/16"));
    assert_eq!(at("10.1.2.3"), Some(prefix("10.0.0.0/8")));
    assert!(f.longest_match(7, "10.1.2.3".parse().unwrap()).is_none());
}

#[test]
fn replaced_entry_keeps_its_counts() {
    let f = Forwarding::default();
    let old = f.insert(prefix("10.0.0.0/8"), Decision::Drop, None);
    assert_eq!(old.last_used_ms(), None);
    old.used(3, 300, 17);
    let new = f.insert(prefix("10.0.0.0/8"), Decision::NativelyForward, None);
    assert_eq!(
        (new.packets(), new.bytes(), new.last_used_ms()),
        (3, 300, Some(17))
    );
}

#[test]
fn shares_follow_weights_exactly_and_only_the_best_priority_counts() {
    let f = Forwarding::default();
    let set = LocatorSet::new(vec![
        destination(&f, "198.51.100.1", 1, 75),
        destination(&f, "198.51.100.2", 1, 25),
        destination(&f, "198.51.100.3", 2, 100),
    ]);
    let counts: Vec<_> = shares(&set).into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [192, 64]);
}

#[test]
fn zero_weights_share_equally() {
    let f = Forwarding::default();
    let set = LocatorSet::new(vec![
        destination(&f, "198.51.100.1", 1, 0),
        destination(&f, "198.51.100.2", 1, 0),
    ]);
    let counts: Vec<_> = shares(&set).into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [128, 128]);
}

#[test]
fn priority_255_and_unusable_locators_are_never_picked() {
    let f = Forwarding::default();
    let mut down = destination(&f, "198.51.100.1", 1, 100);
    down.usable = false;
    let never = destination(&f, "198.51.100.2", 255, 100);
    let mut no_source = destination(&f, "198.51.100.3", 1, 100);
    no_source.source = None;
    let set = LocatorSet::new(vec![down.clone(), never.clone(), no_source]);
    assert_eq!(set.pick(0), None);
    let set = LocatorSet::new(vec![down, never, destination(&f, "198.51.100.4", 9, 1)]);
    assert_eq!(
        set.pick(7).map(|d| d.rloc),
        Some("198.51.100.4".parse().unwrap())
    );
}

#[test]
fn most_flows_stay_when_one_of_four_locators_leaves() {
    let f = Forwarding::default();
    let all: Vec<_> = (1..=4)
        .map(|n| destination(&f, &format!("198.51.100.{n}"), 1, 25))
        .collect();
    let before = LocatorSet::new(all.clone());
    let after = LocatorSet::new(all[..3].to_vec());
    let moved = (0..256u32)
        .filter(|slot| {
            let was = before.pick(slot << 24).map(|d| d.rloc);
            was != Some(all[3].rloc) && was != after.pick(slot << 24).map(|d| d.rloc)
        })
        .count();
    assert!(moved <= 64, "{moved} of 192 flows moved without need");
}

#[test]
fn readers_see_every_change_while_a_writer_works() {
    let f = Arc::new(Forwarding::default());
    f.insert(prefix("10.0.0.0/8"), Decision::Drop, None);
    let reader = {
        let f = Arc::clone(&f);
        std::thread::spawn(move || {
            for _ in 0..20_000 {
                let tables = f.snapshot();
                assert!(
                    tables
                        .longest_match(0, "10.9.9.9".parse().unwrap())
                        .is_some()
                );
            }
        })
    };
    for n in 0..2_000u32 {
        let net = prefix(&format!("10.{}.{}.0/24", n / 256, n % 256));
        f.insert(net, Decision::NativelyForward, None);
        assert_eq!(f.get(&net).map(|e| e.prefix), Some(net));
    }
    reader.join().unwrap();
    assert_eq!(f.len(), 2_001);
}

#[test]
fn local_sources_name_their_instance() {
    let f = Forwarding::default();
    f.add_local(LocalEid::new(EidPrefix::new(
        7,
        "10.7.0.0/16".parse().unwrap(),
    )));
    let tables = f.snapshot();
    let iid = |a: &str| {
        tables
            .local_source(a.parse().unwrap())
            .map(|l| l.prefix.iid)
    };
    assert_eq!(iid("10.7.1.1"), Some(7));
    assert_eq!(iid("10.8.1.1"), None);
    assert!(
        tables
            .local_destination(0, "10.7.1.1".parse().unwrap())
            .is_none()
    );
}

#[test]
fn an_owed_echo_is_paid_once() {
    let state = RlocState::default();
    assert_eq!(state.take_owed_echo(), None);
    state.owe_echo(0x00ab_cdef);
    assert_eq!(state.take_owed_echo(), Some(0x00ab_cdef));
    assert_eq!(state.take_owed_echo(), None);
}
