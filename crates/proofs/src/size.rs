//! The sizes that there are circuits for.

use crate::error::ProofError;
use crate::plain::ENERGY_FROM;

/// The number of slots of a circuit, each size with keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// 16 trainers: no energy passes.
    N16,
    /// 64 trainers.
    N64,
    /// 256 trainers.
    N256,
}

impl Size {
    /// All of them, the smallest first.
    pub const ALL: [Self; 3] = [Self::N16, Self::N64, Self::N256];

    /// Trainers in one proof at most.
    pub const SLOTS_MAX: usize = 256;

    /// The smallest circuit with so many slots.
    ///
    /// # Errors
    /// [`ProofError::NoSuchSize`] for more than 256.
    pub fn fitting(slots: usize) -> Result<Self, ProofError> {
        let fits = |size: &Self| size.slots() >= slots;
        let found = Self::ALL.into_iter().find(fits);
        found.ok_or(ProofError::NoSuchSize(slots))
    }

    /// Trainers that the circuit has room for.
    #[must_use]
    pub const fn slots(self) -> usize {
        1 << self.log2()
    }

    pub(crate) const fn log2(self) -> usize {
        match self {
            Self::N16 => 4,
            Self::N64 => 6,
            Self::N256 => 8,
        }
    }

    /// The energy passes are part of the circuit.
    pub(crate) const fn has_energy(self) -> bool {
        self.slots() >= ENERGY_FROM
    }

    /// The least prime that is not below the number of slots, for the exponents of the challenge.
    pub(crate) const fn prime(self) -> usize {
        match self {
            Self::N16 => 17,
            Self::N64 => 67,
            Self::N256 => 257,
        }
    }
}
