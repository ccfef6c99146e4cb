//! The round state machine: events and the time go in, effects come out.
//!
//! ```text
//!        ┌───── too few updates or scores, or the chain's time has run out: retry ────┐
//!        ▼            │            │             │                           │        │
//!   ┌────────┐   ┌────┴──┐   ┌─────┴──┐   ┌──────┴───┐   ┌────────┐   ┌──────┴─┐      │
//! ─▶│  Open  │──▶│ Train │──▶│ Filter │──▶│ Validate │──▶│ Commit │──▶│ Settle │──┬─▶ Finished
//!   └────────┘   └───────┘   └────────┘   └──────────┘   └────────┘   └────────┘  │
//!        ▲                                                                next round
//!        └────────────────────────────────────────────────────────────────────────┘
//!   retries used up, too few nodes for too long, or ended on chain ──▶ Failed
//! ```
//!
//! The chain has stages of its own and the driver keeps both in step: Open opens the round there,
//! Filter commits to the updates and has the seed drawn, Validate waits for the chain's reveals,
//! Settle submits the result. What the chain failed for its time-out is tried again here.
//!
//! Deterministic: the same events at the same times give the same state and the same effects,
//! so a driver that logs every event before it carries out the effects can be killed at any
//! moment, replay its log, and go on. A refused event changes nothing.

mod bases;
mod blobs;
mod commit;
mod effect;
mod ended;
mod event;
mod fault;
mod filter;
mod members;
mod open;
mod settle;
mod train;
mod validate;

use std::collections::VecDeque;

use serde::Serialize;

pub use self::effect::{Comparand, Effect};
pub use self::event::{Event, Verdict};
pub use self::fault::Fault;
pub use self::members::{MEMBERS_MAX, Member, Members};
use crate::codec;
use crate::identity::keccak;
use crate::ids::{Address, Amount, BlobHash, Digest, Millis, RoundId, TaskId};
use crate::message::{HISTORY_MAX, Notice, PhaseName, RoundReport};
use crate::payout::PayoutDomain;
use crate::record::{Dossier, RecordedUpdate};
use crate::task::{TaskSpec, as_toml};

/// Reports that are kept take at most so many bytes together, so that a welcome with all of
/// them fits a message.
const HISTORY_BYTES_MAX: usize = codec::MESSAGE_BYTES_MAX / 2;

/// What never changes during a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setup {
    /// The task's number.
    pub task: TaskId,
    /// The task file.
    #[serde(serialize_with = "as_toml")]
    pub spec: TaskSpec,
    /// The contract that pays, for signatures and payouts.
    pub domain: PayoutDomain,
    /// Who aggregates.
    pub aggregator: Address,
    /// The initial checkpoint.
    pub initial: BlobHash,
    /// Length of every delta's blob in bytes: that of the initial checkpoint, or what the task's
    /// codec makes of so many values.
    pub delta_bytes: u64,
}

/// A task under way: all of its rounds, one after the other.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    setup: Setup,
    members: Members,
    round: RoundId,
    attempt: u32,
    opened: Opened,
    /// The updates of the round under way, from the end of its training.
    dossier: Dossier,
    bases: bases::Bases,
    /// The server's control variate that belongs to the base, if there is one.
    control: Option<BlobHash>,
    phase: Phase,
    now: Millis,
    history: VecDeque<RoundReport>,
    #[serde(skip)]
    effects: VecDeque<Effect>,
}

/// The round as the chain opened it last; nothing before it did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Opened {
    attempt: u16,
    pool: Amount,
    /// Trainers drawn.
    cohort: u32,
}

#[derive(Debug, Clone, Serialize)]
enum Phase {
    Open(open::Open),
    Train(train::Train),
    Filter(filter::Filter),
    Validate(validate::Validate),
    Commit(commit::Commit),
    Settle(settle::Settle),
    Finished(ended::Finished),
    Failed(ended::Failed),
}

/// Where a phase leads. There is one at a time.
#[allow(clippy::large_enum_variant)]
enum Next {
    Phase(Phase),
    /// The chain has opened the round for this cohort.
    Opened {
        cohort: Vec<Address>,
        opened: Opened,
    },
    /// The same round again, from the start.
    Retry(String),
    /// The round is settled: the next one starts from this checkpoint.
    Settled {
        checkpoint: BlobHash,
        record: BlobHash,
    },
}

/// What a phase may read, and where its effects go.
struct Context<'a> {
    setup: &'a Setup,
    members: &'a Members,
    round: RoundId,
    base: BlobHash,
    control: Option<BlobHash>,
    attempt: u32,
    opened: Opened,
    dossier: &'a mut Dossier,
    bases: &'a bases::Bases,
    now: Millis,
    effects: &'a mut VecDeque<Effect>,
}

impl Context<'_> {
    fn announce(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Announce(notice));
    }

    fn tell(&mut self, to: Address, order: crate::message::Order) {
        self.effects.push_back(Effect::Tell { to, order });
    }

    fn demand(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}

impl Run {
    /// A task before its first round, waiting for nodes.
    #[must_use]
    pub fn new(setup: Setup, now: Millis) -> Self {
        let mut run = Self {
            members: Members::default(),
            round: RoundId::FIRST,
            attempt: 1,
            opened: Opened::default(),
            dossier: Dossier::default(),
            bases: bases::Bases::new(setup.initial),
            control: None,
            phase: Phase::Open(open::Open::new(now)),
            now,
            history: VecDeque::new(),
            effects: VecDeque::new(),
            setup,
        };
        run.announce_phase(Vec::new());
        run
    }

    /// Feeds one event. `now` is milliseconds since the Unix epoch; a step back of the clock
    /// is read as no time having passed.
    ///
    /// # Errors
    /// The sender's [`Fault`]; the run is then unchanged.
    pub fn handle(&mut self, now: Millis, event: &Event) -> Result<(), Fault> {
        let now = now.max(self.now);
        if *event == Event::Tick && self.deadline().is_none_or(|deadline| now < deadline) {
            return Err(Fault::Unchanged);
        }
        self.members.check(event)?;
        let earlier = std::mem::replace(&mut self.now, now);
        let effects_before = self.effects.len();
        // Phases see the membership as it will be; it is put back if they refuse the event.
        let before = self.members.apply(event);
        let outcome = match event {
            Event::TaskLost { reason } => self.lose(reason),
            _ => self.in_phase(|phase, cx| match phase {
                Phase::Open(phase) => phase.handle(cx, event),
                Phase::Train(phase) => phase.handle(cx, event),
                Phase::Filter(phase) => phase.handle(cx, event),
                Phase::Validate(phase) => phase.handle(cx, event),
                Phase::Commit(phase) => phase.handle(cx, event),
                Phase::Settle(phase) => phase.handle(cx, event),
                Phase::Finished(phase) => phase.handle(cx, event),
                Phase::Failed(phase) => phase.handle(cx, event),
            }),
        };
        match outcome {
            Ok(next) => {
                let notice = self.members.notice(event);
                self.effects.extend(notice.map(Effect::Announce));
                self.advance(next);
                Ok(())
            }
            Err(fault) => {
                self.effects.truncate(effects_before);
                self.members.restore(before);
                self.now = earlier;
                Err(fault)
            }
        }
    }

    /// What the driver must do next, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Drops the effects of replayed events, and demands anew what the present phase waits
    /// for from the driver itself. What it waits for from nodes is asked again as they rejoin.
    pub fn resume(&mut self) {
        self.effects.clear();
        self.in_phase(|phase, cx| match phase {
            Phase::Open(phase) => phase.resume(cx),
            Phase::Filter(phase) => phase.resume(cx),
            Phase::Validate(phase) => phase.resume(cx),
            Phase::Commit(phase) => phase.resume(cx),
            Phase::Settle(phase) => phase.resume(cx),
            Phase::Finished(phase) => phase.resume(cx),
            Phase::Train(_) | Phase::Failed(_) => {}
        });
    }

    /// When to feed [`Event::Tick`] if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Open(phase) => phase.deadline(&self.setup.spec, self.now),
            Phase::Train(phase) => phase.deadline(&self.setup.spec),
            Phase::Filter(phase) => phase.deadline(),
            Phase::Validate(phase) => phase.deadline(),
            Phase::Commit(_) | Phase::Settle(_) | Phase::Finished(_) | Phase::Failed(_) => None,
        }
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> PhaseName {
        match &self.phase {
            Phase::Open(_) => PhaseName::Open,
            Phase::Train(_) => PhaseName::Train,
            Phase::Filter(_) => PhaseName::Filter,
            Phase::Validate(_) => PhaseName::Validate,
            Phase::Commit(_) => PhaseName::Commit,
            Phase::Settle(_) => PhaseName::Settle,
            Phase::Finished(_) => PhaseName::Finished,
            Phase::Failed(_) => PhaseName::Failed,
        }
    }

    /// The round under way; after the end, the last one.
    #[must_use]
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// How often the round has been tried, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The latest checkpoint.
    #[must_use]
    pub fn base(&self) -> BlobHash {
        self.bases.newest()
    }

    /// What never changes.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Enrolled nodes.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Reports of the latest rounds, oldest first, at most [`HISTORY_MAX`].
    pub fn history(&self) -> impl Iterator<Item = &RoundReport> {
        self.history.iter()
    }

    /// Why the task failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.phase {
            Phase::Failed(failed) => Some(failed.reason()),
            _ => None,
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Finished(finished) => finished.is_closed(),
            Phase::Failed(_) => true,
            _ => false,
        }
    }

    /// A digest of the whole state: equal digests mean equal futures.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // Part by part: each fits a message by the limits on members, cohort, panel and reports,
        // which the whole need not.
        let (round, attempt, now) = (self.round, self.attempt, self.now);
        let mut parts = vec![
            part(&self.setup),
            part(&self.members),
            part(&(round, attempt, self.opened, self.control, now)),
            part(&self.bases),
            part(&self.phase),
            part(&(
                self.dossier.seed,
                self.dossier.clip_norm,
                &self.dossier.own_updates,
            )),
        ];
        parts.extend(self.dossier.updates.iter().map(part));
        parts.extend(self.history.iter().map(part));
        let parts: Vec<&[u8]> = parts.iter().map(|digest| &digest.0[..]).collect();
        keccak(&parts)
    }

    fn advance(&mut self, next: Option<Next>) {
        let Some(next) = next else { return };
        match next {
            Next::Phase(phase) => self.enter(phase),
            Next::Opened { cohort, opened } => {
                self.opened = opened;
                self.enter(Phase::Train(train::Train::new(cohort, self.now)));
            }
            Next::Retry(reason) => self.retry(reason),
            Next::Settled { checkpoint, record } => {
                if let Some(report) = self.history.back_mut() {
                    report.record = Some(record);
                    self.control = report.control;
                }
                self.next_round(checkpoint);
            }
        }
    }

    /// The chain has ended the task.
    fn lose(&mut self, reason: &str) -> Result<Option<Next>, Fault> {
        match &self.phase {
            Phase::Finished(_) | Phase::Failed(_) => Err(Fault::WrongPhase(self.phase())),
            _ => Ok(Some(Next::Phase(Phase::Failed(ended::Failed::new(
                reason.to_owned(),
            ))))),
        }
    }

    fn retry(&mut self, reason: String) {
        if matches!(self.phase, Phase::Settle(_)) {
            // Its checkpoint came to nothing.
            self.history.pop_back();
        }
        if self.attempt >= self.setup.spec.timing.attempts_max {
            let reason = format!(
                "round {} failed {} times: {reason}",
                self.round, self.attempt
            );
            self.enter(Phase::Failed(ended::Failed::new(reason)));
            return;
        }
        self.attempt += 1;
        let round = self.round;
        self.effects
            .push_back(Effect::Announce(Notice::RoundRetried { round, reason }));
        self.enter(Phase::Open(open::Open::new(self.now)));
    }

    fn next_round(&mut self, checkpoint: BlobHash) {
        let staleness_limit = self.setup.spec.aggregation.staleness_limit();
        let of_entry = |entry: &RecordedUpdate| (entry.update.trainer, entry.update.header.base);
        let updates = self.dossier.updates.iter().map(of_entry);
        self.bases
            .settle(self.round, checkpoint, staleness_limit, updates);
        if self.round.0 >= self.setup.spec.rounds {
            self.enter(Phase::Finished(ended::Finished::new()));
            return;
        }
        self.round = self.round.next();
        self.attempt = 1;
        self.opened = Opened::default();
        self.enter(Phase::Open(open::Open::new(self.now)));
    }

    /// Makes `phase` the present one and lets it begin, which may lead on at once.
    fn enter(&mut self, phase: Phase) {
        if let (Phase::Commit(_), Phase::Settle(settle)) = (&self.phase, &phase) {
            self.history.push_back(settle.report().clone());
            while self.history.len() > HISTORY_MAX || self.history_bytes() > HISTORY_BYTES_MAX {
                self.history.pop_front();
            }
        }
        self.phase = phase;
        let cohort = match &self.phase {
            Phase::Train(train) => train.cohort().to_vec(),
            _ => Vec::new(),
        };
        self.announce_phase(cohort);
        let next = self.in_phase(|phase, cx| match phase {
            Phase::Open(phase) => phase.begin(cx),
            Phase::Train(phase) => phase.begin(cx),
            Phase::Filter(phase) => phase.begin(cx),
            Phase::Validate(phase) => phase.begin(cx),
            Phase::Commit(phase) => phase.begin(cx),
            Phase::Settle(phase) => phase.begin(cx),
            Phase::Finished(phase) => phase.begin(cx),
            Phase::Failed(phase) => phase.begin(cx),
        });
        self.advance(next);
    }

    /// Lets the phase act, with what it may read and where its effects go.
    fn in_phase<T>(&mut self, act: impl FnOnce(&mut Phase, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            setup: &self.setup,
            members: &self.members,
            round: self.round,
            base: self.bases.newest(),
            control: self.control,
            attempt: self.attempt,
            opened: self.opened,
            dossier: &mut self.dossier,
            bases: &self.bases,
            now: self.now,
            effects: &mut self.effects,
        };
        act(&mut self.phase, &mut cx)
    }

    fn history_bytes(&self) -> usize {
        let bytes = |report| codec::encode(report).map_or(codec::MESSAGE_BYTES_MAX, |b| b.len());
        self.history.iter().map(bytes).sum()
    }

    fn announce_phase(&mut self, cohort: Vec<Address>) {
        let notice = Notice::PhaseBegan {
            round: self.round,
            attempt: self.attempt,
            phase: self.phase(),
            cohort,
        };
        self.effects.push_back(Effect::Announce(notice));
    }
}

fn part<T: Serialize>(value: &T) -> Digest {
    // An error would itself be deterministic; the limits rule it out.
    keccak(&[&codec::encode(value).unwrap_or_default()])
}
