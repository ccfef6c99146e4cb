//! Links that lose, delay and reorder, from a seed; and the queue of what is under way.

use std::collections::BTreeMap;

use convoke_protocol::ids::Millis;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Longest delay of a message, in milliseconds.
const DELAY_MAX_MS: u64 = 400;

/// Things on their way, by arrival. Equal instants keep the order of sending.
#[derive(Debug)]
pub(super) struct Links<T> {
    rng: ChaCha8Rng,
    loss: f64,
    pub(super) lost: u64,
    sent: u64,
    under_way: BTreeMap<(Millis, u64), T>,
}

impl<T> Links<T> {
    pub(super) fn seeded(seed: u64, loss: f64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss,
            lost: 0,
            sent: 0,
            under_way: BTreeMap::new(),
        }
    }

    /// Over a link: it may be lost, and arrives some time.
    pub(super) fn send(&mut self, now: Millis, thing: T) {
        let delay = self.rng.random_range(1..=DELAY_MAX_MS);
        if self.chance(self.loss) {
            self.lost += 1;
        } else {
            self.at(now.after(delay), thing);
        }
    }

    /// Not over a link: it happens at that instant.
    pub(super) fn at(&mut self, instant: Millis, thing: T) {
        self.sent += 1;
        self.under_way.insert((instant, self.sent), thing);
    }

    /// The next arrival no later than `until`.
    pub(super) fn next(&mut self, until: Option<Millis>) -> Option<(Millis, T)> {
        let (at, _) = *self.under_way.first_key_value()?.0;
        if until.is_some_and(|until| until < at) {
            return None;
        }
        self.under_way
            .pop_first()
            .map(|((at, _), thing)| (at, thing))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.under_way.retain(|_, thing| keep(thing));
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}
