//! Passes over a delta of ten million values in memory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::Norm;
use convoke_sketch::inspect::measure;
use convoke_sketch::{project, quantize, sketch};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const VALUES: u32 = 10_000_000;

fn passes(c: &mut Criterion) {
    let values: Vec<f32> = (0..VALUES)
        .map(|i| i.wrapping_mul(0x9e37_79b9) as i32 as f32 / 2f32.powi(31))
        .collect();
    let values = &values[..];
    let (seed, clip) = (Digest([7; 32]), Norm::of(f64::from(VALUES).sqrt()));
    let mut group = c.benchmark_group("10,000,000 values");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(4 * u64::from(VALUES)));
    group.bench_function("read", |b| {
        b.iter(|| {
            black_box(values)
                .iter()
                .fold(0u32, |sum, v| sum ^ v.to_bits())
        });
    });
    group.bench_function("project", |b| {
        b.iter(|| project(black_box(values), &seed, clip).unwrap());
    });
    group.bench_function("sketch", |b| {
        b.iter(|| sketch(black_box(values), &seed, clip).unwrap());
    });
    group.bench_function("inspect", |b| {
        b.iter(|| measure(black_box(values)).unwrap().unwrap());
    });
    group.finish();

    let sums = project(values, &seed, clip).unwrap();
    c.bench_function("quantize", |b| {
        b.iter(|| quantize(black_box(&sums), clip, clip));
    });
}

criterion_group!(benches, passes);
criterion_main!(benches);
