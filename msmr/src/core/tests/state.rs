//! What is kept comes back.

use super::*;

fn sites() -> Vec<SiteConfig> {
    vec![site("a", &["10.1.0.0/16+"]), site("b", &["2001:db8::/32+"])]
}

fn newer() -> Config {
    Config {
        edition: Edition::Rfc9300,
        ..config(sites())
    }
}

fn shown(core: &Core, now: Time) -> Vec<show::RegistrationView> {
    let mut shown = core.show_registrations(now, None, None, 1000);
    for etr in shown
        .iter_mut()
        .flat_map(|registration| &mut registration.etrs)
    {
        etr.restored = false;
    }
    shown
}

#[test]
fn a_restart_answers_at_once_and_is_marked_until_registered_again() {
    let mut bench = Bench::new(newer());
    bench.core.keep_journal();
    let numbered = |nonce, eid: &str| MapRegister {
        nonce,
        ..register(vec![record(eid, 1440, &[ETR])])
    };
    bench.register(ETR, &numbered(10, "10.1.0.0/24"));
    bench.register(ETR, &numbered(11, "2001:db8:1::/48"));
    bench.register(ETR, &numbered(12, "10.1.2.0/24"));
    bench.register(
        ETR,
        &MapRegister {
            nonce: 13,
            ..register(vec![record("10.1.2.0/24", 0, &[])])
        },
    );
    let mut state = STATE_HEADER.to_vec();
    state.append(bench.core.journal().unwrap());

    let mut again = Bench::new(newer());
    again.now = bench.now + Duration::from_secs(10);
    let (entries, torn) = again.core.restore(again.now, &state).unwrap();
    assert_eq!((entries, torn), (3 + 1 + 4, 0));
    assert_eq!(again.ask("10.1.0.1/32"), forwarded(ETR));
    assert_eq!(again.ask("10.1.2.1/32"), negative("10.1.2.0/23", 1));
    let view = again.core.show_registrations(again.now, None, None, 10);
    assert!(view.iter().all(|r| r.etrs.iter().all(|etr| etr.restored)));
    assert_eq!(view[0].etrs[0].expires, Some(170));
    assert_eq!(shown(&again.core, again.now), shown(&bench.core, again.now));
    // The highest nonce is remembered, also of what was withdrawn.
    assert!(again.register(ETR, &numbered(13, "10.1.0.0/24")).is_empty());
    assert_eq!(again.register(ETR, &numbered(14, "10.1.0.0/24")).len(), 1);
    let view = again.core.show_registrations(again.now, None, None, 10);
    assert!(!view[0].etrs[0].restored);
    // What is not registered again goes when its time is up.
    again.pass(170);
    assert_eq!(again.core.registration_count(), 1);
}

#[test]
fn what_timed_out_meanwhile_does_not_come_back() {
    let mut bench = Bench::new(newer());
    bench.core.keep_journal();
    bench.simple(ETR, "10.1.0.0/24");
    let mut state = STATE_HEADER.to_vec();
    state.append(bench.core.journal().unwrap());
    let mut again = Bench::new(newer());
    again
        .core
        .restore(bench.now + Duration::from_secs(180), &state)
        .unwrap();
    assert_eq!(again.core.registration_count(), 0);
}

#[test]
fn what_is_not_configured_any_more_stays_out() {
    let mut bench = Bench::new(newer());
    bench.core.keep_journal();
    bench.simple(ETR, "10.1.0.0/24");
    let mut state = STATE_HEADER.to_vec();
    state.append(bench.core.journal().unwrap());
    let mut other_key = sites();
    other_key[0].keys = vec![key("other")];
    for sites in [other_key, vec![site("z", &["10.1.0.0/16+"])], vec![]] {
        let mut again = Bench::new(config(sites));
        again.core.restore(bench.now, &state).unwrap();
        assert_eq!(again.core.registration_count(), 0);
    }
}

#[test]
fn a_sweep_with_changes_in_between_holds_everything() {
    let mut bench = Bench::new(newer());
    bench.core.keep_journal();
    let host = |n: u64| format!("10.1.{}.{}/32", n / 256, n % 256);
    let numbered = |nonce, ttl| MapRegister {
        nonce,
        ..register(vec![record(&host(nonce), ttl, &[ETR])])
    };
    for n in 1..=300 {
        bench.register(ETR, &numbered(n, 1440));
    }
    bench.core.journal().unwrap().clear();
    let mut state = STATE_HEADER.to_vec();
    let mut cursor = bench.core.sweep(None, 50);
    let mut n = 300;
    while let Some(at) = cursor {
        state.append(bench.core.journal().unwrap());
        n += 1;
        bench.register(ETR, &numbered(n, 1440));
        let gone = MapRegister {
            nonce: n * 1000,
            ..register(vec![record(&host(n - 290), 0, &[])])
        };
        bench.register(ETR2, &gone);
        bench.register(
            ETR,
            &MapRegister {
                nonce: 2000 + n,
                ..gone
            },
        );
        state.append(bench.core.journal().unwrap());
        bench.core.nonces = Nonces::default();
        cursor = bench.core.sweep(Some(at), 50);
    }
    state.append(bench.core.journal().unwrap());
    let mut again = Bench::new(newer());
    again.core.restore(bench.now, &state).unwrap();
    assert!(again.core.registration_count() > 250);
    assert_eq!(shown(&again.core, bench.now), shown(&bench.core, bench.now));
}

#[test]
fn other_files_are_refused_and_torn_tails_left() {
    let mut bench = Bench::new(newer());
    assert!(bench.core.restore(bench.now, b"something else").is_err());
    bench.core.keep_journal();
    bench.simple(ETR, "10.1.0.0/24");
    bench.simple(ETR2, "10.1.1.0/24");
    let mut state = STATE_HEADER.to_vec();
    state.append(bench.core.journal().unwrap());
    for cut in STATE_HEADER.len()..state.len() {
        let mut again = Bench::new(newer());
        let (entries, torn) = again.core.restore(bench.now, &state[..cut]).unwrap();
        assert!(entries < 4 && torn < state.len());
        assert_eq!(again.core.registration_count(), entries / 2);
    }
}
