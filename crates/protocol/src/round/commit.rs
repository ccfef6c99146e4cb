//! Commit: the driver takes the step from the updates that are left.

use std::collections::VecDeque;

use serde::Serialize;

use super::filter::Record;
use super::settle::Settle;
use super::{Context, Effect, Event, Fault, Next, Phase};
use crate::held_out::{self, Judgement};
use crate::ids::{Address, BlobHash, RoundId};
use crate::message::{Candidate, Kept, Notice, PhaseName, RoundReport};
use crate::payout::FACTOR_ONE;
use crate::scores::{Combined, Score};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Commit {
    round: RoundId,
    kept: Vec<(Candidate, Kept)>,
    record: Record,
    validators: Vec<Address>,
    base_loss_micros: u64,
    base_accuracy_ppm: u32,
    /// Refusals by held-out loss, not announced yet.
    fresh: usize,
}

impl Commit {
    /// Without validators every candidate counts alike.
    pub(super) fn unscored(candidates: Vec<Candidate>, record: Record) -> Self {
        let kept = candidates
            .into_iter()
            .map(|c| {
                keep(
                    c,
                    Score {
                        gain_micros: 0,
                        cosine_ppm: 0,
                        relatedness_milli: 0,
                    },
                    FACTOR_ONE,
                )
            })
            .collect();
        Self {
            round: RoundId::FIRST,
            kept,
            record,
            validators: Vec::new(),
            base_loss_micros: 0,
            base_accuracy_ppm: 0,
            fresh: 0,
        }
    }

    pub(super) fn scored(
        candidates: Vec<Candidate>,
        mut record: Record,
        combined: &Combined,
        validators: Vec<Address>,
    ) -> Self {
        let mut kept = Vec::new();
        let already = record.refused.len();
        let judgements = held_out::judge(combined);
        for (candidate, judgement) in candidates.into_iter().zip(judgements) {
            match judgement {
                Judgement::Keep { score, factor } => kept.push(keep(candidate, score, factor)),
                Judgement::Refuse(refusal) => record.refused.push((candidate.trainer, refusal)),
            }
        }
        Self {
            round: RoundId::FIRST,
            kept,
            fresh: record.refused.len() - already,
            record,
            validators,
            base_loss_micros: combined.base_loss_micros,
            base_accuracy_ppm: combined.base_accuracy_ppm,
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.round = cx.round;
        let first = self.record.refused.len() - self.fresh;
        for (trainer, refusal) in &self.record.refused[first..] {
            let (round, trainer, refusal) = (cx.round, *trainer, refusal.clone());
            cx.announce(Notice::UpdateRefused {
                round,
                trainer,
                refusal,
            });
        }
        self.fresh = 0;
        self.resume(cx.base, cx.effects);
        None
    }

    pub(super) fn resume(&self, base: BlobHash, effects: &mut VecDeque<Effect>) {
        let kept = self
            .kept
            .iter()
            .map(|(candidate, _)| candidate.clone())
            .collect();
        effects.push_back(Effect::Aggregate {
            round: self.round,
            base,
            kept,
        });
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            Event::Aggregated { checkpoint } => {
                let report = self.report(cx, *checkpoint);
                cx.announce(Notice::RoundCommitted(report.clone()));
                Ok(Some(Next::Phase(Phase::Settle(Settle::new(report)))))
            }
            _ => Err(Fault::WrongPhase(PhaseName::Commit)),
        }
    }

    fn report(&mut self, cx: &Context<'_>, checkpoint: BlobHash) -> RoundReport {
        let record = std::mem::take(&mut self.record);
        RoundReport {
            round: cx.round,
            base: cx.base,
            checkpoint,
            base_loss_micros: self.base_loss_micros,
            base_accuracy_ppm: self.base_accuracy_ppm,
            kept: std::mem::take(&mut self.kept)
                .into_iter()
                .map(|(_, kept)| kept)
                .collect(),
            refused: record.refused,
            absent: record.absent,
            validators: std::mem::take(&mut self.validators),
        }
    }
}

fn keep(candidate: Candidate, score: Score, factor: u32) -> (Candidate, Kept) {
    let kept = Kept {
        trainer: candidate.trainer,
        num_examples: candidate.num_examples,
        alignment: candidate.alignment,
        gain_micros: score.gain_micros,
        cosine_ppm: score.cosine_ppm,
        factor,
    };
    (candidate, kept)
}
