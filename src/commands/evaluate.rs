//! `convoke evaluate`: a checkpoint's loss and accuracy on a data set.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use convoke_models::{
    DeviceChoice, Evaluator, Images, Model, ModelConfig, ModelKind, Parameters, Part,
};
use serde_json::json;

use crate::output::Format;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke evaluate convoke-demo/model.safetensors --data ./fashion-mnist"
)]
pub(crate) struct EvaluateArgs {
    /// The checkpoint (safetensors)
    checkpoint: PathBuf,
    /// Folder with idx files in MNIST layout, .gz or not
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Which of its two sets
    #[arg(long, value_enum, default_value = "test")]
    part: PartName,
    /// The model: cnn or mlp
    #[arg(long, value_name = "KIND", default_value = "cnn")]
    model: ModelKind,
    /// Number of classes of the model [default: as in the data]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Where to compute: cpu, cuda, cuda:1, wgpu
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
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
    let data = Images::open(&args.data, part)?;
    let classes = args.classes.unwrap_or(data.classes());
    let config = ModelConfig::images(args.model, data.height(), data.width(), classes);
    let model = Model::new(config.context("the model is none of images")?)?;
    let shown = args.checkpoint.display();
    let bytes = std::fs::read(&args.checkpoint).with_context(|| format!("cannot read {shown}"))?;
    let parameters = Parameters::from_safetensors(&bytes, Some(model.layout()))
        .with_context(|| format!("{shown} is no checkpoint of this model"))?;
    let result =
        Evaluator::new(&model, &args.device.open()?, &data.into())?.evaluate(&parameters)?;
    let value = json!({
        "accuracy": result.accuracy,
        "held_out_loss": result.loss,
        "num_examples": result.num_examples,
    });
    format.print(&value, || {
        format!(
            "accuracy {:.2} %, loss {:.4} on {} images",
            100.0 * result.accuracy,
            result.loss,
            result.num_examples
        )
    })
}
