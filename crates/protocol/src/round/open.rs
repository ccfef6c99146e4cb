//! Open: waits for enough nodes, draws the cohort from a seed that nobody could choose, and has
//! the chain open the round.

use serde::Serialize;

use super::{Context, Effect, Event, Fault, Next, Opened, Phase};
use crate::cohort;
use crate::identity::keccak;
use crate::ids::{Address, Digest, Millis, Role, RoundId};
use crate::message::PhaseName;
use crate::task::TaskSpec;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Open {
    since: Millis,
    stage: Stage,
}

#[derive(Debug, Clone, Serialize)]
enum Stage {
    /// There are too few nodes.
    Waiting,
    /// Enough nodes are there and a seed has been asked for.
    Drawing,
    /// The cohort is drawn, and the chain is to open the round.
    Opening(Vec<Address>),
}

impl Open {
    pub(super) fn new(since: Millis) -> Self {
        Self {
            since,
            stage: Stage::Waiting,
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
        match (event, &self.stage) {
            (Event::Joined { .. } | Event::Left { .. } | Event::Tick, _) => Ok(self.reconsider(cx)),
            (Event::Restarted, _) => {
                self.since = cx.now;
                Ok(None)
            }
            // Who was there when the seed was asked for may have gone, all of them after a
            // restart: then the wait goes on, and a new seed is asked for in its time.
            (Event::SeedDrawn { .. }, Stage::Drawing) if !self.enough(cx) => {
                self.stage = Stage::Waiting;
                Ok(self.reconsider(cx))
            }
            (Event::SeedDrawn { seed }, Stage::Drawing) => {
                self.stage = Stage::Opening(draw(cx, seed));
                self.resume(cx);
                Ok(None)
            }
            (Event::RoundOpened { attempt, pool }, Stage::Opening(cohort)) => {
                let (attempt, pool) = (*attempt, *pool);
                Ok(Some(Next::Opened {
                    cohort: cohort.clone(),
                    opened: Opened {
                        attempt,
                        pool,
                        cohort: u32::try_from(cohort.len()).unwrap_or(u32::MAX),
                    },
                }))
            }
            _ => Err(Fault::WrongPhase(PhaseName::Open)),
        }
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        match &self.stage {
            Stage::Waiting => {}
            Stage::Drawing => cx.demand(Effect::DrawSeed),
            Stage::Opening(cohort) => cx.demand(Effect::OpenRound {
                round: cx.round,
                after: cx.opened.attempt,
                base: cx.base,
                cohort: cohort.clone(),
            }),
        }
    }

    /// The next instant at which time alone changes anything: after the grace time only a
    /// newcomer does, or the end.
    pub(super) fn deadline(&self, spec: &TaskSpec, now: Millis) -> Option<Millis> {
        if !self.is_waiting() {
            return None;
        }
        let grace = self.since.after(seconds(spec.timing.grace_s));
        let end = self.since.after(seconds(spec.timing.open_timeout_s));
        Some(if now < grace { end.min(grace) } else { end })
    }

    fn reconsider(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if !self.is_waiting() {
            return None;
        }
        if self.enough(cx) {
            self.stage = Stage::Drawing;
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

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
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
            && trainers >= spec.cohort_min()
            && (validators > 0 || spec.cohort.validators_min == 0)
    }
}

fn draw(cx: &Context<'_>, seed: &Digest) -> Vec<Address> {
    let candidates: Vec<_> = cx.members.present(Role::Trainer).collect();
    let seed = keccak(&[
        b"convoke.cohort.v1",
        &seed.0,
        &cx.setup.task.0.to_be_bytes(),
        &cx.round.0.to_be_bytes(),
        &cx.attempt.to_be_bytes(),
    ]);
    let count = cx.setup.spec.cohort.trainers_max as usize;
    cohort::draw(&seed, &candidates, count)
}

pub(super) fn seconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000
}
