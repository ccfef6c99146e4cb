//! What a proof is about, as the contracts state it, and what a proof is bound to.

use convoke_protocol::abi::{self, Word};
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::payout::PayoutDomain;

use crate::public_data::RoundContext;

/// Everything that the round manager knows of a round and pays by: the struct `Statement` of
/// `contracts/src/interfaces/IProofVerifier.sol`, field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// How often the chain has opened the round, from 1.
    pub attempt: u16,
    /// Who put together the result.
    pub aggregator: Address,
    /// Root of the tree over the updates that the aggregator committed to.
    pub updates_root: Digest,
    /// [`own_commitments`] of those that trainers committed to themselves.
    pub own_commitments: Digest,
    /// Updates in all.
    pub updates: u16,
    /// Drawn after the updates were committed to.
    pub seed: Digest,
    /// What all trainers share at most; base units.
    pub trainers_pool: Amount,
    /// [`SPLIT_BY_SCORE`], or 1 by rank.
    pub split: u8,
    /// Of the split by rank.
    pub rank_decay_bps: u16,
    /// The checkpoint after the round.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round.
    pub result_hash: Digest,
}

impl Statement {
    /// `abi.encode(statement)`, word by word: the struct is static, so its fields stand in order.
    #[must_use]
    pub fn words(&self) -> [Word; 13] {
        [
            abi::number(self.task.0),
            abi::number(self.round.0),
            abi::number(self.attempt),
            abi::address(self.aggregator),
            self.updates_root.0,
            self.own_commitments.0,
            abi::number(self.updates),
            self.seed.0,
            abi::number(self.trainers_pool.0),
            abi::number(self.split),
            abi::number(self.rank_decay_bps),
            self.checkpoint.0,
            self.result_hash.0,
        ]
    }

    /// What a proof holds for and for nothing else:
    /// `keccak256(abi.encode(statement) ‖ keccak256(tail))`, where `tail` is all of the submission
    /// but the points and h.
    #[must_use]
    pub fn bound(&self, tail: &[u8]) -> Digest {
        let words = self.words();
        let tail = keccak(&[tail]);
        let mut parts: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
        parts.push(&tail.0);
        keccak(&parts)
    }

    /// Where and when sketches of the round are committed for. The domain's contract is the task
    /// manager.
    #[must_use]
    pub fn context(&self, domain: &PayoutDomain) -> RoundContext {
        RoundContext {
            chain_id: domain.chain_id,
            contract: domain.contract,
            task: self.task,
            round: self.round,
            attempt: self.attempt,
            seed: self.seed,
        }
    }
}

/// The hash chain of updates that trainers committed to themselves, as the round manager links it:
/// `keccak256(abi.encode(chain, trainer, update))`, from zero.
#[must_use]
pub fn own_commitments(updates: &[(Address, Digest)]) -> Digest {
    let link = |chain: Digest, (trainer, update): &(Address, Digest)| {
        keccak(&[&chain.0, &abi::address(*trainer), &update.0])
    };
    updates.iter().fold(Digest::ZERO, link)
}

/// Payouts in proportion to score times factor, which is what is proven.
pub const SPLIT_BY_SCORE: u8 = 0;
