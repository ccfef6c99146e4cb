//! Errors of set-up, prover and verifier.

use ark_relations::gr1cs::SynthesisError;
use convoke_protocol::factors::FACTOR_MAX;

/// Why there is no proof, or why one is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// All scores or factors are zero: there is nothing to divide by, and the contract refunds by
    /// time-out.
    #[error("nobody has a positive score and factor: there is nothing to pay and nothing to prove")]
    NothingToPay,
    /// More updates than the circuit has slots for.
    #[error("{got} slots, the circuit has {expected}")]
    TooManySlots {
        /// Slots offered.
        got: usize,
        /// Slots of the circuit.
        expected: usize,
    },
    /// No circuit is that large.
    #[error("{0} trainers are more than any circuit takes")]
    NoSuchSize(usize),
    /// A factor above the largest that validators may give.
    #[error("the factor of slot {slot} is {factor}, at most {FACTOR_MAX} is allowed")]
    FactorTooHigh {
        /// The slot.
        slot: usize,
        /// The factor.
        factor: u16,
    },
    /// The round does not satisfy the circuit: a bug of ours, or false public data.
    #[error("the witness breaks the circuit in its part `{0}`")]
    Unsatisfied(&'static str),
    /// The keys belong to another circuit.
    #[error("the keys are for circuit {got}, this is circuit {expected}")]
    OtherCircuit {
        /// Hash of this circuit.
        expected: String,
        /// Hash that the keys name.
        got: String,
    },
    /// A public value is not below the scalar field's modulus.
    #[error("public value {0} is not below the modulus of the scalar field")]
    NotCanonical(&'static str),
    /// A coordinate of a proof is not below the base field's modulus.
    #[error("coordinate {0} of the proof is not below the modulus of the base field")]
    CoordinateTooLarge(usize),
    /// A point of a proof is not on its curve, or not in its subgroup.
    #[error("point {0} of the proof is not on the curve or not in the subgroup")]
    BadPoint(&'static str),
    /// The proof has another length.
    #[error("a proof has {expected} bytes, got {got}")]
    Length {
        /// Bytes of a proof.
        expected: usize,
        /// Bytes offered.
        got: usize,
    },
    /// A submission is not head and whole updates, or has more of them than any circuit takes.
    #[error("{got} bytes are no submission: 294 and 116 for each of at most 256 updates")]
    SubmissionLength {
        /// Bytes offered.
        got: usize,
    },
    /// A submission says that more updates were committed to by trainers than there are.
    #[error("{own} of {updates} updates are said to be committed to by trainers themselves")]
    TooManyOwn {
        /// Those.
        own: u16,
        /// Updates in all.
        updates: usize,
    },
    /// There are not as many updates or factors as the statement says.
    #[error("{expected} updates are to be settled, got {got}")]
    UpdateCount {
        /// Updates of the round.
        expected: usize,
        /// Updates or factors offered.
        got: usize,
    },
    /// The updates are not those that were committed to.
    #[error("the updates do not have the committed {0}")]
    OtherUpdates(&'static str),
    /// Only payouts by score are proven.
    #[error("split {0} is not proven")]
    SplitNotProven(u8),
    /// One trainer has two active slots, which payouts cannot tell apart.
    #[error("slot {slot} is of a trainer that has an active slot already")]
    TrainerTwice {
        /// The second slot.
        slot: usize,
    },
    /// A payout is to nobody whose slot is active and next.
    #[error("payout {index} is to nobody whose slot is active and next")]
    PayoutWithoutSlot {
        /// Its place among the payouts.
        index: usize,
    },
    /// The pairing equation does not hold.
    #[error("the proof does not hold for this statement")]
    Refused,
    /// A key file cannot be read or written.
    #[error("key file {path}: {cause}")]
    KeyFile {
        /// The file.
        path: std::path::PathBuf,
        /// What went wrong.
        cause: String,
    },
    /// The constraint library failed: a bug of ours.
    #[error("constraint system: {0}")]
    Synthesis(#[from] SynthesisError),
}
