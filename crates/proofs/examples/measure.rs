//! What a size costs on this machine: `measure SLOTS`.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use convoke_proofs::keys::{Circuit, Keys};
use convoke_proofs::measure::measure;
use convoke_proofs::size::Size;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn main() {
    let slots: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let size = Size::fitting(slots).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    println!("{:#?}", measure(size, &mut rng, &()).unwrap());
    println!("peak {} MiB", peak());
    let circuit = Circuit::of(size).unwrap();
    println!("{:#?}", circuit.costs());
    println!("variables by matrix {:?}", circuit.occurring());
    let folder = std::env::temp_dir().join("convoke-proofs-measure");
    drop(Keys::open_or_make(&folder, size, &()).unwrap());
    let start = Instant::now();
    let keys = Keys::open(&folder, size, &()).unwrap().unwrap();
    println!(
        "{} bytes loaded in {:?}",
        keys.encoded_len(),
        start.elapsed()
    );
}

/// Largest resident set so far, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}
