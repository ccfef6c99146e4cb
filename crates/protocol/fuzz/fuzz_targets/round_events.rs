//! Any bytes as a script of events for the round state machine.
#![no_main]

#[path = "../src/script.rs"]
mod script;
#[path = "../src/world.rs"]
#[allow(dead_code)]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| script::round_events(data));
