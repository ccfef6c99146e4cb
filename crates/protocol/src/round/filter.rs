//! Filter: the driver commits to the updates on chain and has the seed drawn; the trainers say what
//! their sketches are; the driver compares the deltas with each other, and verdicts come back.

use serde::Serialize;

use super::commit::Commit;
use super::open::seconds;
use super::validate::Validate;
use super::{Comparand, Context, Effect, Event, Fault, Next, Phase, Verdict};
use crate::ids::{Address, Digest, Millis};
use crate::message::{Candidate, Notice, Order, PhaseName};
use crate::record::Dossier;
use crate::refusal::Refusal;
use crate::sketch::{Norm, SignedSketch, SketchClaim};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Filter {
    /// Those that arrived and are sound.
    updates: Vec<Candidate>,
    record: Record,
    stage: Stage,
}

/// What is known of those who are out of the round already.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Record {
    pub(super) refused: Vec<(Address, Refusal)>,
    pub(super) absent: Vec<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Stage {
    /// The chain's seed is awaited.
    Seal,
    /// The trainers' sketches are awaited. Whose does not come is sketched without its trainer.
    Sketch { deadline: Millis },
    /// Verdicts are awaited.
    Compare,
}

impl Filter {
    pub(super) fn new(
        updates: Vec<Candidate>,
        refused: Vec<(Address, Refusal)>,
        absent: Vec<Address>,
    ) -> Self {
        Self {
            updates,
            record: Record { refused, absent },
            stage: Stage::Seal,
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.resume(cx);
        None
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        let (round, attempt) = (cx.round, cx.opened.attempt);
        match self.stage {
            Stage::Seal => cx.demand(Effect::Seal {
                round,
                attempt,
                committed: cx.dossier.committed().collect(),
            }),
            Stage::Sketch { .. } => {}
            Stage::Compare => cx.demand(Effect::Filter {
                round,
                attempt,
                seed: cx.dossier.seed,
                clip_norm: cx.dossier.clip_norm,
                updates: self.comparands(cx.dossier),
            }),
        }
    }

    /// What is waited for from the chain and from the comparison is the driver's to wait for.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Sketch { deadline } => Some(deadline),
            Stage::Seal | Stage::Compare => None,
        }
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Left { .. } => {}
            Event::Joined { address, .. } => self.rejoin(cx, *address),
            Event::Restarted => {
                if let Stage::Sketch { deadline } = &mut self.stage {
                    *deadline = due(cx);
                }
            }
            Event::Sealed { seed, own_updates } if self.stage == Stage::Seal => {
                self.seal(cx, *seed, own_updates);
            }
            Event::SketchClaimed(claim) => self.claim(cx, claim)?,
            Event::Filtered { verdicts } if self.stage == Stage::Compare => {
                self.check(verdicts)?;
                return Ok(Some(self.judge(cx, verdicts)));
            }
            Event::RoundLost { reason } if self.stage == Stage::Seal => {
                return Ok(Some(Next::Retry(reason.clone())));
            }
            _ => return Err(Fault::WrongPhase(PhaseName::Filter)),
        }
        self.compare_if_due(cx);
        Ok(None)
    }

    fn seal(&mut self, cx: &mut Context<'_>, seed: Digest, own_updates: &[(Address, Digest)]) {
        let norm = |index: usize| cx.dossier.updates[index].update.header.delta_norm;
        let places = self.updates.iter().map(|u| usize::from(u.index));
        cx.dossier.clip_norm = Norm::clipping(places.map(norm));
        cx.dossier.seed = seed;
        cx.dossier.own_updates = own_updates.to_vec();
        self.stage = Stage::Sketch { deadline: due(cx) };
        for update in &self.updates {
            cx.tell(update.trainer, order(cx, update));
        }
    }

    fn rejoin(&self, cx: &mut Context<'_>, address: Address) {
        let waiting = matches!(self.stage, Stage::Sketch { .. });
        let update = self.updates.iter().find(|u| u.trainer == address);
        let Some(update) = update.filter(|_| waiting) else {
            return;
        };
        if entry(cx.dossier, update).claim.is_none() {
            cx.tell(address, order(cx, update));
        }
    }

    fn claim(&mut self, cx: &mut Context<'_>, signed: &SignedSketch) -> Result<(), Fault> {
        if !matches!(self.stage, Stage::Sketch { .. }) {
            return Err(Fault::WrongPhase(PhaseName::Filter));
        }
        let trainer = signed.trainer;
        let update = self.updates.iter().find(|u| u.trainer == trainer);
        let update = update.ok_or(Fault::NotAnnounced(trainer))?;
        let entry = &mut cx.dossier.updates[usize::from(update.index)];
        if entry.claim.is_some() {
            return Err(Fault::Unchanged);
        }
        let expected = SketchClaim {
            task: cx.setup.task,
            round: cx.round,
            attempt: cx.opened.attempt,
            update: entry.update.header.struct_hash(),
            seed: cx.dossier.seed,
            clip_norm: cx.dossier.clip_norm,
            commitment: signed.claim.commitment,
            sums_root: signed.claim.sums_root,
        };
        if signed.claim != expected {
            return Err(Fault::OtherSketch(trainer));
        }
        signed.verify(&cx.setup.domain)?;
        entry.claim = Some(signed.clone());
        Ok(())
    }

    fn compare_if_due(&mut self, cx: &mut Context<'_>) {
        let Stage::Sketch { deadline } = self.stage else {
            return;
        };
        let claimed = |update: &Candidate| entry(cx.dossier, update).claim.is_some();
        if cx.now >= deadline || self.updates.iter().all(claimed) {
            self.stage = Stage::Compare;
            self.resume(cx);
        }
    }

    fn comparands(&self, dossier: &Dossier) -> Vec<Comparand> {
        let comparand = |candidate: &Candidate| {
            let entry = entry(dossier, candidate);
            Comparand {
                candidate: candidate.clone(),
                norm: entry.update.header.delta_norm,
                claim: entry.claim.clone(),
            }
        };
        self.updates.iter().map(comparand).collect()
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

    fn judge(&mut self, cx: &mut Context<'_>, verdicts: &[Verdict]) -> Next {
        let mut record = std::mem::take(&mut self.record);
        let mut candidates = Vec::new();
        for (mut update, verdict) in std::mem::take(&mut self.updates).into_iter().zip(verdicts) {
            let entry = &mut cx.dossier.updates[usize::from(update.index)];
            entry.sketched = verdict.sketched;
            entry.clip_ppm = verdict.clip_ppm;
            entry.alignment = verdict.alignment;
            entry.refusal.clone_from(&verdict.refusal);
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
        let updates = u16::try_from(cx.dossier.count()).unwrap_or(u16::MAX);
        if cx.setup.spec.cohort.validators_min == 0 {
            return Next::Phase(Phase::Commit(Commit::unscored(candidates, record, updates)));
        }
        // Even without any candidate: the chain waits for a factor for each update.
        Next::Phase(Phase::Validate(Validate::new(
            candidates, record, updates, cx,
        )))
    }
}

fn due(cx: &Context<'_>) -> Millis {
    cx.now.after(seconds(cx.setup.spec.timing.grace_s))
}

/// Candidates have the places of the dossier that they were made from.
fn entry<'a>(dossier: &'a Dossier, update: &Candidate) -> &'a crate::record::RecordedUpdate {
    &dossier.updates[usize::from(update.index)]
}

fn order(cx: &Context<'_>, update: &Candidate) -> Order {
    Order::Sketch {
        round: cx.round,
        attempt: cx.opened.attempt,
        delta: update.delta,
        seed: cx.dossier.seed,
        clip_norm: cx.dossier.clip_norm,
    }
}
