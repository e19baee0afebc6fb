//! Any eight octets are a LISP data header, and are emitted byte for byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::wire::DataHeader;
use lisp::wire::data::DATA_HEADER_LEN;

fuzz_target!(|octets: &[u8]| {
    match DataHeader::parse(octets) {
        Ok(header) => {
            let mut again = [0xa5; DATA_HEADER_LEN];
            header.emit(&mut again);
            assert_eq!(again, octets[..DATA_HEADER_LEN]);
        }
        Err(_) => assert!(octets.len() < DATA_HEADER_LEN),
    }
});
