//! A round from end to end: an aggregator judges and proves it, anybody verifies it.

use std::collections::BTreeSet;

use convoke_protocol::ids::{Address, Amount, Digest};
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::sketch::Norm;
use rand::{CryptoRng, RngCore};

use crate::error::ProofError;
use crate::keys::Keys;
use crate::plain::{Judgement, Sketch, Split, judge};
use crate::proof::prove;
use crate::public_data::{Commitment, PublicData, Slot};
use crate::size::Size;
use crate::statement::{SPLIT_BY_SCORE, Statement, own_commitments};
use crate::submission::{ClaimedUpdate, RoundClaim, Submission};
use crate::verifying::VerifyingKey;
use crate::witness::{Entry, RoundWitness};

/// A round as its aggregator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Chain and task manager.
    pub domain: PayoutDomain,
    /// What the chain knows.
    pub statement: Statement,
    /// What sketches were clipped to.
    pub clip_norm: Norm,
    /// How many of the updates, the last ones, trainers committed to themselves.
    pub own: u16,
    /// In the order in which they were committed to.
    pub updates: Vec<Update>,
}

/// One update of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Whose it is.
    pub trainer: Address,
    /// Hash of its header.
    pub update: Digest,
    /// `None` if it was refused before its sketch counted.
    pub sketch: Option<CheckedSketch>,
    /// The validators' combined factor, of updates that were refused too.
    pub factor: u16,
}

/// The sketch of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedSketch {
    /// Its values.
    pub values: Sketch,
    /// Root of the tree over the sums that it is rounded from.
    pub sums_root: Digest,
}

/// What settles a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Who is paid what, in the order of the updates, nobody nothing.
    pub payouts: Vec<(Address, Amount)>,
    /// [`Submission::encode`].
    pub proof: Vec<u8>,
}

impl Round {
    /// Applies the keep rule.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        judge(&self.sketches())
    }

    /// What each update is paid; base units. The same as what [`Self::prove`] proves, without
    /// proving it.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`].
    pub fn payouts(&self) -> Result<Vec<Amount>, ProofError> {
        let factors: Vec<u16> = self.updates.iter().map(|u| u.factor).collect();
        let pool = self.statement.trainers_pool.0;
        let split = Split::down(pool, &self.judge().scores, &factors)?;
        Ok(split.payouts.into_iter().map(Amount).collect())
    }

    /// What is said of the updates.
    #[must_use]
    pub fn claim(&self) -> RoundClaim {
        let context = self.statement.context(&self.domain);
        let claimed = |update: &Update| {
            let (commitment, sums_root) = match &update.sketch {
                None => (Commitment::NONE, Digest::ZERO),
                Some(sketch) => (
                    Commitment::of(&sketch.values, update.trainer, &context),
                    sketch.sums_root,
                ),
            };
            ClaimedUpdate {
                trainer: update.trainer,
                update: update.update,
                commitment,
                sums_root,
            }
        };
        RoundClaim {
            clip_norm_bits: self.clip_norm.bits(),
            own: self.own,
            updates: self.updates.iter().map(claimed).collect(),
        }
    }

    /// Judges the round and proves it: what is paid, and the proof as the contract takes it.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`] if nobody has weight; otherwise what contradicts the statement
    /// or the keys.
    pub fn prove<R: RngCore + CryptoRng>(
        &self,
        keys: &Keys,
        rng: &mut R,
    ) -> Result<Settled, ProofError> {
        let claim = self.claim();
        check_claim(&self.domain, &self.statement, &claim)?;
        self.check_trainers()?;
        let entry = |update: &Update| Entry {
            trainer: update.trainer,
            sketch: update.sketch.map(|sketch| sketch.values),
            factor: update.factor,
        };
        let witness = RoundWitness {
            context: self.statement.context(&self.domain),
            bound: self.statement.bound(&claim.encode()),
            pool: self.statement.trainers_pool,
            entries: self.updates.iter().map(entry).collect(),
        };
        let (data, proof) = prove(keys, &witness, rng)?;
        let paid = data.slots.iter().filter(|slot| slot.payout > Amount::ZERO);
        Ok(Settled {
            payouts: paid.map(|slot| (slot.trainer, slot.payout)).collect(),
            proof: Submission { proof, claim }.encode(),
        })
    }

    /// The public values of a circuit, payouts included, without a proof.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`], or what contradicts the statement.
    pub fn public_data(&self, size: Size) -> Result<PublicData, ProofError> {
        let factors: Vec<u16> = self.updates.iter().map(|u| u.factor).collect();
        let amounts = self.payouts()?;
        let payouts = self.updates.iter().zip(amounts);
        let payouts = payouts.filter(|(_, amount)| *amount > Amount::ZERO);
        let payouts: Vec<_> = payouts.map(|(u, amount)| (u.trainer, amount)).collect();
        let public = Public {
            domain: &self.domain,
            statement: &self.statement,
            factors: &factors,
            payouts: &payouts,
        };
        public.data(size, &self.claim())
    }

    fn sketches(&self) -> Vec<Option<Sketch>> {
        let values = |update: &Update| update.sketch.map(|sketch| sketch.values);
        self.updates.iter().map(values).collect()
    }

    /// Payouts name accounts and not slots, so that one account has one active slot.
    fn check_trainers(&self) -> Result<(), ProofError> {
        let mut seen = BTreeSet::new();
        let active = self.updates.iter().enumerate();
        let mut active = active.filter(|(_, update)| update.sketch.is_some());
        match active.find(|(_, update)| !seen.insert(update.trainer)) {
            Some((slot, _)) => Err(ProofError::TrainerTwice { slot }),
            None => Ok(()),
        }
    }
}

/// Checks all that the contract checks: that the submission's updates are those that were
/// committed to, and that the proof holds for statement, factors, payouts and submission.
///
/// `factors` has one factor an update; `payouts` are in the order of the updates, without those
/// that are paid nothing. What the contract's own types or the round manager rule out is not
/// looked at here: a factor above the largest is refused, a pool below the payouts is not.
///
/// # Errors
/// What is wrong, or [`ProofError::Refused`] if the proof does not hold.
pub fn verify_round(
    key: &VerifyingKey,
    domain: &PayoutDomain,
    statement: &Statement,
    factors: &[u16],
    payouts: &[(Address, Amount)],
    proof: &[u8],
) -> Result<Submission, ProofError> {
    let submission = Submission::decode(proof)?;
    check_claim(domain, statement, &submission.claim)?;
    let round = Public {
        domain,
        statement,
        factors,
        payouts,
    };
    let data = round.data(key.size(), &submission.claim)?;
    key.verify(&data, &submission.proof)?;
    Ok(submission)
}

/// The claim names the updates that were committed to, and the split is one that can be proven.
fn check_claim(
    domain: &PayoutDomain,
    statement: &Statement,
    claim: &RoundClaim,
) -> Result<(), ProofError> {
    if statement.split != SPLIT_BY_SCORE {
        return Err(ProofError::SplitNotProven(statement.split));
    }
    if claim.updates.len() != usize::from(statement.updates) {
        return Err(ProofError::UpdateCount {
            expected: usize::from(statement.updates),
            got: claim.updates.len(),
        });
    }
    let [first, own] = claim.split()?;
    let tree = MerkleTree::of_updates(domain, statement.task, statement.round, &first);
    if tree.root() != statement.updates_root {
        return Err(ProofError::OtherUpdates("root"));
    }
    if own_commitments(&own) != statement.own_commitments {
        return Err(ProofError::OtherUpdates("chain of own commitments"));
    }
    Ok(())
}

/// What is public of a round apart from the submission.
struct Public<'a> {
    domain: &'a PayoutDomain,
    statement: &'a Statement,
    factors: &'a [u16],
    payouts: &'a [(Address, Amount)],
}

impl Public<'_> {
    /// The public values of a circuit. A payout goes to the next active slot whose trainer it
    /// names, as in the contract.
    fn data(&self, size: Size, claim: &RoundClaim) -> Result<PublicData, ProofError> {
        if self.factors.len() != claim.updates.len() {
            return Err(ProofError::UpdateCount {
                expected: claim.updates.len(),
                got: self.factors.len(),
            });
        }
        let mut payouts = self.payouts.iter().enumerate().peekable();
        let slot = |(update, factor): (&ClaimedUpdate, &u16)| {
            let active = update.is_active();
            let payout = payouts.next_if(|(_, (account, _))| active && *account == update.trainer);
            Slot {
                active,
                trainer: update.trainer,
                commitment: update.commitment,
                factor: *factor,
                payout: payout.map_or(Amount::ZERO, |(_, (_, amount))| *amount),
            }
        };
        let slots = claim.updates.iter().zip(self.factors).map(slot).collect();
        if let Some((index, _)) = payouts.next() {
            return Err(ProofError::PayoutWithoutSlot { index });
        }
        Ok(PublicData {
            size,
            context: self.statement.context(self.domain),
            bound: self.statement.bound(&claim.encode()),
            pool: self.statement.trainers_pool,
            slots,
        })
    }
}
