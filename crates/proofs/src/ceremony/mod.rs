//! Keys from many hands, such that one honest pair of them is enough.
//!
//! A ceremony is one file that goes around. In its first phase everybody multiplies the powers of
//! τ, and α and β, by secrets of their own; [`Transcript::seal`] turns the powers into the key of
//! one circuit; in the second phase everybody multiplies δ. Whoever would forge proofs needs the
//! product of all secrets of a phase: **the keys are sound if, in each phase, one of those who
//! contributed forgot theirs**, and if the hash functions and groups are what they are taken for.
//! Nothing has to be believed of the others, of the one who passes the file around, or of the one
//! who seals it, because [`Transcript::verify`] checks all that was done from the file alone:
//!
//! - each contribution knows its secrets: with R = H(everything before, the new point) ∈ G₂ and
//!   π = s R, e(new, R) = e(old, π);
//! - contributions follow each other without a gap, and the last one's points are those of the
//!   powers and of δ;
//! - the powers are powers of one τ, the key is what the circuit's matrices make of them, and l and
//!   h are divided by δ: random linear combinations, two pairings each.
//!
//! The checks of the key need no Fourier transform in the group: for random ρ the sum Σⱼ ρⱼ aⱼ(τ) is
//! that of the polynomial whose values are A ρ, whose coefficients a transform in the field gives.
//!
//! Sean Bowe, Ariel Gabizon, Ian Miers, "Scalable Multi-party Computation for zk-SNARK Parameters
//! in the Random Beacon Model", 2017, <https://eprint.iacr.org/2017/1050>; without a beacon, as
//! here: Markulf Kohlweiss, Mary Maller, Janno Siim, Mikhail Volkhov, "Snarky Ceremonies", 2021,
//! <https://eprint.iacr.org/2021/219>; the key: Jens Groth, "On the Size of Pairing-based
//! Non-interactive Arguments", 2016, <https://eprint.iacr.org/2016/260>.

mod check;
mod contribution;
mod error;
mod file;
mod key;
mod powers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use rand::{CryptoRng, RngCore};

pub use self::contribution::Receipt;
use self::contribution::{Contribution, Secret, state_before};
pub use self::error::CeremonyError;
use self::powers::Powers;
use crate::keys::{Circuit, Keys, Origin};
use crate::progress::Progress;
use crate::size::Size;

/// Which secrets are contributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// τ, α and β.
    Powers,
    /// δ.
    Key,
}

/// All that was done in a ceremony.
#[derive(Debug, Clone)]
pub struct Transcript {
    circuit: Arc<Circuit>,
    /// Contributions to τ, α and β.
    first: Vec<Contribution<3>>,
    powers: Powers,
    second: Option<Second>,
}

/// The second phase.
#[derive(Debug, Clone)]
struct Second {
    /// Contributions to δ.
    contributions: Vec<Contribution<1>>,
    key: ProvingKey<Bn254>,
}

impl Transcript {
    /// A ceremony that nobody has contributed to.
    ///
    /// # Errors
    /// If the circuit cannot be written down, a bug of ours.
    pub fn start(size: Size) -> Result<Self, CeremonyError> {
        Self::start_for(Circuit::of(size)?)
    }

    fn start_for(circuit: Arc<Circuit>) -> Result<Self, CeremonyError> {
        Ok(Self {
            first: Vec::new(),
            powers: Powers::start(&circuit)?,
            second: None,
            circuit,
        })
    }

    /// The phase that is under way.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.second {
            None => Phase::Powers,
            Some(_) => Phase::Key,
        }
    }

    /// The circuit that keys are made for.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Multiplies the secrets of the phase that is under way by fresh ones, which are drawn from
    /// `rng` and `entropy` together: either alone is enough. They are forgotten when this returns.
    /// The receipt is to be published: whoever finds it among those that [`Self::verify`] returns
    /// knows that the keys contain this contribution.
    ///
    /// A contributor should verify the transcript first; contributing to a bad one is wasted.
    /// Minutes for 64 trainers.
    ///
    /// # Errors
    /// [`CeremonyError::TooMany`].
    pub fn contribute<R: RngCore + CryptoRng>(
        &mut self,
        entropy: &[u8],
        rng: &mut R,
        progress: &dyn Progress,
    ) -> Result<Receipt, CeremonyError> {
        let state = self.state();
        match &mut self.second {
            None => {
                room(self.first.len())?;
                let secrets = Secret::draw(entropy, rng);
                let before = self.powers.secrets();
                let contribution = Contribution::new(&state, before, &secrets);
                self.powers.multiply(&secrets, progress);
                self.first.push(contribution);
            }
            Some(second) => {
                room(second.contributions.len())?;
                let secrets = Secret::draw(entropy, rng);
                let before = [second.key.delta_g1];
                let contribution = Contribution::new(&state, before, &secrets);
                key::multiply(&mut second.key, &secrets[0], progress);
                second.contributions.push(contribution);
            }
        }
        Ok(Receipt(self.state()))
    }

    /// Ends the first phase: makes the key with δ = 1. Anybody may do it, and anybody can check it.
    /// Many minutes for 64 trainers.
    ///
    /// # Errors
    /// [`CeremonyError::NobodyContributed`], and [`CeremonyError::AlreadySealed`].
    pub fn seal(&mut self, progress: &dyn Progress) -> Result<(), CeremonyError> {
        if self.second.is_some() {
            return Err(CeremonyError::AlreadySealed);
        }
        if self.first.is_empty() {
            return Err(CeremonyError::NobodyContributed(Phase::Powers));
        }
        self.second = Some(Second {
            contributions: Vec::new(),
            key: key::derive(&self.circuit, &self.powers, progress)?,
        });
        Ok(())
    }

    /// Checks everything, and returns the receipts of all contributions in their order.
    ///
    /// # Errors
    /// What is wrong with the transcript.
    pub fn verify(&self, progress: &dyn Progress) -> Result<Vec<Receipt>, CeremonyError> {
        check::transcript(self, progress)
    }

    /// Verifies the transcript and takes the keys out of it, with the receipts of all contributions.
    ///
    /// # Errors
    /// Those of [`Self::verify`], and [`CeremonyError::NobodyContributed`].
    pub fn finish(self, progress: &dyn Progress) -> Result<(Keys, Vec<Receipt>), CeremonyError> {
        let receipts = self.verify(progress)?;
        match self.second {
            Some(second) if !second.contributions.is_empty() => {
                let keys = Keys {
                    circuit: self.circuit,
                    origin: Origin::Ceremony,
                    proving: second.key,
                };
                Ok((keys, receipts))
            }
            _ => Err(CeremonyError::NobodyContributed(Phase::Key)),
        }
    }

    /// Hash of all contributions so far, and of the powers once they are sealed: the initial key
    /// follows from them.
    fn state(&self) -> [u8; 32] {
        let mut state = state_before(&self.circuit);
        for contribution in &self.first {
            state = contribution.state_after(&state);
        }
        if let Some(second) = &self.second {
            state = self.powers.state_after(&state);
            for contribution in &second.contributions {
                state = contribution.state_after(&state);
            }
        }
        state
    }
}

fn room(contributions: usize) -> Result<(), CeremonyError> {
    match contributions < CONTRIBUTIONS_MAX {
        true => Ok(()),
        false => Err(CeremonyError::TooMany),
    }
}

/// Contributions to one phase at most.
pub const CONTRIBUTIONS_MAX: usize = 1_024;
