//! The outlier filter: norms, clipping, sketches, keep rule, alignment scores.

mod gram;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod properties;

use std::path::{Path, PathBuf};

use convoke_protocol::ids::Digest;
use convoke_protocol::message::Candidate;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::Verdict;

pub use self::gram::{
    ENERGY_FROM, Gram, NORM_SQUARED_MAX, Reason, TRAINERS_MAX, alignment, keep_rule,
};
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
    let reasons = keep_rule(gram);
    let alignments = alignment(gram, &reasons);
    let refusal = |reason: &Reason| match *reason {
        Reason::NoWork { ratio_ppm } => Refusal::NoWork { ratio_ppm },
        Reason::Copy { of } => Refusal::Copy {
            of: updates[of].trainer,
        },
        Reason::Colluding { energy_percent } => Refusal::Colluding { energy_percent },
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{model, normal, put, trainer, update};

    const VALUES: usize = 3_000;

    /// Updates with a common direction: `common` of the whole.
    fn honest(dir: &Path, count: u8, common: f32) -> Vec<(Candidate, PathBuf)> {
        (0..count)
            .map(|id| update(dir, id, &honest_delta(id, common)))
            .collect()
    }

    fn honest_delta(id: u8, common: f32) -> Vec<f32> {
        let shared = normal(1, VALUES);
        let own = normal(10 + u64::from(id), VALUES);
        let rest = (1.0 - common * common).sqrt();
        let mixed = own.iter().zip(&shared).map(|(o, s)| rest * o + common * s);
        mixed.collect()
    }

    fn filtered(dir: &Path, updates: &[(Candidate, PathBuf)]) -> Vec<Verdict> {
        let base = put(dir, &model(&normal(9, VALUES))).1;
        filter_updates(updates, &Digest([4; 32]), &Layout::of(&base).unwrap()).unwrap()
    }

    #[test]
    fn honest_updates_are_kept_and_aligned() {
        let dir = tempfile::tempdir().unwrap();
        for count in [1, 2, 3, 6, 12, 20] {
            let updates = honest(dir.path(), count, 0.7);
            let verdicts = filtered(dir.path(), &updates);
            for (verdict, (candidate, _)) in verdicts.iter().zip(&updates) {
                assert_eq!(verdict.trainer, candidate.trainer);
                assert_eq!(verdict.refusal, None, "of {count}");
                assert!(verdict.alignment > 0);
            }
            assert_eq!(verdicts.len(), usize::from(count));
        }
        assert!(filtered(dir.path(), &[]).is_empty());
    }

    #[test]
    fn long_deltas_are_clipped_to_the_median_and_idle_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut updates = honest(dir.path(), 7, 0.7);
        let scaled = |id: u8, by: f32| {
            let delta: Vec<f32> = honest_delta(id, 0.7).iter().map(|v| by * v).collect();
            update(dir.path(), id, &delta)
        };
        updates[2] = scaled(2, 10.0);
        updates[3] = scaled(3, 1e-3);
        updates[4] = scaled(4, 0.0);
        let verdicts = filtered(dir.path(), &updates);
        assert!((95_000..105_000).contains(&verdicts[2].clip_ppm));
        assert_eq!(verdicts[2].refusal, None);
        for idle in [3, 4] {
            assert!(matches!(
                verdicts[idle].refusal,
                Some(Refusal::NoWork { .. })
            ));
            assert_eq!(verdicts[idle].clip_ppm, CLIP_ONE_PPM);
            assert_eq!(verdicts[idle].alignment, 0);
        }
    }

    #[test]
    fn a_copy_names_the_trainer_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut updates = honest(dir.path(), 6, 0.5);
        let nearly: Vec<f32> = honest_delta(1, 0.5).iter().map(|v| v * 1.001).collect();
        updates[4] = update(dir.path(), 4, &nearly);
        let verdicts = filtered(dir.path(), &updates);
        let of = trainer(1);
        assert_eq!(verdicts[4].refusal, Some(Refusal::Copy { of }));
        assert_eq!(verdicts.iter().filter(|v| v.refusal.is_some()).count(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_verdicts() {
        let dir = tempfile::tempdir().unwrap();
        let updates = honest(dir.path(), 5, 0.3);
        assert_eq!(
            filtered(dir.path(), &updates),
            filtered(dir.path(), &updates)
        );
    }

    #[test]
    fn a_file_that_has_changed_since_is_our_fault() {
        let dir = tempfile::tempdir().unwrap();
        let updates = honest(dir.path(), 2, 0.3);
        std::fs::write(&updates[1].1, b"gone").unwrap();
        let base = put(dir.path(), &model(&normal(9, VALUES))).1;
        let layout = Layout::of(&base).unwrap();
        let error = filter_updates(&updates, &Digest::ZERO, &layout).unwrap_err();
        assert!(matches!(error, AggregatorError::Changed { .. }), "{error}");
    }

    #[test]
    fn clipping_never_lengthens_and_takes_extremes() {
        assert_eq!(clip_norm(&[]), 0.0);
        assert_eq!(clip_norm(&[0.0, 0.0]), 0.0);
        assert_eq!(clip_norm(&[0.0, 0.0, 4.0, 2.0]), 2.0);
        assert_eq!(clip_ppm(1.0, 2.0), CLIP_ONE_PPM);
        assert_eq!(clip_ppm(0.0, 0.0), CLIP_ONE_PPM);
        assert_eq!(clip_ppm(3.0, 2.0), 666_666);
        assert_eq!(clip_ppm(f64::MAX, f64::MIN_POSITIVE), 0);
    }
}
