//! Filter: the driver commits to the updates on chain, and compares the deltas with each other;
//! verdicts come back.

use serde::Serialize;

use super::commit::Commit;
use super::validate::Validate;
use super::{Context, Effect, Event, Fault, Next, Phase, Verdict};
use crate::ids::{Address, Digest};
use crate::message::{Candidate, Notice, PhaseName};
use crate::refusal::Refusal;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Filter {
    /// All updates that count as committed to, in order.
    committed: Vec<(Address, Digest)>,
    updates: Vec<Candidate>,
    record: Record,
}

/// What is known of those who are out of the round already.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Record {
    pub(super) refused: Vec<(Address, Refusal)>,
    pub(super) absent: Vec<Address>,
}

impl Filter {
    pub(super) fn new(
        committed: Vec<(Address, Digest)>,
        updates: Vec<Candidate>,
        refused: Vec<(Address, Refusal)>,
        absent: Vec<Address>,
    ) -> Self {
        Self {
            committed,
            updates,
            record: Record { refused, absent },
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.resume(cx);
        None
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        cx.demand(Effect::Filter {
            round: cx.round,
            attempt: cx.opened.attempt,
            committed: self.committed.clone(),
            updates: self.updates.clone(),
        });
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            Event::Filtered {
                own_updates,
                verdicts,
            } => {
                self.check(verdicts)?;
                Ok(Some(self.judge(cx, *own_updates, verdicts)))
            }
            Event::RoundLost { reason } => Ok(Some(Next::Retry(reason.clone()))),
            _ => Err(Fault::WrongPhase(PhaseName::Filter)),
        }
    }

    fn check(&self, verdicts: &[Verdict]) -> Result<(), Fault> {
        let same = verdicts.len() == self.updates.len()
            && verdicts
                .iter()
                .zip(&self.updates)
                .all(|(v, u)| v.trainer == u.trainer);
        if same {
            Ok(())
        } else {
            Err(Fault::Driver("verdicts are about other updates"))
        }
    }

    fn judge(&mut self, cx: &mut Context<'_>, own_updates: u16, verdicts: &[Verdict]) -> Next {
        let mut record = std::mem::take(&mut self.record);
        let mut candidates = Vec::new();
        for (mut update, verdict) in std::mem::take(&mut self.updates).into_iter().zip(verdicts) {
            let Some(refusal) = &verdict.refusal else {
                update.clip_ppm = verdict.clip_ppm;
                update.alignment = verdict.alignment;
                candidates.push(update);
                continue;
            };
            let (round, trainer) = (cx.round, update.trainer);
            cx.announce(Notice::UpdateRefused {
                round,
                trainer,
                refusal: refusal.clone(),
            });
            record.refused.push((trainer, refusal.clone()));
        }
        // The cohort bounds what is committed to, so the count fits.
        let committed = u16::try_from(self.committed.len()).unwrap_or(u16::MAX);
        let updates = committed.saturating_add(own_updates);
        if cx.setup.spec.cohort.validators_min == 0 {
            return Next::Phase(Phase::Commit(Commit::unscored(candidates, record, updates)));
        }
        // Even without any candidate: the chain waits for a factor for each update.
        Next::Phase(Phase::Validate(Validate::new(
            candidates, record, updates, cx,
        )))
    }
}
