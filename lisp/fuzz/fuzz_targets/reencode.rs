//! A packet is emitted byte for byte, or both the codec and the dissector say why it is not valid.
//!
//! Checksums would keep a fuzzer out, so they are made right first: the input is the payload of a UDP datagram from and
//! to port 4342 (first octet even) or to port 4341 (odd), or the whole packet (first octet 0xff).

#![no_main]

use libfuzzer_sys::fuzz_target;
use lisp::dissect::{Start, dissect};
use lisp::{CONTROL_PORT, DATA_PORT, reencode};

fuzz_target!(|input: &[u8]| {
    let Some((how, octets)) = input.split_first() else {
        return;
    };
    if octets.len() > 4096 {
        return;
    }
    let local = [192, 0, 2, 1].into();
    let packet = match how {
        0xff => octets.to_vec(),
        how => {
            let port = if how % 2 == 0 {
                CONTROL_PORT
            } else {
                DATA_PORT
            };
            lisp::ip::udp_packet(local, local, 50_000, port, 64, octets)
        }
    };
    let errors = dissect(Start::Ip, &packet).errors;
    match reencode(&packet) {
        Ok(again) => {
            assert_eq!(again, packet);
            assert_eq!(errors, []);
        }
        Err(error) => assert!(errors.contains(&error), "{error} is not among {errors:?}"),
    }
});
