//! Whatever decodes as a Map-Notify-Ack is emitted byte for byte; what does not says where within the buffer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::wire::MapNotifyAck;

fuzz_target!(|octets: &[u8]| {
    match MapNotifyAck::parse(octets) {
        Ok(message) => assert_eq!(message.to_vec(), octets),
        Err(error) => assert!(error.offset <= octets.len(), "{error}"),
    }
});
