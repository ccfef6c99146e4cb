//! How long proofs take on this machine, and how large keys are.

use std::time::{Duration, Instant};

use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::sketch::Norm;
use rand::{CryptoRng, Rng, RngCore};

use crate::error::ProofError;
use crate::keys::{Circuit, Keys};
use crate::plain::Sketch;
use crate::progress::{Progress, Stage};
use crate::settle::{CheckedSketch, Round, Settled, Update, verify_round};
use crate::size::Size;
use crate::statement::{SPLIT_BY_SCORE, Statement};
use crate::verifying::VerifyingKey;

/// What a size costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Constraints of the circuit.
    pub constraints: usize,
    /// Writing down the circuit, unless this process did so before.
    pub circuit: Duration,
    /// Making keys for development, the circuit included.
    pub setup: Duration,
    /// From sketches to the bytes for the contract.
    pub prove: Duration,
    /// From those bytes to the answer.
    pub verify: Duration,
    /// Length of the key file.
    pub key_bytes: usize,
}

/// Makes keys, then proves and verifies a full round once. Peak memory is the caller's to read.
///
/// # Errors
/// None that is not a bug of ours.
pub fn measure<R: RngCore + CryptoRng>(
    size: Size,
    rng: &mut R,
    progress: &dyn Progress,
) -> Result<Measured, ProofError> {
    progress.at(Stage::Circuit, 0.0);
    let start = Instant::now();
    let constraints = Circuit::of(size)?.constraints();
    let circuit = start.elapsed();
    let keys = Keys::insecure_setup(size, rng, progress)?;
    let setup = start.elapsed();
    let round = full_round(size, rng);
    progress.at(Stage::Proving, 0.0);
    let start = Instant::now();
    let settled = round.prove(&keys, rng)?;
    let prove = start.elapsed();
    progress.at(Stage::Proving, 1.0);
    let key = keys.verifying();
    let start = Instant::now();
    verify(&key, &round, &settled)?;
    Ok(Measured {
        constraints,
        circuit,
        setup,
        prove,
        verify: start.elapsed(),
        key_bytes: keys.encoded_len(),
    })
}

/// Verifies what a round was settled with.
///
/// # Errors
/// [`ProofError::Refused`] if it does not hold.
pub fn verify(key: &VerifyingKey, round: &Round, settled: &Settled) -> Result<(), ProofError> {
    let factors: Vec<u16> = round.updates.iter().map(|u| u.factor).collect();
    let (payouts, proof) = (&settled.payouts, &settled.proof);
    verify_round(
        key,
        &round.domain,
        &round.statement,
        &factors,
        payouts,
        proof,
    )?;
    Ok(())
}

/// A round of honest trainers that fills every slot.
#[must_use]
pub fn full_round<R: RngCore>(size: Size, rng: &mut R) -> Round {
    let base: [f64; 128] = std::array::from_fn(|_| rng.random_range(-30.0..30.0));
    let update = |_: usize| {
        let noisy = base.map(|b| (0.3 * b + rng.random_range(-60.0..60.0f64)) as i8);
        let values: Sketch = noisy;
        Update {
            trainer: Address(rng.random()),
            update: Digest(rng.random()),
            sketch: Some(CheckedSketch {
                values,
                sums_root: Digest(rng.random()),
            }),
            factor: 10_000,
        }
    };
    let updates: Vec<Update> = (0..size.slots()).map(update).collect();
    let domain = PayoutDomain {
        chain_id: 31_337,
        contract: Address([1; 20]),
    };
    let (task, round) = (TaskId(1), RoundId::FIRST);
    let pairs: Vec<_> = updates.iter().map(|u| (u.trainer, u.update)).collect();
    let statement = Statement {
        task,
        round,
        attempt: 1,
        aggregator: Address([2; 20]),
        updates_root: MerkleTree::of_updates(&domain, task, round, &pairs).root(),
        own_commitments: Digest::ZERO,
        updates: size.slots() as u16,
        seed: Digest([3; 32]),
        trainers_pool: Amount(1_000_000_000_000_000_000_000),
        split: SPLIT_BY_SCORE,
        rank_decay_bps: 0,
        checkpoint: BlobHash([4; 32]),
        result_hash: Digest([5; 32]),
    };
    Round {
        domain,
        statement,
        clip_norm: Norm::of(1.0),
        own: 0,
        updates,
    }
}
