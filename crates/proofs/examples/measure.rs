//! Measures a circuit: `measure SLOTS [setup]`.
#![allow(clippy::unwrap_used)]
use std::time::Instant;

use convoke_proofs::keys::{Circuit, Keys};
use convoke_proofs::plain::Sketch;
use convoke_proofs::proof::{Proof, prove};
use convoke_proofs::size::Size;
use convoke_proofs::statement::RoundContext;
use convoke_proofs::witness::{Entry, RoundWitness};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use rand::{Rng, SeedableRng};

fn main() {
    let slots: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let size = Size::fitting(slots).unwrap();
    let start = Instant::now();
    let circuit = Circuit::new(size).unwrap();
    println!(
        "constraints {} variables {} density {} written in {:.2?}",
        circuit.constraints(),
        circuit.witnesses(),
        circuit.density(),
        start.elapsed()
    );
    println!("variables by matrix {:?}", circuit.occurring());
    for (part, count) in circuit.costs() {
        println!("  {part:20} {count}");
    }
    println!("rss after circuit {} MiB", peak());
    if std::env::args().nth(2).is_none() {
        return;
    }
    drop(circuit);
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let (start, busy) = (Instant::now(), cpu());
    let keys = Keys::insecure_setup(size, &mut rng).unwrap();
    println!(
        "setup {:.2?} ({:.2} s of CPU), peak rss {} MiB",
        start.elapsed(),
        cpu() - busy,
        peak()
    );
    let start = Instant::now();
    let folder = std::env::temp_dir().join("convoke-proofs-measure");
    let path = keys.save(&folder).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("key {bytes} bytes, saved in {:.2?}", start.elapsed());
    drop(keys);
    let start = Instant::now();
    let circuit = Circuit::new(size).unwrap();
    let keys = Keys::load(&folder, circuit).unwrap();
    println!("loaded in {:.2?}", start.elapsed());
    let base: Vec<f64> = (0..128).map(|_| rng.random_range(-30.0..30.0)).collect();
    let entries = (0..slots)
        .map(|i| {
            let sketch: Sketch =
                std::array::from_fn(|l| (0.3 * base[l] + rng.random_range(-60.0..60.0f64)) as i8);
            Entry {
                trainer: Address([i as u8 + 1; 20]),
                sketch: Some(sketch),
                factor: 10_000,
            }
        })
        .collect();
    let round = RoundWitness {
        context: RoundContext {
            chain_id: 1,
            contract: Address([1; 20]),
            task: TaskId(1),
            round: RoundId(1),
            attempt: 1,
            seed: Digest([7; 32]),
        },
        bound: Digest([9; 32]),
        pool: Amount(1_000_000_000_000_000_000_000),
        entries,
    };
    for _ in 0..3 {
        let (start, busy) = (Instant::now(), cpu());
        let (statement, proof) = prove(&keys, &round, &mut rng).unwrap();
        let (proved, busy) = (start.elapsed(), cpu() - busy);
        let key = keys.verifying();
        let start = Instant::now();
        let proof = Proof::from_bytes(&proof.to_bytes()).unwrap();
        key.verify(&statement, &proof).unwrap();
        println!(
            "prove {proved:.2?} ({busy:.2} s of CPU), verify {:.2?}, peak rss {} MiB",
            start.elapsed(),
            peak()
        );
    }
}

/// Seconds of CPU so far, at 100 ticks a second.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}
