//! Leave-one-out: what is lost without a player.

use crate::coalition::Coalition;
use crate::error::ValuationError;
use crate::game::{Game, Utility};

/// ϕᵢ = v(N) − v(N ∖ {i}), for each player: everybody else takes part. N + 1 evaluations.
///
/// Players that can replace each other are worth nothing to it, however much they do together.
///
/// # Errors
/// As [`Game::value`].
pub fn leave_one_out<U: Utility>(game: &mut Game<U>) -> Result<Vec<f64>, ValuationError<U::Error>> {
    let players = 0..game.players();
    let everybody = Coalition::all(players.end);
    let whole = game.value(everybody)?;
    let lost = |player| Ok(whole - game.value(everybody.without(player))?);
    players.map(lost).collect()
}
