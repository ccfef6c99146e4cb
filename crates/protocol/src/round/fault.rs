//! Whose fault it is when an event is refused.

use crate::identity::IdentityError;
use crate::ids::{Address, Role, RoundId};
use crate::message::PhaseName;

/// An event that changes nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer's: it has not joined.
    #[error("{0} has not joined this task")]
    NotAMember(Address),
    /// The peer's: it joined as something else.
    #[error("{address} joined as {joined}, this needs a {needed}")]
    WrongRole {
        /// Who.
        address: Address,
        /// The role it has.
        joined: Role,
        /// The role it would need.
        needed: Role,
    },
    /// Ours: the task has as many members as it can hold.
    #[error("the task has as many members as it can hold")]
    Full,
    /// Nobody's: this round's cohort was drawn without it.
    #[error("{0} is not in this round's cohort")]
    NotInCohort(Address),
    /// Late or early: the message is about another round.
    #[error("this is about round {got}, round {now} is under way")]
    WrongRound {
        /// The round meant.
        got: RoundId,
        /// The round under way.
        now: RoundId,
    },
    /// The peer's: another task.
    #[error("this is about another task")]
    WrongTask,
    /// The peer's: the signature does not hold.
    #[error("the signature does not hold: {0}")]
    Signature(#[from] IdentityError),
    /// Late or early: nothing of this kind is waited for now.
    #[error("not waited for in phase {0}")]
    WrongPhase(PhaseName),
    /// The peer's: no such update was announced.
    #[error("{0} has announced no such delta")]
    NotAnnounced(Address),
    /// Nobody's: the update has been decided on already.
    #[error("the update of {0} has been decided on already")]
    Decided(Address),
    /// The peer's: a second commitment, other than the first.
    #[error("{0} has committed to other scores already")]
    CommittedOtherwise(Address),
    /// The peer's: a reveal without a commitment.
    #[error("{0} has committed to no scores")]
    NoCommitment(Address),
    /// The peer's: the reveal is not what was committed to, or not about these candidates.
    #[error("the scores of {0} are not those it committed to")]
    RevealMismatch(Address),
    /// The peer's: the sketch is of another update, or under another seed or norm.
    #[error("the sketch of {0} is not the one that was asked for")]
    OtherSketch(Address),
    /// Ours: the driver's answer does not fit what was demanded.
    #[error("the driver's answer does not fit: {0}")]
    Driver(&'static str),
    /// Nobody's: too small a step to be logged.
    #[error("no change")]
    Unchanged,
}
