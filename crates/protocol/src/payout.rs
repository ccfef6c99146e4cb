//! Who is paid what for a round, and the Merkle tree against which it is claimed.
//!
//! The tree is OpenZeppelin's: commutative keccak pairs, leaves hashed twice so that no inner
//! node can pass for a leaf. The leaf binds chain, contract, task and round.

use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

use crate::identity::keccak;
use crate::ids::{Address, Amount, Digest, Role, RoundId, TaskId};
use crate::task::{BPS, RewardShares};

/// Where a payout may be claimed: one contract on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The task manager's address.
    pub contract: Address,
}

/// One account's pay for one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Who is paid.
    pub account: Address,
    /// For which work.
    pub role: Role,
    /// How much, the vesting part included, in base units.
    pub amount: Amount,
}

/// What a kept trainer contributed to a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// The trainer.
    pub trainer: Address,
    /// max(0, ⟨sᵢ, S⟩) with S = Σ kept s over the sketches: the Shapley value of the game
    /// v(C) = |Σ_{i∈C} sᵢ|², so the scores add up to the energy |S|² of the step.
    pub alignment: u64,
    /// The validators' combined factor, in units of [`FACTOR_ONE`].
    pub factor: u32,
}

/// The factor of a trainer whose held-out cosine is the median one.
pub const FACTOR_ONE: u32 = 10_000;

/// Splits a round's pool. Trainers share by alignment × factor, validators who revealed share
/// equally, the aggregator has its fee. All is rounded down; what is left over stays in
/// escrow and goes back to the task's creator.
///
/// Payouts of nothing are left out; the order is trainers, validators, aggregator, as given.
#[must_use]
pub fn split_pool(
    pool: Amount,
    shares: &RewardShares,
    trainers: &[Contribution],
    validators: &[Address],
    aggregator: Address,
) -> Vec<Payout> {
    let part = |bps: u16| pool.share_down(u128::from(bps), u128::from(BPS));
    let pay = |account, role, amount| Payout {
        account,
        role,
        amount,
    };

    let trainer_pool = part(shares.trainers_bps);
    let weights: Vec<U256> = trainers.iter().map(weight).collect();
    let total: U256 = weights
        .iter()
        .fold(U256::ZERO, |sum, w| sum.saturating_add(*w));
    let trainer_payouts = trainers.iter().zip(&weights).map(|(trainer, weight)| {
        pay(
            trainer.trainer,
            Role::Trainer,
            share_down(trainer_pool, *weight, total),
        )
    });

    let each = part(shares.validators_bps).share_down(1, validators.len() as u128);
    let validator_payouts = validators.iter().map(|v| pay(*v, Role::Validator, each));

    trainer_payouts
        .chain(validator_payouts)
        .chain([pay(
            aggregator,
            Role::Aggregator,
            part(shares.aggregator_bps),
        )])
        .filter(|payout| payout.amount > Amount::ZERO)
        .collect()
}

fn weight(contribution: &Contribution) -> U256 {
    U256::from(contribution.alignment) * U256::from(contribution.factor)
}

/// ⌊pool × weight / total⌋; nothing if nobody has weight. 128 + 64 + 32 bits fit in 256.
fn share_down(pool: Amount, weight: U256, total: U256) -> Amount {
    if total.is_zero() {
        return Amount::ZERO;
    }
    let value = U256::from(pool.0) * weight / total;
    Amount(u128::try_from(value).unwrap_or(u128::MAX))
}

/// The leaf of one payout:
/// `keccak(keccak(abi.encode(keccak("convoke.payout.v1"), chainId, contract, task, round, account, amount)))`.
#[must_use]
pub fn leaf(
    domain: &PayoutDomain,
    task: TaskId,
    round: RoundId,
    account: Address,
    amount: Amount,
) -> Digest {
    let inner = keccak(&[
        &keccak(&[b"convoke.payout.v1"]).0,
        &word_u128(u128::from(domain.chain_id)),
        &word_address(domain.contract),
        &word_u128(u128::from(task.0)),
        &word_u128(u128::from(round.0)),
        &word_address(account),
        &word_u128(amount.0),
    ]);
    keccak(&[&inner.0])
}

/// A Merkle tree over leaves in the order given; an odd node moves up unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// Leaves first, root last; never empty.
    levels: Vec<Vec<Digest>>,
}

impl MerkleTree {
    /// Builds the tree. No leaves give the root of all zeros, against which nothing can be claimed.
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => hash_pair(left, right),
                    odd => odd[0],
                })
                .collect();
            levels.push(next);
        }
        Self { levels }
    }

    /// The tree of a round's payouts.
    #[must_use]
    pub fn of_payouts(
        domain: &PayoutDomain,
        task: TaskId,
        round: RoundId,
        payouts: &[Payout],
    ) -> Self {
        let leaf = |p: &Payout| leaf(domain, task, round, p.account, p.amount);
        Self::new(payouts.iter().map(leaf).collect())
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels
            .last()
            .and_then(|level| level.first())
            .copied()
            .unwrap_or(Digest::ZERO)
    }

    /// The siblings from leaf `index` up to the root, or `None` if there is no such leaf.
    #[must_use]
    pub fn proof(&self, mut index: usize) -> Option<Vec<Digest>> {
        if index >= self.levels[0].len() {
            return None;
        }
        let mut proof = Vec::new();
        for level in &self.levels[..self.levels.len() - 1] {
            proof.extend(level.get(index ^ 1));
            index /= 2;
        }
        Some(proof)
    }
}

/// Checks a leaf against a root, as the contract does.
#[must_use]
pub fn verify_proof(root: &Digest, leaf: &Digest, proof: &[Digest]) -> bool {
    proof
        .iter()
        .fold(*leaf, |node, sibling| hash_pair(&node, sibling))
        == *root
}

fn hash_pair(a: &Digest, b: &Digest) -> Digest {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    keccak(&[&low.0, &high.0])
}

fn word_u128(value: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

fn word_address(address: Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARES: RewardShares = RewardShares {
        trainers_bps: 7_000,
        validators_bps: 2_000,
        aggregator_bps: 1_000,
    };

    fn contribution(id: u8, alignment: u64, factor: u32) -> Contribution {
        Contribution {
            trainer: Address([id; 20]),
            alignment,
            factor,
        }
    }

    #[test]
    fn pay_follows_alignment_times_factor() {
        let payouts = split_pool(
            Amount(1_000),
            &SHARES,
            &[
                contribution(1, 10, 100),
                contribution(2, 10, 300),
                contribution(3, 10, 0),
            ],
            &[Address([8; 20]), Address([9; 20]), Address([7; 20])],
            Address([6; 20]),
        );
        let amounts: Vec<u128> = payouts.iter().map(|p| p.amount.0).collect();
        assert_eq!(amounts, [175, 525, 66, 66, 66, 100]);
    }

    #[test]
    fn nobody_with_weight_leaves_the_trainers_share_in_escrow() {
        let payouts = split_pool(
            Amount(1_000),
            &SHARES,
            &[contribution(1, 0, 9)],
            &[],
            Address([6; 20]),
        );
        assert_eq!(payouts.len(), 1);
        assert_eq!(payouts[0].role, Role::Aggregator);
    }

    proptest! {
        #[test]
        fn never_more_than_the_pool(
            pool in any::<u128>(),
            trainers in prop::collection::vec((any::<u64>(), any::<u32>()), 0..40),
            validators in 0usize..9,
        ) {
            let trainers: Vec<_> = trainers.iter().enumerate()
                .map(|(i, (a, f))| contribution(u8::try_from(i).unwrap(), *a, *f)).collect();
            let payouts = split_pool(
                Amount(pool), &SHARES, &trainers, &vec![Address([9; 20]); validators], Address::ZERO,
            );
            let total = payouts.iter().try_fold(0u128, |sum, p| sum.checked_add(p.amount.0));
            prop_assert!(total.is_some_and(|total| total <= pool));
        }

        #[test]
        fn every_leaf_proves_and_no_other_does(count in 0usize..40, other in 0usize..40) {
            let leaves: Vec<_> = (0..count).map(|i| keccak(&[&i.to_le_bytes()])).collect();
            let tree = MerkleTree::new(leaves.clone());
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = tree.proof(index).unwrap();
                prop_assert!(verify_proof(&tree.root(), leaf, &proof));
                let wrong = keccak(&[b"wrong"]);
                prop_assert!(!verify_proof(&tree.root(), &wrong, &proof));
            }
            prop_assert_eq!(tree.proof(count + other), None);
        }
    }
}
