//! Every codec, there and back, over ten million values in memory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use convoke_compress::Codec;
use convoke_protocol::task::CodecKind;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const VALUES: usize = 10_000_000;

/// One value of a hundred, as tasks do by default.
const KEEP_PPM: u32 = 10_000;

fn passes(c: &mut Criterion) {
    // Sums of uniform values: normal enough, and fast to make.
    let values: Vec<f32> = (0..VALUES as u32)
        .map(|i| {
            let uniform = |j: u32| (4 * i + j).wrapping_mul(0x9e37_79b9) as i32 as f32;
            (0..4).map(uniform).sum::<f32>() / 2f32.powi(31)
        })
        .collect();
    let mut group = c.benchmark_group("10,000,000 values");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(4 * VALUES as u64));
    for (name, kind) in [
        ("bf16", CodecKind::Bf16),
        ("int8", CodecKind::Int8),
        ("top_k", CodecKind::TopK),
        ("dct_sign", CodecKind::DctSign),
    ] {
        let codec = Codec::new(kind, KEEP_PPM).unwrap();
        let bytes = codec.encode(&values);
        let mut decoded = vec![0.0; VALUES];
        group.bench_function(format!("encode {name}"), |b| {
            b.iter(|| codec.encode(black_box(&values)));
        });
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| codec.decode(black_box(&bytes), &mut decoded).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, passes);
criterion_main!(benches);
