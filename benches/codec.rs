//! Encoding and decoding of the messages that travel most, and of the largest.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use convoke_protocol::codec::{decode, encode};
use convoke_protocol::ids::{Address, BlobHash, RoundId};
use convoke_protocol::message::{AggregatorMessage, Candidate, NodeMessage, Order};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn candidate(number: u8) -> Candidate {
    Candidate {
        trainer: Address([number; 20]),
        delta: BlobHash([number; 32]),
        delta_bytes: 1 << 20,
        num_examples: 1_000,
        clip_ppm: 1_000_000,
        alignment: 1 << 20,
        index: u16::from(number),
    }
}

fn codec(c: &mut Criterion) {
    let progress = NodeMessage::Progress {
        round: RoundId(3),
        step: 7,
        steps: 60,
    };
    let bytes = encode(&progress).unwrap();
    c.bench_function("encode/progress", |b| {
        b.iter(|| encode(black_box(&progress)).unwrap());
    });
    c.bench_function("decode/progress", |b| {
        b.iter(|| decode::<NodeMessage>(black_box(&bytes)).unwrap());
    });

    let candidates = (0..=255).map(candidate).collect();
    let order = Order::Score {
        round: RoundId(3),
        attempt: 1,
        base: BlobHash([1; 32]),
        updates: 256,
        candidates,
    };
    let order = AggregatorMessage::Order(order);
    let bytes = encode(&order).unwrap();
    let mut group = c.benchmark_group("256 candidates");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode(black_box(&order)).unwrap()));
    group.bench_function("decode", |b| {
        b.iter(|| decode::<AggregatorMessage>(black_box(&bytes)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
