//! Whatever arrives in whatever order: the core goes on, holds what it says and keeps its own books right.

use lisp::wire::XtrSiteId;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Any octets.
    Noise(Vec<u8>),
    /// A right message with some octets changed and the end cut or lengthened.
    Damaged(Kind, Vec<(usize, u8)>, i8),
    Right(Kind),
    Pass(u16),
    Configure(u8),
    Save,
}

#[derive(Debug, Clone)]
enum Kind {
    Register {
        etr: u8,
        host: u8,
        ttl: u8,
        flags: u8,
        nonce: u8,
    },
    Request {
        host: u8,
        length: u8,
        flags: u8,
    },
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0u8..4, any::<u8>(), 0u8..3, any::<u8>(), any::<u8>()).prop_map(
            |(etr, host, ttl, flags, nonce)| Kind::Register {
                etr,
                host,
                ttl,
                flags,
                nonce
            }
        ),
        (any::<u8>(), 0u8..=32, any::<u8>()).prop_map(|(host, length, flags)| Kind::Request {
            host,
            length,
            flags
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = proptest::collection::vec((0usize..120, any::<u8>()), 1..6);
    prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Noise),
        4 => (kind(), changes, -30i8..10).prop_map(|(k, c, e)| Step::Damaged(k, c, e)),
        8 => kind().prop_map(Step::Right),
        2 => (0u16..400).prop_map(Step::Pass),
        1 => any::<u8>().prop_map(Step::Configure),
        1 => Just(Step::Save),
    ]
}

fn message(kind: &Kind) -> (String, Vec<u8>) {
    match *kind {
        Kind::Register {
            etr,
            host,
            ttl,
            flags,
            nonce,
        } => {
            let source = format!("192.0.2.{}", etr + 1);
            let length = [16, 24, 32][usize::from(host % 3)];
            let eid = EidPrefix::new(
                u32::from(flags >> 7),
                format!("10.{}.{host}.{host}/{length}", host % 3)
                    .parse()
                    .unwrap(),
            );
            let sent = MapRegister {
                proxy_reply: flags & 1 != 0,
                merge: flags & 2 != 0,
                use_ttl: flags & 4 != 0,
                want_map_notify: flags & 8 != 0,
                xtr_site_id: (flags & 16 != 0).then_some(XtrSiteId {
                    xtr_id: [etr; 16],
                    site_id: 0,
                }),
                nonce: u64::from(nonce),
                ..register(vec![record(&eid.to_string(), u32::from(ttl), &[&source])])
            };
            let key = auth(if flags & 96 == 96 { "wrong" } else { "secret" });
            (source, sent.to_signed_vec(&key))
        }
        Kind::Request {
            host,
            length,
            flags,
        } => {
            let eid = EidPrefix::new(
                u32::from(flags >> 7),
                format!("10.{}.{host}.{host}/{length}", host % 3)
                    .parse()
                    .unwrap(),
            );
            let asked = MapRequest {
                authoritative: flags & 1 != 0,
                smr: flags & 2 != 0,
                dont_reply: flags & 4 != 0,
                ..request(&eid.to_string())
            };
            if flags & 8 != 0 {
                return (ITR.into(), asked.to_vec());
            }
            let message = ControlMessage::MapRequest(asked);
            let ecm = Ecm::wrap(ip(ITR), eid.prefix.addr(), 50000, 4342, 64, &message);
            (ITR.into(), ecm.to_vec())
        }
    }
}

fn variant(number: u8) -> Config {
    let mut sites = vec![site("a", &["10.0.0.0/16+", "[1]10.0.0.0/16+"])];
    if number & 1 != 0 {
        sites.push(site("b", &["10.1.0.0/16+"]));
    }
    if number & 2 != 0 {
        sites[0].prefixes[0].accept_more_specifics = false;
    }
    if number & 4 != 0 {
        sites[0]
            .prefixes
            .push(site("", &["10.0.8.0/24"]).prefixes[0]);
    }
    if number & 16 != 0 {
        sites[0].keys = vec![key("another")];
    }
    if number & 32 != 0 {
        sites[0].allowed_locators = vec!["192.0.2.2/32".parse().unwrap()];
    }
    Config {
        edition: if number & 8 != 0 {
            Edition::Rfc9300
        } else {
            Edition::Rfc6830
        },
        ..config(sites)
    }
}

/// What must hold after every step.
fn check(core: &Core, now: Time) {
    let registered: Vec<_> = core
        .known
        .iter()
        .filter_map(|(prefix, known)| Some((prefix, known.registration.as_ref()?)))
        .collect();
    assert_eq!(registered.len(), core.registration_count());
    let of_sites: usize = core.sites.iter().map(|(_, site)| site.registrations).sum();
    assert_eq!(of_sites, registered.len());
    for (prefix, known) in core.known.iter() {
        assert!(!known.is_empty(), "{prefix} is known for a reason");
    }
    for (prefix, registration) in registered {
        assert!(!registration.etrs.is_empty(), "{prefix}");
        let permitted = core.permission(&prefix).map(|(site, _)| site);
        assert_eq!(permitted, Some(registration.site), "{prefix}");
        let next = registration.etrs.iter().map(|etr| etr.expires).min();
        let next = next.map(|next| next.max(now)).unwrap();
        assert!(
            registration.scheduled <= next,
            "{prefix} is looked at in time"
        );
        assert!(
            core.expiries.has(registration.scheduled, &prefix),
            "{prefix} has a timer"
        );
        for etr in &registration.etrs {
            assert!(core.is_allowed(&prefix, registration.site, etr), "{prefix}");
        }
    }
    for site in core.show_sites(now, None) {
        assert!(
            core.show_registrations(now, Some(&site.name), None, 10)
                .len()
                <= 10
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_is_survived(
        first in any::<u8>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut bench = Bench::new(variant(first));
        let mut saved = super::super::STATE_HEADER.to_vec();
        bench.core.keep_journal();
        for step in steps {
            match step {
                Step::Noise(octets) => {
                    bench.datagram(ITR, 1, &octets);
                }
                Step::Damaged(kind, changes, end) => {
                    let (source, mut octets) = message(&kind);
                    for (at, value) in changes {
                        let length = octets.len();
                        octets[at % length] = value;
                    }
                    let length = octets.len().saturating_add_signed(isize::from(end));
                    octets.resize(length, 0xa5);
                    bench.datagram(&source, 4342, &octets);
                }
                Step::Right(kind) => {
                    let (source, octets) = message(&kind);
                    bench.datagram(&source, 4342, &octets);
                }
                Step::Pass(seconds) => {
                    bench.pass(u64::from(seconds));
                }
                Step::Configure(number) => bench.core.configure(bench.now, variant(number)),
                Step::Save => {}
            }
            saved.append(bench.core.journal().unwrap());
            check(&bench.core, bench.now);
        }
        // Every prefix of the file can be read, whole or cut.
        let mut again = Bench::new(variant(0));
        again.core.restore(bench.now, &saved).unwrap();
        check(&again.core, bench.now);
        for cut in [saved.len() / 2, saved.len().saturating_sub(3)] {
            let mut again = Bench::new(variant(1));
            if cut >= super::super::STATE_HEADER.len() {
                again.core.restore(bench.now, &saved[..cut]).unwrap();
                check(&again.core, bench.now);
            }
        }
    }
}
