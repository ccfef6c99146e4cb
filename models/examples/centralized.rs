//! Trains on the committed share of Fashion-MNIST in one process and prints accuracy and speed:
//! a federation without a network, or with `parties=1`, plain training.
//!
//! `cargo run --release -p convoke-models --example centralized -- parties=6 idle=2 client_lr=0.02`

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use convoke_models::data::split;
use convoke_models::{
    ClientOptimizer, Dataset, DeviceChoice, Evaluator, ModelConfig, ModelError, Part, SplitConfig,
    TrainConfig, initial, limit_threads, train,
};

fn main() -> Result<(), ModelError> {
    let options = Options::from_arguments();
    limit_threads(options.number("threads", 1))?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fashion-mnist");
    let data = Dataset::open(&folder, Part::Train)?;
    let test = Dataset::open(&folder, Part::Test)?;
    let mut config = options.train_config(&data)?;
    let shares = options.shares(&data)?;
    let examples: usize = shares.iter().map(Dataset::len).sum();

    let device = DeviceChoice::Cpu.open()?;
    let evaluator = Evaluator::new(&config.model, &device, &test)?;
    let mut checkpoint = initial(&config.model, config.seed)?;
    println!("{} parameters, {examples} examples", checkpoint.len());
    let mut seconds = 0.0;
    for round in 0..options.number("rounds", 10) {
        config.round = round;
        let started = Instant::now();
        let base = checkpoint.clone();
        for share in &shares {
            let go_on = &mut |_| ControlFlow::Continue(());
            let trained = train(&config, &base, share, &device, go_on)?;
            let weight = share.len() as f32 / examples as f32;
            checkpoint.add_scaled(&trained.delta, weight)?;
        }
        seconds += started.elapsed().as_secs_f64();
        let passes = (round + 1) * config.local_epochs;
        let result = evaluator.evaluate(&checkpoint)?;
        println!(
            "round {round}: accuracy {:.4}, held-out loss {:.4}, {:.0} examples/s",
            result.accuracy,
            result.loss,
            examples as f64 * f64::from(passes) / seconds,
        );
    }
    Ok(())
}

/// `key=value` arguments.
struct Options(HashMap<String, String>);

impl Options {
    fn from_arguments() -> Self {
        let pair = |argument: String| {
            let (key, value) = argument.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        Self(std::env::args().skip(1).filter_map(pair).collect())
    }

    fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).map_or(default, String::as_str)
    }

    fn number<T: FromStr>(&self, key: &str, default: T) -> T {
        let text = self.0.get(key);
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn train_config(&self, data: &Dataset) -> Result<TrainConfig, ModelError> {
        Ok(TrainConfig {
            model: ModelConfig {
                kind: self.text("model", "cnn").parse()?,
                height: data.height(),
                width: data.width(),
                classes: data.classes(),
            },
            optimizer: ClientOptimizer::named(
                self.text("optimizer", "sgd"),
                self.number("momentum", 0.9),
                self.number("weight_decay", 0.0),
            )?,
            client_lr: self.number("client_lr", 0.02),
            client_lr_decay: self.number("client_lr_decay", 0.9),
            local_epochs: self.number("local_epochs", 1),
            steps_max: None,
            batch_size: self.number("batch_size", 32),
            calibrated: self.number("calibrated", true),
            gradient_norm_max: None,
            seed: self.number("seed", 7),
            round: 0,
        })
    }

    /// The shares of those that train; `idle` parties hold data but do not.
    fn shares(&self, data: &Dataset) -> Result<Vec<Dataset>, ModelError> {
        let config = SplitConfig {
            parties: self.number("parties", 6),
            alpha: self.number("alpha", 0.5),
            examples_min: 50,
            seed: self.number("seed", 7),
        };
        let shares = split(data.labels(), &config)?;
        let training = shares.iter().skip(self.number("idle", 0));
        Ok(training.map(|share| data.subset(share)).collect())
    }
}
