//! Any bytes as a message of either side, or as a logged event.
#![no_main]

#[path = "../src/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::decode_message(data));
