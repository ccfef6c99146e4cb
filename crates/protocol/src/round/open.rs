//! Open: waits for enough nodes, then draws the cohort from a seed that nobody could choose.

use std::collections::VecDeque;

use serde::Serialize;

use super::train::Train;
use super::{Context, Effect, Event, Fault, Next, Phase};
use crate::cohort;
use crate::identity::keccak;
use crate::ids::{Digest, Millis, Role, RoundId};
use crate::message::PhaseName;
use crate::task::{BPS, TaskSpec};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Open {
    since: Millis,
    /// Enough nodes are there and a seed has been asked for.
    drawing: bool,
}

impl Open {
    pub(super) fn new(since: Millis) -> Self {
        Self {
            since,
            drawing: false,
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.reconsider(cx)
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Joined { .. } | Event::Left { .. } | Event::Tick => Ok(self.reconsider(cx)),
            Event::Restarted => {
                self.since = cx.now;
                Ok(None)
            }
            // Who was there when the seed was asked for may have gone, all of them after a
            // restart: then the wait goes on, and a new seed is asked for in its time.
            Event::SeedDrawn { .. } if self.drawing && !self.enough(cx) => {
                self.drawing = false;
                Ok(self.reconsider(cx))
            }
            Event::SeedDrawn { seed } if self.drawing => Ok(Some(self.draw(cx, seed))),
            _ => Err(Fault::WrongPhase(PhaseName::Open)),
        }
    }

    pub(super) fn resume(&self, effects: &mut VecDeque<Effect>) {
        if self.drawing {
            effects.push_back(Effect::DrawSeed);
        }
    }

    /// The next instant at which time alone changes anything: after the grace time only a
    /// newcomer does, or the end.
    pub(super) fn deadline(&self, spec: &TaskSpec, now: Millis) -> Option<Millis> {
        if self.drawing {
            return None;
        }
        let grace = self.since.after(seconds(spec.timing.grace_s));
        let end = self.since.after(seconds(spec.timing.open_timeout_s));
        Some(if now < grace { end.min(grace) } else { end })
    }

    fn reconsider(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if self.drawing {
            return None;
        }
        if self.enough(cx) {
            self.drawing = true;
            cx.demand(Effect::DrawSeed);
            return None;
        }
        let timing = &cx.setup.spec.timing;
        (cx.now >= self.since.after(seconds(timing.open_timeout_s))).then(|| {
            Next::Phase(Phase::Failed(super::ended::Failed::new(format!(
                "too few nodes for round {} after {} s",
                cx.round, timing.open_timeout_s
            ))))
        })
    }

    /// A first round needs the task's full numbers. Later ones go on after the grace time with
    /// a quorum of trainers and any validator, so that one dead node does not stop a task.
    fn enough(&self, cx: &Context<'_>) -> bool {
        let spec = &cx.setup.spec;
        let count = |role| u32::try_from(cx.members.present(role).count()).unwrap_or(u32::MAX);
        let (trainers, validators) = (count(Role::Trainer), count(Role::Validator));
        if trainers >= spec.cohort.trainers_min && validators >= spec.cohort.validators_min {
            return true;
        }
        let waited = cx.now >= self.since.after(seconds(spec.timing.grace_s));
        let later = cx.round > RoundId::FIRST || cx.attempt > 1;
        later
            && waited
            && trainers >= quorum(spec.cohort.trainers_min, spec.cohort.quorum_bps)
            && trainers >= spec.cohort.updates_min
            && (validators > 0 || spec.cohort.validators_min == 0)
    }

    fn draw(&self, cx: &Context<'_>, seed: &Digest) -> Next {
        let candidates: Vec<_> = cx.members.present(Role::Trainer).collect();
        let seed = keccak(&[
            b"convoke.cohort.v1",
            &seed.0,
            &cx.setup.task.0.to_be_bytes(),
            &cx.round.0.to_be_bytes(),
            &cx.attempt.to_be_bytes(),
        ]);
        let count = cx.setup.spec.cohort.trainers_max as usize;
        let cohort = cohort::draw(&seed, &candidates, count);
        Next::Phase(Phase::Train(Train::new(cohort, cx.now)))
    }
}

/// The least number that is at least `bps` of `whole`.
pub(super) fn quorum(whole: u32, bps: u16) -> u32 {
    let quorum = (u64::from(whole) * u64::from(bps)).div_ceil(u64::from(BPS));
    u32::try_from(quorum).unwrap_or(whole)
}

pub(super) fn seconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000
}
