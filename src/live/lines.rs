//! A task as lines, for pipes and logs: one for each thing worth knowing.

use std::io::{self, Write as _};

use convoke_protocol::message::{Notice, PhaseName, RoundReport};
use serde_json::{Value, json};

use super::board::{Board, Measured};
use crate::output::{self, Format};

/// Writes lines.
pub(crate) struct Lines {
    format: Format,
    /// Standard output is kept for a result that follows.
    to_stderr: bool,
}

impl Lines {
    /// Lines on standard output.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            to_stderr: false,
        }
    }

    /// Lines for people on standard error, so that standard output holds a result alone.
    pub(crate) fn beside_result() -> Self {
        Self {
            format: Format::Text,
            to_stderr: true,
        }
    }

    /// Writes a remark; programs are not told.
    pub(crate) fn say(&self, text: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Text => self.write(text),
            Format::Json => Ok(()),
        }
    }

    /// Writes what happened. Signs of progress are left out of the text.
    pub(crate) fn notice(&self, board: &Board, notice: &Notice) -> anyhow::Result<()> {
        let line = match self.format {
            Format::Json => Some(as_json(notice).to_string()),
            Format::Text => as_text(board, notice),
        };
        line.map_or(Ok(()), |line| self.write(&line))
    }

    /// Writes how good the checkpoint after a round is.
    pub(crate) fn measured(&self, round: u32, measured: Measured) -> anyhow::Result<()> {
        match self.format {
            Format::Text => self.write(&format!(
                "round {round}: {} {}, held-out loss {:.4}",
                measured.title(),
                measured.headline(),
                measured.loss
            )),
            Format::Json => self.write(
                &json!({ "event": "measured", "round": round, "accuracy": measured.accuracy, "held_out_loss": measured.loss, "bits_per_byte": measured.bits_per_byte })
                    .to_string(),
            ),
        }
    }

    fn write(&self, line: &str) -> anyhow::Result<()> {
        if self.to_stderr {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(io::stderr().lock(), "{line}");
            return Ok(());
        }
        output::line(line)
    }
}

fn as_text(board: &Board, notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::Membership {
            trainers,
            validators,
        } => {
            // In the end everybody leaves, and nobody needs to know in which order.
            if board.over.is_some() {
                return None;
            }
            format!("connected: trainers {trainers}, validators {validators}")
        }
        Notice::PhaseBegan {
            round,
            attempt,
            phase,
            ..
        } => phase_text(round.0, *attempt, *phase)?,
        Notice::TrainerProgressed { .. }
        | Notice::UpdateStored { .. }
        | Notice::ScoresCommitted { .. }
        | Notice::ScoresRevealed { .. } => return None,
        Notice::UpdateRefused {
            round,
            trainer,
            refusal,
        } => {
            format!(
                "round {round}: refused {}: {refusal}",
                party(board, *trainer)
            )
        }
        Notice::ValidatorFailed { round, validator } => {
            format!(
                "round {round}: the machine of {} failed",
                board.name_of(*validator)
            )
        }
        Notice::RoundCommitted(report) => report_text(board, report),
        Notice::RoundSettled { round, total, .. } => {
            format!(
                "round {round}: settled, {} {} to its trainers",
                board.token.short(*total),
                board.token.symbol
            )
        }
        Notice::RoundRetried { round, reason } => format!("round {round}: tried again: {reason}"),
        Notice::TaskFinished { .. } => "all rounds are settled; pay can be claimed".into(),
        Notice::TaskFailed { reason } => format!("the task failed: {reason}"),
    })
}

fn phase_text(round: u32, attempt: u32, phase: PhaseName) -> Option<String> {
    match phase {
        PhaseName::Train if attempt > 1 => {
            Some(format!("round {round}: training, attempt {attempt}"))
        }
        PhaseName::Train => Some(format!("round {round}: training")),
        _ => None,
    }
}

fn report_text(board: &Board, report: &RoundReport) -> String {
    let mut text = format!("round {}: kept {}", report.round, report.kept.len());
    let list = |parties: Vec<String>| parties.join(", ");
    if !report.refused.is_empty() {
        let refused = report.refused.iter().map(|(address, refusal)| {
            format!(
                "{} ({})",
                party(board, *address),
                super::board::reason_words(refusal)
            )
        });
        text += &format!(", refused {}", list(refused.collect()));
    }
    if !report.absent.is_empty() {
        text += &format!(
            ", absent {}",
            list(report.absent.iter().map(|a| party(board, *a)).collect())
        );
    }
    text
}

/// `trainer-5 [sign_flipper]`, or as much as is known.
fn party(board: &Board, address: convoke_protocol::ids::Address) -> String {
    let name = board.name_of(address);
    match board.trainers.iter().find(|row| row.address == address) {
        Some(row) if !row.persona.is_empty() => format!("{name} [{}]", row.persona),
        _ => name,
    }
}

fn as_json(notice: &Notice) -> Value {
    match notice {
        Notice::Membership {
            trainers,
            validators,
        } => {
            json!({ "event": "membership", "trainers": trainers, "validators": validators })
        }
        Notice::PhaseBegan {
            round,
            attempt,
            phase,
            cohort,
        } => {
            json!({ "event": "phase", "round": round, "attempt": attempt, "phase": phase, "cohort": cohort })
        }
        Notice::TrainerProgressed {
            round,
            trainer,
            step,
            steps,
        } => {
            json!({ "event": "progress", "round": round, "trainer": trainer, "step": step, "steps": steps })
        }
        Notice::UpdateStored {
            round,
            trainer,
            num_examples,
            train_loss_micros,
        } => json!({
            "event": "update", "round": round, "trainer": trainer,
            "num_examples": num_examples, "train_loss_micros": train_loss_micros,
        }),
        Notice::UpdateRefused {
            round,
            trainer,
            refusal,
        } => json!({
            "event": "refused", "round": round, "trainer": trainer,
            "code": refusal.code(), "reason": refusal.to_string(),
        }),
        Notice::ScoresCommitted { round, validator } => {
            json!({ "event": "committed", "round": round, "validator": validator })
        }
        Notice::ScoresRevealed { round, validator } => {
            json!({ "event": "revealed", "round": round, "validator": validator })
        }
        Notice::ValidatorFailed { round, validator } => {
            json!({ "event": "validator_failed", "round": round, "validator": validator })
        }
        Notice::RoundCommitted(report) => {
            json!({ "event": "round", "report": report_json(report) })
        }
        Notice::RoundSettled {
            round,
            total,
            record,
        } => {
            json!({ "event": "settled", "round": round, "total": total, "record": record })
        }
        Notice::RoundRetried { round, reason } => {
            json!({ "event": "retried", "round": round, "reason": reason })
        }
        Notice::TaskFinished { checkpoint } => {
            json!({ "event": "finished", "checkpoint": checkpoint })
        }
        Notice::TaskFailed { reason } => json!({ "event": "failed", "reason": reason }),
    }
}

fn report_json(report: &RoundReport) -> Value {
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|(address, refusal)| {
            json!({ "address": address, "code": refusal.code(), "reason": refusal.to_string() })
        })
        .collect();
    json!({
        "round": report.round,
        "base": report.base,
        "checkpoint": report.checkpoint,
        "base_loss_micros": report.base_loss_micros,
        "base_accuracy_ppm": report.base_accuracy_ppm,
        "kept": report.kept,
        "refused": refused,
        "absent": report.absent,
        "validators": report.validators,
    })
}

#[cfg(test)]
mod tests {
    use convoke_protocol::ids::RoundId;
    use convoke_protocol::refusal::Refusal;

    use super::super::board::tests::{address, report};
    use super::*;

    fn board() -> Board {
        let mut board = Board::new("t", 2, 31_337);
        let row = board.trainer(address(2));
        row.name = "trainer-2".into();
        row.persona = "noise".into();
        board
    }

    #[test]
    fn a_refusal_names_party_persona_and_reason() {
        let refusal = Refusal::NoExamples;
        let notice = Notice::UpdateRefused {
            round: RoundId(1),
            trainer: address(2),
            refusal,
        };
        assert_eq!(
            as_text(&board(), &notice).as_deref(),
            Some("round 1: refused trainer-2 [noise]: trained on no examples")
        );
        assert_eq!(as_json(&notice)["code"], "no_examples");
    }

    #[test]
    fn a_round_is_one_line() {
        let notice = Notice::RoundCommitted(Box::new(report(1, &[1], &[2])));
        assert_eq!(
            as_text(&board(), &notice).as_deref(),
            Some("round 1: kept 1, refused trainer-2 [noise] (no examples)")
        );
        assert_eq!(as_json(&notice)["report"]["round"], 1);
    }

    #[test]
    fn progress_is_for_programs_only() {
        let notice = Notice::TrainerProgressed {
            round: RoundId(1),
            trainer: address(1),
            step: 1,
            steps: 2,
        };
        assert_eq!(as_text(&board(), &notice), None);
        assert_eq!(as_json(&notice)["step"], 1);
    }
}
