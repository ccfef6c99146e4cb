//! The outlier filter: sketches, keep rule, alignment scores. The rule itself is that of the proof,
//! `convoke_proofs::plain`.

use std::path::PathBuf;

use convoke_proofs::plain::{self, Reason, judge};
use convoke_proofs::public_data::{Commitment, RoundContext};
use convoke_protocol::ids::Digest;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Comparand, Verdict};
use convoke_protocol::sketch::{Norm, Sketched};
use convoke_sketch::{Layout, TensorFile, quantize, sketch};

use crate::error::AggregatorError;

/// A delta is scaled by so many millionths at most: it is never made longer.
pub const CLIP_ONE_PPM: u32 = 1_000_000;

/// Compares the deltas with each other: one verdict for each update, in the same order.
///
/// Updates are in the order of their commitments, each with the path of its delta, which was
/// found sound when it arrived. One pass over each file; memory does not grow with the model. The
/// same round and files give the same verdicts on every machine.
///
/// # Errors
/// If a file cannot be read, or is not of this layout any more.
pub fn filter_updates(
    updates: &[(Comparand, PathBuf)],
    round: &RoundContext,
    clip_norm: Norm,
    layout: &Layout,
) -> Result<Vec<Verdict>, AggregatorError> {
    let sketched = updates
        .iter()
        .map(|(update, path)| {
            let file = TensorFile::open_like(path, layout)?;
            let projected = sketch(&file, &round.seed, clip_norm)?;
            let sketch = quantize(&projected.sums, update.norm, clip_norm);
            let trainer = update.candidate.trainer;
            Ok(Sketched {
                sketch,
                commitment: Digest(Commitment::of(&sketch.0, trainer, round).0),
                sums_root: projected.sums_root,
            })
        })
        .collect::<Result<Vec<Sketched>, AggregatorError>>()?;
    let updates: Vec<&Comparand> = updates.iter().map(|(update, _)| update).collect();
    Ok(verdicts(&updates, &sketched, clip_norm))
}

/// The millionths, rounded down, that bring a delta of this norm to the clipping norm.
#[must_use]
pub fn clip_ppm(norm: Norm, clip_norm: Norm) -> u32 {
    if norm <= clip_norm {
        return CLIP_ONE_PPM;
    }
    // Below 10^6, so that the cast is exact but for the rounding down.
    (clip_norm.value() / norm.value() * f64::from(CLIP_ONE_PPM)) as u32
}

fn verdicts(updates: &[&Comparand], sketched: &[Sketched], clip_norm: Norm) -> Vec<Verdict> {
    let honest = |(update, sketched): (&&Comparand, &Sketched)| {
        let claim = update.claim.as_ref().map(|signed| &signed.claim);
        let is_true = claim.is_none_or(|claim| {
            (claim.commitment, claim.sums_root) == (sketched.commitment, sketched.sums_root)
        });
        is_true.then_some(*sketched)
    };
    let sketched: Vec<Option<Sketched>> = updates.iter().zip(sketched).map(honest).collect();
    let values: Vec<_> = sketched.iter().map(|s| s.map(|s| s.sketch.0)).collect();
    let judgement = judge(&values);
    let refusal = |verdict: plain::Verdict| match verdict {
        plain::Verdict::Kept => None,
        plain::Verdict::Absent => Some(Refusal::WrongSketch),
        plain::Verdict::Refused(reason) => Some(match reason {
            Reason::NoWork { ratio_ppm } => Refusal::NoWork { ratio_ppm },
            Reason::Copy { of } => Refusal::Copy {
                of: updates[of].candidate.trainer,
            },
            Reason::Colluding { energy_percent } => Refusal::Colluding { energy_percent },
        }),
    };
    let verdict = |index: usize| Verdict {
        trainer: updates[index].candidate.trainer,
        sketched: sketched[index],
        clip_ppm: clip_ppm(updates[index].norm, clip_norm),
        alignment: judgement.scores[index],
        refusal: refusal(judgement.verdicts[index]),
    };
    (0..updates.len()).map(verdict).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use convoke_protocol::identity::Wallet;
    use convoke_protocol::ids::{Address, RoundId, TaskId};
    use convoke_protocol::payout::PayoutDomain;
    use convoke_protocol::sketch::SketchClaim;
    use convoke_sketch::inspect;

    use super::*;
    use crate::testing::{model, normal, put, trainer, update};

    const VALUES: usize = 3_000;

    const ROUND: RoundContext = RoundContext {
        chain_id: 31_337,
        contract: Address([5; 20]),
        task: TaskId(1),
        round: RoundId(2),
        attempt: 1,
        seed: Digest([4; 32]),
    };

    /// Updates with a common direction: `common` of the whole.
    fn honest(dir: &Path, count: u8, common: f32) -> Vec<(Comparand, PathBuf)> {
        (0..count)
            .map(|id| comparand(dir, id, &honest_delta(id, common)))
            .collect()
    }

    fn honest_delta(id: u8, common: f32) -> Vec<f32> {
        let shared = normal(1, VALUES);
        let own = normal(10 + u64::from(id), VALUES);
        let rest = (1.0 - common * common).sqrt();
        let mixed = own.iter().zip(&shared).map(|(o, s)| rest * o + common * s);
        mixed.collect()
    }

    fn layout(dir: &Path) -> Layout {
        let base = put(dir, &model(&normal(9, VALUES))).1;
        Layout::of(&base).unwrap()
    }

    fn comparand(dir: &Path, id: u8, delta: &[f32]) -> (Comparand, PathBuf) {
        let (candidate, path) = update(dir, id, delta);
        let norm = inspect(&path, &layout(dir)).unwrap().unwrap().norm;
        let update = Comparand {
            candidate,
            norm,
            claim: None,
        };
        (update, path)
    }

    fn filtered(dir: &Path, updates: &[(Comparand, PathBuf)]) -> Vec<Verdict> {
        let clip_norm = Norm::clipping(updates.iter().map(|(u, _)| u.norm));
        filter_updates(updates, &ROUND, clip_norm, &layout(dir)).unwrap()
    }

    #[test]
    fn honest_updates_are_kept_and_aligned() {
        let dir = tempfile::tempdir().unwrap();
        for count in [1, 2, 3, 6, 12, 20] {
            let updates = honest(dir.path(), count, 0.7);
            let verdicts = filtered(dir.path(), &updates);
            for (verdict, (update, _)) in verdicts.iter().zip(&updates) {
                assert_eq!(verdict.trainer, update.candidate.trainer);
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
            comparand(dir.path(), id, &delta)
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
        updates[4] = comparand(dir.path(), 4, &nearly);
        let verdicts = filtered(dir.path(), &updates);
        let of = trainer(1);
        assert_eq!(verdicts[4].refusal, Some(Refusal::Copy { of }));
        assert_eq!(verdicts.iter().filter(|v| v.refusal.is_some()).count(), 1);
    }

    #[test]
    fn a_claim_of_another_sketch_is_refused_and_the_true_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut updates = honest(dir.path(), 3, 0.5);
        let truth = filtered(dir.path(), &updates);
        let claim = |index: usize, sums_root: Digest| {
            let claim = SketchClaim {
                task: ROUND.task,
                round: ROUND.round,
                attempt: ROUND.attempt,
                update: Digest::ZERO,
                seed: ROUND.seed,
                clip_norm: updates[index].0.norm,
                commitment: truth[index].sketched.unwrap().commitment,
                sums_root,
            };
            let domain = PayoutDomain {
                chain_id: 1,
                contract: ROUND.contract,
            };
            Some(claim.sign(&domain, &Wallet::from_bytes(&[1; 32]).unwrap()))
        };
        let honest = claim(0, truth[0].sketched.unwrap().sums_root);
        let false_one = claim(1, Digest([1; 32]));
        updates[0].0.claim = honest;
        updates[1].0.claim = false_one;
        let verdicts = filtered(dir.path(), &updates);
        assert_eq!(verdicts[0].refusal, None);
        assert_eq!(verdicts[1].refusal, Some(Refusal::WrongSketch));
        assert_eq!((verdicts[1].sketched, verdicts[1].alignment), (None, 0));
        assert_eq!(verdicts[2].refusal, None);
    }

    #[test]
    fn a_file_that_has_changed_since_is_our_fault() {
        let dir = tempfile::tempdir().unwrap();
        let updates = honest(dir.path(), 2, 0.3);
        std::fs::write(&updates[1].1, b"gone").unwrap();
        let layout = layout(dir.path());
        let error = filter_updates(&updates, &ROUND, Norm::of(1.0), &layout).unwrap_err();
        assert!(matches!(error, AggregatorError::Sketch(_)), "{error}");
    }

    #[test]
    fn clipping_never_lengthens_and_takes_extremes() {
        let ppm = |norm: f64, clip: f64| clip_ppm(Norm::of(norm), Norm::of(clip));
        assert_eq!(ppm(1.0, 2.0), CLIP_ONE_PPM);
        assert_eq!(ppm(0.0, 0.0), CLIP_ONE_PPM);
        assert_eq!(ppm(3.0, 2.0), 666_666);
        assert_eq!(ppm(f64::MAX, 1e-37), 0);
    }
}
