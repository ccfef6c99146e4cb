//! The outlier filter: norms, clipping, sketches, keep rule, alignment scores.

mod gram;
mod sign_test;

use std::path::{Path, PathBuf};

use convoke_protocol::ids::Digest;
use convoke_protocol::message::Candidate;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::Verdict;

pub use self::gram::{Gram, KeepRule, NORM_SQUARED_MAX, Reason, TRAINERS_MAX, alignment};
use crate::delta_file::{Layout, TensorFile, inspect};
use crate::error::AggregatorError;
use crate::sketch::{Sketch, project};

/// A delta is scaled by so many millionths at most: it is never made longer.
pub const CLIP_ONE_PPM: u32 = 1_000_000;

/// Compares the deltas with each other: one verdict for each update, in the same order.
///
/// Updates are in the order of their commitments, each with the path of its delta, which was
/// found sound ([`inspect`]) when it arrived. Two passes over each file; memory does not grow
/// with the model. The same seed and files give the same verdicts.
///
/// # Errors
/// If a file cannot be read, or is not sound any more.
pub fn filter_updates(
    updates: &[(Candidate, PathBuf)],
    seed: &Digest,
    layout: &Layout,
) -> Result<Vec<Verdict>, AggregatorError> {
    let norms = updates
        .iter()
        .map(|(_, path)| norm(path, layout))
        .collect::<Result<Vec<f64>, _>>()?;
    let clip_norm = clip_norm(&norms);
    let clips: Vec<u32> = norms.iter().map(|n| clip_ppm(*n, clip_norm)).collect();
    let sketches = updates
        .iter()
        .zip(&clips)
        .map(|((_, path), clip)| sketch(path, seed, *clip, clip_norm))
        .collect::<Result<Vec<Sketch>, _>>()?;
    let trainers: Vec<&Candidate> = updates.iter().map(|(candidate, _)| candidate).collect();
    Ok(verdicts(&trainers, &clips, &Gram::of(&sketches)))
}

/// The round's clipping norm: the lower median of the norms of deltas that are not zero
/// (zeros would otherwise clip the others to nothing); 0 if all are.
#[must_use]
pub fn clip_norm(norms: &[f64]) -> f64 {
    let positive: Vec<f64> = norms.iter().copied().filter(|norm| *norm > 0.0).collect();
    gram::lower_median(&positive, f64::total_cmp).unwrap_or(0.0)
}

/// The millionths, rounded down, that bring a delta of this norm to the clipping norm.
#[must_use]
pub fn clip_ppm(norm: f64, clip_norm: f64) -> u32 {
    if norm <= clip_norm {
        return CLIP_ONE_PPM;
    }
    // Below 10^6, so that the cast is exact but for the rounding down.
    (clip_norm / norm * f64::from(CLIP_ONE_PPM)) as u32
}

fn norm(path: &Path, layout: &Layout) -> Result<f64, AggregatorError> {
    match inspect(path, layout)? {
        Ok(stats) => Ok(stats.norm),
        Err(refusal) => Err(AggregatorError::Changed {
            path: path.to_owned(),
            refusal,
        }),
    }
}

fn sketch(
    path: &Path,
    seed: &Digest,
    clip_ppm: u32,
    clip_norm: f64,
) -> Result<Sketch, AggregatorError> {
    if clip_norm == 0.0 {
        return Ok(Sketch::ZERO);
    }
    let scale = f64::from(clip_ppm) / f64::from(CLIP_ONE_PPM) / clip_norm;
    let projection = project(&TensorFile::open(path)?, seed, scale)?;
    Ok(Sketch::quantize(&projection))
}

fn verdicts(updates: &[&Candidate], clips: &[u32], gram: &Gram) -> Vec<Verdict> {
    let reasons = KeepRule::default().apply(gram);
    let alignments = alignment(gram, &reasons);
    let refusal = |reason: &Reason| match *reason {
        Reason::NoWork { ratio_ppm } => Refusal::NoWork { ratio_ppm },
        Reason::Copy { of } => Refusal::Copy {
            of: updates[of].trainer,
        },
        Reason::Colluding { energy_percent } => Refusal::Colluding { energy_percent },
        Reason::Misaligned {
            cosine_milli,
            least_milli,
        } => Refusal::Misaligned {
            cosine_milli,
            least_milli,
        },
    };
    updates
        .iter()
        .zip(clips)
        .zip(alignments)
        .zip(&reasons)
        .map(|(((update, clip_ppm), alignment), reason)| Verdict {
            trainer: update.trainer,
            clip_ppm: *clip_ppm,
            alignment,
            refusal: reason.as_ref().map(refusal),
        })
        .collect()
}
