//! Negative prefixes as questions get them, against a model that tries every length against every known prefix.

use proptest::prelude::*;

use super::*;

/// Prefixes of few leading bits, so that nesting and neighbourhood happen often; the tail makes long ones too.
fn any_prefix() -> impl Strategy<Value = EidPrefix> {
    let tail = prop_oneof![Just(0u8), 0u8..=24];
    (0u32..2, any::<bool>(), any::<u8>(), 0u8..=8, tail).prop_map(
        |(iid, ipv6, bits, short, more)| {
            let length = if short == 8 { 8 + more } else { short };
            let address: IpAddr = if ipv6 {
                std::net::Ipv6Addr::from(u128::from(bits) << 120 | 1 << 97).into()
            } else {
                std::net::Ipv4Addr::from(u32::from(bits) << 24 | 0x1234).into()
            };
            EidPrefix::new(iid, ipnet::IpNet::new(address, length).unwrap())
        },
    )
}

fn longest(prefixes: &[EidPrefix], covering: &EidPrefix) -> Option<EidPrefix> {
    let covers = prefixes.iter().filter(|prefix| prefix.covers(covering));
    covers
        .max_by_key(|prefix| prefix.prefix.prefix_len())
        .copied()
}

/// What the texts want, said the long way.
struct Model {
    configured: Vec<(EidPrefix, bool)>,
    registered: Vec<EidPrefix>,
    aggregates: Vec<EidPrefix>,
}

impl Model {
    fn new(
        configured: Vec<(EidPrefix, bool)>,
        wanted: &[EidPrefix],
        aggregates: Vec<EidPrefix>,
    ) -> Self {
        let names: Vec<EidPrefix> = configured.iter().map(|(prefix, _)| *prefix).collect();
        let accepted = |prefix: &&EidPrefix| {
            longest(&names, prefix)
                .is_some_and(|around| around == **prefix || configured.contains(&(around, true)))
        };
        let registered = wanted.iter().filter(accepted).copied().collect();
        Self {
            configured,
            registered,
            aggregates,
        }
    }

    /// Prefix and TTL of the negative answer; `None` when the question goes to an ETR.
    fn answer(&self, question: &EidPrefix) -> Option<(EidPrefix, u32)> {
        let names = self.configured.iter().map(|(prefix, _)| *prefix);
        let known: Vec<EidPrefix> = names.chain(self.registered.iter().copied()).collect();
        let host = EidPrefix::host(question.iid, question.prefix.addr());
        let around = longest(&known, &host);
        for covering in [longest(&known, question), around].into_iter().flatten() {
            if self.registered.contains(&covering) {
                return None;
            }
        }
        let (floor, ttl) = match around {
            Some(around) => (around.prefix.prefix_len(), 1),
            None => {
                let aggregate = longest(&self.aggregates, &host);
                (
                    aggregate.map_or(0, |aggregate| aggregate.prefix.prefix_len()),
                    15,
                )
            }
        };
        let hole = (floor..=host.prefix.max_prefix_len())
            .map(|length| {
                let net = ipnet::IpNet::new(host.prefix.addr(), length).unwrap();
                EidPrefix::new(host.iid, net)
            })
            .find(|hole| {
                known
                    .iter()
                    .all(|prefix| prefix.covers(&host) || !hole.covers(prefix))
            })
            .unwrap();
        Some((hole, ttl))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_question_gets_the_largest_hole(
        configured in proptest::collection::btree_map(any_prefix(), any::<bool>(), 0..12),
        wanted in proptest::collection::vec(any_prefix(), 0..12),
        aggregates in proptest::collection::vec(any_prefix(), 0..3),
        questions in proptest::collection::vec(any_prefix(), 1..8),
    ) {
        let configured: Vec<(EidPrefix, bool)> = configured.into_iter().collect();
        let sites = configured.iter().enumerate().map(|(number, (prefix, more))| {
            let text = format!("{prefix}{}", if *more { "+" } else { "" });
            site(&format!("site-{number}"), &[&text])
        });
        let mut bench = Bench::new(Config {
            aggregates: aggregates.clone(),
            ..config(sites.collect())
        });
        for prefix in &wanted {
            bench.simple(ETR, &prefix.to_string());
        }
        let model = Model::new(configured, &wanted, aggregates);
        for question in &questions {
            // The same answer to the same requester is held back for a second.
            bench.pass(2);
            let expected = match model.answer(question) {
                Some((hole, ttl)) => negative(&hole.to_string(), ttl),
                None => forwarded(ETR),
            };
            prop_assert_eq!(bench.ask(&question.to_string()), expected, "asked for {}", question);
        }
    }
}
