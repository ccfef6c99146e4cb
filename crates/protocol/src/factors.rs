//! Validators' factors: one for each update of a round, two bytes each, in the order in which the
//! updates were committed to. Committed to by hash on chain, then revealed, then combined to the
//! stake-weighted lower median, which the contract checks.

use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

use crate::abi;
use crate::identity::{IdentityError, Signature, Wallet, keccak};
use crate::ids::{Address, Amount, Digest, RoundId, TaskId};
use crate::payout::PayoutDomain;
use crate::scores::weighted_median;
use crate::task::BPS;
use crate::update::typed_digest;

/// The factor of an update whose value is the median one.
pub const FACTOR_ONE: u16 = 10_000;

/// No factor exceeds this, so that one lucky measurement does not take the pool.
pub const FACTOR_MAX: u16 = 2 * FACTOR_ONE;

/// A factor that is farther than this from the median counts as no farther, so that one
/// disagreement does not cost a validator what it earned by all the others.
pub const AGREEMENT_CLIP: u16 = FACTOR_ONE / 2;

/// The factors as the contract takes them: two bytes each, big endian.
#[must_use]
pub fn encode(factors: &[u16]) -> Vec<u8> {
    factors.iter().flat_map(|f| f.to_be_bytes()).collect()
}

/// The factors of such bytes; `None` for an odd number of bytes.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<u16>> {
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let factor = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    Some(pairs.map(factor).collect())
}

/// One attempt at one round, as the contract of rounds knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// How often the chain has opened the round, from 1.
    pub attempt: u16,
}

/// What a validator commits to on chain: the double hash of `(keccak("convoke.scores.v1"),
/// chainId, roundManager, task, round, attempt, validator, keccak(factors), salt)`. Here the
/// domain's contract is the *round* manager.
#[must_use]
pub fn commitment(
    rounds: &PayoutDomain,
    attempt: &AttemptId,
    validator: Address,
    factors: &[u16],
    salt: &[u8; 32],
) -> Digest {
    abi::double_hash(&[
        abi::tag("convoke.scores.v1"),
        abi::number(rounds.chain_id),
        abi::address(rounds.contract),
        abi::number(attempt.task.0),
        abi::number(attempt.round.0),
        abi::number(attempt.attempt),
        abi::address(validator),
        keccak(&[&encode(factors)]).0,
        *salt,
    ])
}

/// A reveal as its validator signs it for the aggregator (EIP-712, in the domain of the task
/// manager): evidence, if it contradicts the commitment on chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReveal {
    /// The attempt, as the chain counts them.
    pub attempt: u16,
    /// One factor for each update, in the order of their commitment.
    pub factors: Vec<u16>,
    /// The salt of [`commitment`].
    pub salt: [u8; 32],
    /// The validator's signature over [`reveal_digest`].
    pub signature: Signature,
}

impl SignedReveal {
    /// Signs the factors of an attempt.
    #[must_use]
    pub fn sign(
        domain: &PayoutDomain,
        attempt: &AttemptId,
        factors: Vec<u16>,
        salt: [u8; 32],
        wallet: &Wallet,
    ) -> Self {
        let digest = reveal_digest(domain, attempt, &factors, &salt);
        Self {
            attempt: attempt.attempt,
            factors,
            salt,
            signature: wallet.sign_digest(&digest),
        }
    }

    /// Checks that `validator` signed it for this round.
    ///
    /// # Errors
    /// [`IdentityError`] otherwise.
    pub fn verify(
        &self,
        domain: &PayoutDomain,
        task: TaskId,
        round: RoundId,
        validator: Address,
    ) -> Result<(), IdentityError> {
        let attempt = AttemptId {
            task,
            round,
            attempt: self.attempt,
        };
        let digest = reveal_digest(domain, &attempt, &self.factors, &self.salt);
        self.signature.verify(&digest, validator)
    }
}

/// The EIP-712 digest of a reveal.
#[must_use]
pub fn reveal_digest(
    domain: &PayoutDomain,
    attempt: &AttemptId,
    factors: &[u16],
    salt: &[u8; 32],
) -> Digest {
    let fields = keccak(&[
        &keccak(&[REVEAL_TYPE]).0,
        &abi::number(attempt.task.0),
        &abi::number(attempt.round.0),
        &abi::number(attempt.attempt),
        &keccak(&[&encode(factors)]).0,
        salt,
    ]);
    typed_digest(domain, &fields)
}

const REVEAL_TYPE: &[u8] =
    b"Reveal(uint256 task,uint256 round,uint256 attempt,bytes factors,bytes32 salt)";

/// What the chain knows of one validator's scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainReveal {
    /// Who committed.
    pub validator: Address,
    /// Its effective stake when it did.
    pub weight: Amount,
    /// What it revealed, if it did: one factor for each update.
    pub factors: Option<Vec<u16>>,
}

/// The combined factor of each of `updates` updates: the least `m` with `2 W(≤ m) ≥ W`, where
/// `W` are the weights of those that revealed. All [`FACTOR_ONE`] if nobody did, which the
/// contract accepts in tasks without validators only.
#[must_use]
pub fn medians(reveals: &[ChainReveal], updates: usize) -> Vec<u16> {
    let median = |update: usize| {
        let of = |reveal: &ChainReveal| {
            let factor = reveal.factors.as_ref()?.get(update)?;
            Some((*factor, reveal.weight))
        };
        let values: Vec<_> = reveals.iter().filter_map(of).collect();
        weighted_median(&values).unwrap_or(FACTOR_ONE)
    };
    (0..updates).map(median).collect()
}

/// How well one validator agrees with the medians, in basis points:
/// `10⁴ − ⌈10⁴ Σ min(|f − m|, CLIP) / (n CLIP)⌉`. Full for no updates, nothing for lists of
/// different lengths.
#[must_use]
pub fn agreement_bps_down(factors: &[u16], medians: &[u16]) -> u16 {
    if factors.len() != medians.len() {
        return 0;
    }
    if factors.is_empty() {
        return BPS;
    }
    let distance = |(f, m): (&u16, &u16)| u64::from(f.abs_diff(*m).min(AGREEMENT_CLIP));
    let sum: u64 = factors.iter().zip(medians).map(distance).sum();
    let whole = factors.len() as u64 * u64::from(AGREEMENT_CLIP);
    let lost = (u64::from(BPS) * sum).div_ceil(whole);
    BPS - u16::try_from(lost).unwrap_or(BPS)
}

/// Validators' pay for a round, in the order of `reveals`: `⌊⌊P w / W⌋ a / 10⁴⌋`, where `P` is the
/// validators' share of the pool, `W` the weight of all that committed, and `a` the agreement.
/// Who did not reveal gets nothing; what is left over goes back to the creator.
#[must_use]
pub fn validators_pay_down(share: Amount, reveals: &[ChainReveal], medians: &[u16]) -> Vec<Amount> {
    let total = reveals
        .iter()
        .fold(U256::ZERO, |sum, reveal| sum + U256::from(reveal.weight.0));
    let pay = |reveal: &ChainReveal| {
        let Some(factors) = reveal.factors.as_ref().filter(|_| !total.is_zero()) else {
            return Amount::ZERO;
        };
        let part = U256::from(share.0) * U256::from(reveal.weight.0) / total;
        let agreement = U256::from(agreement_bps_down(factors, medians));
        let value = part * agreement / U256::from(BPS);
        Amount(u128::try_from(value).unwrap_or(u128::MAX))
    };
    reveals.iter().map(pay).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reveal(id: u8, weight: u128, factors: Option<Vec<u16>>) -> ChainReveal {
        ChainReveal {
            validator: Address([id; 20]),
            weight: Amount(weight),
            factors,
        }
    }

    /// The definition, tried on every factor there is.
    fn median_slowly(values: &[(u16, u128)]) -> u16 {
        let whole: u128 = values.iter().map(|(_, w)| w).sum();
        let up_to = |m: u16| -> u128 {
            let low = values.iter().filter(|(f, _)| *f <= m);
            low.map(|(_, w)| w).sum()
        };
        (0..=FACTOR_MAX)
            .find(|m| 2 * up_to(*m) >= whole)
            .unwrap_or(FACTOR_ONE)
    }

    /// The definition of agreement with fractions of one common denominator, factor by factor.
    fn agreement_slowly(factors: &[u16], medians: &[u16]) -> u16 {
        let denominator = factors.len() as i64 * i64::from(AGREEMENT_CLIP);
        let mut agreement = 10_000 * denominator;
        for (f, m) in factors.iter().zip(medians) {
            let distance = (i64::from(*f) - i64::from(*m)).abs();
            agreement -= 10_000 * distance.min(i64::from(AGREEMENT_CLIP));
        }
        u16::try_from(agreement / denominator).unwrap()
    }

    #[test]
    fn a_known_round() {
        let reveals = [
            reveal(1, 60, Some(vec![10_000, 0])),
            reveal(2, 30, Some(vec![12_000, 20_000])),
            reveal(3, 10, None),
        ];
        let medians = medians(&reveals, 2);
        assert_eq!(medians, [10_000, 0]);
        assert_eq!(agreement_bps_down(&[12_000, 20_000], &medians), 3_000);
        let pay = validators_pay_down(Amount(1_000), &reveals, &medians);
        assert_eq!(pay, [Amount(600), Amount(90), Amount(0)]);
        assert_eq!(super::medians(&[], 1), [FACTOR_ONE]);
        assert_eq!(agreement_bps_down(&[], &[]), BPS);
        assert_eq!(agreement_bps_down(&[1], &[]), 0);
    }

    #[test]
    fn bytes_and_factors_are_the_same_thing() {
        assert_eq!(encode(&[1, 0x0203]), [0, 1, 2, 3]);
        assert_eq!(decode(&[0, 1, 2, 3]), Some(vec![1, 0x0203]));
        assert_eq!(decode(&[0]), None);
    }

    #[test]
    fn commitments_and_reveals_bind_everything() {
        let domain = PayoutDomain {
            chain_id: 31_337,
            contract: Address([5; 20]),
        };
        let first = AttemptId {
            task: TaskId(1),
            round: RoundId(2),
            attempt: 1,
        };
        let second = AttemptId {
            attempt: 2,
            ..first
        };
        let one = Address([1; 20]);
        let base = commitment(&domain, &first, one, &[7], &[1; 32]);
        for other in [
            commitment(&domain, &second, one, &[7], &[1; 32]),
            commitment(&domain, &first, Address([2; 20]), &[7], &[1; 32]),
            commitment(&domain, &first, one, &[8], &[1; 32]),
            commitment(&domain, &first, one, &[7], &[2; 32]),
        ] {
            assert_ne!(base, other);
        }
        let wallet = Wallet::from_bytes(&[1; 32]).unwrap();
        let (task, round) = (first.task, first.round);
        let signed = SignedReveal::sign(&domain, &first, vec![7], [1; 32], &wallet);
        signed
            .verify(&domain, task, round, wallet.address())
            .unwrap();
        let changes: [fn(&mut SignedReveal); 3] = [
            |r| r.attempt = 2,
            |r| r.factors = vec![8],
            |r| r.salt = [2; 32],
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed);
            assert!(
                changed
                    .verify(&domain, task, round, wallet.address())
                    .is_err()
            );
        }
        assert!(
            signed
                .verify(&domain, TaskId(9), round, wallet.address())
                .is_err()
        );
        assert!(
            signed
                .verify(&domain, task, RoundId(9), wallet.address())
                .is_err()
        );
        assert!(signed.verify(&domain, task, round, one).is_err());
    }

    proptest! {
        #[test]
        fn the_median_is_that_of_its_definition(
            values in prop::collection::vec((0..=FACTOR_MAX, 1u128..1_000), 1..12),
        ) {
            let reveals: Vec<_> = values.iter()
                .map(|(factor, weight)| reveal(1, *weight, Some(vec![*factor]))).collect();
            prop_assert_eq!(medians(&reveals, 1), [median_slowly(&values)]);
        }

        #[test]
        fn agreement_and_pay_are_those_of_their_definitions(
            factors in prop::collection::vec((0..=FACTOR_MAX, 0..=FACTOR_MAX), 1..20),
            share in 0..=u128::MAX,
            weights in prop::collection::vec(1u128..=u128::MAX >> 8, 1..8),
        ) {
            let (mine, medians): (Vec<_>, Vec<_>) = factors.into_iter().unzip();
            prop_assert_eq!(agreement_bps_down(&mine, &medians), agreement_slowly(&mine, &medians));
            prop_assert_eq!(agreement_bps_down(&medians, &medians), BPS);
            let reveals: Vec<_> = weights.iter()
                .map(|weight| reveal(1, *weight, Some(mine.clone()))).collect();
            let pay = validators_pay_down(Amount(share), &reveals, &medians);
            let sum = pay.iter().try_fold(0u128, |sum, pay| sum.checked_add(pay.0));
            prop_assert!(sum.is_some_and(|sum| sum <= share));
        }
    }
}
