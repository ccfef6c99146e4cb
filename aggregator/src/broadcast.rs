//! Checkpoints as they are broadcast where the task has a codec for them.
//!
//! The aggregator keeps two models: the exact one xₜ, which steps are taken from, and the
//! checkpoint cₜ, which everybody has:
//!
//! ```text
//! xₜ = xₜ₋₁ + stepₜ        cₜ = cₜ₋₁ + decode(encode(xₜ − cₜ₋₁))
//! ```
//!
//! What a patch leaves out is in the next difference again, so this is error feedback without a
//! residual to keep (the shadow model of DoubleSqueeze, Tang et al. 2019, arXiv:1905.05957, and of
//! EF21-P, Gruntkowska et al. 2023, arXiv:2209.15218). Which exact model is behind a checkpoint is
//! kept by the checkpoint's hash, so that a step taken again is the same.

use convoke_compress::{Codec, EncodedFile, patch};
use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::Broadcast;
use convoke_sketch::TensorFile;
use convoke_transport::BlobStore;

use crate::aggregate::Belonging;
use crate::error::AggregatorError;

/// The exact model behind a checkpoint: itself, unless it was encoded.
///
/// # Errors
/// If what is there cannot be read.
pub fn exact_of(blobs: &BlobStore, checkpoint: &BlobHash) -> Result<BlobHash, AggregatorError> {
    let exact = Belonging::EXACT.of(blobs.dir(), checkpoint)?;
    Ok(exact.first().copied().unwrap_or(*checkpoint))
}

/// Makes the checkpoint after `base`, of which `exact` is the exact model; all are blobs, and on
/// disk when this returns. A patch that changes nothing leaves the base, and its exact model: the
/// step is then lost.
///
/// # Errors
/// If a file cannot be read or written, or a difference is beyond f32.
pub fn encode(
    codec: Codec,
    blobs: &BlobStore,
    base: BlobHash,
    exact: BlobHash,
) -> Result<(BlobHash, Option<Broadcast>), AggregatorError> {
    let base_file = TensorFile::open(&blobs.path(&base))?;
    let exact_file = TensorFile::open_like(&blobs.path(&exact), base_file.layout())?;
    let patch = blobs.insert_written(|file| {
        patch::make(codec, &base_file, &exact_file, file).map_err(AggregatorError::from)
    })?;
    let encoded = EncodedFile::open(&blobs.path(&patch), codec)?;
    let checkpoint = blobs.insert_written(|file| {
        patch::apply(&base_file, &encoded, file).map_err(AggregatorError::from)
    })?;
    if checkpoint == base {
        return Ok((base, None));
    }
    Belonging::EXACT.name(blobs.dir(), &checkpoint, &[exact])?;
    Ok((checkpoint, Some(Broadcast { patch, exact })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::task::CodecKind;

    use super::*;
    use crate::testing::{model, normal};

    const VALUES: usize = 5_000;

    fn values(blobs: &BlobStore, blob: &BlobHash) -> Vec<f32> {
        let file = TensorFile::open(&blobs.path(blob)).unwrap();
        file.map_parts(|_, chunk| chunk.to_vec()).unwrap().concat()
    }

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    }

    #[test]
    fn checkpoints_follow_the_exact_model() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let codec = Codec::new(CodecKind::TopK, 50_000).unwrap();
        let start = normal(1, VALUES);
        let base = blobs.insert_bytes(&model(&start)).unwrap();
        let goal: Vec<f32> = start
            .iter()
            .zip(normal(2, VALUES))
            .map(|(x, s)| x + s)
            .collect();
        let exact = blobs.insert_bytes(&model(&goal)).unwrap();
        // The exact model stands still: the checkpoints close in on it, one in twenty values each.
        let (mut checkpoint, mut left) = (base, distance(&start, &goal));
        for _ in 0..19 {
            let (next, sent) = encode(codec, &blobs, checkpoint, exact).unwrap();
            let sent = sent.unwrap();
            assert_eq!(sent.exact, exact);
            assert_eq!(exact_of(&blobs, &next).unwrap(), exact);
            assert_eq!(
                blobs.len(&sent.patch),
                Some(codec.encoded_bytes(VALUES as u64))
            );
            let now = distance(&values(&blobs, &next), &goal);
            assert!(now < left, "{now} {left}");
            (checkpoint, left) = (next, now);
        }
        assert!(left < 0.05 * distance(&start, &goal), "{left}");
    }

    #[test]
    fn the_same_again_is_the_same_and_nothing_leaves_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let codec = Codec::new(CodecKind::Int8, 10_000).unwrap();
        let [base, exact] = [1, 2].map(|seed| {
            let bytes = model(&normal(seed, VALUES));
            blobs.insert_bytes(&bytes).unwrap()
        });
        let first = encode(codec, &blobs, base, exact).unwrap();
        assert_eq!(encode(codec, &blobs, base, exact).unwrap(), first);
        assert_eq!(encode(codec, &blobs, base, base).unwrap(), (base, None));
        assert_eq!(exact_of(&blobs, &base).unwrap(), base);
    }
}
