//! The results: one JSON object for programs, a table for people.

use std::path::PathBuf;
use std::time::Duration;

use convoke_protocol::ids::{Address, Amount, Role, RoundId};
use convoke_protocol::message::RoundReport;
use convoke_sim::Persona;
use serde::Serialize;

use super::plan::Plan;
use super::settlement::Money;
use super::setup::Stage;
use super::watching::Watched;
use crate::live::board::{Board, Measured};
use crate::money::Unit;
use crate::output;

/// All that is told at the end.
#[derive(Debug)]
pub(crate) struct Results {
    /// The rounds and what each checkpoint was worth.
    pub(crate) board: Board,
    /// Everybody, trainers first.
    pub(crate) parties: Vec<Party>,
    /// Where the escrow went.
    pub(crate) money: Money,
    /// What the money is in.
    pub(crate) token: Unit,
    /// From the start to here.
    pub(crate) wall: Duration,
    /// The final checkpoint's hash, in hex.
    pub(crate) checkpoint: String,
    /// Examples that the checkpoints were measured on.
    pub(crate) held_back: usize,
    /// The kind of model.
    pub(crate) model: String,
    /// The aggregation rule.
    pub(crate) rule: String,
    /// Whether the task was the user's own.
    pub(crate) rehearsed: bool,
    /// What examples are called.
    pub(crate) noun: &'static str,
    /// Where everything is.
    pub(crate) out: PathBuf,
}

/// One participant and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    /// `trainer-1`.
    pub(crate) name: String,
    /// Its account.
    pub(crate) address: Address,
    /// What it did.
    pub(crate) role: Role,
    /// `honest`, or the adversary that it played.
    pub(crate) persona: Persona,
    /// Examples that it trained on; none for other roles.
    pub(crate) examples: usize,
    /// Rounds with its update in the average, or with its scores counted.
    pub(crate) rounds_kept: u32,
    /// Rounds in which its update was refused.
    pub(crate) rounds_refused: u32,
    /// Mean cosine of its kept updates with the validators' reference steps.
    pub(crate) agreement: Option<f64>,
    /// Paid out.
    pub(crate) paid: Amount,
    /// Still vesting.
    pub(crate) vesting: Amount,
}

/// The JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    accuracy: f64,
    held_out_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_byte: Option<f64>,
    /// Of a rehearsal.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Quality>,
    rounds: Vec<RoundSummary>,
    paid: Vec<PaidSummary>,
    escrow_in: Amount,
    paid_out: Amount,
    refunded: Amount,
    vesting: Amount,
    wall_seconds: f64,
    model: PathBuf,
}

/// What the initial checkpoint was worth.
#[derive(Debug, Serialize)]
struct Quality {
    accuracy: f64,
    held_out_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_byte: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RoundSummary {
    round: RoundId,
    accuracy: f64,
    held_out_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits_per_byte: Option<f64>,
    kept: Vec<KeptSummary>,
    refused: Vec<RefusedSummary>,
}

#[derive(Debug, Serialize)]
struct KeptSummary {
    address: Address,
    persona: &'static str,
}

#[derive(Debug, Serialize)]
struct RefusedSummary {
    address: Address,
    persona: &'static str,
    reason: String,
}

#[derive(Debug, Serialize)]
struct PaidSummary {
    address: Address,
    role: Role,
    amount: Amount,
    vesting: Amount,
}

impl Results {
    /// Gathers everything.
    pub(crate) fn new(
        plan: &Plan,
        stage: &Stage,
        board: Board,
        money: Money,
        watched: &Watched,
        wall: Duration,
    ) -> Self {
        let parties = stage
            .cast
            .players()
            .enumerate()
            .map(|(index, player)| {
                let address = player.address();
                let account = money
                    .accounts
                    .iter()
                    .find(|account| account.address == address);
                let (kept, refused) = fate(&board, address, player.role);
                Party {
                    name: player.name.clone(),
                    address,
                    role: player.role,
                    persona: player.persona,
                    examples: stage.examples.get(index).copied().unwrap_or(0),
                    rounds_kept: kept,
                    rounds_refused: refused,
                    agreement: agreement(&board, address),
                    paid: account.map_or(Amount::ZERO, |account| account.paid),
                    vesting: account.map_or(Amount::ZERO, |account| account.vesting),
                }
            })
            .collect();
        Self {
            token: board.token.clone(),
            board,
            parties,
            money,
            wall,
            checkpoint: watched.checkpoint.to_file_name(),
            held_back: stage.held_back.len(),
            noun: stage.held_back.noun(),
            model: stage.spec.model.kind.clone(),
            rule: stage.spec.aggregation.rule.clone(),
            rehearsed: plan.rehearsal.is_some(),
            out: plan.out.clone(),
        }
    }

    /// What the final checkpoint is worth.
    pub(crate) fn last(&self) -> Measured {
        self.measured(self.board.rounds)
    }

    /// What the checkpoint after a round is worth.
    pub(crate) fn measured(&self, round: u32) -> Measured {
        let none = Measured {
            accuracy: 0.0,
            bits_per_byte: None,
            loss: f64::INFINITY,
        };
        self.board.measured.get(&round).copied().unwrap_or(none)
    }

    /// The persona of a trainer.
    pub(crate) fn persona(&self, address: Address) -> &'static str {
        let party = self.parties.iter().find(|party| party.address == address);
        party.map_or(Persona::Honest, |party| party.persona).name()
    }

    /// The JSON object, with exactly the fields of the manual.
    pub(crate) fn summary(&self) -> Summary {
        let last = self.last();
        let paid = |party: &Party| PaidSummary {
            address: party.address,
            role: party.role,
            amount: party.paid,
            vesting: party.vesting,
        };
        let before = self.measured(0);
        Summary {
            accuracy: last.accuracy,
            held_out_loss: last.loss,
            bits_per_byte: last.bits_per_byte,
            before: self.rehearsed.then_some(Quality {
                accuracy: before.accuracy,
                held_out_loss: before.loss,
                bits_per_byte: before.bits_per_byte,
            }),
            rounds: self
                .board
                .reports
                .values()
                .map(|report| self.round(report))
                .collect(),
            paid: self.parties.iter().map(paid).collect(),
            escrow_in: self.money.escrow_in,
            paid_out: self.money.paid_out,
            refunded: self.money.refunded,
            vesting: self.money.vesting,
            wall_seconds: (self.wall.as_secs_f64() * 1_000.0).round() / 1_000.0,
            model: self.out.join("model.safetensors"),
        }
    }

    fn round(&self, report: &RoundReport) -> RoundSummary {
        let measured = self.measured(report.round.0);
        let persona = |address| self.persona(address);
        RoundSummary {
            round: report.round,
            accuracy: measured.accuracy,
            held_out_loss: measured.loss,
            bits_per_byte: measured.bits_per_byte,
            kept: report
                .kept
                .iter()
                .map(|kept| KeptSummary {
                    address: kept.trainer,
                    persona: persona(kept.trainer),
                })
                .collect(),
            refused: report
                .refused
                .iter()
                .map(|(address, refusal)| RefusedSummary {
                    address: *address,
                    persona: persona(*address),
                    reason: refusal.to_string(),
                })
                .collect(),
        }
    }

    /// The table, the money line, and where the files are.
    pub(crate) fn to_text(&self) -> String {
        let header = [
            "who", "account", "persona", self.noun, "kept", "refused", "cosine", "paid", "vesting",
        ];
        let mut table = output::table(header);
        for party in &self.parties {
            let trains = party.role == Role::Trainer;
            let if_trains = |text: String| if trains { text } else { String::new() };
            let works = trains || party.role == Role::Validator;
            table.add_row([
                party.name.clone(),
                party.address.short(),
                if_trains(party.persona.to_string()),
                if_trains(party.examples.to_string()),
                if works {
                    party.rounds_kept.to_string()
                } else {
                    String::new()
                },
                if_trains(party.rounds_refused.to_string()),
                party
                    .agreement
                    .map_or_else(String::new, |cosine| format!("{cosine:+.2}")),
                self.token.short(party.paid),
                self.token.short(party.vesting),
            ]);
        }
        for column in 3..header.len() {
            output::align_right(&mut table, column);
        }
        let last = self.last();
        let rounds = match self.board.rounds {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        format!(
            "{table}\n\n{}\n\n{} {} and loss {:.4} on {} {} that nobody trained on, {} before; \
             {rounds} in {:.0} s\n\n{}",
            self.money_line(),
            last.title(),
            last.headline(),
            last.loss,
            self.held_back,
            self.noun,
            self.measured(0).headline(),
            self.wall.as_secs_f64(),
            self.files()
        )
    }

    /// `escrow 10,000 = paid … + refunded … + vesting …`, exact.
    pub(crate) fn money_line(&self) -> String {
        format!(
            "escrow {} = paid {} + refunded {} + vesting {}",
            self.token.exact(self.money.escrow_in),
            self.token.number(self.money.paid_out),
            self.token.number(self.money.refunded),
            self.token.number(self.money.vesting)
        )
    }

    fn files(&self) -> String {
        // Shown as the reader would type it, if it is below where they are.
        let here = std::env::current_dir().unwrap_or_default();
        let out = self.out.strip_prefix(&here).unwrap_or(&self.out).display();
        format!(
            "model    {out}/model.safetensors\ncard     {out}/MODEL_CARD.md\n\
             report   {out}/report.html\nsummary  {out}/summary.json"
        )
    }
}

/// In how many rounds a party's work counted, and in how many it was refused.
fn fate(board: &Board, address: Address, role: Role) -> (u32, u32) {
    match role {
        Role::Trainer => board
            .trainers
            .iter()
            .find(|row| row.address == address)
            .map_or((0, 0), |row| (row.kept, row.refused)),
        Role::Validator => board
            .validators
            .iter()
            .find(|row| row.address == address)
            .map_or((0, 0), |row| (row.rounds, 0)),
        Role::Aggregator | Role::Observer => (0, 0),
    }
}

fn agreement(board: &Board, address: Address) -> Option<f64> {
    let cosines: Vec<f64> = board
        .reports
        .values()
        .flat_map(|report| &report.kept)
        .filter(|kept| kept.trainer == address)
        .map(|kept| f64::from(kept.cosine_ppm) / 1e6)
        .collect();
    (!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use convoke_protocol::message::Notice;

    use super::super::settlement;
    use super::*;
    use crate::live::board::tests::{address, report};

    pub(crate) fn results() -> Results {
        let mut board = Board::new("fashion-mnist", 2, 31_337);
        board.hear(&Notice::RoundCommitted(Box::new(report(1, &[1], &[2]))));
        board.hear(&Notice::RoundCommitted(Box::new(report(2, &[1], &[2]))));
        for (round, accuracy) in [(0, 0.1), (1, 0.7), (2, 0.8125)] {
            board.measured.insert(
                round,
                Measured {
                    accuracy,
                    loss: 1.0 - accuracy,
                    bits_per_byte: None,
                },
            );
        }
        let party = |byte: u8, role, persona| Party {
            name: format!("{role}-{byte}"),
            address: address(byte),
            role,
            persona,
            examples: 500,
            rounds_kept: 2,
            rounds_refused: 0,
            agreement: Some(0.25),
            paid: Amount(80),
            vesting: Amount(20),
        };
        Results {
            board,
            parties: vec![
                party(1, Role::Trainer, Persona::Honest),
                party(2, Role::Trainer, Persona::Noise),
                party(101, Role::Validator, Persona::Honest),
            ],
            token: Unit::default(),
            money: settlement::tests::money(&[address(1), address(2), address(101)]),
            wall: Duration::from_millis(61_234),
            checkpoint: "ab".repeat(32),
            held_back: 1_000,
            noun: "images",
            model: "cnn".into(),
            rule: "fedavg".into(),
            rehearsed: false,
            out: PathBuf::from("/tmp/out"),
        }
    }

    #[test]
    fn the_json_has_the_fields_of_the_manual() {
        let json = serde_json::to_value(results().summary()).unwrap();
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        let set = |names: &[&str]| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(
            keys(&json),
            set(&[
                "accuracy",
                "held_out_loss",
                "rounds",
                "paid",
                "escrow_in",
                "paid_out",
                "refunded",
                "vesting",
                "wall_seconds",
                "model"
            ])
        );
        let round = &json["rounds"][1];
        assert_eq!(
            keys(round),
            set(&["round", "accuracy", "held_out_loss", "kept", "refused"])
        );
        assert_eq!(round["round"], 2);
        assert_eq!(round["kept"][0]["persona"], "honest");
        assert_eq!(
            keys(&round["refused"][0]),
            set(&["address", "persona", "reason"])
        );
        assert_eq!(round["refused"][0]["persona"], "noise");
        assert_eq!(json["paid"][0]["role"], "trainer");
        assert_eq!(json["paid"][0]["amount"], "80");
        assert_eq!(json["accuracy"], 0.8125);
        assert_eq!(json["wall_seconds"], 61.234);
        assert_eq!(json["model"], "/tmp/out/model.safetensors");
    }

    #[test]
    fn the_strings_of_the_json_add_up() {
        let json = serde_json::to_value(results().summary()).unwrap();
        let amount = |name: &str| json[name].as_str().unwrap().parse::<u128>().unwrap();
        assert_eq!(
            amount("escrow_in"),
            amount("paid_out") + amount("refunded") + amount("vesting")
        );
    }

    #[test]
    fn the_text_names_everybody_and_every_file() {
        let text = results().to_text();
        for part in [
            "trainer-2",
            "noise",
            "validator-101",
            "escrow 0.0000",
            "accuracy 81.25 %",
            "1000 images",
            "61 s",
            "model.safetensors",
            "report.html",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
}
