//! Commit: the driver takes the step from the updates that are left.

use serde::Serialize;

use super::filter::Record;
use super::settle::Settle;
use super::{Context, Effect, Event, Fault, Next, Phase};
use crate::control::ControlStep;
use crate::factors::{self, ChainReveal, FACTOR_ONE};
use crate::held_out::{self, Judgement};
use crate::ids::{Address, BlobHash};
use crate::message::{Candidate, Kept, Notice, PhaseName, RoundReport};
use crate::scores::{Combined, Score};
use crate::split::Contribution;

/// What the round is paid by: the filter's alignments and the chain's factors. It does not matter
/// for pay which updates the sheets keep in the average, so anyone can check it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Books {
    /// Of the candidates, in the order of their commitments.
    pub(super) contributions: Vec<Contribution>,
    /// The combined factor of each update.
    pub(super) factors: Vec<u16>,
    /// What they are the medians of.
    pub(super) reveals: Vec<Vec<u16>>,
}

impl Books {
    pub(super) fn of_scores(
        candidates: &[Candidate],
        updates: usize,
        scores: &[ChainReveal],
    ) -> Self {
        let factors = factors::medians(scores, updates);
        let contribution = |candidate: &Candidate| Contribution {
            trainer: candidate.trainer,
            alignment: candidate.alignment,
            factor: factor_of(&factors, candidate),
        };
        Self {
            contributions: candidates.iter().map(contribution).collect(),
            reveals: scores.iter().filter_map(|s| s.factors.clone()).collect(),
            factors,
        }
    }
}

fn factor_of(factors: &[u16], candidate: &Candidate) -> u16 {
    let factor = factors.get(usize::from(candidate.index));
    factor.copied().unwrap_or_default()
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Commit {
    kept: Vec<(Candidate, Kept)>,
    record: Record,
    validators: Vec<Address>,
    base_loss_micros: u64,
    base_accuracy_ppm: u32,
    /// Refusals by held-out loss, not announced yet.
    fresh: usize,
    books: Box<Books>,
}

impl Commit {
    /// Without validators every candidate counts alike.
    pub(super) fn unscored(candidates: Vec<Candidate>, record: Record, updates: u16) -> Self {
        let books = Books::of_scores(&candidates, usize::from(updates), &[]);
        let nothing = Score {
            gain_micros: 0,
            cosine_ppm: 0,
            relatedness_milli: 0,
            value_nanos: 0,
        };
        let kept = candidates
            .into_iter()
            .map(|candidate| keep(candidate, nothing, FACTOR_ONE))
            .collect();
        Self {
            kept,
            record,
            validators: Vec::new(),
            base_loss_micros: 0,
            base_accuracy_ppm: 0,
            fresh: 0,
            books: Box::new(books),
        }
    }

    pub(super) fn scored(
        candidates: Vec<Candidate>,
        mut record: Record,
        combined: &Combined,
        validators: Vec<Address>,
        books: Books,
    ) -> Self {
        let mut kept = Vec::new();
        let already = record.refused.len();
        let judgements = held_out::judge(combined);
        for (candidate, judgement) in candidates.into_iter().zip(judgements) {
            match judgement {
                Judgement::Keep { score, .. } => {
                    let factor = factor_of(&books.factors, &candidate);
                    kept.push(keep(candidate, score, factor));
                }
                Judgement::Refuse(refusal) => record.refused.push((candidate.trainer, refusal)),
            }
        }
        Self {
            kept,
            fresh: record.refused.len() - already,
            record,
            validators,
            base_loss_micros: combined.base_loss_micros,
            base_accuracy_ppm: combined.base_accuracy_ppm,
            books: Box::new(books),
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
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
        self.resume(cx);
        None
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        let kept = self
            .kept
            .iter()
            .map(|(candidate, _)| candidate.clone())
            .collect();
        let signed = |(candidate, _): &(Candidate, Kept)| {
            let entry = &cx.dossier.updates[usize::from(candidate.index)];
            entry.update.header.num_examples
        };
        let examples = self.kept.iter().map(signed);
        let control = ControlStep::of(&cx.setup.spec, cx.round, cx.opened.cohort, examples);
        cx.demand(Effect::Aggregate {
            round: cx.round,
            base: cx.base,
            kept,
            control,
        });
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            Event::Aggregated {
                checkpoint,
                states,
                control,
                broadcast,
                shares,
                noise,
            } => {
                for (index, (candidate, _)) in self.kept.iter().enumerate() {
                    let entry = &mut cx.dossier.updates[usize::from(candidate.index)];
                    entry.weight = candidate.num_examples;
                    entry.share = shares.get(index).copied().unwrap_or_default();
                }
                cx.dossier.noise = *noise;
                let report = RoundReport {
                    states: states.clone(),
                    control: *control,
                    broadcast: broadcast.map(Box::new),
                    ..self.report(cx, *checkpoint)
                };
                cx.announce(Notice::RoundCommitted(Box::new(report.clone())));
                let books = self.books.clone();
                Ok(Some(Next::Phase(Phase::Settle(Settle::new(report, books)))))
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
            states: Vec::new(),
            control: None,
            broadcast: None,
            record: None,
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

fn keep(candidate: Candidate, score: Score, factor: u16) -> (Candidate, Kept) {
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
