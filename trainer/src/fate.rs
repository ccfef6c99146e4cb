//! What became of our updates, as orders and reports tell.

use convoke_protocol::ids::{Address, RoundId};
use convoke_protocol::message::RoundReport;

/// What a round did with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has arrived and is sound.
    Stored,
    /// It is part of the round's step.
    Kept,
    /// It was refused.
    Refused,
}

/// The outcome of the latest round that has decided on an update of ours.
#[derive(Debug, Default)]
pub(crate) struct Fate(Option<(RoundId, Outcome)>);

impl Fate {
    /// A round says what became of our update. Of an earlier one nobody asks any more.
    pub(crate) fn tell(&mut self, round: RoundId, outcome: Outcome) {
        if self.0.is_none_or(|(decided, _)| decided <= round) {
            self.0 = Some((round, outcome));
        }
    }

    /// A round's report is there; it may not have had an update of ours.
    pub(crate) fn read(&mut self, report: &RoundReport, trainer: Address) {
        let kept = report.kept.iter().any(|kept| kept.trainer == trainer);
        let refused = report
            .refused
            .iter()
            .any(|(refused, _)| *refused == trainer);
        match (kept, refused) {
            (true, _) => self.tell(report.round, Outcome::Kept),
            (false, true) => self.tell(report.round, Outcome::Refused),
            (false, false) => self.forget(report.round),
        }
    }

    /// A round is tried again, or ended without our update: nothing is decided in it.
    pub(crate) fn forget(&mut self, round: RoundId) {
        self.0.take_if(|(decided, _)| *decided == round);
    }

    /// What became of the update for this round, if that is known.
    #[must_use]
    pub(crate) fn of(&self, round: RoundId) -> Option<Outcome> {
        self.0
            .filter(|(decided, _)| *decided == round)
            .map(|(_, outcome)| outcome)
    }
}

#[cfg(test)]
mod tests {
    use convoke_protocol::ids::BlobHash;
    use convoke_protocol::message::Kept;
    use convoke_protocol::refusal::Refusal;

    use super::*;

    const US: Address = Address([1; 20]);

    fn report(round: u32) -> RoundReport {
        RoundReport {
            round: RoundId(round),
            base: BlobHash::ZERO,
            checkpoint: BlobHash::ZERO,
            states: Vec::new(),
            broadcast: None,
            control: None,
            record: None,
            base_loss_micros: 0,
            base_accuracy_ppm: 0,
            kept: Vec::new(),
            refused: Vec::new(),
            absent: Vec::new(),
            validators: Vec::new(),
        }
    }

    #[test]
    fn reports_decide_over_what_was_told_before() {
        let mut fate = Fate::default();
        fate.tell(RoundId(3), Outcome::Stored);
        assert_eq!(fate.of(RoundId(3)), Some(Outcome::Stored));
        assert_eq!(fate.of(RoundId(2)), None);
        let mut kept = report(3);
        kept.kept.push(Kept {
            trainer: US,
            num_examples: 1,
            alignment: 0,
            gain_micros: 0,
            cosine_ppm: 0,
            factor: 0,
        });
        fate.read(&kept, US);
        assert_eq!(fate.of(RoundId(3)), Some(Outcome::Kept));
        let mut refused = report(4);
        refused.refused.push((US, Refusal::NoExamples));
        fate.read(&refused, US);
        assert_eq!(fate.of(RoundId(4)), Some(Outcome::Refused));
    }

    #[test]
    fn a_round_without_our_update_or_tried_again_has_decided_nothing() {
        let mut fate = Fate::default();
        fate.tell(RoundId(3), Outcome::Stored);
        // A welcome brings the reports of earlier rounds.
        fate.tell(RoundId(2), Outcome::Kept);
        fate.forget(RoundId(2));
        assert_eq!(fate.of(RoundId(3)), Some(Outcome::Stored));
        fate.read(&report(3), US);
        assert_eq!(fate.of(RoundId(3)), None);
    }
}
