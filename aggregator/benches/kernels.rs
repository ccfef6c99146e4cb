//! The inner loops of aggregation, on chunks that the caches hold.
#![allow(missing_docs)]

use std::hint::black_box;

use convoke_aggregator::kernels::{Gram, Selection, select, weighted_sum};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Values of each row.
const VALUES: u32 = 4096;

fn rows(count: u32) -> Vec<Vec<f32>> {
    let value = |row: u32, index: u32| {
        let bits = index
            .wrapping_mul(0x9e37_79b9)
            .wrapping_add(row.wrapping_mul(0x85eb_ca6b));
        bits as i32 as f32 / (1u32 << 31) as f32
    };
    let row = |row| (0..VALUES).map(|index| value(row, index)).collect();
    (0..count).map(row).collect()
}

fn kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("4096 values");
    group.sample_size(20);
    for count in [8, 16, 32, 64] {
        let rows = rows(count);
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut out = vec![0.0; VALUES as usize];
        group.throughput(Throughput::Bytes(4 * u64::from(count * VALUES)));
        let shares = vec![1.0 / f64::from(count); count as usize];
        group.bench_function(BenchmarkId::new("weighted sum", count), |b| {
            b.iter(|| weighted_sum(black_box(&rows), &shares, &mut out));
        });
        let trim = count as usize / 5;
        let keep = count as usize / 2;
        for (name, selection) in [
            ("median", Selection::Median),
            ("trimmed mean", Selection::TrimmedMean { trim }),
            ("mean around median", Selection::MeanAroundMedian { keep }),
        ] {
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| select(black_box(&rows), selection, &mut out));
            });
        }
        let mut gram = Gram::new(count as usize);
        group.bench_function(BenchmarkId::new("inner products", count), |b| {
            b.iter(|| gram.add(black_box(&rows)));
        });
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
