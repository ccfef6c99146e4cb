//! Sets of players.

use std::fmt;

/// Most players of a game: as many as a task's cohort may have trainers.
pub const PLAYERS_MAX: usize = 64 * WORDS;

const WORDS: usize = 4;

/// A set of players, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Coalition([u64; WORDS]);

impl Coalition {
    /// Nobody.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Players 0 to below `players`.
    ///
    /// # Panics
    /// If there are more than [`PLAYERS_MAX`].
    #[must_use]
    pub fn all(players: usize) -> Self {
        (0..players).collect()
    }

    /// These players and `player`.
    ///
    /// # Panics
    /// If `player` is not below [`PLAYERS_MAX`].
    #[must_use]
    pub fn with(mut self, player: usize) -> Self {
        self.0[player / 64] |= 1 << (player % 64);
        self
    }

    /// These players except `player`.
    ///
    /// # Panics
    /// If `player` is not below [`PLAYERS_MAX`].
    #[must_use]
    pub fn without(mut self, player: usize) -> Self {
        self.0[player / 64] &= !(1 << (player % 64));
        self
    }

    /// The players, ascending.
    pub fn players(self) -> impl Iterator<Item = usize> {
        let of_word = |(index, mut word): (usize, u64)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(64 * index + bit)
            })
        };
        self.0.into_iter().enumerate().flat_map(of_word)
    }
}

impl FromIterator<usize> for Coalition {
    fn from_iter<I: IntoIterator<Item = usize>>(players: I) -> Self {
        players.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.players()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_one_has_everybody() {
        let all = Coalition::all(PLAYERS_MAX);
        assert!(all.players().eq(0..PLAYERS_MAX));
        assert_eq!(Coalition::all(0), Coalition::EMPTY);
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            players in prop::collection::vec(0..PLAYERS_MAX, 0..40),
            gone in 0..PLAYERS_MAX,
        ) {
            let mut set: BTreeSet<_> = players.iter().copied().collect();
            let coalition: Coalition = players.into_iter().collect();
            prop_assert!(coalition.players().eq(set.iter().copied()));
            set.remove(&gone);
            prop_assert!(coalition.without(gone).players().eq(set));
        }
    }
}
