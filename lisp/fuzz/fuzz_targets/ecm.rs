//! Whatever decodes as an Encapsulated Control Message is emitted byte for byte, and its inner packet decodes or says why
//! not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::wire::Ecm;

fuzz_target!(|octets: &[u8]| {
    match Ecm::parse(octets) {
        Ok(ecm) => {
            assert_eq!(ecm.to_vec(), octets);
            if let Err(error) = ecm.decode_inner() {
                assert!(error.offset <= octets.len(), "{error}");
            }
        }
        Err(error) => assert!(error.offset <= octets.len(), "{error}"),
    }
});
