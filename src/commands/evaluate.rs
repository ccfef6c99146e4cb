//! `convoke evaluate`: a checkpoint's loss and other metrics on a data set.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use convoke_models::{
    Dataset, Evaluation, Evaluator, Images, Model, ModelConfig, ModelKind, Parameters, Part,
};
use serde_json::{Value, json};

use crate::commands::model;
use crate::commands::task::TaskFile;
use crate::device::DeviceArgs;
use crate::failure::{HintExt as _, usage};
use crate::output::Format;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  convoke evaluate convoke-demo/model.safetensors --data ./fashion-mnist\n  \
                  convoke evaluate convoke-train/model.safetensors --task task.toml --data ./mine\n\n\
                  What a task begins with, untrained or pretrained:\n  \
                  convoke evaluate --task task.toml --data ./mine"
)]
pub(crate) struct EvaluateArgs {
    /// The checkpoint (safetensors) [default: what the task begins with]
    #[arg(required_unless_present = "task")]
    checkpoint: Option<PathBuf>,
    /// A data set in the form that the model takes: a folder with idx files in MNIST layout, or
    /// with test.txt, test.jsonl, test.csv, test.tsv or test.inter; or one such file
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Which of its two sets
    #[arg(long, value_enum, default_value = "test")]
    part: PartName,
    /// The task file that says what the model is
    #[arg(long, value_name = "FILE")]
    task: Option<PathBuf>,
    /// Without a task file: the model, one that takes images
    #[arg(
        long,
        value_name = "KIND",
        default_value = "cnn",
        conflicts_with = "task"
    )]
    model: ModelKind,
    /// Without a task file: number of classes of the model [default: as in the data]
    #[arg(long, value_name = "N", conflicts_with = "task")]
    classes: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One of the two sets of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartName {
    Train,
    Test,
}

/// Runs the command.
pub(crate) fn run(args: &EvaluateArgs, format: Format) -> anyhow::Result<()> {
    let part = match args.part {
        PartName::Train => Part::Train,
        PartName::Test => Part::Test,
    };
    let (model, data, seed) = match &args.task {
        Some(task) => {
            let mut spec = TaskFile::read(task)?.spec_alone()?;
            let model = model::open(&mut spec, format)?;
            let data = Dataset::open(&args.data, part, &model)?;
            (model, data, spec.seed)
        }
        None => {
            let data = Images::open(&args.data, part)?;
            let classes = args.classes.unwrap_or(data.classes());
            let config = ModelConfig::images(args.model, data.height(), data.width(), classes);
            let config = config.ok_or_else(|| {
                usage(format!(
                    "--model: {} takes no images; name a --task",
                    args.model
                ))
            })?;
            (Model::new(config)?, data.into(), 0)
        }
    };
    let parameters = match &args.checkpoint {
        Some(path) => checkpoint(path, &model)?,
        None => model.initial(seed)?,
    };
    let evaluator = Evaluator::new(&model, &args.device.open()?, &data)?;
    let result = evaluator.evaluate(&parameters)?;
    format.print(&as_json(&result)?, || as_text(&result, &data))
}

/// Reads a checkpoint of a model.
pub(crate) fn checkpoint(path: &Path, model: &Model) -> anyhow::Result<Parameters> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    Parameters::from_safetensors(&bytes, Some(model.layout()))
        .with_context(|| format!("{shown} is no checkpoint of this model"))
        .hint("name the task file that it was trained by with --task")
}

/// All metrics that the data has, the loss as `held_out_loss`.
pub(crate) fn as_json(result: &Evaluation) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(result)?;
    if let Some(object) = value.as_object_mut() {
        // JSON knows no infinity.
        object.remove("loss");
        object.insert("held_out_loss".into(), json!(result.loss));
    }
    Ok(value)
}

/// All metrics that the data has, in a line.
pub(crate) fn as_text(result: &Evaluation, data: &Dataset) -> String {
    let mut parts = Vec::new();
    if let Some(bits) = result.bits_per_byte {
        parts.push(format!("{bits:.4} bits per byte"));
    }
    if let (Some(ndcg), Some(hits)) = (result.ndcg_at_10, result.hit_rate_at_10) {
        parts.push(format!("NDCG@10 {ndcg:.4}"));
        parts.push(format!("hit rate@10 {:.2} %", 100.0 * hits));
    } else {
        parts.push(format!("accuracy {:.2} %", 100.0 * result.accuracy));
    }
    if let Some(f1) = result.macro_f1 {
        parts.push(format!("macro F1 {f1:.4}"));
    }
    if let Some(perplexity) = result.perplexity {
        parts.push(format!("perplexity {perplexity:.2}"));
    }
    parts.push(format!("loss {:.4}", result.loss));
    let noun = match data {
        Dataset::Interactions(_) => "users",
        _ => data.noun(),
    };
    format!("{} on {} {noun}", parts.join(", "), result.num_examples)
}
