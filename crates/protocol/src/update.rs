//! The update: a trainer's signed statement that it trained, and on what its delta is based.

use serde::{Deserialize, Serialize};

use crate::abi;
use crate::identity::{IdentityError, Signature, Wallet, keccak};
use crate::ids::{Address, BlobHash, Digest, RoundId, TaskId};
use crate::payout::PayoutDomain;
use crate::sketch::Norm;

/// What a trainer signs. The delta itself travels as the blob `delta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateHeader {
    /// The task.
    pub task: TaskId,
    /// The round that the update is for.
    pub round: RoundId,
    /// The checkpoint that the trainer started from.
    pub base: BlobHash,
    /// The delta's blob.
    pub delta: BlobHash,
    /// Root of the tree over the delta's chunks, [`crate::sketch::chunk_leaf`]: what a contract
    /// can be shown a chunk of.
    pub delta_root: Digest,
    /// The blob's length in bytes.
    pub delta_bytes: u64,
    /// The delta's Euclidean norm.
    pub delta_norm: Norm,
    /// Examples trained on. A claim: it is capped before it weighs anything.
    pub num_examples: u64,
    /// Mean training loss of the last local epoch, in millionths of a nat. A claim.
    pub train_loss_micros: u64,
}

impl UpdateHeader {
    /// The EIP-712 struct hash of the header: what is committed to on chain.
    #[must_use]
    pub fn struct_hash(&self) -> Digest {
        keccak(&[
            &keccak(&[UPDATE_TYPE]).0,
            &abi::number(self.task.0),
            &abi::number(self.round.0),
            &self.base.0,
            &self.delta.0,
            &self.delta_root.0,
            &abi::number(self.delta_bytes),
            &abi::number(self.delta_norm.bits()),
            &abi::number(self.num_examples),
            &abi::number(self.train_loss_micros),
        ])
    }

    /// The EIP-712 digest of the header, so that a contract can check two conflicting ones.
    #[must_use]
    pub fn digest(&self, domain: &PayoutDomain) -> Digest {
        typed_digest(domain, &self.struct_hash())
    }

    /// Signs the header.
    #[must_use]
    pub fn sign(self, domain: &PayoutDomain, wallet: &Wallet) -> SignedUpdate {
        let signature = wallet.sign_digest(&self.digest(domain));
        SignedUpdate {
            trainer: wallet.address(),
            header: self,
            signature,
        }
    }
}

/// A header with its trainer and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedUpdate {
    /// Whose update it is.
    pub trainer: Address,
    /// What is signed.
    pub header: UpdateHeader,
    /// The trainer's signature over [`UpdateHeader::digest`].
    pub signature: Signature,
}

impl SignedUpdate {
    /// Checks that the trainer named signed the header.
    ///
    /// # Errors
    /// [`IdentityError`] otherwise.
    pub fn verify(&self, domain: &PayoutDomain) -> Result<(), IdentityError> {
        self.signature
            .verify(&self.header.digest(domain), self.trainer)
    }
}

/// The EIP-712 digest of a struct hash.
pub(crate) fn typed_digest(domain: &PayoutDomain, struct_hash: &Digest) -> Digest {
    keccak(&[&[0x19, 0x01], &domain_separator(domain).0, &struct_hash.0])
}

const UPDATE_TYPE: &[u8] = b"Update(uint256 task,uint256 round,bytes32 base,bytes32 delta,\
bytes32 deltaRoot,uint256 deltaBytes,uint256 deltaNorm,uint256 numExamples,\
uint256 trainLossMicros)";
const DOMAIN_TYPE: &[u8] =
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

fn domain_separator(domain: &PayoutDomain) -> Digest {
    keccak(&[
        &keccak(&[DOMAIN_TYPE]).0,
        &keccak(&[b"Convoke"]).0,
        &keccak(&[b"1"]).0,
        &abi::number(domain.chain_id),
        &abi::address(domain.contract),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn domain() -> PayoutDomain {
        PayoutDomain {
            chain_id: 31_337,
            contract: Address([5; 20]),
        }
    }

    fn header() -> UpdateHeader {
        UpdateHeader {
            task: TaskId(1),
            round: RoundId(2),
            base: BlobHash([3; 32]),
            delta: BlobHash([4; 32]),
            delta_root: Digest([5; 32]),
            delta_bytes: 5,
            delta_norm: Norm::of(0.5),
            num_examples: 6,
            train_loss_micros: 7,
        }
    }

    #[test]
    fn every_field_and_the_domain_are_signed() {
        let wallet = Wallet::from_bytes(&[1; 32]).unwrap();
        let signed = header().sign(&domain(), &wallet);
        signed.verify(&domain()).unwrap();
        let changes: [fn(&mut UpdateHeader); 9] = [
            |h| h.task = TaskId(9),
            |h| h.round = RoundId(9),
            |h| h.base = BlobHash([9; 32]),
            |h| h.delta = BlobHash([9; 32]),
            |h| h.delta_root = Digest([9; 32]),
            |h| h.delta_bytes = 9,
            |h| h.delta_norm = Norm::of(9.0),
            |h| h.num_examples = 9,
            |h| h.train_loss_micros = 9,
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed.header);
            assert!(changed.verify(&domain()).is_err(), "{:?}", changed.header);
        }
        let other = PayoutDomain {
            chain_id: 1,
            ..domain()
        };
        assert!(signed.verify(&other).is_err());
        let mut stolen = signed;
        stolen.trainer = Address([8; 20]);
        assert!(stolen.verify(&domain()).is_err());
    }
}
