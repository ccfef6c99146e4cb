//! The two ends: all rounds settled, or the task given up.

use serde::Serialize;

use super::{Context, Effect, Event, Fault, Next};
use crate::ids::Role;
use crate::message::{Notice, Order, PhaseName};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Finished {
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Stage {
    /// The chain is to end the task.
    Ending,
    /// Validators say on chain how much of what vests is released.
    Evaluating,
    Closed,
}

impl Finished {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Ending,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.resume(cx);
        None
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        match self.stage {
            Stage::Ending => cx.demand(Effect::CloseTask),
            Stage::Evaluating => cx.demand(Effect::AwaitClosing),
            Stage::Closed => {}
        }
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match (event, self.stage) {
            (Event::ClosingBegan, Stage::Ending) => {
                self.stage = Stage::Evaluating;
                let validators: Vec<_> = cx.members.present(Role::Validator).collect();
                for (validator, _) in validators {
                    cx.tell(validator, evaluate_order(cx));
                }
                self.resume(cx);
            }
            (Event::TaskClosed, Stage::Ending | Stage::Evaluating) => {
                self.stage = Stage::Closed;
                announce_end(cx);
            }
            (Event::Joined { .. }, Stage::Closed) => announce_end(cx),
            (Event::Joined { address, role, .. }, Stage::Evaluating)
                if *role == Role::Validator =>
            {
                cx.tell(*address, evaluate_order(cx));
            }
            (Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. }, _) => {}
            _ => return Err(Fault::WrongPhase(PhaseName::Finished)),
        }
        Ok(None)
    }
}

fn evaluate_order(cx: &Context<'_>) -> Order {
    Order::Evaluate {
        round: cx.round.next(),
        initial: cx.setup.initial,
        checkpoint: cx.base,
    }
}

fn announce_end(cx: &mut Context<'_>) {
    cx.announce(Notice::TaskFinished {
        checkpoint: cx.base,
    });
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Failed {
    reason: String,
}

impl Failed {
    pub(super) fn new(reason: String) -> Self {
        Self { reason }
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        cx.announce(Notice::TaskFailed {
            reason: self.reason.clone(),
        });
        None
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Joined { .. } => {
                cx.announce(Notice::TaskFailed {
                    reason: self.reason.clone(),
                });
                Ok(None)
            }
            Event::Tick | Event::Restarted | Event::Left { .. } => Ok(None),
            _ => Err(Fault::WrongPhase(PhaseName::Failed)),
        }
    }
}
