//! The Merkle trees of payouts, updates and cohorts, and their leaves.
//!
//! The tree is OpenZeppelin's: commutative keccak pairs, leaves hashed twice so that no inner
//! node can pass for a leaf. Every leaf binds chain, task manager, task and round.

use serde::{Deserialize, Serialize};

use crate::abi::{self, double_hash};
use crate::identity::keccak;
use crate::ids::{Address, Amount, Digest, RoundId, TaskId};

/// One contract on one chain: what signatures, leaves and commitments are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The contract's address: the task manager's, unless a function says otherwise.
    pub contract: Address,
}

/// The leaf of one payout:
/// `keccak(keccak(abi.encode(keccak("convoke.payout.v1"), chainId, taskManager, task, round, account, amount)))`.
#[must_use]
pub fn leaf(
    domain: &PayoutDomain,
    task: TaskId,
    round: RoundId,
    account: Address,
    amount: Amount,
) -> Digest {
    let [tag, chain, contract, task, round] = prefix("convoke.payout.v1", domain, task, round);
    let (account, amount) = (abi::address(account), abi::number(amount.0));
    double_hash(&[tag, chain, contract, task, round, account, amount])
}

/// The leaf of one update that the aggregator commits to; `update` is
/// [`crate::update::UpdateHeader::struct_hash`]. The double hash of
/// `(keccak("convoke.update.v1"), chainId, taskManager, task, round, index, trainer, update)`. The
/// index is bound, as the order decides who copied whom and pairs of the tree are commutative.
#[must_use]
pub fn update_leaf(
    domain: &PayoutDomain,
    task: TaskId,
    round: RoundId,
    index: usize,
    (trainer, update): &(Address, Digest),
) -> Digest {
    let [tag, chain, contract, task, round] = prefix("convoke.update.v1", domain, task, round);
    let (index, trainer) = (abi::number(index as u64), abi::address(*trainer));
    double_hash(&[tag, chain, contract, task, round, index, trainer, update.0])
}

/// The leaf of one member of a cohort: the double hash of
/// `(keccak("convoke.cohort-leaf.v1"), chainId, taskManager, task, round, trainer)`.
#[must_use]
pub fn cohort_leaf(
    domain: &PayoutDomain,
    task: TaskId,
    round: RoundId,
    trainer: Address,
) -> Digest {
    let [tag, chain, contract, task, round] = prefix("convoke.cohort-leaf.v1", domain, task, round);
    double_hash(&[tag, chain, contract, task, round, abi::address(trainer)])
}

fn prefix(tag: &str, domain: &PayoutDomain, task: TaskId, round: RoundId) -> [abi::Word; 5] {
    [
        abi::tag(tag),
        abi::number(domain.chain_id),
        abi::address(domain.contract),
        abi::number(task.0),
        abi::number(round.0),
    ]
}

/// A Merkle tree over leaves in the order given; an odd node moves up unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// Leaves first, root last; never empty.
    levels: Vec<Vec<Digest>>,
}

impl MerkleTree {
    /// Builds the tree. No leaves give the root of all zeros, against which nothing can be proven.
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
        payouts: &[(Address, Amount)],
    ) -> Self {
        let of = |(account, amount): &_| leaf(domain, task, round, *account, *amount);
        Self::new(payouts.iter().map(of).collect())
    }

    /// The tree of a round's updates, in the order of their commitment.
    #[must_use]
    pub fn of_updates(
        domain: &PayoutDomain,
        task: TaskId,
        round: RoundId,
        updates: &[(Address, Digest)],
    ) -> Self {
        let leaf = |(index, update)| update_leaf(domain, task, round, index, update);
        Self::new(updates.iter().enumerate().map(leaf).collect())
    }

    /// The tree of a round's cohort, in the order drawn.
    #[must_use]
    pub fn of_cohort(
        domain: &PayoutDomain,
        task: TaskId,
        round: RoundId,
        cohort: &[Address],
    ) -> Self {
        let leaf = |trainer: &Address| cohort_leaf(domain, task, round, *trainer);
        Self::new(cohort.iter().map(leaf).collect())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_differ_in_all_that_they_bind() {
        let domain = PayoutDomain {
            chain_id: 31_337,
            contract: Address([5; 20]),
        };
        let elsewhere = PayoutDomain {
            chain_id: 1,
            ..domain
        };
        let (task, round, one) = (TaskId(1), RoundId(2), Address([1; 20]));
        let update = Digest([9; 32]);
        let leaves = [
            cohort_leaf(&domain, task, round, one),
            cohort_leaf(&elsewhere, task, round, one),
            cohort_leaf(&domain, TaskId(2), round, one),
            cohort_leaf(&domain, task, RoundId(1), one),
            cohort_leaf(&domain, task, round, Address([2; 20])),
            update_leaf(&domain, task, round, 0, &(one, update)),
            update_leaf(&domain, task, round, 0, &(one, Digest([8; 32]))),
            update_leaf(&domain, task, round, 1, &(one, update)),
            leaf(&domain, task, round, one, Amount(9)),
            leaf(&domain, task, round, one, Amount(8)),
        ];
        let different: std::collections::BTreeSet<_> = leaves.iter().collect();
        assert_eq!(different.len(), leaves.len());
    }

    proptest! {
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
