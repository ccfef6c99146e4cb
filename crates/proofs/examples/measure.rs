//! What a size costs on this machine: `measure SLOTS [ceremony]`.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use convoke_proofs::ceremony::Transcript;
use convoke_proofs::keys::{Circuit, Keys};
use convoke_proofs::measure::{full_round, measure, verify};
use convoke_proofs::size::Size;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn main() {
    let slots: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let size = Size::fitting(slots).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    if std::env::args().nth(2).is_some() {
        return ceremony(size, &mut rng);
    }
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

/// One contribution to each phase, then proofs with the keys.
fn ceremony(size: Size, rng: &mut StdRng) {
    let mut last = Instant::now();
    let mut took = |what: &str| {
        println!("{what} {:.1?}, peak {} MiB", last.elapsed(), peak());
        last = Instant::now();
    };
    let mut transcript = Transcript::start(size).unwrap();
    took("start");
    transcript.contribute(b"", rng, &()).unwrap();
    took("contribute to the powers");
    transcript.seal(&()).unwrap();
    took("seal");
    transcript.contribute(b"", rng, &()).unwrap();
    took("contribute to the key");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transcript");
    transcript.save(&path).unwrap();
    println!("{} bytes", std::fs::metadata(&path).unwrap().len());
    took("save");
    let transcript = Transcript::load(&path, size).unwrap();
    took("load");
    let (keys, _) = transcript.finish(&()).unwrap();
    took("verify");
    let round = full_round(size, rng);
    let settled = round.prove(&keys, rng).unwrap();
    verify(&keys.verifying(), &round, &settled).unwrap();
    took("prove and verify a round");
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
