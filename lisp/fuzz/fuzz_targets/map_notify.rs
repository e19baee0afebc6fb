//! Whatever decodes as a Map-Notify is emitted byte for byte; what does not says where within the buffer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::wire::MapNotify;

fuzz_target!(|octets: &[u8]| {
    match MapNotify::parse(octets) {
        Ok(message) => assert_eq!(message.to_vec(), octets),
        Err(error) => assert!(error.offset <= octets.len(), "{error}"),
    }
});
