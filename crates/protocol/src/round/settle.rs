//! Settle: the result goes to the contract, which pays against it.

use serde::Serialize;

use super::commit::Books;
use super::{Context, Effect, Event, Fault, Next};
use crate::ids::{Address, Amount};
use crate::message::{Notice, PhaseName, RoundReport};
use crate::split::split_down;
use crate::task::BPS;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Settle {
    report: RoundReport,
    books: Box<Books>,
    payouts: Vec<(Address, Amount)>,
}

impl Settle {
    pub(super) fn new(report: RoundReport, books: Box<Books>) -> Self {
        Self {
            report,
            books,
            payouts: Vec::new(),
        }
    }

    pub(super) fn report(&self) -> &RoundReport {
        &self.report
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let reward = &cx.setup.spec.reward;
        let (bps, whole) = (u128::from(reward.trainers_bps), u128::from(BPS));
        self.payouts = split_down(
            cx.opened.pool.share_down(bps, whole),
            reward.split,
            reward.rank_decay_bps,
            &self.books.contributions,
        );
        self.resume(cx);
        None
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        cx.demand(Effect::SubmitResult {
            round: cx.round,
            attempt: cx.opened.attempt,
            base: self.report.base,
            checkpoint: self.report.checkpoint,
            states: self.report.states.clone(),
            broadcast: self.report.broadcast.as_deref().copied(),
            dossier: Box::new(cx.dossier.clone()),
            payouts: self.payouts.clone(),
            factors: self.books.factors.clone(),
            reveals: self.books.reveals.clone(),
        });
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            Event::ResultRecorded { record } => {
                let total: Amount = self.payouts.iter().map(|(_, amount)| *amount).sum();
                let record = *record;
                cx.announce(Notice::RoundSettled {
                    round: cx.round,
                    total,
                    record,
                });
                let checkpoint = self.report.checkpoint;
                Ok(Some(Next::Settled { checkpoint, record }))
            }
            Event::RoundLost { reason } => Ok(Some(Next::Retry(reason.clone()))),
            _ => Err(Fault::WrongPhase(PhaseName::Settle)),
        }
    }
}
