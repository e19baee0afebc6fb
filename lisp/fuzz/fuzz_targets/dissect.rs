//! Every bit of whatever is dissected is in exactly one leaf. The first octet says where the packet starts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::dissect::{Start, dissect};

fuzz_target!(|input: &[u8]| {
    let Some((start, octets)) = input.split_first() else {
        return;
    };
    let start = [Start::Ip, Start::Control, Start::Data, Start::Ethernet][usize::from(start % 4)];
    let dissection = dissect(start, octets);
    let mut next = 0;
    for leaf in dissection.leaves() {
        assert_eq!(leaf.first_bit(), next, "{leaf:?}");
        next += leaf.width;
    }
    assert_eq!(next, octets.len() * 8);
    for error in &dissection.errors {
        assert!(error.offset <= octets.len(), "{error}");
    }
});
