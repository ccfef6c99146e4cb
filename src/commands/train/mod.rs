//! `convoke train`: a task's model on one's own data, without any federation.

mod folder;
mod watch;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use convoke_models::{
    ComputeDevice, Dataset, EarlyStop, Evaluation, Evaluator, Model, ModelError, Parameters, Part,
    Snapshot, TrainConfig, Trained, Training,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;
use serde_json::json;

use self::folder::{Folder, Progress};
use self::watch::{Metrics, Watch};
use crate::commands::evaluate::{as_json, as_text, checkpoint};
use crate::commands::model;
use crate::commands::task::TaskFile;
use crate::device::DeviceArgs;
use crate::failure::{HintExt as _, Interrupted, hinted, usage};
use crate::output::Format;
use crate::progress;
use crate::shutdown;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  convoke task init\n  convoke train --task task.toml --data ./mine\n  \
                  convoke train --task task.toml --data ./mine --set training.client_lr=0.01 --out second\n\n\
                  After Ctrl-C or a power cut:\n  convoke train --task task.toml --data ./mine --resume\n\n\
                  Several rounds, as the task has them, with the learning rate of each:\n  \
                  convoke train --task task.toml --data ./mine --rounds 10\n\n\
                  Nothing is sent anywhere. docs/training.md says what the data looks like."
)]
pub(crate) struct TrainArgs {
    /// The task file: model and training settings
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// Your data in the form that the model takes: a folder with idx files in MNIST layout, or with
    /// train.txt, train.jsonl, train.csv, train.tsv or train.inter; or one such file
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// What to measure on, in the same form [default: the test part of the folder, if there is one]
    #[arg(long, value_name = "PATH")]
    held_out: Option<PathBuf>,
    /// Folder for model, metrics and snapshots
    #[arg(long, value_name = "DIR", default_value = "convoke-train")]
    out: PathBuf,
    /// Go on with the training in that folder
    #[arg(long)]
    resume: bool,
    /// Checkpoint to start from [default: what the task begins with]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Rounds to train, each from the result of the one before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Another value for a field of the task file: training.local_epochs=3
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    overrides: Vec<String>,
    /// End a round when so many measurements in a row were no better than the best, and take the
    /// best
    #[arg(long, value_name = "N", requires = "measure_every")]
    patience: Option<u32>,
    /// Measure on the held-out data every so many steps, and take the best
    #[arg(long, value_name = "STEPS")]
    measure_every: Option<u32>,
    /// Keep a snapshot every so many seconds; 0: after each step
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    snapshot_every: u32,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub(crate) fn run(args: &TrainArgs, format: Format) -> anyhow::Result<()> {
    crate::memory::keep_freed();
    let mut spec = spec(args)?;
    let model = model::open(&mut spec, format)?;
    let data = Dataset::open(&args.data, Part::Train, &model)?;
    let held_out = held_out(args, &model)?;
    let device = args.device.open()?;
    let folder = Folder::open(&args.out, args.resume)?;
    let bench = Bench {
        args,
        spec: &spec,
        model: &model,
        data: &data,
        held_out: held_out.as_ref(),
        device: &device,
        shown: progress::Progress::new(format),
    };
    let done = bench.train(&folder)?;
    let result = json!({
        "event": "finished",
        "rounds": done.progress.rounds_done,
        "steps": done.progress.steps,
        "num_examples": data.len(),
        "before": done.progress.before,
        "after": done.after.as_ref().map(as_json).transpose()?,
        "model": folder.model(),
        "metrics": folder.metrics(),
    });
    folder.save_result(&result)?;
    let shown = folder.model().display().to_string();
    format.print(&result, || match &done.after {
        Some(after) => {
            let held_out = held_out.as_ref().unwrap_or(&data);
            format!("{}\nmodel: {shown}", as_text(after, held_out))
        }
        None => format!("trained, not measured: there is no held-out data\nmodel: {shown}"),
    })
}

fn spec(args: &TrainArgs) -> anyhow::Result<TaskSpec> {
    let mut file = TaskFile::read(&args.task)?;
    for text in &args.overrides {
        let (field, value) = text
            .split_once('=')
            .ok_or_else(|| usage(format!("--set {text}: FIELD=VALUE is wanted")))?;
        file = file.with(field.trim(), value.trim())?;
    }
    file.spec_alone()
}

/// What is measured on, if there is anything.
fn held_out(args: &TrainArgs, model: &Model) -> anyhow::Result<Option<Dataset>> {
    if let Some(path) = &args.held_out {
        return Ok(Some(Dataset::open(path, Part::Test, model)?));
    }
    if args.data.is_file() {
        return without(args, "the data is one file");
    }
    match Dataset::open(&args.data, Part::Test, model) {
        Ok(set) => Ok(Some(set)),
        Err(ModelError::FileMissing { .. }) => without(args, "the folder has no test part"),
        Err(ModelError::Part { found, .. }) if found == "none" => {
            without(args, "the folder has no test part")
        }
        Err(error) => Err(error.into()),
    }
}

fn without(args: &TrainArgs, reason: &str) -> anyhow::Result<Option<Dataset>> {
    if args.measure_every.is_some() {
        return Err(usage(format!(
            "--measure-every: nothing is held out, {reason}"
        )))
        .hint("name data to measure on with --held-out");
    }
    Ok(None)
}

/// All that a local training works with.
struct Bench<'a> {
    args: &'a TrainArgs,
    spec: &'a TaskSpec,
    model: &'a Model,
    data: &'a Dataset,
    held_out: Option<&'a Dataset>,
    device: &'a ComputeDevice,
    shown: progress::Progress,
}

struct Done {
    progress: Progress,
    after: Option<Evaluation>,
}

impl Bench<'_> {
    /// All rounds that are left.
    fn train(&self, folder: &Folder) -> anyhow::Result<Done> {
        let evaluator = self
            .held_out
            .map(|set| Evaluator::new(self.model, self.device, set))
            .transpose()?;
        let measure = |parameters: &Parameters| {
            let evaluator = evaluator.as_ref();
            evaluator
                .map(|evaluator| evaluator.evaluate(parameters))
                .transpose()
        };
        let (mut progress, mut parameters) = self.begin(folder)?;
        let mut metrics = Metrics::append(&folder.metrics())?;
        let mut after = measure(&parameters)?;
        if progress.rounds_done == 0 && progress.before.is_none() {
            progress.before = after.as_ref().map(as_json).transpose()?;
            self.tell("before", 0, after.as_ref())?;
        }
        folder.save(&progress, &parameters)?;
        let stop = shutdown::on_signals();
        for round in progress.rounds_done + 1..=self.args.rounds {
            let trained = self.round(round, folder, &parameters, &mut metrics, &stop)?;
            parameters.add_scaled(&trained.delta, 1.0)?;
            progress.rounds_done = round;
            progress.steps += u64::from(trained.steps);
            after = measure(&parameters)?;
            if let Some(result) = &after {
                metrics.measured(round, trained.steps, result)?;
            }
            self.shown.clear();
            self.tell("measured", round, after.as_ref())?;
            folder.save(&progress, &parameters)?;
        }
        Ok(Done { progress, after })
    }

    /// Where to begin: with the task's start or a checkpoint, or where it was.
    fn begin(&self, folder: &Folder) -> anyhow::Result<(Progress, Parameters)> {
        if let Some(progress) = folder.load()? {
            return Ok((progress, checkpoint(&folder.model(), self.model)?));
        }
        let parameters = match &self.args.from {
            Some(path) => checkpoint(path, self.model)?,
            None => self.model.initial(self.spec.seed)?,
        };
        Ok((Progress::default(), parameters))
    }

    /// One round, from where it was if it has begun.
    fn round(
        &self,
        round: u32,
        folder: &Folder,
        base: &Parameters,
        metrics: &mut Metrics,
        stop: &tokio_util::sync::CancellationToken,
    ) -> anyhow::Result<Trained> {
        let early_stop = self.args.measure_every.map(|every_steps| EarlyStop {
            every_steps,
            patience: self.args.patience.unwrap_or(u32::MAX),
        });
        let config = TrainConfig {
            early_stop: early_stop.filter(|_| self.held_out.is_some()),
            ..TrainConfig::of_task(self.spec, RoundId(round))?
        };
        let mut training = Training {
            held_out: self.held_out,
            ..Training::new(self.model, &config, base, self.data, self.device)
        };
        training.resume = Snapshot::load(&folder.snapshot(), self.model)
            .context("cannot go on")?
            .filter(|snapshot| snapshot.belongs_to(&training));
        if let Some(snapshot) = &training.resume {
            metrics.cut(round, snapshot.step())?;
        }
        let mut watch = Watch::new(
            round,
            self.data.noun(),
            &self.shown,
            metrics,
            folder.snapshot(),
            self.args.snapshot_every,
            stop,
        );
        let result = training.run(&mut watch);
        let failed = watch.failure();
        self.shown.clear();
        match (result, failed) {
            (_, Some(error)) => Err(error),
            (Err(ModelError::Interrupted { step }), None) => {
                tracing::info!(step, "stopped");
                Err(hinted(
                    Interrupted.into(),
                    "the same command with --resume goes on",
                ))
            }
            (Err(error @ ModelError::Diverged { .. }), None) => {
                Err(error).hint("--set training.client_lr=… or training.gradient_norm_max=1.0")
            }
            (result, None) => Ok(result?),
        }
    }

    fn tell(&self, event: &str, round: u32, result: Option<&Evaluation>) -> anyhow::Result<()> {
        let (Some(result), Some(held_out)) = (result, self.held_out) else {
            return Ok(());
        };
        let value = json!({ "event": event, "round": round, "held_out": as_json(result)? });
        let text = if round == 0 {
            format!("before: {}", as_text(result, held_out))
        } else {
            format!("round {round}: {}", as_text(result, held_out))
        };
        self.shown.event(&value, &text);
        Ok(())
    }
}
