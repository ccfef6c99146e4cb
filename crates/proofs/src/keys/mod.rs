//! Circuits as matrices, and their keys: set-up, files.

mod circuit;
mod setup;
mod store;

use std::sync::Arc;

use ark_bn254::Bn254;
use ark_groth16::ProvingKey;
use rand::{CryptoRng, RngCore};

pub use self::circuit::Circuit;
pub(crate) use self::setup::{Products, domain};
pub use self::store::{KeyFile, list};
use crate::error::ProofError;
use crate::progress::Progress;
use crate::size::Size;
use crate::verifying::VerifyingKey;

/// A circuit with its proving key.
#[derive(Debug)]
pub struct Keys {
    pub(crate) circuit: Arc<Circuit>,
    pub(crate) origin: Origin,
    pub(crate) proving: ProvingKey<Bn254>,
}

/// Who knows the secrets that keys come from, which are enough to prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// **Insecure**: one machine drew them, and is trusted to have forgotten them.
    Development,
    /// Nobody, if one of those who took part in a ceremony was honest.
    Ceremony,
}

impl Origin {
    /// How files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "insecure-development",
            Self::Ceremony => "ceremony",
        }
    }
}

impl Keys {
    /// **Insecure: for development and tests**, see [`Origin::Development`]. In production the
    /// keys come from a ceremony.
    ///
    /// Some 30 s for 64 trainers on two busy cores.
    ///
    /// # Errors
    /// [`ProofError::Synthesis`], which would be a bug of ours.
    pub fn insecure_setup<R: RngCore + CryptoRng>(
        size: Size,
        rng: &mut R,
        progress: &dyn Progress,
    ) -> Result<Self, ProofError> {
        let circuit = Circuit::of(size)?;
        let proving = setup::insecure(&circuit, rng, progress)?;
        Ok(Self {
            circuit,
            origin: Origin::Development,
            proving,
        })
    }

    /// The circuit.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Where the keys come from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn proving(&self) -> &ProvingKey<Bn254> {
        &self.proving
    }

    /// What verifies the proofs made with these keys.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        let circuit = &self.circuit;
        VerifyingKey::new(circuit.size(), *circuit.hash(), &self.proving.vk)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
