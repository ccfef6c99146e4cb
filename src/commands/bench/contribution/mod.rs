//! `convoke bench contribution`: how well each method of `[contribution]` orders updates, and what
//! it costs, on real updates of trainers of different quality.

mod federation;
mod tally;

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use convoke_models::{Evaluator, Parameters};
use convoke_protocol::factors::FACTOR_ONE;
use convoke_protocol::held_out::factors_of_values;
use convoke_protocol::ids::{RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::Outcome;
use convoke_validator::scoring::{Bench, HeldOutUtility, Player, ROUND_TOLERANCE, payable};
use convoke_valuation::{
    EXACT_PLAYERS_MAX, Game, Sampled, Sampling, alignment, exact_shapley, gain, gtg_shapley,
    leave_one_out, tmc_shapley,
};
use serde_json::json;

use self::federation::Federation;
use self::tally::Tally;
use crate::output::{self, Format, align_right};

/// Arguments of `bench contribution`.
#[derive(Debug, Args)]
pub(crate) struct ContributionArgs {
    /// Trainers: a clean one, a free rider, one with noisy labels, one with few examples, a copy of
    /// the first, then clean ones
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=EXACT_PLAYERS_MAX as i64))]
    players: u32,
    /// Rounds, each from what the last one came to
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The model, "mlp" or "cnn"
    #[arg(long, value_name = "KIND", default_value = "mlp")]
    model: String,
    /// Coalitions that a sampling method may evaluate in a round
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    evaluations_max: u32,
    /// Seed of data, training and orders
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// What a method said of one round for one validator.
struct Finding {
    values: Vec<f64>,
    factors: Vec<u16>,
    evaluations: u32,
    permutations: u32,
    seconds: f64,
}

/// Runs the command.
pub(crate) async fn run(args: ContributionArgs, format: Format) -> anyhow::Result<()> {
    let measured = tokio::task::spawn_blocking(move || measure(&args));
    let (federation, tallies) = measured.await??;
    let exact = tallies.last().context("exact values are measured last")?;
    let methods: Vec<_> = tallies.iter().map(Tally::figures).collect();
    let trainers: Vec<_> = federation
        .trainers
        .iter()
        .zip(exact.mean_values())
        .map(|(trainer, value)| {
            json!({ "quality": trainer.quality, "examples": trainer.data.len(), "exact_nats": value })
        })
        .collect();
    let value = json!({ "trainers": trainers, "methods": methods });
    format.print(&value, || {
        let mut people = output::table(["trainer", "examples", "exact value [nats]"]);
        for (trainer, value) in federation.trainers.iter().zip(exact.mean_values()) {
            let examples = trainer.data.len().to_string();
            people.add_row([
                trainer.quality.name().to_owned(),
                examples,
                format!("{value:.5}"),
            ]);
        }
        let mut table = output::table([
            "method",
            "Spearman",
            "Kendall",
            "evaluations",
            "orders",
            "seconds",
            "agreement",
        ]);
        (1..7).for_each(|column| align_right(&mut table, column));
        (1..3).for_each(|column| align_right(&mut people, column));
        for figures in &methods {
            table.add_row(figures.row());
        }
        format!("{people}\n\n{table}")
    })
}

/// One tally for each method, the exact values last.
fn measure(args: &ContributionArgs) -> anyhow::Result<(Federation, Vec<Tally>)> {
    let federation = Federation::new(&args.model, args.players as usize, args.seed)?;
    let mut base = federation.initial()?;
    let mut tallies: Vec<Tally> = METHODS.iter().map(|(name, _)| Tally::new(name)).collect();
    for round in 0..args.rounds {
        let deltas = federation.train(&base, round)?;
        let candidates = federation.candidates(&deltas);
        let mut findings = Vec::new();
        for held_out in &federation.held_out {
            let bench = Bench::new(
                TaskId(1),
                &federation.spec,
                federation.model.clone(),
                held_out.clone(),
                federation.device.clone(),
            )?;
            let evaluator = Evaluator::new(&federation.model, &federation.device, held_out)?;
            let scene = Scene {
                bench,
                base_loss: evaluator.evaluate(&base)?.loss,
                evaluator,
                base: &base,
                deltas: &deltas,
                candidates: &candidates,
                round: RoundId(round + 1),
                sampling: Sampling::seeded(*blake3::hash(&[round as u8]).as_bytes()),
                evaluations_max: args.evaluations_max,
            };
            let found = METHODS.iter().map(|(_, method)| method(&scene));
            findings.push(found.collect::<anyhow::Result<Vec<_>>>()?);
        }
        for (index, tally) in tallies.iter_mut().enumerate() {
            let of_method: Vec<&Finding> = findings.iter().map(|found| &found[index]).collect();
            let exact: Vec<&Finding> = findings.iter().filter_map(|found| found.last()).collect();
            tally.add(&of_method, &exact);
        }
        base = stepped(&base, &deltas, &candidates)?;
    }
    Ok((federation, tallies))
}

/// One validator in one round.
struct Scene<'a> {
    bench: Bench,
    evaluator: Evaluator,
    base_loss: f64,
    base: &'a Parameters,
    deltas: &'a [Parameters],
    candidates: &'a [Candidate],
    round: RoundId,
    sampling: Sampling,
    evaluations_max: u32,
}

type Method = fn(&Scene<'_>) -> anyhow::Result<Finding>;

const METHODS: [(&str, Method); 7] = [
    ("alignment", |scene| scene.alignment()),
    ("direction", |scene| scene.direction()),
    ("gain", |scene| scene.play(|game| Ok((gain(game)?, 0)))),
    ("leave_one_out", |scene| {
        scene.play(|game| Ok((leave_one_out(game)?, 0)))
    }),
    ("tmc_shapley", |scene| {
        scene.play(|game| Ok(sampled(tmc_shapley(game, &scene.sampling)?)))
    }),
    ("gtg_shapley", |scene| {
        let tolerance = ROUND_TOLERANCE * scene.base_loss;
        scene.play(|game| Ok(sampled(gtg_shapley(game, &scene.sampling, tolerance)?)))
    }),
    ("exact", |scene| {
        let all = 1 << scene.deltas.len();
        scene.play_within(all, |game| Ok((exact_shapley(game)?, 0)))
    }),
];

impl Scene<'_> {
    /// What is proven, which validators need not measure: their factors are all the same.
    fn alignment(&self) -> anyhow::Result<Finding> {
        let begun = Instant::now();
        let clipped = |(delta, candidate): (&Parameters, &Candidate)| {
            let scale = candidate.clip_ppm as f32 / 1e6;
            delta.values().iter().map(|value| scale * value).collect()
        };
        let clipped: Vec<Vec<f32>> = self
            .deltas
            .iter()
            .zip(self.candidates)
            .map(clipped)
            .collect();
        let vectors: Vec<&[f32]> = clipped.iter().map(Vec::as_slice).collect();
        Ok(Finding {
            values: alignment(&vectors),
            factors: vec![FACTOR_ONE; vectors.len()],
            evaluations: 0,
            permutations: 0,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// All that is measured whatever the method, from which updates are refused.
    fn direction(&self) -> anyhow::Result<Finding> {
        let begun = Instant::now();
        let checkpoint = self.base.to_safetensors();
        let mut read =
            |candidate: &Candidate| Ok(self.deltas[usize::from(candidate.index)].to_safetensors());
        let scored = self.bench.score(
            self.round,
            &checkpoint,
            self.candidates,
            &mut read,
            &AtomicBool::new(false),
            &mut |_, _| {},
        )?;
        let cosine = |outcome: &Outcome| match outcome {
            Outcome::Scored(score) => score.value_nanos,
            Outcome::SubmissionFailed => 0,
        };
        let candidates = scored.sheet.candidates.iter();
        let nanos: Vec<i64> = candidates
            .map(|candidate| cosine(&candidate.outcome))
            .collect();
        Ok(Finding {
            values: nanos.iter().map(|value| *value as f64).collect(),
            factors: factors_of_values(&nanos),
            evaluations: self.candidates.len() as u32 + 1,
            permutations: 0,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Values of the game that validators play, and the orders followed for them. Everybody plays,
    /// even those whom a validator would refuse.
    fn play(
        &self,
        method: impl FnOnce(&mut Game<HeldOutUtility<'_>>) -> anyhow::Result<(Vec<f64>, u32)>,
    ) -> anyhow::Result<Finding> {
        // As validators do it: everybody is measured once.
        let least = self.deltas.len() as u32 + 1;
        self.play_within(self.evaluations_max.max(least), method)
    }

    fn play_within(
        &self,
        evaluations_max: u32,
        method: impl FnOnce(&mut Game<HeldOutUtility<'_>>) -> anyhow::Result<(Vec<f64>, u32)>,
    ) -> anyhow::Result<Finding> {
        let begun = Instant::now();
        let player = |(candidate, delta)| Player::new(candidate, delta);
        let players = self
            .candidates
            .iter()
            .zip(self.deltas)
            .map(player)
            .collect();
        let mut go_on = || ControlFlow::Continue(());
        let utility = HeldOutUtility::new(&self.evaluator, self.base, players, &mut go_on);
        let count = self.deltas.len();
        let mut game = Game::new(utility, count, evaluations_max)?.with_empty(-self.base_loss);
        let (values, permutations) = method(&mut game)?;
        Ok(Finding {
            factors: factors_of_values(&payable(&values)),
            values,
            evaluations: game.evaluations(),
            permutations,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

fn sampled(sampled: Sampled) -> (Vec<f64>, u32) {
    (sampled.values, sampled.permutations)
}

/// The next round's base: the average of everybody.
fn stepped(
    base: &Parameters,
    deltas: &[Parameters],
    candidates: &[Candidate],
) -> anyhow::Result<Parameters> {
    let total: u64 = candidates
        .iter()
        .map(|candidate| candidate.num_examples)
        .sum();
    let mut next = base.clone();
    for (delta, candidate) in deltas.iter().zip(candidates) {
        let share = candidate.num_examples as f64 / total as f64;
        let weight = share * f64::from(candidate.clip_ppm) / 1e6;
        next.add_scaled(delta, weight as f32)?;
    }
    Ok(next)
}
