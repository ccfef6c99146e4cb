#![allow(clippy::unwrap_used)]

use burn::tensor::Device;

use super::session::log_prior;
use super::*;
use crate::data::Images;
use crate::device::DeviceChoice;
use crate::evaluate::Evaluator;
use crate::registry::{ModelConfig, ModelKind};

const SIDE: usize = 6;

pub(super) fn model(kind: ModelKind) -> Model {
    Model::new(ModelConfig::images(kind, SIDE, SIDE, 3).unwrap()).unwrap()
}

pub(super) fn config() -> TrainConfig {
    TrainConfig {
        optimizer: "sgd".parse().unwrap(),
        client_lr: 0.05,
        local_epochs: 4,
        steps_max: None,
        batch_size: 16,
        calibrated: false,
        seed: 7,
        round: 0,
        ..TrainConfig::default()
    }
}

/// Class c is bright in the columns 2c and 2c + 1, with some noise.
pub(super) fn stripes(count: usize) -> Dataset {
    let mut images = Vec::new();
    for example in 0..count {
        for pixel in 0..SIDE * SIDE {
            let bright = pixel % SIDE / 2 == example % 3;
            let noise = (example * 37 + pixel * 101) % 60;
            images.push(if bright { 180 + noise } else { noise } as u8);
        }
    }
    let labels = (0..count).map(|example| (example % 3) as u8).collect();
    Images::new(images, SIDE, SIDE, labels, 3).unwrap().into()
}

pub(super) fn run(
    kind: ModelKind,
    config: &TrainConfig,
    data: &Dataset,
) -> Result<Trained, ModelError> {
    let model = model(kind);
    let device = DeviceChoice::Cpu.open().unwrap();
    train(
        &model,
        config,
        &model.initial(1).unwrap(),
        data,
        &device,
        &mut |_| ControlFlow::Continue(()),
    )
}

#[test]
fn training_learns_with_every_model_and_optimizer() {
    let data = stripes(120);
    let device = DeviceChoice::Cpu.open().unwrap();
    for kind in [ModelKind::Cnn, ModelKind::Mlp] {
        for (optimizer, client_lr, calibrated) in [
            ("sgd", 0.05, false),
            ("sgd", 0.05, true),
            ("adamw", 0.005, false),
        ] {
            let config = TrainConfig {
                optimizer: optimizer.parse().unwrap(),
                client_lr,
                calibrated,
                ..config()
            };
            let model = model(kind);
            let mut parameters = model.initial(1).unwrap();
            let evaluator = Evaluator::new(&model, &device, &data).unwrap();
            let before = evaluator.evaluate(&parameters).unwrap();
            let trained = run(kind, &config, &data).unwrap();
            parameters.add_scaled(&trained.delta, 1.0).unwrap();
            let after = evaluator.evaluate(&parameters).unwrap();
            assert!(
                after.loss < 0.3 * before.loss,
                "{kind} {optimizer}: {after:?}"
            );
            assert!(after.accuracy > 0.95, "{kind} {optimizer}: {after:?}");
            assert_eq!((trained.num_examples, trained.steps), (120, 32));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let data = stripes(50);
    let base = config();
    let bytes = |config: &TrainConfig| {
        run(ModelKind::Cnn, config, &data)
            .unwrap()
            .delta
            .to_safetensors()
    };
    assert_eq!(bytes(&base), bytes(&base));
    let other_round = TrainConfig {
        round: 1,
        ..base.clone()
    };
    let other_seed = TrainConfig {
        seed: 8,
        ..base.clone()
    };
    assert_ne!(bytes(&base), bytes(&other_round));
    assert_ne!(bytes(&base), bytes(&other_seed));
}

#[test]
fn one_step_of_plain_sgd_goes_down_the_gradient() {
    let data = stripes(6);
    let config = TrainConfig {
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        client_lr: 1e-3,
        local_epochs: 1,
        ..config()
    };
    let trained = run(ModelKind::Mlp, &config, &data).unwrap();
    let model = model(ModelKind::Mlp);
    let base = model.initial(1).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let evaluator = Evaluator::new(&model, &device, &data).unwrap();
    let loss = |step: f32| {
        let mut moved = base.clone();
        moved.add_scaled(&trained.delta, step).unwrap();
        evaluator.evaluate(&moved).unwrap().loss
    };
    assert!((f64::from(trained.loss) - loss(0.0)).abs() < 1e-5);
    // delta = -lr * g, so the slope along delta is -|delta|^2 / lr.
    let slope = (loss(0.5) - loss(-0.5)) / 1.0;
    let expected = -trained.delta.norm().powi(2) / config.client_lr;
    assert!((slope / expected - 1.0).abs() < 0.05, "{slope} {expected}");
}

/// Against steps made one by one, each from where the last led, in f64.
#[test]
fn corrected_steps_are_those_of_scaffold() {
    let data = stripes(30);
    let config = TrainConfig {
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        client_lr: 0.1,
        local_epochs: 4,
        // All examples in each step, so that the order of the shuffles is no matter.
        batch_size: 30,
        ..config()
    };
    let model = model(ModelKind::Mlp);
    let base = model.initial(1).unwrap();
    let noise = model.initial(2).unwrap();
    let correction = Correction::new(model.layout().to_vec(), Some(&noise), None);
    let correction = correction.unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let mut keep_on = |_| ControlFlow::Continue(());
    let trained = train_corrected(
        &model,
        &config,
        &base,
        &correction,
        &data,
        &device,
        &mut keep_on,
    );
    let trained = trained.unwrap();
    let one = TrainConfig {
        client_lr: 1.0,
        local_epochs: 1,
        ..config.clone()
    };
    let mut expected: Vec<f64> = base.values().iter().map(|v| f64::from(*v)).collect();
    for _ in 0..config.local_epochs {
        let mut here = base.clone();
        let places = here.values_mut().iter_mut().zip(&expected);
        places.for_each(|(here, value)| *here = *value as f32);
        // With a learning rate of 1 the delta is minus the gradient.
        let step = train(&model, &one, &here, &data, &device, &mut keep_on)
            .unwrap()
            .delta;
        for ((value, step), c) in expected.iter_mut().zip(step.values()).zip(noise.values()) {
            *value += config.client_lr * (f64::from(*step) - f64::from(*c));
        }
    }
    let moved = base.values().iter().zip(trained.delta.values());
    for ((base, delta), expected) in moved.zip(&expected) {
        let got = f64::from(*base) + f64::from(*delta);
        assert!((got - expected).abs() < 2e-6, "{got} {expected}");
    }
    let own = correction.own_after(&trained.delta, trained.steps, config.client_lr);
    let (own, path) = (own.unwrap(), 4.0 * config.client_lr);
    let rows = own
        .values()
        .iter()
        .zip(trained.delta.values())
        .zip(noise.values());
    for ((own, delta), c) in rows {
        let expected = -f64::from(*delta) / path - f64::from(*c);
        assert!(
            (f64::from(*own) - expected).abs() < 1e-6,
            "{own} {expected}"
        );
    }
}

#[test]
fn a_correction_of_nothing_changes_nothing() {
    let data = stripes(40);
    let config = TrainConfig {
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        ..config()
    };
    let model = model(ModelKind::Mlp);
    let base = model.initial(1).unwrap();
    let none = Correction::new(model.layout().to_vec(), None, None).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let mut keep_on = |_| ControlFlow::Continue(());
    let corrected = train_corrected(&model, &config, &base, &none, &data, &device, &mut keep_on);
    assert_eq!(
        corrected.unwrap().delta,
        run(ModelKind::Mlp, &config, &data).unwrap().delta
    );
}

#[test]
fn the_prior_is_that_of_the_partys_own_labels() {
    let data = Images::new(vec![0; 144], SIDE, SIDE, vec![0, 0, 0, 1], 2).unwrap();
    let prior = log_prior(&model(ModelKind::Mlp), &data.into(), &Device::flex());
    let prior = prior.unwrap().try_into_vec_as::<f32>().unwrap();
    let expected = [4.0f32, 2.0, 1.0].map(|count| (count / 7.0).ln());
    assert_eq!(prior, expected);
}

#[test]
fn reports_count_the_steps_and_a_limit_holds() {
    let data = stripes(40);
    let config = TrainConfig {
        steps_max: Some(5),
        ..config()
    };
    let model = model(ModelKind::Mlp);
    let base = model.initial(1).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let mut seen = Vec::new();
    let trained = train(&model, &config, &base, &data, &device, &mut |report| {
        seen.push((report.step, report.steps, report.epoch));
        ControlFlow::Continue(())
    });
    assert_eq!(trained.unwrap().steps, 5);
    assert_eq!(
        seen,
        [(1, 5, 0), (2, 5, 0), (3, 5, 0), (4, 5, 1), (5, 5, 1)]
    );
}

#[test]
fn training_stops_when_asked() {
    let config = config();
    let model = model(ModelKind::Mlp);
    let base = model.initial(1).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let result = train(&model, &config, &base, &stripes(40), &device, &mut |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(result, Err(ModelError::Interrupted { step: 1 })));
}

#[test]
fn divergence_is_an_error() {
    let config = TrainConfig {
        client_lr: 10.0,
        local_epochs: 100,
        ..config()
    };
    let model = model(ModelKind::Cnn);
    let mut base = model.initial(1).unwrap();
    for value in base.values_mut() {
        *value *= 1e12;
    }
    let device = DeviceChoice::Cpu.open().unwrap();
    let result = train(&model, &config, &base, &stripes(40), &device, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(
        matches!(result, Err(ModelError::Diverged { .. })),
        "{result:?}"
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let good = config();
    let bad = [
        TrainConfig {
            client_lr: 0.0,
            ..good.clone()
        },
        TrainConfig {
            client_lr: f64::NAN,
            ..good.clone()
        },
        TrainConfig {
            local_epochs: 0,
            ..good.clone()
        },
        TrainConfig {
            batch_size: 0,
            ..good.clone()
        },
        TrainConfig {
            steps_max: Some(0),
            ..good.clone()
        },
        TrainConfig {
            gradient_norm_max: Some(0.0),
            ..good.clone()
        },
        TrainConfig {
            optimizer: ClientOptimizer::named("sgd", 1.0, 0.0).unwrap(),
            ..good.clone()
        },
        TrainConfig {
            micro_batch_size: Some(0),
            ..good.clone()
        },
        TrainConfig {
            micro_batch_size: Some(17),
            ..good.clone()
        },
        TrainConfig {
            proximal: -1.0,
            ..good.clone()
        },
        // Nothing is held out.
        TrainConfig {
            early_stop: Some(EarlyStop {
                every_steps: 1,
                patience: 1,
            }),
            ..good.clone()
        },
    ];
    for config in bad {
        let result = run(ModelKind::Mlp, &config, &stripes(6));
        assert!(
            matches!(result, Err(ModelError::Config { .. })),
            "{config:?}"
        );
    }
    assert!(ClientOptimizer::named("lion", 0.0, 0.0).is_err());
}
