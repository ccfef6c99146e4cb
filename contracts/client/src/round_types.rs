//! Rounds as the round manager holds them, in our types.

use std::fmt;

use convoke_protocol::factors;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest};
use serde::{Deserialize, Serialize};

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Never opened, or its last attempt failed.
    None,
    /// Trainers train; the aggregator collects and commits to the updates.
    Training,
    /// The updates are committed to; the seed's block is awaited.
    Sealed,
    /// Validators commit to their scores.
    Scoring,
    /// Validators reveal.
    Revealing,
    /// The aggregator owes the result.
    Settling,
    /// There is a result. It is final after the dispute window.
    Settled,
}

impl Stage {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Training,
        Self::Sealed,
        Self::Scoring,
        Self::Revealing,
        Self::Settling,
        Self::Settled,
    ];

    pub(crate) fn of_chain(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "not open",
            Self::Training => "training",
            Self::Sealed => "sealed",
            Self::Scoring => "scoring",
            Self::Revealing => "revealing",
            Self::Settling => "settling",
            Self::Settled => "settled",
        })
    }
}

/// A round at its newest attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundState {
    /// Where it stands.
    pub stage: Stage,
    /// 1 for the first try; 0 before it.
    pub attempt: u16,
    /// Trainers drawn.
    pub cohort_size: u16,
    /// Updates that the aggregator committed to.
    pub updates: u16,
    /// Further updates that trainers committed to themselves.
    pub own_updates: u16,
    /// Validators that committed to scores.
    pub committed: u16,
    /// Validators that revealed theirs.
    pub revealed: u16,
    /// When the stage ends by time-out, in Unix seconds.
    pub deadline: u64,
    /// When the stage began, in Unix seconds.
    pub stage_at: u64,
    /// The block whose hash gives the seed, once the updates are committed to.
    pub seed_block: Option<u64>,
    /// What the round may pay.
    pub pool: Amount,
    /// Sum of the weights of the validators that committed.
    pub weight: Amount,
    /// Sum of the trainers' payouts.
    pub total: Amount,
    /// When the result came, in Unix seconds.
    pub settled_at: Option<u64>,
    /// The checkpoint that the trainers start from.
    pub base: BlobHash,
    /// Root of the Merkle tree of the cohort.
    pub cohort_root: Digest,
    /// Root of the Merkle tree of the updates.
    pub updates_root: Digest,
    /// Hash chain of the updates that trainers committed to themselves.
    pub own_commitments: Digest,
    /// Drawn after the updates were committed to; `None` before.
    pub seed: Option<Digest>,
    /// Root of the Merkle tree of the trainers' payouts.
    pub payouts_root: Digest,
    /// The checkpoint after the round.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round.
    pub result_hash: Digest,
    /// Hash of payouts, factors and proof as submitted.
    pub submission_hash: Digest,
}

/// What an aggregator submits for a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultSubmission {
    /// The checkpoint after the round.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round.
    pub result_hash: Digest,
    /// The trainers' payouts, in the order of the Merkle tree; amounts above zero.
    pub payouts: Vec<(Address, Amount)>,
    /// The stake-weighted lower medians of the reveals, one an update, own commitments last; all
    /// 10,000 in a task without validators.
    pub factors: Vec<u16>,
    /// The factors of each validator that revealed, in the order of [`crate::Chain::scores`].
    pub reveals: Vec<Vec<u16>>,
    /// For the proof verifier.
    pub proof: Vec<u8>,
}

impl ResultSubmission {
    /// What the contract keeps of payouts, factors and proof:
    /// `keccak(keccak(payouts) ‖ keccak(factors) ‖ keccak(proof))`.
    #[must_use]
    pub fn submission_hash(&self) -> Digest {
        keccak(&[
            &keccak(&[&payout_bytes(&self.payouts)]).0,
            &keccak(&[&factors::encode(&self.factors)]).0,
            &keccak(&[&self.proof]).0,
        ])
    }
}

/// What the chain holds of a settled round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundResult {
    /// The attempt that came through.
    pub attempt: u16,
    /// The checkpoint after the round.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round.
    pub result_hash: Digest,
    /// As [`ResultSubmission::submission_hash`].
    pub submission_hash: Digest,
    /// Root of the Merkle tree of the trainers' payouts; zero if there are none.
    pub payouts_root: Digest,
    /// Sum of the trainers' payouts.
    pub total: Amount,
    /// Unix seconds.
    pub settled_at: u64,
    /// From when payouts can be claimed, in Unix seconds.
    pub claimable_at: u64,
}

/// 36 bytes a payout: account, amount.
pub(crate) fn payout_bytes(payouts: &[(Address, Amount)]) -> Vec<u8> {
    payouts
        .iter()
        .flat_map(|(account, amount)| account.0.into_iter().chain(amount.0.to_be_bytes()))
        .collect()
}

/// The inverse of [`payout_bytes`]; `None` if bytes are left over.
pub(crate) fn payouts_of(bytes: &[u8]) -> Option<Vec<(Address, Amount)>> {
    let (payouts, rest) = bytes.as_chunks::<36>();
    let payout = |bytes: &[u8; 36]| {
        let (account, amount) = bytes.split_first_chunk::<20>()?;
        let amount = u128::from_be_bytes(amount.try_into().ok()?);
        Some((Address(*account), Amount(amount)))
    };
    rest.is_empty()
        .then(|| payouts.iter().map(payout).collect())
        .flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn payouts_come_back_from_their_bytes() {
        let payouts = vec![
            (Address([1; 20]), Amount(1)),
            (Address([2; 20]), Amount(u128::MAX)),
        ];
        let bytes = payout_bytes(&payouts);
        assert_eq!(bytes.len(), 72);
        assert_eq!(payouts_of(&bytes).unwrap(), payouts);
        assert_eq!(payouts_of(&[]).unwrap(), []);
        assert_eq!(payouts_of(&bytes[1..]), None);
    }

    #[test]
    fn stages_have_the_contracts_numbers() {
        assert_eq!(Stage::of_chain(0), Some(Stage::None));
        assert_eq!(Stage::of_chain(6), Some(Stage::Settled));
        assert_eq!(Stage::of_chain(7), None);
    }
}
