//! A change of configuration ends what only the old one allowed, however long it asked to live.

use super::*;

const EID: &str = "10.1.0.0/24";
const HOST: &str = "10.1.0.7/32";

/// A Map-Server of the newer edition where `eids` are registered by [`ETR`] for ever.
fn for_ever(sites: Vec<SiteConfig>, eids: &[&str]) -> Bench {
    let mut bench = Bench::new(Config {
        edition: Edition::Rfc9300,
        ..config(sites)
    });
    bench.core.keep_journal();
    let records = eids.iter().map(|eid| record(eid, u32::MAX, &[ETR]));
    let message = MapRegister {
        nonce: 1,
        use_ttl: true,
        ..register(records.collect())
    };
    assert_eq!(bench.register(ETR, &message).len(), 1);
    assert_eq!(bench.core.registration_count(), eids.len());
    assert_eq!(bench.core.next_timer(), None);
    bench
}

fn reconfigure(bench: &mut Bench, sites: Vec<SiteConfig>) {
    let changed = Config {
        edition: Edition::Rfc9300,
        ..config(sites)
    };
    bench.core.configure(bench.now, changed);
}

fn with_locators(nets: &[&str]) -> SiteConfig {
    SiteConfig {
        allowed_locators: nets.iter().map(|net| net.parse().unwrap()).collect(),
        ..site("a", &[EID])
    }
}

#[test]
fn a_key_that_goes_takes_its_registrations_along() {
    let mut other_key = site("a", &[EID]);
    other_key.keys.push(key("new"));
    let mut bench = for_ever(vec![other_key.clone()], &[EID]);
    // A second ETR holds it with the new key.
    let message = MapRegister {
        nonce: 1,
        use_ttl: true,
        ..register(vec![record(EID, u32::MAX, &[ETR, ETR2])])
    };
    bench.register_with(ETR2, &message, &auth("new"));
    other_key.keys.remove(0);
    reconfigure(&mut bench, vec![other_key.clone()]);
    assert_eq!(bench.counter("a", SiteEvent::Revocations), 1);
    assert_eq!(bench.core.registration_count(), 1);
    let shown = bench.core.show_registrations(bench.now, None, None, 9);
    assert_eq!(shown[0].etrs.len(), 1);
    assert_eq!(shown[0].etrs[0].source, ETR2);
    other_key.keys = vec![key("third")];
    reconfigure(&mut bench, vec![other_key]);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
}

#[test]
fn locators_that_are_allowed_no_longer_take_their_registration_along() {
    let mut bench = for_ever(vec![site("a", &[EID])], &[EID]);
    reconfigure(&mut bench, vec![with_locators(&["192.0.2.0/24", "::/0"])]);
    assert_eq!(bench.ask(HOST), forwarded(ETR));
    reconfigure(&mut bench, vec![with_locators(&["198.51.100.0/24"])]);
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.counter("a", SiteEvent::Revocations), 1);
}

#[test]
fn prefixes_and_sites_that_go_take_their_registrations_along() {
    let both = [EID, "10.2.0.0/24"];
    let mut bench = for_ever(vec![site("a", &both)], &both);
    reconfigure(&mut bench, vec![site("a", &[EID])]);
    assert_eq!(bench.core.registration_count(), 1);
    reconfigure(&mut bench, vec![]);
    assert_eq!(bench.core.registration_count(), 0);
    assert_eq!(bench.ask(HOST), negative("0.0.0.0/0", 15));
}

#[test]
fn a_site_within_a_sites_space_takes_it_over() {
    let around = || site("a", &["10.0.0.0/8+"]);
    let mut bench = for_ever(vec![around()], &["10.1.0.7/32", "10.2.0.0/24"]);
    bench.core.put_site(bench.now, site("b", &[EID]));
    assert_eq!(bench.ask(HOST), negative(EID, 1));
    assert_eq!(bench.ask("10.2.0.1/32"), forwarded(ETR));
    assert_eq!(bench.counter("a", SiteEvent::Revocations), 1);
}

#[test]
fn a_server_that_is_none_any_more_holds_no_registrations() {
    let mut bench = for_ever(vec![site("a", &[EID])], &[EID]);
    let mut resolver = config(vec![site("a", &[EID])]);
    resolver.roles.map_server = false;
    bench.core.configure(bench.now, resolver);
    assert_eq!(bench.core.registration_count(), 0);
}

#[test]
fn what_was_revoked_does_not_come_back_from_the_disk() {
    let mut bench = for_ever(vec![site("a", &[EID])], &[EID]);
    let narrowed = || vec![with_locators(&["198.51.100.0/24"])];
    reconfigure(&mut bench, narrowed());
    let stored = [STATE_HEADER, &bench.core.journal().unwrap()[..]].concat();
    for sites in [vec![site("a", &[EID])], narrowed()] {
        let mut again = Bench::new(config(sites));
        again.core.restore(again.now, &stored).unwrap();
        assert_eq!(again.core.registration_count(), 0);
    }
    // Neither does what the configuration of this start forbids.
    let mut bench = for_ever(vec![site("a", &[EID])], &[EID]);
    let stored = [STATE_HEADER, &bench.core.journal().unwrap()[..]].concat();
    let mut again = Bench::new(config(narrowed()));
    again.core.restore(again.now, &stored).unwrap();
    assert_eq!(again.core.registration_count(), 0);
}
