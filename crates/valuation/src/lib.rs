//! What each player of a cooperative game contributes to what all of them achieve.
//!
//! A game has players 0..N and a [`Utility`] v that says what each coalition of them is worth. In
//! a round of federated learning the players are the updates, and v is minus the held-out loss
//! with the average of the coalition's deltas; this crate knows nothing of either.
//!
//! | method | value of player i | evaluations |
//! |---|---|---|
//! | [`alignment()`] | max(0, ⟨sᵢ, Σ s⟩), of vectors instead of a utility | 0 |
//! | [`gain()`] | v({i}) − v(∅) | N + 1 |
//! | [`leave_one_out()`] | v(N) − v(N ∖ {i}) | N + 1 |
//! | [`exact_shapley`] | its marginal contribution, averaged over all orders of the players | 2ᴺ |
//! | [`tmc_shapley`] | the same over random orders, each cut short near v(N) | as many as are allowed |
//! | [`gtg_shapley`] | the same, every player first equally often | as many as are allowed |
//!
//! The Shapley value (Shapley 1953) is the only one that always divides v(N) − v(∅) without rest,
//! treats players alike that do alike, gives nothing to players that change nothing, and is
//! additive over games. [`Game`] evaluates no coalition twice and none too many, so what a method
//! costs is bounded and can be said. The same game and seed give the same values, bit by bit.

mod alignment;
mod coalition;
mod error;
mod exact;
mod gain;
mod game;
mod gtg_shapley;
mod leave_one_out;
pub mod rank_correlation;
mod sampling;
mod tmc_shapley;

pub use self::alignment::alignment;
pub use self::coalition::{Coalition, PLAYERS_MAX};
pub use self::error::ValuationError;
pub use self::exact::{EXACT_PLAYERS_MAX, exact_shapley};
pub use self::gain::gain;
pub use self::game::{Game, Utility};
pub use self::gtg_shapley::gtg_shapley;
pub use self::leave_one_out::leave_one_out;
pub use self::sampling::{Sampled, Sampling, SamplingEnd};
pub use self::tmc_shapley::tmc_shapley;
