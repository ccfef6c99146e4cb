//! Validate: validators score the candidates on their own held-out data, commit by hash, and
//! reveal once all commitments are in. They do so here, with all that they measured, and on
//! chain, with the one factor for each update that it pays by; the chain sets the pace.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::commit::{Books, Commit};
use super::filter::Record;
use super::open::seconds;
use super::{Context, Effect, Event, Fault, Next, Phase};
use crate::factors::{ChainReveal, SignedReveal};
use crate::ids::{Address, Amount, Digest, Millis, Role};
use crate::message::{Candidate, Notice, Order, PhaseName};
use crate::scores::{self, ScoreSheet};

/// Validators of one round at most; those with the largest stakes are asked first.
const PANEL_MAX: usize = 64;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Validate {
    candidates: Vec<Candidate>,
    record: Record,
    /// Updates committed to on chain in all.
    updates: u16,
    /// Validators asked to score, with the stakes they had when asked.
    panel: BTreeMap<Address, Panelist>,
    stage: Stage,
    deadline: Millis,
}

#[derive(Debug, Clone, Serialize)]
struct Panelist {
    stake: Amount,
    commitment: Option<Digest>,
    sheet: Option<ScoreSheet>,
    failed: bool,
}

impl Panelist {
    fn new(stake: Amount) -> Self {
        Self {
            stake,
            commitment: None,
            sheet: None,
            failed: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Stage {
    /// Commitments are awaited.
    Commit,
    /// Whoever is left may still commit, until the chain lets the others reveal.
    Close,
    /// Reveals are awaited.
    Reveal,
    /// The chain's own scores are awaited.
    Read,
}

impl Validate {
    pub(super) fn new(
        candidates: Vec<Candidate>,
        record: Record,
        updates: u16,
        cx: &Context<'_>,
    ) -> Self {
        let mut present: Vec<_> = cx.members.present(Role::Validator).collect();
        present.sort_by_key(|(address, stake)| (Reverse(*stake), *address));
        let panel = present
            .into_iter()
            .take(PANEL_MAX)
            .map(|(address, stake)| (address, Panelist::new(stake)))
            .collect();
        Self {
            candidates,
            record,
            updates,
            panel,
            stage: Stage::Commit,
            deadline: Self::due(cx),
        }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        for validator in self.panel.keys() {
            cx.tell(*validator, self.score_order(cx));
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
            Event::Joined { address, role, .. } => self.join(cx, *address, *role),
            Event::Restarted => self.deadline = Self::due(cx),
            Event::ScoresCommitted {
                validator,
                commitment,
            } => {
                self.commit(cx, *validator, *commitment)?;
            }
            Event::ScoresRevealed {
                validator,
                sheet,
                salt,
                reveal,
            } => {
                self.reveal(cx, *validator, (sheet, salt), reveal)?;
            }
            Event::RevealOpened if self.stage == Stage::Close => self.begin_reveal(cx),
            Event::ScoresRead { scores } if self.stage == Stage::Read => {
                return self.conclude(scores).map(Some);
            }
            Event::RoundLost { reason } if self.awaits_chain() => {
                return Ok(Some(Next::Retry(reason.clone())));
            }
            Event::ValidatorFailed { validator } => self.fail(cx, *validator)?,
            _ => return Err(Fault::WrongPhase(PhaseName::Validate)),
        }
        Ok(self.advance(cx))
    }

    /// What is waited for from the chain is the driver's to wait for.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (!self.awaits_chain()).then_some(self.deadline)
    }

    pub(super) fn resume(&self, cx: &mut Context<'_>) {
        let (round, attempt) = (cx.round, cx.opened.attempt);
        match self.stage {
            Stage::Close => cx.demand(Effect::OpenReveal { round, attempt }),
            Stage::Read => cx.demand(Effect::ReadScores { round, attempt }),
            Stage::Commit | Stage::Reveal => {}
        }
    }

    fn awaits_chain(&self) -> bool {
        matches!(self.stage, Stage::Close | Stage::Read)
    }

    fn takes_commitments(&self) -> bool {
        matches!(self.stage, Stage::Commit | Stage::Close)
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn due(cx: &Context<'_>) -> Millis {
        cx.now.after(seconds(cx.setup.spec.timing.score_timeout_s))
    }

    fn score_order(&self, cx: &Context<'_>) -> Order {
        Order::Score {
            round: cx.round,
            attempt: cx.opened.attempt,
            base: cx.base,
            updates: self.updates,
            candidates: self.candidates.clone(),
        }
    }

    /// Until the commitments are in, a validator may join the panel: after a restart all of
    /// them come back one by one.
    fn join(&mut self, cx: &mut Context<'_>, address: Address, role: Role) {
        let open = self.takes_commitments() && self.panel.len() < PANEL_MAX;
        if open && role == Role::Validator {
            let stake = cx.members.stake(address);
            let newcomer = || Panelist::new(stake);
            self.panel.entry(address).or_insert_with(newcomer);
        }
        let Some(panelist) = self.panel.get(&address) else {
            return;
        };
        match self.stage {
            Stage::Commit | Stage::Close if panelist.commitment.is_none() => {
                let order = self.score_order(cx);
                cx.tell(address, order);
            }
            Stage::Reveal if panelist.commitment.is_some() && panelist.sheet.is_none() => {
                cx.tell(address, Order::Reveal { round: cx.round });
            }
            Stage::Commit | Stage::Close | Stage::Reveal | Stage::Read => {}
        }
    }

    fn commit(
        &mut self,
        cx: &mut Context<'_>,
        validator: Address,
        commitment: Digest,
    ) -> Result<(), Fault> {
        cx.members.expect(validator, Role::Validator)?;
        if !self.takes_commitments() {
            return Err(Fault::WrongPhase(PhaseName::Validate));
        }
        let panelist = self
            .panel
            .get_mut(&validator)
            .ok_or(Fault::NotInCohort(validator))?;
        match panelist.commitment {
            Some(earlier) if earlier == commitment => return Err(Fault::Unchanged),
            Some(_) => return Err(Fault::CommittedOtherwise(validator)),
            None => panelist.commitment = Some(commitment),
        }
        panelist.failed = false;
        cx.announce(Notice::ScoresCommitted {
            round: cx.round,
            validator,
        });
        Ok(())
    }

    fn reveal(
        &mut self,
        cx: &mut Context<'_>,
        validator: Address,
        (sheet, salt): (&ScoreSheet, &[u8; 32]),
        reveal: &SignedReveal,
    ) -> Result<(), Fault> {
        if self.stage != Stage::Reveal {
            return Err(Fault::WrongPhase(PhaseName::Validate));
        }
        let panelist = self
            .panel
            .get(&validator)
            .ok_or(Fault::NotInCohort(validator))?;
        let committed = panelist.commitment.ok_or(Fault::NoCommitment(validator))?;
        if panelist.sheet.is_some() {
            return Err(Fault::Unchanged);
        }
        // The cheap comparisons first: they bound what is hashed.
        let about_this = self.is_about_this(cx, sheet)
            && reveal.attempt == cx.opened.attempt
            && reveal.factors.len() == usize::from(self.updates);
        if !about_this || scores::commitment(validator, sheet, salt) != committed {
            return Err(Fault::RevealMismatch(validator));
        }
        reveal.verify(&cx.setup.domain, cx.setup.task, cx.round, validator)?;
        if let Some(panelist) = self.panel.get_mut(&validator) {
            panelist.sheet = Some(sheet.clone());
        }
        cx.announce(Notice::ScoresRevealed {
            round: cx.round,
            validator,
        });
        Ok(())
    }

    fn is_about_this(&self, cx: &Context<'_>, sheet: &ScoreSheet) -> bool {
        sheet.task == cx.setup.task
            && sheet.round == cx.round
            && sheet.candidates.len() == self.candidates.len()
            && sheet
                .candidates
                .iter()
                .zip(&self.candidates)
                .all(|(s, c)| s.trainer == c.trainer)
    }

    fn fail(&mut self, cx: &mut Context<'_>, validator: Address) -> Result<(), Fault> {
        let panelist = self
            .panel
            .get_mut(&validator)
            .ok_or(Fault::NotInCohort(validator))?;
        if panelist.failed || panelist.commitment.is_some() {
            return Err(Fault::Unchanged);
        }
        panelist.failed = true;
        cx.announce(Notice::ValidatorFailed {
            round: cx.round,
            validator,
        });
        Ok(())
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let due = cx.now >= self.deadline;
        let committed = |p: &Panelist| p.commitment.is_some();
        match self.stage {
            Stage::Commit => {
                // Without any validator there is nobody to wait for but newcomers.
                let nobody = self.panel.is_empty();
                let all = self.panel.values().all(|p| committed(p) || p.failed);
                if !due && (nobody || !all) {
                    return None;
                }
                if nobody {
                    return Some(Next::Retry("no validator is connected".into()));
                }
                if !self.panel.values().any(committed) {
                    return Some(Next::Retry("no validator committed to scores".into()));
                }
                self.stage = Stage::Close;
                self.resume(cx);
                None
            }
            Stage::Reveal => {
                let mut awaited = self.panel.values().filter(|p| committed(p));
                if !due && !awaited.all(|p| p.sheet.is_some()) {
                    return None;
                }
                if self.panel.values().all(|p| p.sheet.is_none()) {
                    return Some(Next::Retry("no validator revealed its scores".into()));
                }
                self.stage = Stage::Read;
                self.resume(cx);
                None
            }
            Stage::Close | Stage::Read => None,
        }
    }

    fn begin_reveal(&mut self, cx: &mut Context<'_>) {
        self.stage = Stage::Reveal;
        self.deadline = Self::due(cx);
        for (validator, panelist) in &self.panel {
            if panelist.commitment.is_some() {
                cx.tell(*validator, Order::Reveal { round: cx.round });
            }
        }
    }

    fn conclude(&mut self, scores: &[ChainReveal]) -> Result<Next, Fault> {
        let updates = usize::from(self.updates);
        let revealed = scores.iter().filter_map(|score| score.factors.as_ref());
        if !revealed.clone().all(|factors| factors.len() == updates) {
            return Err(Fault::Driver("scores are about other updates"));
        }
        let books = Books::of_scores(&self.candidates, updates, scores);
        let sheets = self
            .panel
            .iter()
            .filter_map(|(address, p)| Some((*address, p.sheet.as_ref()?, p.stake)));
        let (validators, sheets): (Vec<_>, Vec<_>) = sheets
            .map(|(address, sheet, stake)| (address, (sheet, stake)))
            .unzip();
        let combined = scores::combine(&sheets).ok_or(Fault::Driver("nobody revealed"))?;
        let candidates = std::mem::take(&mut self.candidates);
        let record = std::mem::take(&mut self.record);
        Ok(Next::Phase(Phase::Commit(Commit::scored(
            candidates, record, &combined, validators, books,
        ))))
    }
}
