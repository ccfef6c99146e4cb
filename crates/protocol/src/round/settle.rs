//! Settle: the result goes to the contract, which pays against it.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Context, Effect, Event, Fault, Next};
use crate::ids::{Amount, RoundId};
use crate::message::{Notice, PhaseName, RoundReport};
use crate::payout::{Contribution, Payout, split_pool};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Settle {
    report: RoundReport,
    payouts: Vec<Payout>,
}

impl Settle {
    pub(super) fn new(report: RoundReport) -> Self {
        Self {
            report,
            payouts: Vec::new(),
        }
    }

    pub(super) fn report(&self) -> &RoundReport {
        &self.report
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let contributions: Vec<_> = self
            .report
            .kept
            .iter()
            .map(|kept| Contribution {
                trainer: kept.trainer,
                alignment: kept.alignment,
                factor: kept.factor,
            })
            .collect();
        self.payouts = split_pool(
            cx.setup.spec.round_pool(),
            &cx.setup.spec.shares(),
            &contributions,
            &self.report.validators,
            cx.setup.aggregator,
        );
        self.resume(cx.round, cx.effects);
        None
    }

    pub(super) fn resume(&self, round: RoundId, effects: &mut VecDeque<Effect>) {
        effects.push_back(Effect::SubmitResult {
            round,
            checkpoint: self.report.checkpoint,
            payouts: self.payouts.clone(),
        });
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            Event::ResultRecorded => {
                let total: Amount = self.payouts.iter().map(|payout| payout.amount).sum();
                cx.announce(Notice::RoundSettled {
                    round: cx.round,
                    total,
                });
                Ok(Some(Next::Settled(self.report.checkpoint)))
            }
            _ => Err(Fault::WrongPhase(PhaseName::Settle)),
        }
    }
}
