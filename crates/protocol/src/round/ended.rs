//! The two ends: all rounds settled, or the task given up.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Context, Effect, Event, Fault, Next};
use crate::message::{Notice, PhaseName};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Finished {
    closed: bool,
}

impl Finished {
    pub(super) fn new() -> Self {
        Self { closed: false }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.resume(cx.effects);
        None
    }

    pub(super) fn resume(&self, effects: &mut VecDeque<Effect>) {
        if !self.closed {
            effects.push_back(Effect::CloseTask);
        }
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::TaskClosed if !self.closed => {
                self.closed = true;
                cx.announce(Notice::TaskFinished {
                    checkpoint: cx.base,
                });
                Ok(None)
            }
            Event::Joined { .. } if self.closed => {
                cx.announce(Notice::TaskFinished {
                    checkpoint: cx.base,
                });
                Ok(None)
            }
            Event::Tick | Event::Restarted | Event::Joined { .. } | Event::Left { .. } => Ok(None),
            _ => Err(Fault::WrongPhase(PhaseName::Finished)),
        }
    }
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
