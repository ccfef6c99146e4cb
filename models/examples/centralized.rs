//! Trains on the committed share of Fashion-MNIST in one process and prints accuracy and speed,
//! or simulates a federation of parties without a network.
//!
//! `cargo run --release -p convoke-models --example centralized -- [parties] [rounds] [client_lr] [batch]`

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use convoke_models::data::split;
use convoke_models::{
    ClientOptimizer, Dataset, DeviceChoice, Evaluator, ModelConfig, ModelError, Part, SplitConfig,
    TrainConfig, initial, limit_threads, train,
};

fn main() -> Result<(), ModelError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: f64| {
        let text = arguments.get(index);
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let parties = number(0, 4.0) as usize;
    let rounds = number(1, 10.0) as u32;
    limit_threads(1)?;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fashion-mnist");
    let data = Dataset::open(&folder, Part::Train)?;
    let test = Dataset::open(&folder, Part::Test)?;
    let model = ModelConfig {
        kind: arguments.get(6).map_or("cnn", String::as_str).parse()?,
        height: data.height(),
        width: data.width(),
        classes: data.classes(),
    };
    let seed = number(7, 7.0) as u64;
    let shares = split(
        data.labels(),
        &SplitConfig {
            parties,
            alpha: number(5, 0.5),
            examples_min: 50,
            seed,
        },
    )?;
    let shares: Vec<Dataset> = shares.iter().map(|share| data.subset(share)).collect();
    let device = DeviceChoice::Cpu.open()?;
    let evaluator = Evaluator::new(&model, &device, &test)?;

    let mut checkpoint = initial(&model, seed)?;
    println!("{} parameters", checkpoint.len());
    let mut training = 0.0;
    for round in 0..rounds {
        let config = TrainConfig {
            model,
            optimizer: ClientOptimizer::named(
                arguments.get(4).map_or("sgd", String::as_str),
                0.9,
                0.0,
            )?,
            client_lr: number(2, 0.05),
            local_epochs: 1,
            steps_max: None,
            batch_size: number(3, 32.0) as usize,
            gradient_norm_max: None,
            seed,
            round,
        };
        let started = Instant::now();
        let base = checkpoint.clone();
        for share in &shares {
            let trained = train(&config, &base, share, &device, &mut |_| {
                ControlFlow::Continue(())
            })?;
            let weight = share.len() as f32 / data.len() as f32;
            checkpoint.add_scaled(&trained.delta, weight)?;
        }
        training += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let result = evaluator.evaluate(&checkpoint)?;
        println!(
            "round {round}: accuracy {:.4}, loss {:.4}, {:.0} examples/s trained, {:.0} evaluated",
            result.accuracy,
            result.loss,
            data.len() as f64 * f64::from(round + 1) / training,
            test.len() as f64 / started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
