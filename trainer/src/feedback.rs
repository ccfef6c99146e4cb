//! Error feedback: what compression takes from one delta is added to the next (Seide et al. 2014;
//! Karimireddy et al. 2019, arXiv:1901.09847).
//!
//! ```text
//! p = delta + e        sent = decode(encode(p))        e' = p − sent
//! ```
//!
//! e' holds only if `sent` became part of the model. An update that is refused, or comes too late,
//! leaves e as it was: its delta was trained for a checkpoint that is gone. So both are kept until
//! the next update is signed, and the round's report says which one counts. A round that is tried
//! again gets the same signed update, and its last report counts.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use convoke_node::{NodeError, StateDir};
use convoke_protocol::ids::{Address, BlobHash, RoundId};
use convoke_protocol::message::RoundReport;
use convoke_sketch::tensor_file::file_bytes;
use serde::{Deserialize, Serialize};

/// The residuals around the latest update. It is written after the residual that it names, and
/// before the update is signed: a kill in between leaves what was.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ledger {
    /// The update's round.
    round: RoundId,
    /// The checkpoint that it was trained from.
    base: BlobHash,
    /// Whether it is part of the round's average, as far as is known.
    used: bool,
    /// The residual that was added to its delta; none for zeros.
    before: Option<Slot>,
    /// What compression left of the sum.
    after: Slot,
}

/// One of two files: the other one is in use while this is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Slot {
    Even,
    Odd,
}

const LEDGER: &str = "feedback.json";

impl Ledger {
    /// The residual that the update of this round has to take up.
    fn due(&self, round: RoundId, base: BlobHash) -> Option<Slot> {
        let is_of_another = (self.round, self.base) != (round, base);
        match is_of_another && self.used {
            true => Some(self.after),
            false => self.before,
        }
    }
}

impl Slot {
    fn path(self, state: &StateDir) -> PathBuf {
        state.path().join(match self {
            Self::Even => "residual-even.f32",
            Self::Odd => "residual-odd.f32",
        })
    }
}

/// Adds to a round's delta what compression took from earlier ones.
///
/// # Errors
/// [`NodeError::State`].
pub(crate) fn add(
    state: &StateDir,
    round: RoundId,
    base: BlobHash,
    delta: &mut [f32],
) -> Result<(), NodeError> {
    let ledger: Option<Ledger> = state.load(LEDGER)?;
    let Some(slot) = ledger.and_then(|ledger| ledger.due(round, base)) else {
        return Ok(());
    };
    let path = slot.path(state);
    let bytes = fs::read(&path).map_err(|error| failed(path.clone(), &error))?;
    if bytes.len() != 4 * delta.len() {
        tracing::warn!(path = %path.display(), "a residual of another model is left out");
        return Ok(());
    }
    for (value, bytes) in delta.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *value += f32::from_le_bytes(*bytes);
    }
    Ok(())
}

/// Keeps what compression left of a round's delta, durably, in place of what the round before
/// left if that was never used.
///
/// # Errors
/// [`NodeError::State`].
pub(crate) fn keep(
    state: &StateDir,
    round: RoundId,
    base: BlobHash,
    residual: &[f32],
) -> Result<(), NodeError> {
    let ledger: Option<Ledger> = state.load(LEDGER)?;
    let before = ledger.and_then(|ledger| ledger.due(round, base));
    let after = match before {
        Some(Slot::Even) => Slot::Odd,
        Some(Slot::Odd) | None => Slot::Even,
    };
    let path = after.path(state);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(&file_bytes(residual))?;
        file.sync_all()
    };
    write().map_err(|error| failed(path.clone(), &error))?;
    let ledger = Ledger {
        round,
        base,
        used: false,
        before,
        after,
    };
    state.save(LEDGER, &ledger)
}

/// Learns from a round's report whether our update is part of the model.
///
/// # Errors
/// [`NodeError::State`].
pub(crate) fn settle(
    state: &StateDir,
    trainer: Address,
    report: &RoundReport,
) -> Result<(), NodeError> {
    let ledger: Option<Ledger> = state.load(LEDGER)?;
    let is_about = |ledger: &Ledger| (ledger.round, ledger.base) == (report.round, report.base);
    let Some(mut ledger) = ledger.filter(is_about) else {
        return Ok(());
    };
    let used = report.kept.iter().any(|kept| kept.trainer == trainer);
    if used == ledger.used {
        return Ok(());
    }
    ledger.used = used;
    state.save(LEDGER, &ledger)
}

fn failed(path: PathBuf, error: &std::io::Error) -> NodeError {
    NodeError::State {
        path,
        reason: error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::message::Kept;

    use super::*;

    const ME: Address = Address([1; 20]);
    const SOMEBODY: Address = Address([2; 20]);

    fn base(round: u32) -> BlobHash {
        BlobHash([round as u8; 32])
    }

    fn keep_of(state: &StateDir, round: u32, residual: f32) {
        keep(state, RoundId(round), base(round), &[residual; 3]).unwrap();
    }

    fn due(state: &StateDir, round: u32) -> f32 {
        let mut delta = [0.0; 3];
        add(state, RoundId(round), base(round), &mut delta).unwrap();
        assert!(delta.iter().all(|v| *v == delta[0]));
        delta[0]
    }

    fn report(state: &StateDir, round: u32, kept: Address) {
        let kept = Kept {
            trainer: kept,
            num_examples: 1,
            alignment: 0,
            gain_micros: 0,
            cosine_ppm: 0,
            factor: 0,
        };
        let report = RoundReport {
            round: RoundId(round),
            base: base(round),
            checkpoint: base(round + 1),
            state: None,
            broadcast: None,
            record: None,
            base_loss_micros: 0,
            base_accuracy_ppm: 0,
            kept: vec![kept],
            refused: Vec::new(),
            absent: Vec::new(),
            validators: Vec::new(),
        };
        settle(state, ME, &report).unwrap();
    }

    #[test]
    fn only_what_was_used_leaves_a_residual() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert_eq!(due(&state, 1), 0.0);
        keep_of(&state, 1, 1.0);
        report(&state, 1, ME);
        assert_eq!(due(&state, 2), 1.0);
        // Round 2 goes by without us: its residual is forgotten, that of round 1 stays.
        keep_of(&state, 2, 2.0);
        report(&state, 2, SOMEBODY);
        assert_eq!(due(&state, 3), 1.0);
        keep_of(&state, 3, 3.0);
        assert_eq!(due(&state, 4), 1.0, "no report has come");
        report(&state, 3, ME);
        assert_eq!(due(&state, 4), 3.0);
    }

    #[test]
    fn the_last_report_of_a_round_counts() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        keep_of(&state, 1, 1.0);
        report(&state, 1, ME);
        report(&state, 1, SOMEBODY);
        assert_eq!(due(&state, 2), 0.0);
        report(&state, 1, ME);
        assert_eq!(due(&state, 2), 1.0);
        // That of another round says nothing of this one.
        report(&state, 2, SOMEBODY);
        assert_eq!(due(&state, 2), 1.0);
    }

    #[test]
    fn an_update_that_is_made_again_takes_up_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        keep_of(&state, 1, 1.0);
        report(&state, 1, ME);
        keep_of(&state, 2, 2.0);
        // Killed before it was signed: what it left does not count, even if it says so.
        assert_eq!(due(&state, 2), 1.0);
        keep_of(&state, 2, 2.5);
        report(&state, 2, ME);
        assert_eq!(due(&state, 3), 2.5);
    }

    #[test]
    fn a_residual_of_another_model_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        keep_of(&state, 1, 1.0);
        report(&state, 1, ME);
        let mut delta = [0.0; 4];
        add(&state, RoundId(2), base(2), &mut delta).unwrap();
        assert_eq!(delta, [0.0; 4]);
    }
}
