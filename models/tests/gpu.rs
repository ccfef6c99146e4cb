//! A GPU computes what the CPU computes: the same losses and gradients from the same weights, within
//! rounding. Built with `--features wgpu` (or `cuda`); `cargo xtask test-wgpu` runs it on Mesa's
//! software Vulkan, so that it needs no GPU.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;

use convoke_models::{
    ClientOptimizer, ComputeDevice, Dataset, DeviceChoice, Evaluator, Images, Model, ModelConfig,
    ModelKind, Part, Precision, TrainConfig, Trained, train,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

/// Largest difference of a loss, relative.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Largest distance of a gradient, relative to its norm.
const GRADIENT_TOLERANCE: f64 = 1e-3;

fn gpu() -> ComputeDevice {
    let choice = if cfg!(feature = "cuda") {
        DeviceChoice::Cuda(0)
    } else {
        DeviceChoice::Wgpu(0)
    };
    choice.open().unwrap()
}

fn cpu() -> ComputeDevice {
    DeviceChoice::Cpu.open().unwrap()
}

fn images() -> Dataset {
    let pixels = (0..24 * 144u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    let labels = (0..24).map(|i| (i % 3) as u8).collect();
    Images::new(pixels.collect(), 12, 12, labels, 3)
        .unwrap()
        .into()
}

/// A small decoder, and a text to read byte by byte.
fn decoder(folder: &Path) -> (Model, Dataset) {
    let text = "It is a truth universally acknowledged, that a single man in possession of a good \
                fortune, must be in want of a wife. ";
    std::fs::write(folder.join("train.txt"), text.repeat(8)).unwrap();
    let spec = "name = \"t\"\n[model]\nkind = \"transformer\"\nwidth = 32\nheads = 4\nlayers = 2\n\
                sequence_len = 32\n";
    let model = Model::of_task(&TaskSpec::parse(spec).unwrap()).unwrap();
    let data = Dataset::open(folder, Part::Train, &model).unwrap();
    (model, data)
}

fn config(steps: u32) -> TrainConfig {
    let spec = TaskSpec::parse("name = \"t\"\n[model]\nkind = \"mlp\"\n").unwrap();
    TrainConfig {
        // The delta of one step is then minus the gradient.
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        client_lr: 1.0,
        calibrated: false,
        steps_max: Some(steps),
        batch_size: 8,
        ..TrainConfig::of_task(&spec, RoundId::FIRST).unwrap()
    }
}

fn one_step(model: &Model, data: &Dataset, device: &ComputeDevice) -> Trained {
    let base = model.initial(3).unwrap();
    let mut go_on = |_| ControlFlow::Continue(());
    train(model, &config(1), &base, data, device, &mut go_on).unwrap()
}

fn compare(model: &Model, data: &Dataset) {
    let kind = model.config().kind();
    let base = model.initial(3).unwrap();
    let [ours, theirs] = [cpu(), gpu()].map(|device| {
        let evaluator = Evaluator::new(model, &device, data).unwrap();
        evaluator.evaluate(&base).unwrap()
    });
    let difference = (ours.loss / theirs.loss - 1.0).abs();
    println!("{kind}: losses {} and {}", ours.loss, theirs.loss);
    assert!(difference < LOSS_TOLERANCE, "{kind}: {ours:?} {theirs:?}");
    let [ours, theirs] = [cpu(), gpu()].map(|device| one_step(model, data, &device));
    let mut distance = ours.delta.clone();
    distance.add_scaled(&theirs.delta, -1.0).unwrap();
    let relative = distance.norm() / ours.delta.norm();
    println!("{kind}: gradients differ by {relative:.2e} of their norm");
    assert!(relative < GRADIENT_TOLERANCE, "{kind}: {relative}");
}

#[test]
fn images_are_learnt_alike() {
    for kind in [ModelKind::Mlp, ModelKind::Cnn] {
        let model = Model::new(ModelConfig::images(kind, 12, 12, 3).unwrap()).unwrap();
        compare(&model, &images());
    }
}

#[test]
fn text_is_learnt_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = decoder(folder.path());
    compare(&model, &data);
}

#[test]
fn half_precision_is_near_where_the_device_has_it() {
    let model = Model::new(ModelConfig::images(ModelKind::Mlp, 12, 12, 3).unwrap()).unwrap();
    let data = images();
    let exact = one_step(&model, &data, &cpu());
    for precision in [Precision::Bf16, Precision::F16] {
        let Ok(device) = gpu().with_precision(Some(precision)) else {
            println!("{precision}: the device does not have it");
            continue;
        };
        let narrow = one_step(&model, &data, &device);
        let cosine = narrow.delta.cosine(&exact.delta).unwrap();
        println!("{precision}: cosine {cosine}");
        assert!(cosine > 0.99, "{precision}: {cosine}");
    }
}
