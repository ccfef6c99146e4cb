//! What a trainer does when it is told to train. Pure, so that simulated trainers decide as real
//! ones do.
//!
//! Where updates are buffered a round does not wait for anybody: a trainer whose work is not done
//! when the next round opens goes on, as long as its base is recent enough, and its update is for
//! the round in which it is sent. One that was signed for a round that closed before it arrived is
//! signed again, for the next. So a trainer signs one update a round, in every mode, and no work is
//! lost to a slow machine or a slow line.

use serde::{Deserialize, Serialize};

use crate::ids::{BlobHash, RoundId};

/// A round and its base: what an order to train names, and where work began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The round.
    pub round: RoundId,
    /// The checkpoint.
    pub base: BlobHash,
}

/// The update that a trainer has signed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The round that it is for.
    pub round: RoundId,
    /// Where the work on it began.
    pub began: Start,
    /// Whether a round has taken or refused it, so that it is of no use in another.
    pub spent: bool,
}

/// What a trainer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// Send the update again that it has signed for this round.
    SendAgain,
    /// Sign the delta of the latest update for this round, and send it.
    SignAgain,
    /// Go on training; the update will be for this round.
    GoOn,
    /// Train from the round's base.
    Begin,
}

impl Assignment {
    /// The answer to an order to train: `staleness_limit` is the task's, `signed` the latest
    /// update, and `training` where the work under way began.
    #[must_use]
    pub fn of(
        order: Start,
        staleness_limit: u32,
        signed: Option<Signed>,
        training: Option<Start>,
    ) -> Self {
        let serves = |began: Start| match order.round.0.checked_sub(began.round.0) {
            Some(0) => began.base == order.base,
            Some(staleness) => staleness <= staleness_limit,
            None => false,
        };
        let signed = signed.filter(|signed| serves(signed.began));
        match signed {
            Some(signed) if signed.round == order.round => Self::SendAgain,
            Some(signed) if signed.round < order.round && !signed.spent => Self::SignAgain,
            _ if training.is_some_and(serves) => Self::GoOn,
            _ => Self::Begin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Assignment::{Begin, GoOn, SendAgain, SignAgain};
    use super::*;

    fn start(round: u32) -> Start {
        Start {
            round: RoundId(round),
            base: BlobHash([round as u8; 32]),
        }
    }

    fn signed(round: u32, began: u32, spent: bool) -> Option<Signed> {
        Some(Signed {
            round: RoundId(round),
            began: start(began),
            spent,
        })
    }

    #[test]
    fn without_staleness_each_round_begins_anew() {
        let of = |signed, training| Assignment::of(start(5), 0, signed, training);
        assert_eq!(of(None, None), Begin);
        assert_eq!(of(signed(4, 4, false), Some(start(4))), Begin);
        assert_eq!(of(None, Some(start(5))), GoOn);
        assert_eq!(of(signed(5, 5, false), None), SendAgain);
        assert_eq!(
            of(signed(5, 5, true), None),
            SendAgain,
            "in a retried round"
        );
        let mut other = start(5);
        other.base = BlobHash::ZERO;
        assert_eq!(
            of(None, Some(other)),
            Begin,
            "another base of the same round"
        );
    }

    #[test]
    fn work_goes_on_while_its_base_is_recent() {
        let of = |round| Assignment::of(start(round), 2, None, Some(start(3)));
        assert_eq!([3, 4, 5, 6].map(of), [GoOn, GoOn, GoOn, Begin]);
        assert_eq!(of(2), Begin, "a round that is over does not come again");
    }

    #[test]
    fn an_update_that_came_too_late_is_for_the_next_round() {
        let of = |round, update| Assignment::of(start(round), 2, update, None);
        assert_eq!(of(5, signed(4, 3, false)), SignAgain);
        assert_eq!(of(6, signed(4, 3, false)), Begin, "too old by now");
        assert_eq!(of(5, signed(4, 3, true)), Begin, "a round has had it");
        assert_eq!(of(4, signed(4, 3, true)), SendAgain);
    }
}
