//! Why players could not be valued.

use crate::coalition::PLAYERS_MAX;
use crate::exact::EXACT_PLAYERS_MAX;

/// Why players could not be valued; `E` is the utility's own error.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValuationError<E> {
    /// More players than a coalition has room for.
    #[error("{0} players, at most {PLAYERS_MAX} are possible")]
    Players(usize),
    /// More players than all coalitions can be evaluated of.
    #[error("{0} players, exact values are possible for at most {EXACT_PLAYERS_MAX}")]
    TooManyForExact(usize),
    /// The method needs more evaluations than are allowed.
    #[error("the {max} evaluations that are allowed are used up")]
    Exhausted {
        /// How many are.
        max: u32,
    },
    /// The utility is infinite or not a number, and no difference to it means anything.
    #[error("the utility of players {players:?} is {value}")]
    NotFinite {
        /// The coalition.
        players: Vec<usize>,
        /// What the utility said.
        value: f64,
    },
    /// The utility failed.
    #[error(transparent)]
    Utility(E),
}
