//! Games, and how often their utility is asked.

use std::collections::HashMap;

use crate::coalition::{Coalition, PLAYERS_MAX};
use crate::error::ValuationError;
use crate::exact::EXACT_PLAYERS_MAX;

/// What coalitions are worth.
pub trait Utility {
    /// Why an evaluation may fail.
    type Error;

    /// What the coalition of these players, ascending, is worth; finite. Equal calls give equal
    /// values.
    ///
    /// # Errors
    /// Whatever keeps it from being evaluated; nobody is valued then.
    fn evaluate(&mut self, coalition: &[usize]) -> Result<f64, Self::Error>;
}

impl<F, E> Utility for F
where
    F: FnMut(&[usize]) -> Result<f64, E>,
{
    type Error = E;

    fn evaluate(&mut self, coalition: &[usize]) -> Result<f64, E> {
        self(coalition)
    }
}

/// A game: players 0..N and a utility, which is asked once for each coalition, and not more often
/// than allowed. Remembers 40 bytes for each coalition.
#[derive(Debug)]
pub struct Game<U> {
    utility: U,
    players: usize,
    known: HashMap<Coalition, f64>,
    evaluations: u32,
    evaluations_max: u32,
}

impl<U: Utility> Game<U> {
    /// A game in which at most `evaluations_max` coalitions are evaluated.
    ///
    /// # Errors
    /// [`ValuationError::Players`].
    pub fn new(
        utility: U,
        players: usize,
        evaluations_max: u32,
    ) -> Result<Self, ValuationError<U::Error>> {
        if players > PLAYERS_MAX {
            return Err(ValuationError::Players(players));
        }
        Ok(Self {
            utility,
            players,
            known: HashMap::new(),
            evaluations: 0,
            evaluations_max,
        })
    }

    /// The same game, with the value of the empty coalition known from elsewhere.
    #[must_use]
    pub fn with_empty(mut self, value: f64) -> Self {
        self.known.insert(Coalition::EMPTY, value);
        self
    }

    /// Number of players.
    pub fn players(&self) -> usize {
        self.players
    }

    /// Evaluations made so far.
    pub fn evaluations(&self) -> u32 {
        self.evaluations
    }

    /// Evaluations allowed in all.
    pub fn evaluations_max(&self) -> u32 {
        self.evaluations_max
    }

    /// Whether there is nothing left to evaluate: exact values cost no more.
    pub(crate) fn is_known(&self) -> bool {
        self.players <= EXACT_PLAYERS_MAX && self.known.len() == 1 << self.players
    }

    /// What a coalition is worth.
    ///
    /// # Errors
    /// [`ValuationError::Exhausted`] if it is not known and no more evaluations are allowed,
    /// [`ValuationError::NotFinite`], [`ValuationError::Utility`].
    pub fn value(&mut self, coalition: Coalition) -> Result<f64, ValuationError<U::Error>> {
        if let Some(value) = self.known.get(&coalition) {
            return Ok(*value);
        }
        if self.evaluations == self.evaluations_max {
            return Err(ValuationError::Exhausted {
                max: self.evaluations_max,
            });
        }
        self.evaluations += 1;
        let players: Vec<usize> = coalition.players().collect();
        let value = self.utility.evaluate(&players);
        let value = value.map_err(ValuationError::Utility)?;
        if !value.is_finite() {
            return Err(ValuationError::NotFinite { players, value });
        }
        self.known.insert(coalition, value);
        Ok(value)
    }

    /// What nobody and everybody are worth.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn ends(&mut self) -> Result<(f64, f64), ValuationError<U::Error>> {
        let empty = self.value(Coalition::EMPTY)?;
        Ok((empty, self.value(Coalition::all(self.players))?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn no_coalition_is_evaluated_twice_and_none_too_many() {
        let mut asked = Vec::new();
        let count = |players: &[usize]| {
            asked.push(players.to_vec());
            Ok::<_, Infallible>(players.len() as f64)
        };
        let mut game = Game::new(count, 200, 2).unwrap().with_empty(0.5);
        let pair = Coalition::EMPTY.with(130).with(7);
        assert_eq!(game.value(Coalition::EMPTY), Ok(0.5));
        assert_eq!(game.value(pair), Ok(2.0));
        assert_eq!(game.value(pair), Ok(2.0));
        assert_eq!(game.value(pair.with(1)), Ok(3.0));
        let exhausted = Err(ValuationError::Exhausted { max: 2 });
        assert_eq!(game.value(pair.with(2)), exhausted);
        assert_eq!(game.value(pair), Ok(2.0));
        assert_eq!(game.evaluations(), 2);
        assert_eq!(asked, [vec![7, 130], vec![1, 7, 130]]);
    }

    #[test]
    fn failures_and_values_that_are_none_are_errors() {
        let nan = |_: &[usize]| Ok::<_, Infallible>(f64::NAN);
        let value = Game::new(nan, 1, 9).unwrap().value(Coalition::all(1));
        assert!(matches!(value, Err(ValuationError::NotFinite { .. })));
        let broken = |_: &[usize]| Err("no power");
        let value = Game::new(broken, 1, 9).unwrap().value(Coalition::all(1));
        assert_eq!(value, Err(ValuationError::Utility("no power")));
        let crowd = Game::new(broken, PLAYERS_MAX + 1, 9);
        assert_eq!(crowd.err(), Some(ValuationError::Players(PLAYERS_MAX + 1)));
    }
}
