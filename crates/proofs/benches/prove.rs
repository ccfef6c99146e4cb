//! Proving and verifying a full round: 16 trainers, and 64 with `CONVOKE_BENCH_64=1`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use convoke_proofs::keys::Keys;
use convoke_proofs::measure::{full_round, verify};
use convoke_proofs::plain::judge;
use convoke_proofs::size::Size;
use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proofs");
    group.sample_size(10);
    let mut sizes = vec![Size::N16];
    if std::env::var_os("CONVOKE_BENCH_64").is_some() {
        sizes.push(Size::N64);
    }
    for size in sizes {
        let slots = size.slots();
        let mut rng = StdRng::seed_from_u64(1);
        let keys = Keys::insecure_setup(size, &mut rng, &()).unwrap();
        let key = keys.verifying();
        let round = full_round(size, &mut rng);
        let settled = round.prove(&keys, &mut rng).unwrap();
        let sketches: Vec<_> = round.updates.iter().map(|u| u.sketch).collect();
        let sketches: Vec<_> = sketches.iter().map(|s| s.map(|s| s.values)).collect();
        group.bench_function(format!("judge/{slots}"), |bench| {
            bench.iter(|| judge(black_box(&sketches)));
        });
        group.bench_function(format!("prove/{slots}"), |bench| {
            bench.iter(|| round.prove(&keys, &mut rng).unwrap());
        });
        group.bench_function(format!("verify/{slots}"), |bench| {
            bench.iter(|| verify(&key, &round, &settled).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, rounds);
criterion_main!(benches);
