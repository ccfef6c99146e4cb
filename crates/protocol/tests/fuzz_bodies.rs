//! The bodies of the fuzz targets, run for a bounded number of seeded inputs: the targets
//! themselves need a nightly compiler.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/decode.rs"]
mod decode;
#[path = "../fuzz/src/script.rs"]
#[allow(dead_code)]
mod script;
#[path = "../fuzz/src/world.rs"]
#[allow(dead_code)]
mod world;

use convoke_protocol::message::PhaseName;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

#[test]
fn no_bytes_bring_the_codec_down() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut bytes = vec![0; rng.random_range(0..300)];
        rng.fill(&mut bytes[..]);
        // A small first byte is a known variant more often.
        if let Some(first) = bytes.first_mut() {
            *first %= 20;
        }
        for high in bytes.iter_mut().skip(1).take(3) {
            *high = 0;
        }
        decode::decode_message(&bytes);
    }
}

#[test]
fn scripts_reach_every_phase() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let mut bytes = vec![0; 500];
        rng.fill(&mut bytes[..]);
        reached.extend(script::play(&bytes).phases);
    }
    let all = [
        PhaseName::Open,
        PhaseName::Train,
        PhaseName::Filter,
        PhaseName::Validate,
        PhaseName::Commit,
        PhaseName::Settle,
        PhaseName::Finished,
        PhaseName::Failed,
    ];
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random orders of 200 steps and more, tens of thousands in all: no panic, phases only
    /// along the diagram, refused events change nothing, no busy deadline, a replay is the same
    /// at every prefix. `World` checks all of it.
    #[test]
    fn any_order_of_events_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 400..480)) {
        script::round_events(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_script_gives_the_same_bytes(data in prop::collection::vec(any::<u8>(), 0..600)) {
        let transcript = || script::play(&data).transcript();
        prop_assert_eq!(transcript(), transcript());
    }
}
