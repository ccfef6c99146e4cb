//! Models against what PyTorch makes of the same weights: `tests/fixtures/make_small.py`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use super::recommender::RecommenderConfig;
use super::resnet18::Resnet18Config;
use crate::batch::{Batch, integers};
use crate::flatten::Path;
use crate::model::Model;
use crate::network::Network;
use crate::parameters::{Parameters, TensorSpec};
use crate::registry::ModelConfig;

#[derive(Deserialize)]
struct Expected {
    #[serde(alias = "logits", alias = "scores")]
    outputs: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, f64>,
}

/// Numbers in [-0.5, 0.5): bits of a multiple of 2^32 over the golden ratio.
fn formula(count: usize, first: usize) -> Vec<f32> {
    let number = |index: usize| {
        let bits = (index as u64 * 2_654_435_761 % (1 << 32)) >> 8;
        bits as f32 / (1 << 24) as f32 - 0.5
    };
    (first..first + count).map(number).collect()
}

fn load(config: ModelConfig, device: &Device) -> Network {
    let model = Model::new(config).unwrap();
    let count = model.layout().iter().map(TensorSpec::len).sum();
    let mut values = formula(count, 0).into_iter();
    let mut all = Vec::new();
    for spec in model.layout() {
        let centre = f32::from(u8::from(spec.name.ends_with(".gamma")));
        let own = values.by_ref().take(spec.len());
        all.extend(own.map(|value| centre + 0.5 * value));
    }
    let parameters = Parameters::new(model.layout().to_vec(), all).unwrap();
    let network = model.load(&model.frame(device).unwrap(), &parameters, device);
    network.unwrap()
}

struct Checks {
    path: Path,
    grads: GradientsParams,
    found: BTreeMap<String, f64>,
}

impl ModuleVisitor for Checks {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self.grads.get::<D>(param.id).unwrap();
        let grad = grad.try_into_vec_as::<f32>().unwrap();
        let pairs = grad.iter().zip(formula(grad.len(), 0));
        let sum = pairs.map(|(grad, value)| f64::from(*grad) * f64::from(value));
        self.found.insert(self.path.name(), sum.sum());
    }
}

fn compare(network: &Network, batch: &Batch, outputs: Tensor<2>, expected: &str) {
    let expected: Expected = serde_json::from_str(expected).unwrap();
    let near = |got: f64, expected: f64| (got - expected).abs() < 2e-4 * (1.0 + expected.abs());
    let outputs = outputs.try_into_vec_as::<f32>().unwrap();
    assert_eq!(outputs.len(), expected.outputs.len());
    for (got, expected) in outputs.iter().zip(&expected.outputs) {
        assert!(near(f64::from(*got), *expected), "{got} {expected}");
    }
    let loss = network.loss(batch, None);
    let mut checks = Checks {
        path: Path::default(),
        grads: GradientsParams::from_grads(loss.backward(), network),
        found: BTreeMap::new(),
    };
    let loss = f64::from(loss.try_into_scalar::<f32>().unwrap());
    assert!(near(loss, expected.loss), "{loss} {}", expected.loss);
    network.visit(&mut checks);
    let names: Vec<&String> = checks.found.keys().collect();
    assert_eq!(names, expected.gradients.keys().collect::<Vec<_>>());
    for (name, got) in &checks.found {
        let expected = expected.gradients[name];
        assert!(near(*got, expected), "{name}: {got} {expected}");
    }
}

#[test]
fn resnet18_is_pytorchs() {
    let device = Device::flex().autodiff();
    let config = Resnet18Config {
        height: 9,
        width: 12,
        classes: 3,
        channels: 4,
        group_channels: 2,
    };
    let network = load(ModelConfig::Resnet18(config), &device);
    let pixels: Vec<f32> = formula(2 * 9 * 12, 7)
        .iter()
        .map(|pixel| pixel * 4.0)
        .collect();
    let pixels = Tensor::<3>::from_data(TensorData::new(pixels, [2, 9, 12]), &device);
    let Network::Resnet18(resnet) = &network else {
        panic!("a residual network");
    };
    let outputs = resnet.forward(pixels.clone());
    let labels = vec![2, 0];
    let expected = include_str!("../../tests/fixtures/resnet18.json");
    compare(
        &network,
        &Batch::Images { pixels, labels },
        outputs,
        expected,
    );
}

#[test]
fn recommender_is_pytorchs() {
    let device = Device::flex().autodiff();
    let config = RecommenderConfig {
        items: 11,
        width: 4,
        hidden: 6,
        ..RecommenderConfig::default()
    };
    let network = load(ModelConfig::Recommender(config), &device);
    let users: Vec<f32> = formula(12, 7).iter().map(|value| value * 4.0).collect();
    let network = network.with_users(&users, &device).unwrap();
    let Network::Recommender(recommender) = &network else {
        panic!("a recommender");
    };
    let users = integers(&[2, 0, 2, 1], &device);
    let candidates = integers(&[3, 9, 0, 10, 5], &device);
    let outputs = recommender.forward(users.clone(), candidates.clone());
    let batch = Batch::Pairs {
        users,
        candidates,
        log_weights: Tensor::zeros([1, 5], &device),
        taken: vec![1, 4, 0, 0],
    };
    let expected = include_str!("../../tests/fixtures/recommender.json");
    compare(&network, &batch, outputs, expected);
}
