//! Writes the generated verifier, and a proof with its public data, for the Solidity tests:
//! `fixture SLOTS FOLDER`. The keys are made from a fixed seed: for tests only.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use convoke_proofs::keys::Keys;
use convoke_proofs::plain::Sketch;
use convoke_proofs::proof::prove;
use convoke_proofs::size::Size;
use convoke_proofs::solidity::verifier_source;
use convoke_proofs::statement::{RoundContext, Statement};
use convoke_proofs::witness::{Entry, RoundWitness};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let size = Size::fitting(arguments.next().unwrap().parse().unwrap()).unwrap();
    let folder = arguments.next().unwrap();
    let folder = Path::new(&folder);
    let slots = size.slots();
    let mut rng = StdRng::seed_from_u64(1);
    let keys = Keys::insecure_setup(size, &mut rng).unwrap();
    let verifier = folder.join(format!("RoundVerifier{slots}.sol"));
    std::fs::write(verifier, verifier_source(&keys)).unwrap();
    let (statement, proof) = prove(&keys, &round(&mut rng, slots), &mut rng).unwrap();
    keys.verifying().verify(&statement, &proof).unwrap();
    let fixture = folder.join(format!("Fixture{slots}.sol"));
    std::fs::write(fixture, source(&statement, &proof.to_bytes(), proof.h())).unwrap();
}

/// All slots but three are filled; one of those is not active.
fn round(rng: &mut StdRng, slots: usize) -> RoundWitness {
    let base: [f64; 128] = std::array::from_fn(|_| rng.random_range(-30.0..30.0));
    let entry = |i: usize| {
        let sketch: Sketch = base.map(|b| (b + rng.random_range(-50.0..50.0f64)) as i8);
        Entry {
            trainer: Address([i as u8 + 1; 20]),
            sketch: (i != 4).then_some(sketch),
            factor: 9_000 + 100 * i as u16,
        }
    };
    RoundWitness {
        context: RoundContext {
            chain_id: 31_337,
            contract: Address([0xc0; 20]),
            task: TaskId(3),
            round: RoundId(7),
            attempt: 2,
            seed: Digest([0x5e; 32]),
        },
        bound: Digest([0xb0; 32]),
        pool: Amount(123_456_789_000_000_000_000_000),
        entries: (0..slots - 2).map(entry).collect(),
    }
}

fn source(statement: &Statement, proof: &[u8], h: impl std::fmt::Display) -> String {
    let slots = statement.size.slots();
    let mut entries = String::new();
    let mut factors = String::new();
    let mut payouts = String::new();
    for slot in &statement.slots[..slots - 2] {
        entries += &hex::encode(slot.commitment.0);
        entries += &hex::encode(slot.trainer.0);
        write!(factors, "{:04x}", slot.factor).unwrap();
        if slot.payout > Amount::ZERO {
            payouts += &hex::encode(slot.trainer.0);
            write!(payouts, "{:032x}", slot.payout.0).unwrap();
        }
    }
    let public = statement
        .public_inputs(h.to_string().parse().unwrap())
        .unwrap();
    format!(
        "// SPDX-License-Identifier: MIT OR Apache-2.0\n\
         // Written by examples/fixture.rs.\n\
         pragma solidity 0.8.37;\n\n\
         /// @notice A proof made by the Rust side, and what it is about.\n\
         library Fixture{slots} {{\n\
         \x20   uint128 internal constant POOL = {};\n\
         \x20   uint256 internal constant X = {};\n\
         \x20   uint256 internal constant Y = {};\n\
         \x20   bytes internal constant PROOF = hex\"{}\";\n\
         \x20   bytes internal constant FACTORS = hex\"{factors}\";\n\
         \x20   bytes internal constant ENTRIES = hex\"{entries}\";\n\
         \x20   bytes internal constant PAYOUTS = hex\"{payouts}\";\n\
         }}\n",
        statement.pool.0,
        public.x,
        public.y,
        hex::encode(proof),
    )
}
