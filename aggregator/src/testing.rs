//! Small models on disk for the tests of several modules.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use convoke_protocol::ids::{Address, BlobHash};
use convoke_protocol::message::Candidate;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Values of a normal distribution, the same for the same seed.
pub(crate) fn normal(seed: u64, count: usize) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}

pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A safetensors file of these tensors.
pub(crate) fn tensors(of: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = of.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
        )
    });
    serialize(views, None).unwrap()
}

/// A model of two tensors, `bias` of three values (or fewer) and `weight` of the others.
pub(crate) fn model(values: &[f32]) -> Vec<u8> {
    let (bias, weight) = values.split_at(values.len().min(3));
    tensors(&[
        ("bias", Dtype::F32, vec![bias.len()], to_bytes(bias)),
        (
            "weight",
            Dtype::F32,
            vec![weight.len(), 1],
            to_bytes(weight),
        ),
    ])
}

/// Writes a blob under its hash.
pub(crate) fn put(dir: &Path, bytes: &[u8]) -> (BlobHash, PathBuf) {
    let hash = BlobHash::of(bytes);
    let path = dir.join(hash.to_file_name());
    std::fs::write(&path, bytes).unwrap();
    (hash, path)
}

pub(crate) fn trainer(id: u8) -> Address {
    Address([id; 20])
}

/// An update of the trainer with this delta, on disk.
pub(crate) fn update(dir: &Path, id: u8, delta: &[f32]) -> (Candidate, PathBuf) {
    let bytes = model(delta);
    let (hash, path) = put(dir, &bytes);
    (candidate(id, hash, bytes.len()), path)
}

/// What is said of a delta of 100 examples that is not clipped.
pub(crate) fn candidate(id: u8, delta: BlobHash, bytes: usize) -> Candidate {
    Candidate {
        trainer: trainer(id),
        delta,
        delta_bytes: bytes as u64,
        num_examples: 100,
        clip_ppm: 1_000_000,
        alignment: 0,
        index: 0,
    }
}
