//! The Shapley value by its definition (Shapley 1953, "A value for n-person games").

use crate::coalition::Coalition;
use crate::error::ValuationError;
use crate::game::{Game, Utility};

/// Most players whose exact values are computed: 65,536 coalitions.
pub const EXACT_PLAYERS_MAX: usize = 16;

/// ϕᵢ = Σ_{C ∌ i} |C|! (N − |C| − 1)! / N! · (v(C ∪ {i}) − v(C)), for each player. All 2ᴺ
/// coalitions are evaluated, and 8 bytes are taken for each.
///
/// # Errors
/// [`ValuationError::TooManyForExact`]; else as [`Game::value`].
pub fn exact_shapley<U: Utility>(game: &mut Game<U>) -> Result<Vec<f64>, ValuationError<U::Error>> {
    let players = game.players();
    if players > EXACT_PLAYERS_MAX {
        return Err(ValuationError::TooManyForExact(players));
    }
    let members = |mask: usize| (0..players).filter(move |player| mask >> player & 1 == 1);
    let values = (0..1usize << players)
        .map(|mask| game.value(members(mask).collect::<Coalition>()))
        .collect::<Result<Vec<f64>, _>>()?;
    let weights = weights(players);
    let mut shapley = vec![0.0; players];
    for (mask, value) in values.iter().enumerate() {
        let weight = weights.get(mask.count_ones() as usize);
        for (player, sum) in shapley.iter_mut().enumerate() {
            let joined = mask | 1 << player;
            if let Some(weight) = weight.filter(|_| joined != mask) {
                *sum += weight * (values[joined] - value);
            }
        }
    }
    Ok(shapley)
}

/// Of a coalition of each size below N: |C|! (N − |C| − 1)! / N! = 1 / (N · C(N − 1, |C|)).
fn weights(players: usize) -> Vec<f64> {
    let mut binomial = 1.0;
    let weight = |size: usize| {
        let weight = 1.0 / (players as f64 * binomial);
        binomial *= (players - 1 - size) as f64 / (size + 1) as f64;
        weight
    };
    (0..players).map(weight).collect()
}
