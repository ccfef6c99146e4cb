//! Train: collects one update from each trainer of the cohort. Signs of progress renew the
//! deadline; a quorum starts the grace time of the others.
//!
//! Where updates are buffered, so many sound ones end the phase at once. Whoever is still training
//! then goes on, and announces its update in a later round.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::Filter;
use super::open::seconds;
use super::{Context, Event, Fault, Next, Phase};
use crate::ids::{Address, BlobHash, Millis, Role};
use crate::message::{Candidate, Notice, Order, PhaseName};
use crate::record::{Dossier, RecordedUpdate};
use crate::refusal::Refusal;
use crate::task::{TaskSpec, quorum};
use crate::update::{SignedUpdate, UpdateHeader};

/// Progress that renews a deadline by less than this is not worth an event in the log.
const PROGRESS_STEP_MS: u64 = 1_000;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Train {
    cohort: Vec<Address>,
    started: Millis,
    /// Last sign of life of each trainer.
    alive: BTreeMap<Address, Millis>,
    slots: BTreeMap<Address, Slot>,
    /// Commitments so far: the order decides who copied whom.
    announcements: u32,
    quorum_since: Option<Millis>,
}

#[derive(Debug, Clone, Serialize)]
struct Slot {
    order: u32,
    update: SignedUpdate,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
enum State {
    Announced,
    Stored,
    Refused(Refusal),
}

impl Train {
    pub(super) fn new(cohort: Vec<Address>, now: Millis) -> Self {
        let alive = cohort.iter().map(|trainer| (*trainer, now)).collect();
        Self {
            cohort,
            started: now,
            alive,
            slots: BTreeMap::new(),
            announcements: 0,
            quorum_since: None,
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        for trainer in &self.cohort {
            cx.tell(*trainer, order(cx));
        }
        None
    }

    pub(super) fn handle(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event,
    ) -> Result<Option<Next>, Fault> {
        match event {
            Event::Tick | Event::Left { .. } => {}
            Event::Joined { address, .. } => self.rejoin(cx, *address),
            Event::Restarted => self.restart(cx.now),
            Event::Progressed {
                trainer,
                step,
                steps,
            } => self.progress(cx, *trainer, *step, *steps)?,
            Event::UpdateAnnounced(update) => self.announce(cx, update)?,
            Event::DeltaStored { trainer, delta } => self.store(cx, *trainer, delta)?,
            Event::DeltaRefused {
                trainer,
                delta,
                refusal,
            } => {
                self.waiting(*trainer, delta)?;
                self.refuse(cx, *trainer, refusal.clone().bounded());
            }
            _ => return Err(Fault::WrongPhase(PhaseName::Train)),
        }
        Ok(self.close_if_done(cx))
    }

    pub(super) fn cohort(&self) -> &[Address] {
        &self.cohort
    }

    pub(super) fn expects(&self, trainer: Address, delta: &BlobHash) -> bool {
        self.waiting(trainer, delta).is_ok()
    }

    pub(super) fn announced(&self, trainer: Address) -> Option<&UpdateHeader> {
        self.slots.get(&trainer).map(|slot| &slot.update.header)
    }

    /// Announced and not arrived.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (Address, BlobHash)> + '_ {
        let awaited = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.state == State::Announced);
        awaited.map(|(trainer, slot)| (*trainer, slot.update.header.delta))
    }

    /// The earliest instant at which waiting could end.
    pub(super) fn deadline(&self, spec: &TaskSpec) -> Option<Millis> {
        let hard = self.started.after(seconds(spec.timing.train_max_s));
        let grace = self
            .quorum_since
            .map(|since| since.after(seconds(spec.timing.grace_s)));
        // The phase closes when the last of those still at work is given up.
        let silent = self
            .undecided()
            .map(|trainer| self.given_up_at(spec, trainer))
            .max();
        [Some(hard), grace, silent].into_iter().flatten().min()
    }

    fn rejoin(&mut self, cx: &mut Context<'_>, address: Address) {
        if !self.cohort.contains(&address) {
            return;
        }
        self.alive.insert(address, cx.now);
        match self
            .slots
            .get(&address)
            .map(|slot| (&slot.state, slot.update.header.delta))
        {
            None => cx.tell(address, order(cx)),
            Some((State::Announced, delta)) => {
                cx.tell(
                    address,
                    Order::SendDelta {
                        round: cx.round,
                        delta,
                    },
                );
            }
            Some((State::Stored, _)) => cx.tell(address, Order::UpdateStored { round: cx.round }),
            Some((State::Refused(refusal), _)) => {
                let refusal = refusal.clone();
                cx.tell(
                    address,
                    Order::UpdateRefused {
                        round: cx.round,
                        refusal,
                    },
                );
            }
        }
    }

    fn restart(&mut self, now: Millis) {
        self.alive.values_mut().for_each(|alive| *alive = now);
        self.quorum_since = self.quorum_since.map(|_| now);
        self.started = now;
    }

    fn progress(
        &mut self,
        cx: &mut Context<'_>,
        trainer: Address,
        step: u32,
        steps: u32,
    ) -> Result<(), Fault> {
        if !self.is_news(cx, trainer)? || !self.undecided().any(|waited| waited == trainer) {
            return Err(Fault::Unchanged);
        }
        self.alive.insert(trainer, cx.now);
        cx.announce(Notice::TrainerProgressed {
            round: cx.round,
            trainer,
            step,
            steps,
        });
        Ok(())
    }

    /// The very update again: the trainer may have missed the answer, so it is told anew, but
    /// not so often that repeating would fill the log.
    fn repeat(&mut self, cx: &mut Context<'_>, trainer: Address) -> Result<(), Fault> {
        if !self.is_news(cx, trainer)? {
            return Err(Fault::Unchanged);
        }
        self.rejoin(cx, trainer);
        Ok(())
    }

    /// Whether the trainer's last sign of life is long enough ago for another to be logged.
    fn is_news(&self, cx: &Context<'_>, trainer: Address) -> Result<bool, Fault> {
        let alive = self
            .alive
            .get(&trainer)
            .ok_or(Fault::NotInCohort(trainer))?;
        Ok(cx.now.0 >= alive.0.saturating_add(PROGRESS_STEP_MS))
    }

    fn announce(&mut self, cx: &mut Context<'_>, update: &SignedUpdate) -> Result<(), Fault> {
        let trainer = update.trainer;
        self.admit(cx, update)?;
        if let Some(slot) = self.slots.get(&trainer) {
            if slot.update.header == update.header {
                self.repeat(cx, trainer)?;
            } else if slot.state == State::Announced || slot.state == State::Stored {
                self.refuse(cx, trainer, Refusal::Equivocation);
            } else {
                return Err(Fault::Decided(trainer));
            }
            return Ok(());
        }
        let slot = Slot {
            order: self.announcements,
            update: update.clone(),
            state: State::Announced,
        };
        self.announcements += 1;
        self.slots.insert(trainer, slot);
        self.alive.insert(trainer, cx.now);
        match flaw(cx, update) {
            Some(refusal) => self.refuse(cx, trainer, refusal),
            None => {
                let delta = update.header.delta;
                cx.tell(
                    trainer,
                    Order::SendDelta {
                        round: cx.round,
                        delta,
                    },
                );
            }
        }
        Ok(())
    }

    /// Whether the sender may announce anything now.
    fn admit(&self, cx: &Context<'_>, update: &SignedUpdate) -> Result<(), Fault> {
        cx.members.expect(update.trainer, Role::Trainer)?;
        if update.header.task != cx.setup.task {
            return Err(Fault::WrongTask);
        }
        if update.header.round != cx.round {
            return Err(Fault::WrongRound {
                got: update.header.round,
                now: cx.round,
            });
        }
        if !self.cohort.contains(&update.trainer) {
            return Err(Fault::NotInCohort(update.trainer));
        }
        update.verify(&cx.setup.domain)?;
        Ok(())
    }

    fn store(
        &mut self,
        cx: &mut Context<'_>,
        trainer: Address,
        delta: &BlobHash,
    ) -> Result<(), Fault> {
        self.waiting(trainer, delta)?;
        let copied = self.earlier_owner(trainer, delta);
        if let Some(of) = copied {
            self.refuse(cx, trainer, Refusal::Copy { of });
            return Ok(());
        }
        let slot = self
            .slots
            .get_mut(&trainer)
            .ok_or(Fault::NotAnnounced(trainer))?;
        slot.state = State::Stored;
        let header = &slot.update.header;
        let notice = Notice::UpdateStored {
            round: cx.round,
            trainer,
            num_examples: header.num_examples,
            train_loss_micros: header.train_loss_micros,
        };
        cx.tell(trainer, Order::UpdateStored { round: cx.round });
        cx.announce(notice);
        if self.quorum_since.is_none() && self.stored() >= self.quorum(&cx.setup.spec) {
            self.quorum_since = Some(cx.now);
        }
        Ok(())
    }

    fn waiting(&self, trainer: Address, delta: &BlobHash) -> Result<(), Fault> {
        match self.slots.get(&trainer) {
            Some(slot) if slot.update.header.delta != *delta => Err(Fault::NotAnnounced(trainer)),
            Some(slot) if slot.state == State::Announced => Ok(()),
            Some(_) => Err(Fault::Decided(trainer)),
            None => Err(Fault::NotAnnounced(trainer)),
        }
    }

    /// The trainer that announced this very delta before, whatever became of its update.
    fn earlier_owner(&self, trainer: Address, delta: &BlobHash) -> Option<Address> {
        let order = self.slots.get(&trainer)?.order;
        self.slots
            .iter()
            .find(|(_, slot)| slot.order < order && slot.update.header.delta == *delta)
            .map(|(owner, _)| *owner)
    }

    fn refuse(&mut self, cx: &mut Context<'_>, trainer: Address, refusal: Refusal) {
        if let Some(slot) = self.slots.get_mut(&trainer) {
            slot.state = State::Refused(refusal.clone());
        }
        // Who equivocates after the quorum was reached does not take the others' time.
        if self.stored() < self.quorum(&cx.setup.spec) {
            self.quorum_since = None;
        }
        let round = cx.round;
        cx.tell(
            trainer,
            Order::UpdateRefused {
                round,
                refusal: refusal.clone(),
            },
        );
        cx.announce(Notice::UpdateRefused {
            round,
            trainer,
            refusal,
        });
    }

    fn close_if_done(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let spec = &cx.setup.spec;
        let due = self
            .deadline(spec)
            .is_some_and(|deadline| cx.now >= deadline);
        let stored = self.stored();
        let full = spec.aggregation.buffer().is_some_and(|size| stored >= size);
        if !due && !full && self.undecided().next().is_some() {
            return None;
        }
        if stored < spec.cohort.updates_min {
            let reason = format!(
                "{stored} sound updates, {} are needed",
                spec.cohort.updates_min
            );
            return Some(Next::Retry(reason));
        }
        Some(Next::Phase(Phase::Filter(self.filter(cx))))
    }

    /// Opens the round's dossier with all that was announced and decided on.
    fn filter(&mut self, cx: &mut Context<'_>) -> Filter {
        let absent = self.absent(cx);
        let (spec, bases, dossier) = (&cx.setup.spec.aggregation, cx.bases, &mut *cx.dossier);
        let mut slots: Vec<_> = std::mem::take(&mut self.slots).into_iter().collect();
        slots.sort_by_key(|(_, slot)| slot.order);
        *dossier = Dossier::default();
        let (mut updates, mut refused) = (Vec::new(), Vec::new());
        for (trainer, slot) in slots {
            // The cohort has at most 256 members, so the place fits.
            let index = u16::try_from(dossier.updates.len()).unwrap_or(u16::MAX);
            let refusal = match slot.state {
                State::Stored => {
                    let staleness = bases.staleness(&slot.update.header.base);
                    let weight =
                        spec.weight(slot.update.header.num_examples, staleness.unwrap_or(0));
                    updates.push(candidate(trainer, &slot.update, index, weight));
                    None
                }
                State::Refused(refusal) => {
                    refused.push((trainer, refusal.clone()));
                    Some(refusal)
                }
                State::Announced => continue,
            };
            let entry = RecordedUpdate::new(slot.update, refusal);
            dossier.updates.push(entry);
        }
        Filter::new(updates, refused, absent)
    }

    /// Who has sent nothing in time. Where updates are buffered, who is at work is in time for a
    /// later round.
    fn absent(&self, cx: &Context<'_>) -> Vec<Address> {
        let spec = &cx.setup.spec;
        let at_work = |trainer: &Address| {
            spec.aggregation.buffer().is_some() && cx.now < self.given_up_at(spec, *trainer)
        };
        self.undecided().filter(|t| !at_work(t)).collect()
    }

    fn undecided(&self) -> impl Iterator<Item = Address> + '_ {
        self.cohort.iter().copied().filter(|trainer| {
            self.slots
                .get(trainer)
                .is_none_or(|slot| slot.state == State::Announced)
        })
    }

    fn given_up_at(&self, spec: &TaskSpec, trainer: Address) -> Millis {
        let alive = self.alive.get(&trainer).copied().unwrap_or(self.started);
        alive.after(seconds(spec.timing.progress_timeout_s))
    }

    fn stored(&self) -> u32 {
        let stored = self
            .slots
            .values()
            .filter(|slot| slot.state == State::Stored)
            .count();
        u32::try_from(stored).unwrap_or(u32::MAX)
    }

    fn quorum(&self, spec: &TaskSpec) -> u32 {
        let cohort = u32::try_from(self.cohort.len()).unwrap_or(u32::MAX);
        // A grace time that could only end in a retry is no grace.
        quorum(cohort, spec.cohort.quorum_bps).max(spec.cohort.updates_min)
    }
}

fn order(cx: &Context<'_>) -> Order {
    Order::Train {
        round: cx.round,
        base: cx.base,
        control: cx.control,
    }
}

/// What is wrong with a header that its trainer really signed for this round.
fn flaw(cx: &Context<'_>, update: &SignedUpdate) -> Option<Refusal> {
    let header = &update.header;
    if !cx.bases.admits(cx.round, update.trainer, &header.base) {
        return Some(Refusal::Stale {
            got: header.base,
            expected: cx.base,
        });
    }
    if header.delta_bytes != cx.setup.delta_bytes {
        return Some(Refusal::DeltaLength {
            got: header.delta_bytes,
            expected: cx.setup.delta_bytes,
        });
    }
    (header.num_examples == 0).then_some(Refusal::NoExamples)
}

fn candidate(trainer: Address, update: &SignedUpdate, index: u16, weight: u64) -> Candidate {
    Candidate {
        trainer,
        delta: update.header.delta,
        delta_bytes: update.header.delta_bytes,
        num_examples: weight,
        clip_ppm: 0,
        alignment: 0,
        index,
    }
}
