//! What an observer knows of a task, gathered from notices. It reads no clock and does no IO.

use std::collections::BTreeMap;
use std::time::Duration;

use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};
use convoke_protocol::message::{Notice, PhaseName, RoundReport};
use convoke_protocol::refusal::Refusal;

use crate::money::Unit;

/// A task and the round under way.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// The task's name.
    pub(crate) name: String,
    /// The task.
    pub(crate) task: Option<TaskId>,
    /// The chain's id.
    pub(crate) chain_id: u64,
    /// Rounds in all.
    pub(crate) rounds: u32,
    /// The round under way, from 1; 0 before the first.
    pub(crate) round: u32,
    /// How often the round has been tried, from 1.
    pub(crate) attempt: u32,
    /// The phase under way.
    pub(crate) phase: Option<PhaseName>,
    /// Trainers, in the order in which they became known.
    pub(crate) trainers: Vec<TrainerRow>,
    /// Validators, likewise.
    pub(crate) validators: Vec<ValidatorRow>,
    /// What came of the rounds.
    pub(crate) reports: BTreeMap<RoundId, RoundReport>,
    /// Sum of each settled round's payouts.
    pub(crate) settled: BTreeMap<RoundId, Amount>,
    /// How good the checkpoint after each round is; 0 is the initial one.
    pub(crate) measured: BTreeMap<u32, Measured>,
    /// How the task ended.
    pub(crate) over: Option<Over>,
    /// The last thing worth a line.
    pub(crate) news: String,
    /// What the task pays in.
    pub(crate) token: Unit,
    /// Where more can be read, for the foot of the screen.
    pub(crate) footer: String,
    /// Time since the start.
    pub(crate) elapsed: Duration,
}

/// A checkpoint's quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// Share of the predictions that are right.
    pub(crate) accuracy: f64,
    /// Mean held-out loss in nats.
    pub(crate) loss: f64,
    /// Of language models.
    pub(crate) bits_per_byte: Option<f64>,
}

impl Measured {
    /// What is shown of it: text is measured by bits per byte, all else by its accuracy.
    pub(crate) fn title(self) -> &'static str {
        match self.bits_per_byte {
            Some(_) => "bits per byte",
            None => "accuracy",
        }
    }

    /// That number as text, with its unit.
    pub(crate) fn headline(self) -> String {
        match self.bits_per_byte {
            Some(bits) => format!("{bits:.4}"),
            None => format!("{:.2} %", 100.0 * self.accuracy),
        }
    }

    /// That number on an axis, in percent or bits.
    pub(crate) fn height(self) -> f64 {
        self.bits_per_byte.unwrap_or(100.0 * self.accuracy)
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    /// All rounds are settled.
    Finished,
    /// It was given up, and why.
    Failed(String),
}

/// What is known of a trainer.
#[derive(Debug, Clone)]
pub(crate) struct TrainerRow {
    /// Who.
    pub(crate) address: Address,
    /// A name, if we have one.
    pub(crate) name: String,
    /// `honest`, or the adversary that it plays; empty if we do not know.
    pub(crate) persona: String,
    /// What it does now.
    pub(crate) state: TrainerState,
    /// Rounds in which its update was kept.
    pub(crate) kept: u32,
    /// Rounds in which its update was refused.
    pub(crate) refused: u32,
}

/// A trainer's part in the round under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrainerState {
    /// Not drawn, or the round has not begun.
    Waiting,
    /// At work.
    Training {
        /// Steps done.
        step: u32,
        /// Steps in all; 0 until it is known.
        steps: u32,
    },
    /// Its update is in.
    Sent,
    /// Its update is in the average.
    Kept,
    /// Its update is refused.
    Refused(Refusal),
    /// It sent nothing in time.
    Absent,
}

/// What is known of a validator.
#[derive(Debug, Clone)]
pub(crate) struct ValidatorRow {
    /// Who.
    pub(crate) address: Address,
    /// A name, if we have one.
    pub(crate) name: String,
    /// What it does now.
    pub(crate) state: ValidatorState,
    /// Rounds in which it revealed scores.
    pub(crate) rounds: u32,
}

/// A validator's part in the round under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValidatorState {
    /// Nothing to do yet.
    Waiting,
    /// Scores the candidates.
    Scoring,
    /// Has committed to its scores.
    Committed,
    /// Has revealed them.
    Revealed,
    /// Its machine failed in this round.
    Failed,
}

impl Board {
    /// An empty board.
    pub(crate) fn new(name: &str, rounds: u32, chain_id: u64) -> Self {
        Self {
            name: name.to_owned(),
            task: None,
            chain_id,
            rounds,
            round: 0,
            attempt: 1,
            phase: None,
            trainers: Vec::new(),
            validators: Vec::new(),
            reports: BTreeMap::new(),
            settled: BTreeMap::new(),
            measured: BTreeMap::new(),
            over: None,
            news: String::new(),
            token: Unit::default(),
            footer: String::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Takes in the reports that a newcomer is sent. Those it has are passed over.
    pub(crate) fn catch_up(&mut self, round: RoundId, history: Vec<RoundReport>) {
        self.round = self.round.max(round.0);
        for report in history {
            if !self.reports.contains_key(&report.round) {
                self.commit(report);
            }
        }
    }

    /// Takes in what happened.
    pub(crate) fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Membership { .. } | Notice::RoundRetried { .. } => {}
            Notice::PhaseBegan {
                round,
                attempt,
                phase,
                cohort,
            } => {
                self.begin(*round, *attempt, *phase, cohort);
            }
            Notice::TrainerProgressed {
                trainer,
                step,
                steps,
                ..
            } => {
                self.trainer(*trainer).state = TrainerState::Training {
                    step: *step,
                    steps: *steps,
                };
            }
            Notice::UpdateStored { trainer, .. } => {
                self.trainer(*trainer).state = TrainerState::Sent;
            }
            Notice::UpdateRefused {
                trainer, refusal, ..
            } => {
                self.trainer(*trainer).state = TrainerState::Refused(refusal.clone());
            }
            Notice::ScoresCommitted { validator, .. } => {
                self.validator(*validator).state = ValidatorState::Committed;
            }
            Notice::ScoresRevealed { validator, .. } => {
                self.validator(*validator).state = ValidatorState::Revealed;
            }
            Notice::ValidatorFailed { validator, .. } => {
                self.validator(*validator).state = ValidatorState::Failed;
            }
            Notice::RoundCommitted(report) => {
                if !self.reports.contains_key(&report.round) {
                    self.commit((**report).clone());
                }
            }
            Notice::RoundSettled { round, total, .. } => {
                self.settled.insert(*round, *total);
            }
            Notice::TaskFinished { .. } => {
                self.phase = Some(PhaseName::Finished);
                self.over = Some(Over::Finished);
            }
            Notice::TaskFailed { reason } => {
                self.phase = Some(PhaseName::Failed);
                self.over = Some(Over::Failed(reason.clone()));
            }
        }
    }

    /// The row of a trainer, new if need be.
    pub(crate) fn trainer(&mut self, address: Address) -> &mut TrainerRow {
        let index = self.trainers.iter().position(|row| row.address == address);
        let index = index.unwrap_or_else(|| {
            self.trainers.push(TrainerRow {
                address,
                name: address.short(),
                persona: String::new(),
                state: TrainerState::Waiting,
                kept: 0,
                refused: 0,
            });
            self.trainers.len() - 1
        });
        &mut self.trainers[index]
    }

    /// The row of a validator, new if need be.
    pub(crate) fn validator(&mut self, address: Address) -> &mut ValidatorRow {
        let index = self
            .validators
            .iter()
            .position(|row| row.address == address);
        let index = index.unwrap_or_else(|| {
            self.validators.push(ValidatorRow {
                address,
                name: address.short(),
                state: ValidatorState::Waiting,
                rounds: 0,
            });
            self.validators.len() - 1
        });
        &mut self.validators[index]
    }

    /// A party's name: its own, or its address in short.
    pub(crate) fn name_of(&self, address: Address) -> String {
        let trainer = self.trainers.iter().find(|row| row.address == address);
        let validator = self.validators.iter().find(|row| row.address == address);
        trainer
            .map(|row| row.name.clone())
            .or_else(|| validator.map(|row| row.name.clone()))
            .unwrap_or_else(|| address.short())
    }

    /// The newest checkpoint's quality.
    pub(crate) fn latest(&self) -> Option<Measured> {
        self.measured
            .last_key_value()
            .map(|(_, measured)| *measured)
    }

    fn begin(&mut self, round: RoundId, attempt: u32, phase: PhaseName, cohort: &[Address]) {
        self.round = round.0;
        self.attempt = attempt;
        self.phase = Some(phase);
        match phase {
            PhaseName::Open => {
                for row in &mut self.trainers {
                    row.state = TrainerState::Waiting;
                }
                for row in &mut self.validators {
                    row.state = ValidatorState::Waiting;
                }
            }
            PhaseName::Train => {
                for address in cohort {
                    self.trainer(*address).state = TrainerState::Training { step: 0, steps: 0 };
                }
            }
            PhaseName::Validate => {
                for row in &mut self.validators {
                    row.state = ValidatorState::Scoring;
                }
            }
            PhaseName::Filter
            | PhaseName::Commit
            | PhaseName::Settle
            | PhaseName::Finished
            | PhaseName::Failed => {}
        }
    }

    fn commit(&mut self, report: RoundReport) {
        for kept in &report.kept {
            let row = self.trainer(kept.trainer);
            row.state = TrainerState::Kept;
            row.kept += 1;
        }
        for (address, refusal) in &report.refused {
            let row = self.trainer(*address);
            row.state = TrainerState::Refused(refusal.clone());
            row.refused += 1;
        }
        for address in &report.absent {
            self.trainer(*address).state = TrainerState::Absent;
        }
        for address in &report.validators {
            self.validator(*address).rounds += 1;
        }
        self.reports.insert(report.round, report);
    }
}

impl TrainerState {
    /// The state in a few words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Waiting => "waiting".into(),
            Self::Training { steps: 0, .. } => "training".into(),
            Self::Training { step, steps } => {
                format!(
                    "training {} %",
                    u64::from(*step) * 100 / u64::from(*steps).max(1)
                )
            }
            Self::Sent => "sent".into(),
            Self::Kept => "kept".into(),
            Self::Refused(refusal) => format!("refused: {}", reason_words(refusal)),
            Self::Absent => "absent".into(),
        }
    }

    /// How far the work of the round has come, 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        match self {
            Self::Waiting | Self::Absent => 0.0,
            Self::Training { step, steps } => f64::from(*step) / f64::from((*steps).max(1)),
            Self::Sent | Self::Kept | Self::Refused(_) => 1.0,
        }
    }
}

/// A refusal in one or two words; the whole reason stands in the summary.
pub(crate) fn reason_words(refusal: &Refusal) -> String {
    refusal.code().replace('_', " ")
}

impl ValidatorState {
    /// The state in a word.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scoring => "scoring",
            Self::Committed => "committed",
            Self::Revealed => "revealed",
            Self::Failed => "machine failed",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use convoke_protocol::ids::BlobHash;
    use convoke_protocol::message::Kept;

    use super::*;

    pub(crate) fn address(byte: u8) -> Address {
        Address([byte; 20])
    }

    pub(crate) fn report(round: u32, kept: &[u8], refused: &[u8]) -> RoundReport {
        RoundReport {
            round: RoundId(round),
            base: BlobHash::ZERO,
            checkpoint: BlobHash::ZERO,
            states: vec![],
            control: None,
            broadcast: None,
            record: None,
            base_loss_micros: 700_000,
            base_accuracy_ppm: 750_000,
            kept: kept.iter().map(|byte| kept_entry(*byte)).collect(),
            refused: refused
                .iter()
                .map(|byte| (address(*byte), Refusal::NoExamples))
                .collect(),
            absent: Vec::new(),
            validators: vec![address(101)],
        }
    }

    fn kept_entry(byte: u8) -> Kept {
        Kept {
            trainer: address(byte),
            num_examples: 100,
            alignment: 5,
            gain_micros: 1_000,
            cosine_ppm: 200_000,
            factor: 10_000,
        }
    }

    #[test]
    fn a_round_leaves_its_marks() {
        let mut board = Board::new("t", 2, 31_337);
        let (round, attempt) = (RoundId(1), 1);
        let cohort = vec![address(1), address(2)];
        board.hear(&Notice::PhaseBegan {
            round,
            attempt,
            phase: PhaseName::Train,
            cohort,
        });
        board.hear(&Notice::TrainerProgressed {
            round,
            trainer: address(1),
            step: 3,
            steps: 4,
        });
        assert_eq!(board.trainer(address(1)).state.words(), "training 75 %");
        board.hear(&Notice::RoundCommitted(Box::new(report(1, &[1], &[2]))));
        assert_eq!(board.trainer(address(1)).kept, 1);
        assert_eq!(
            board.trainer(address(2)).state.words(),
            "refused: no examples"
        );
        assert_eq!(board.validator(address(101)).rounds, 1);
    }

    #[test]
    fn a_report_heard_twice_counts_once() {
        let mut board = Board::new("t", 2, 31_337);
        board.hear(&Notice::RoundCommitted(Box::new(report(1, &[1], &[2]))));
        board.catch_up(RoundId(2), vec![report(1, &[1], &[2])]);
        assert_eq!(
            (
                board.trainers[0].kept,
                board.trainers[1].refused,
                board.round
            ),
            (1, 1, 2)
        );
    }

    #[test]
    fn the_end_is_noted() {
        let mut board = Board::new("t", 2, 31_337);
        board.hear(&Notice::TaskFailed {
            reason: "nobody came".into(),
        });
        assert_eq!(board.over, Some(Over::Failed("nobody came".into())));
        assert_eq!(board.phase, Some(PhaseName::Failed));
    }
}
