//! `convoke bench train`: how fast a model trains, beside how fast the machine multiplies.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use convoke_models::ModelConfig;
use convoke_models::adapter::AdapterConfig;
use convoke_models::arch::cnn::{CnnConfig, Downsample};
use convoke_models::arch::llama::LlamaConfig;
use convoke_models::arch::mlp::MlpConfig;
use convoke_models::arch::transformer::TransformerConfig;
use convoke_models::speed::{SpeedConfig, measure_peak, measure_training};
use serde_json::json;

use super::prove::mebibytes;
use super::usage::Usage;
use crate::device::DeviceArgs;
use crate::memory;
use crate::output::{Format, Sheet};

/// Passes, of which the fastest counts.
const PASSES: usize = 3;

/// Arguments of `bench train`.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The model
    #[arg(long, value_enum)]
    model: Shape,
    #[command(flatten)]
    device: DeviceArgs,
    /// Examples in a step [default: 64 images, 8 sequences, or 4 of llama]
    #[arg(long, value_name = "N")]
    batch_size: Option<NonZeroUsize>,
    /// Steps in a pass, of which the fastest of three counts [default: 60 of cnn, 600 of mlp, 12
    /// of transformer, 3 of llama]
    #[arg(long, value_name = "N")]
    steps: Option<NonZeroUsize>,
}

/// Models of fixed sizes, so that figures can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Convolutions of 16 and 32 channels with pooling, dense layers of 128 and 10; 28x28 pixels,
    /// SGD with momentum
    Cnn,
    /// Dense layers 784-200-10, SGD with momentum
    Mlp,
    /// A decoder of width 256, 4 layers, 4 heads, 4,096 tokens; sequences of 128, `AdamW`
    Transformer,
    /// A decoder of SmolLM2-135M's sizes, adapters of rank 8 on queries and values; sequences of
    /// 128, `AdamW`
    Llama,
}

impl Shape {
    fn model(self) -> ModelConfig {
        match self {
            Self::Cnn => ModelConfig::Cnn(CnnConfig {
                channels: [16, 32],
                downsample: Downsample::Pool,
                hidden: 128,
                ..CnnConfig::default()
            }),
            Self::Mlp => ModelConfig::Mlp(MlpConfig {
                hidden: 200,
                ..MlpConfig::default()
            }),
            Self::Transformer => ModelConfig::Transformer(TransformerConfig {
                vocabulary: 4096,
                sequence_len: SEQUENCE_LEN,
                width: 256,
                layers: 4,
                heads: 4,
                ..TransformerConfig::default()
            }),
            Self::Llama => ModelConfig::Llama(LlamaConfig {
                vocab_size: 49_152,
                hidden_size: 576,
                intermediate_size: 1536,
                num_hidden_layers: 30,
                num_attention_heads: 9,
                num_key_value_heads: 3,
                rope_theta: 100_000.0,
                ..LlamaConfig::default()
            }),
        }
    }

    fn adapter(self) -> Option<AdapterConfig> {
        (self == Self::Llama).then(|| AdapterConfig {
            rank: 8,
            alpha: 16.0,
            targets: Vec::new(),
            precision: convoke_models::adapter::FrozenPrecision::F32,
        })
    }

    /// Batch size, steps, optimizer, learning rate.
    fn defaults(self) -> (usize, usize, &'static str, f64) {
        match self {
            Self::Cnn => (64, 60, "sgd", 0.01),
            Self::Mlp => (64, 600, "sgd", 0.01),
            Self::Transformer => (8, 12, "adamw", 1e-3),
            Self::Llama => (4, 3, "adamw", 1e-3),
        }
    }
}

/// Tokens of a sequence.
const SEQUENCE_LEN: usize = 128;

/// Runs the command.
pub(crate) async fn run(args: &TrainArgs, format: Format) -> anyhow::Result<()> {
    memory::keep_freed();
    let device = args.device.open()?;
    let (batch_size, steps, optimizer, client_lr) = args.model.defaults();
    let config = SpeedConfig {
        batch_size: args.batch_size.map_or(batch_size, NonZeroUsize::get),
        sequence_len: SEQUENCE_LEN,
        steps: args.steps.map_or(steps, NonZeroUsize::get),
        passes: PASSES,
        optimizer: optimizer.parse()?,
        client_lr,
    };
    let shape = args.model;
    let (batch_size, steps) = (config.batch_size, config.steps);
    let device_name = device.name();
    let measured = tokio::task::spawn_blocking(move || {
        let adapter = shape.adapter();
        let speed = measure_training(&shape.model(), adapter.as_ref(), &config, &device)?;
        anyhow::Ok((speed, measure_peak(PASSES)))
    });
    let (speed, peak_flops) = measured.await??;
    let peak_rss = Usage::of(std::process::id())?.peak_rss_bytes;
    // The peak is the processor's.
    let on_cpu = device_name == "cpu";
    let share = on_cpu.then(|| speed.flops() / peak_flops);
    let name = shape
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    let value = json!({
        "model": name,
        "device": device_name,
        "threads": rayon::current_num_threads(),
        "batch_size": batch_size,
        "steps": steps,
        "rate": speed.rate(),
        "unit": speed.unit,
        "seconds": speed.seconds,
        "loss": speed.loss,
        "gflops": GIGA * speed.flops(),
        "peak_gflops": on_cpu.then_some(GIGA * peak_flops),
        "peak_share": share,
        "peak_rss_bytes": peak_rss,
    });
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("model", name.clone());
        sheet.line("device", device_name.clone());
        sheet.line("speed", format!("{:.0} {}", speed.rate(), speed.unit));
        let gflops = format!("{:.1} GFLOP/s", GIGA * speed.flops());
        sheet.line(
            "products",
            match share {
                Some(share) => format!("{gflops}, {:.0}% of the machine's", 100.0 * share),
                None => gflops,
            },
        );
        sheet.line("last loss", format!("{:.4}", speed.loss));
        sheet.line("peak memory", mebibytes(peak_rss));
        sheet.to_string()
    })
}

const GIGA: f64 = 1e-9;
