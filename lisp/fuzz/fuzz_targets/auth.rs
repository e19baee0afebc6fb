//! What can be signed verifies, with one octet changed it does not, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::auth::{self, AuthKey, Coverage, MacAlgorithm};

fuzz_target!(|octets: &[u8]| {
    let mut message = octets.to_vec();
    for (id, len) in [(1, 12), (2, 16), (1, 20), (2, 32), (3, 16)] {
        let algorithm = MacAlgorithm::from_wire(id, len).expect("a form of the table");
        let key = AuthKey::new(7, algorithm, b"lisp-conformance-key");
        for coverage in [Coverage::WholePayload, Coverage::ThroughLastRecord] {
            if auth::sign_covering(&mut message, &key, coverage).is_ok() {
                assert_eq!(auth::verify_covering(&message, &key, &[], coverage), Ok(()));
                message[16] ^= 1;
                assert!(auth::verify_covering(&message, &key, &[], coverage).is_err());
            }
        }
    }
});
