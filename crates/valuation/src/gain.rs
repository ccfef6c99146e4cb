//! Gain: what a player achieves alone.

use crate::coalition::Coalition;
use crate::error::ValuationError;
use crate::game::{Game, Utility};

/// ϕᵢ = v({i}) − v(∅), for each player. N + 1 evaluations.
///
/// It does not see what players add to each other: a copy of an update gains as much as the
/// update, and what only helps together gains nothing.
///
/// # Errors
/// As [`Game::value`].
pub fn gain<U: Utility>(game: &mut Game<U>) -> Result<Vec<f64>, ValuationError<U::Error>> {
    let empty = game.value(Coalition::EMPTY)?;
    let players = 0..game.players();
    let alone = |player| Ok(game.value(Coalition::EMPTY.with(player))? - empty);
    players.map(alone).collect()
}
