//! A GPU computes what the CPU computes: the same losses and gradients from the same weights, within
//! rounding. Built with `--features wgpu` (or `cuda`); `cargo xtask test-wgpu` runs it on Mesa's
//! software Vulkan, so that it needs no GPU.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoke_models::adapter::{AdapterConfig, FrozenPrecision};
use convoke_models::base::Base;
use convoke_models::{
    ClientOptimizer, ComputeDevice, Dataset, DeviceChoice, Evaluator, Images, Model, ModelConfig,
    ModelKind, Parameters, Part, Precision, TrainConfig, train,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

/// Largest difference of a loss, relative.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Largest distance of a tensor's gradient, relative to its norm. (A tolerance over all tensors
/// once hid that the gradient of attention's keys was wrong altogether.)
const GRADIENT_TOLERANCE: f64 = 1e-4;
/// Gradients below this part of the whole are rounding: those of attention's key biases and of a
/// bias that all items have are zero.
const GRADIENT_FLOOR: f64 = 1e-3;

fn gpu() -> ComputeDevice {
    let choice = if cfg!(feature = "cuda") {
        DeviceChoice::Cuda(0)
    } else {
        DeviceChoice::Wgpu(0)
    };
    let device = choice.open().unwrap();
    device.with_precision(Some(Precision::F32)).unwrap()
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

/// A folder with a text, labelled sentences, and what users chose.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let text = "It is a truth universally acknowledged, that a single man in possession of a good \
                fortune, must be in want of a wife. ";
    write("text/train.txt", text.repeat(8));
    let mut lines = String::new();
    for i in 0..16 {
        let (word, label) = [("good", 0), ("very bad indeed", 1)][i % 2];
        writeln!(lines, "{{\"text\": \"a {word} day\", \"label\": {label}}}").unwrap();
    }
    write("labelled/train.jsonl", lines);
    let mut lines = String::from("user_id:token\titem_id:token\ttimestamp:float\n");
    for user in 0..12 {
        for time in 0..6 {
            let item = (user * 5 + time * 3) % 20;
            writeln!(lines, "u{user}\t{item}\t{time}").unwrap();
        }
    }
    write("chosen/train.inter", lines);
    folder
}

fn described(model: &str) -> Model {
    let spec = format!("name = \"t\"\n[model]\n{model}");
    Model::of_task(&TaskSpec::parse(&spec).unwrap()).unwrap()
}

/// A model of a fixture's weights, whole or with adapters.
fn of_base(name: &str, frozen: Option<FrozenPrecision>) -> Model {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let base = Base::open(&fixtures.join(name)).unwrap();
    let mut config = ModelConfig::of_base(&base, 2).unwrap();
    match &mut config {
        ModelConfig::Llama(config) => config.sequence_len = 16,
        ModelConfig::Bert(config) => config.sequence_len = 16,
        _ => {}
    }
    let adapter = frozen.map(|precision| AdapterConfig {
        rank: 4,
        alpha: 8.0,
        targets: Vec::new(),
        precision,
    });
    Model::with_base(config, Arc::new(base), adapter).unwrap()
}

fn config() -> TrainConfig {
    let spec = TaskSpec::parse("name = \"t\"\n[model]\nkind = \"mlp\"\n").unwrap();
    TrainConfig {
        // The delta of one step is then minus the gradient.
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        client_lr: 1.0,
        calibrated: false,
        steps_max: Some(1),
        batch_size: 8,
        ..TrainConfig::of_task(&spec, RoundId::FIRST).unwrap()
    }
}

fn gradient(
    model: &Model,
    base: &Parameters,
    data: &Dataset,
    device: &ComputeDevice,
) -> Parameters {
    let mut go_on = |_| ControlFlow::Continue(());
    let trained = train(model, &config(), base, data, device, &mut go_on);
    trained.unwrap().delta
}

/// Initial parameters, moved a little: until then the gradient of adapters' first halves is zero.
fn weights(model: &Model, data: &Dataset) -> Parameters {
    let mut weights = model.initial(3).unwrap();
    let step = gradient(model, &weights, data, &cpu());
    weights.add_scaled(&step, 0.1).unwrap();
    weights
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values
        .map(|value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn compare(name: &str, model: &Model, data: &Dataset) {
    let weights = weights(model, data);
    let [ours, theirs] = [cpu(), gpu()].map(|device| {
        let evaluator = Evaluator::new(model, &device, data).unwrap();
        evaluator.evaluate(&weights).unwrap().loss
    });
    println!("{name}: losses {ours} and {theirs}");
    assert!((ours / theirs - 1.0).abs() < LOSS_TOLERANCE, "{name}");
    let [ours, theirs] = [cpu(), gpu()].map(|device| gradient(model, &weights, data, &device));
    let floor = GRADIENT_FLOOR * ours.norm();
    let mut largest = (0.0, String::new());
    for ((spec, a), (_, b)) in ours.tensors().zip(theirs.tensors()) {
        let distance = norm(a.iter().zip(b).map(|(a, b)| a - b));
        let relative = distance / norm(a.iter().copied()).max(floor);
        if relative >= largest.0 {
            largest = (relative, spec.name.clone());
        }
    }
    let (relative, tensor) = largest;
    println!("{name}: gradients differ by at most {relative:.2e} of a tensor's norm, {tensor}'s");
    assert!(relative < GRADIENT_TOLERANCE, "{name}: {tensor}");
}

#[test]
fn images_are_learnt_alike() {
    for kind in [ModelKind::Mlp, ModelKind::Cnn] {
        let model = Model::new(ModelConfig::images(kind, 12, 12, 3).unwrap()).unwrap();
        compare(&kind.to_string(), &model, &images());
    }
    let sizes = "kind = \"resnet18\"\nheight = 12\nwidth = 12\nclasses = 3\nchannels = 1\n";
    compare("resnet18", &described(sizes), &images());
}

#[test]
fn text_is_learnt_alike() {
    let folder = folder();
    let text = folder.path().join("text");
    let small = "kind = \"transformer\"\nwidth = 32\nheads = 4\nlayers = 2\nsequence_len = 32\n";
    for (name, model) in [
        ("transformer", described(small)),
        ("llama", of_base("llama", None)),
        ("llama, scaled angles", of_base("llama-bf16", None)),
        ("qwen2", of_base("qwen2", None)),
        (
            "llama, adapters",
            of_base("llama", Some(FrozenPrecision::F32)),
        ),
        (
            "llama, frozen blocks",
            of_base("gguf", Some(FrozenPrecision::Q8_0)),
        ),
    ] {
        let data = Dataset::open(&text, Part::Train, &model).unwrap();
        compare(name, &model, &data);
    }
}

#[test]
fn classes_are_learnt_alike() {
    let folder = folder();
    let labelled: PathBuf = folder.path().join("labelled");
    for (name, frozen) in [
        ("bert", None),
        ("bert, adapters", Some(FrozenPrecision::F32)),
    ] {
        let model = of_base("bert", frozen);
        let data = Dataset::open(&labelled, Part::Train, &model).unwrap();
        compare(name, &model, &data);
    }
}

#[test]
fn choices_are_learnt_alike() {
    let folder = folder();
    let model = described("kind = \"recommender\"\nitems = 20\nwidth = 8\n");
    let data = Dataset::open(&folder.path().join("chosen"), Part::Train, &model).unwrap();
    compare("recommender", &model, &data);
}

#[test]
fn half_precision_is_near_where_the_device_has_it() {
    let model = Model::new(ModelConfig::images(ModelKind::Mlp, 12, 12, 3).unwrap()).unwrap();
    let data = images();
    let base = model.initial(3).unwrap();
    let exact = gradient(&model, &base, &data, &cpu());
    for precision in [Precision::Bf16, Precision::F16] {
        let Ok(device) = gpu().with_precision(Some(precision)) else {
            println!("{precision}: the device does not have it");
            continue;
        };
        let narrow = gradient(&model, &base, &data, &device);
        let cosine = narrow.cosine(&exact).unwrap();
        println!("{precision}: cosine {cosine}");
        assert!(cosine > 0.99, "{precision}: {cosine}");
    }
}
