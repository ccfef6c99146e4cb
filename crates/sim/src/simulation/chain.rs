//! The chain, as far as rounds need it: attempts, validators' scores, and results that it accepts
//! on the contract's conditions only. It survives the aggregator's crashes.

use std::collections::BTreeMap;

use convoke_protocol::factors::{self, ChainReveal};
use convoke_protocol::ids::{Address, Amount, RoundId};
use convoke_protocol::round::{Event, Setup};
use convoke_protocol::task::BPS;

#[derive(Default)]
pub(super) struct Chain {
    rounds: BTreeMap<RoundId, Round>,
}

/// A round at its newest attempt.
#[derive(Default)]
struct Round {
    attempt: u16,
    scores: Vec<ChainReveal>,
    result: Option<Submission>,
}

/// What an aggregator submits, as far as it matters for pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) payouts: Vec<(Address, Amount)>,
    pub(super) factors: Vec<u16>,
    pub(super) reveals: Vec<Vec<u16>>,
}

impl Chain {
    /// Opens an attempt after `after`, unless that is done.
    pub(super) fn open(&mut self, round: RoundId, after: u16, pool: Amount) -> Event {
        let there = self.rounds.entry(round).or_default();
        if there.attempt <= after {
            *there = Round {
                attempt: there.attempt + 1,
                ..Round::default()
            };
        }
        let attempt = there.attempt;
        Event::RoundOpened { attempt, pool }
    }

    /// Validators commit by themselves, and reveal once the chain lets them; who withholds does
    /// not.
    pub(super) fn score(
        &mut self,
        round: RoundId,
        attempt: u16,
        validator: Address,
        factors: Option<Vec<u16>>,
    ) {
        let Some(there) = self.rounds.get_mut(&round) else {
            return;
        };
        let committed = |score: &ChainReveal| score.validator == validator;
        if there.attempt == attempt && !there.scores.iter().any(committed) {
            there.scores.push(ChainReveal {
                validator,
                weight: Amount(100),
                factors,
            });
        }
    }

    pub(super) fn scores(&self, round: RoundId) -> Vec<ChainReveal> {
        let there = self.rounds.get(&round);
        there.map_or_else(Vec::new, |round| round.scores.clone())
    }

    /// Accepts a result as the contract does.
    ///
    /// # Panics
    /// Where the contract would refuse, and for a second result that differs.
    pub(super) fn settle(
        &mut self,
        setup: &Setup,
        round: RoundId,
        attempt: u16,
        result: &Submission,
    ) {
        let there = self
            .rounds
            .get_mut(&round)
            .expect("results follow openings");
        assert_eq!(there.attempt, attempt, "a result of a spent attempt");
        let revealed: Vec<&ChainReveal> = there
            .scores
            .iter()
            .filter(|s| s.factors.is_some())
            .collect();
        let factors: Vec<_> = revealed.iter().filter_map(|s| s.factors.clone()).collect();
        assert_eq!(result.reveals, factors, "other reveals than the chain's");
        for (update, median) in result.factors.iter().enumerate() {
            assert!(is_median(&revealed, update, *median), "a wrong median");
        }
        let paid: Amount = result.payouts.iter().map(|(_, amount)| *amount).sum();
        let bps = u128::from(setup.spec.reward.trainers_bps);
        let share = setup.spec.round_pool().share_down(bps, u128::from(BPS));
        assert!(paid <= share, "more than the trainers' share");
        let first: &Submission = there.result.get_or_insert_with(|| result.clone());
        assert_eq!(first, result, "two results for round {round}");
    }

    /// Everybody's pay for all settled rounds.
    pub(super) fn paid(&self, setup: &Setup) -> BTreeMap<Address, Amount> {
        let mut paid: BTreeMap<Address, Amount> = BTreeMap::new();
        let part = |bps: u16| {
            let pool = setup.spec.round_pool();
            pool.share_down(u128::from(bps), u128::from(BPS))
        };
        for round in self.rounds.values() {
            let Some(result) = &round.result else {
                continue;
            };
            let share = part(setup.spec.reward.validators_bps);
            let validators = factors::validators_pay_down(share, &round.scores, &result.factors);
            let validators = round.scores.iter().map(|s| s.validator).zip(validators);
            let fee = (setup.aggregator, part(setup.spec.reward.aggregator_bps));
            let all = result
                .payouts
                .iter()
                .copied()
                .chain(validators)
                .chain([fee]);
            for (account, amount) in all.filter(|(_, amount)| *amount > Amount::ZERO) {
                let sum = paid.entry(account).or_default();
                *sum = Amount(sum.0 + amount.0);
            }
        }
        paid
    }
}

/// The contract's two comparisons. Where nobody scores, every factor is one.
fn is_median(revealed: &[&ChainReveal], update: usize, median: u16) -> bool {
    if revealed.is_empty() {
        return median == factors::FACTOR_ONE;
    }
    let weigh = |of: &dyn Fn(u16) -> bool| -> u128 {
        let counted = revealed
            .iter()
            .filter(|score| score.factors.as_ref().is_some_and(|f| of(f[update])));
        counted.map(|score| score.weight.0).sum()
    };
    let whole = weigh(&|_| true);
    2 * weigh(&|f| f < median) < whole && 2 * weigh(&|f| f <= median) >= whole
}
