//! What a training may take beyond plain steps.
#![allow(clippy::unwrap_used)]

use convoke_protocol::task::Schedule;
use proptest::prelude::*;

use super::tests::{config, model, run, stripes};
use super::*;
use crate::arch::recommender::RecommenderConfig;
use crate::data::{Images, Interactions, Part};
use crate::device::DeviceChoice;
use crate::evaluate::Evaluator;
use crate::registry::{ModelConfig, ModelKind};

fn plain_sgd() -> TrainConfig {
    TrainConfig {
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        ..config()
    }
}

fn delta(config: &TrainConfig) -> Vec<f32> {
    let trained = run(ModelKind::Mlp, config, &stripes(40)).unwrap();
    trained.delta.values().to_vec()
}

fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&value| f64::from(value).powi(2));
    squares.sum::<f64>().sqrt()
}

#[test]
fn micro_batches_add_up_to_the_same_step() {
    let whole = delta(&config());
    for micro in [1, 5, 16] {
        let parts = delta(&TrainConfig {
            micro_batch_size: Some(micro),
            ..config()
        });
        for (whole, parts) in whole.iter().zip(&parts) {
            assert!((whole - parts).abs() < 2e-5, "{micro}: {whole} {parts}");
        }
        assert_eq!(micro == 16, whole == parts);
    }
}

#[test]
fn gradients_are_bounded_by_their_norm_over_all_tensors() {
    let one = TrainConfig {
        steps_max: Some(1),
        ..plain_sgd()
    };
    let free = delta(&one);
    let bound = norm(&free) / one.client_lr / 4.0;
    let bounded = delta(&TrainConfig {
        gradient_norm_max: Some(bound),
        ..one.clone()
    });
    assert!((norm(&bounded) / norm(&free) - 0.25).abs() < 1e-4);
    for (free, bounded) in free.iter().zip(&bounded) {
        assert!((free / 4.0 - bounded).abs() < 1e-6);
    }
    let loose = delta(&TrainConfig {
        gradient_norm_max: Some(5.0 * bound),
        ..one
    });
    assert_eq!(loose, free);
}

#[test]
fn the_proximal_term_pulls_towards_the_base() {
    let steps = |steps, proximal| {
        delta(&TrainConfig {
            steps_max: Some(steps),
            proximal,
            ..plain_sgd()
        })
    };
    let (first, second) = (steps(1, 0.0), steps(2, 0.0));
    assert_eq!(steps(1, 3.0), first);
    let lr = plain_sgd().client_lr as f32;
    let pulled = steps(2, 3.0);
    for ((first, second), pulled) in first.iter().zip(&second).zip(&pulled) {
        // w₂ = w₁ − η (g(w₁) + μ (w₁ − w₀)).
        assert!((second - lr * 3.0 * first - pulled).abs() < 1e-6);
    }
}

#[test]
fn the_learning_rate_follows_its_schedule() {
    let rates = |schedule, warmup_steps| -> Vec<f64> {
        let config = TrainConfig {
            client_lr: 1.0,
            schedule,
            warmup_steps,
            ..config()
        };
        (0..6).map(|step| config.client_lr_at(step, 6)).collect()
    };
    let near = |got: Vec<f64>, expected: [f64; 6]| {
        let far = got.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-12);
        assert!(!far, "{got:?}");
    };
    near(rates(Schedule::Constant, 0), [1.0; 6]);
    near(rates(Schedule::Constant, 2), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
    near(rates(Schedule::Linear, 2), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
    let half = std::f64::consts::FRAC_1_SQRT_2 / 2.0;
    near(
        rates(Schedule::Cosine, 2),
        [0.5, 1.0, 1.0, 0.5 + half, 0.5, 0.5 - half],
    );
    // A warm-up longer than the training is no error.
    near(
        rates(Schedule::Cosine, 12),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|n| n / 12.0),
    );
}

/// Stops after so many steps, with a snapshot of the last.
struct Until {
    steps: u32,
    snapshot: Option<Snapshot>,
    evaluations: Vec<f64>,
}

impl Until {
    fn new(steps: u32) -> Self {
        Self {
            steps,
            snapshot: None,
            evaluations: Vec::new(),
        }
    }
}

impl Observer for Until {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        if report.step == self.steps {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_snapshot(&mut self, report: &StepReport) -> bool {
        report.step == self.steps
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    fn evaluated(&mut self, _step: u32, result: &crate::Evaluation) {
        self.evaluations.push(result.loss);
    }
}

/// The same stripes under other labels.
fn mislabelled(count: usize) -> Dataset {
    let Dataset::Images(images) = stripes(count) else {
        panic!("stripes are images");
    };
    let labels = images.labels().iter().map(|label| (label + 1) % 3);
    let (pixels, side) = (images.images().to_vec(), images.height());
    Images::new(pixels, side, side, labels.collect(), 3)
        .unwrap()
        .into()
}

#[test]
fn training_stops_when_the_held_out_loss_rises_and_takes_the_best() {
    let config = TrainConfig {
        early_stop: Some(EarlyStop {
            every_steps: 2,
            patience: 2,
        }),
        ..config()
    };
    let model = model(ModelKind::Mlp);
    let (base, data, held_out) = (model.initial(1).unwrap(), stripes(40), mislabelled(40));
    let device = DeviceChoice::Cpu.open().unwrap();
    let training = Training {
        held_out: Some(&held_out),
        ..Training::new(&model, &config, &base, &data, &device)
    };
    let mut observer = Until::new(u32::MAX);
    let trained = training.run(&mut observer).unwrap();
    // The first measurement is the best, and two that are worse follow.
    assert_eq!(trained.steps, 6);
    assert_eq!(observer.evaluations.len(), 3);
    let mut best = base.clone();
    best.add_scaled(&trained.delta, 1.0).unwrap();
    let evaluator = Evaluator::new(&model, &device, &held_out).unwrap();
    let loss = evaluator.evaluate(&best).unwrap().loss;
    assert!((loss - observer.evaluations[0]).abs() < 1e-5);
}

fn pairs() -> (Model, Dataset) {
    let config = RecommenderConfig {
        items: 20,
        width: 4,
        hidden: 4,
        ..RecommenderConfig::default()
    };
    let mut lines = String::from("user,item\n");
    for user in 0..30 {
        // Even users like even items, odd ones odd items.
        for item in 0..6 {
            let item = (user * 7 + item * 2) % 20 / 2 * 2 + user % 2;
            lines += &format!("{user},{item}\n");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.csv");
    std::fs::write(&path, lines).unwrap();
    let data = Interactions::open(&path, Part::Train, 20).unwrap();
    let model = Model::new(ModelConfig::Recommender(config)).unwrap();
    (model, Dataset::Interactions(data))
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let cases = [
        (model(ModelKind::Cnn), stripes(40), config()),
        (
            model(ModelKind::Mlp),
            stripes(40),
            TrainConfig {
                optimizer: "adamw".parse().unwrap(),
                schedule: Schedule::Cosine,
                proximal: 0.1,
                gradient_norm_max: Some(1.0),
                early_stop: Some(EarlyStop {
                    every_steps: 3,
                    patience: 3,
                }),
                ..config()
            },
        ),
        (pairs().0, pairs().1, config()),
    ];
    let device = DeviceChoice::Cpu.open().unwrap();
    for (model, data, config) in &cases {
        let base = model.initial(1).unwrap();
        let held_out = stripes(12);
        let training = Training {
            held_out: config.early_stop.map(|_| &held_out),
            ..Training::new(model, config, &base, data, &device)
        };
        let whole = training.run(&mut Until::new(u32::MAX)).unwrap();
        // In the middle of an epoch and at the end of one.
        for steps in [2, 3, whole.steps] {
            let mut until = Until::new(steps);
            let error = training.run(&mut until).unwrap_err();
            assert!(matches!(error, ModelError::Interrupted { step } if step == steps));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("training.snapshot");
            assert_eq!(Snapshot::load(&path, model).unwrap(), None);
            until.snapshot.unwrap().save(&path).unwrap();
            let snapshot = Snapshot::load(&path, model).unwrap().unwrap();
            assert!(snapshot.belongs_to(&training) && snapshot.step() == steps);
            let resumed = Training {
                resume: Some(snapshot),
                ..training.clone()
            };
            let trained = resumed.run(&mut Until::new(u32::MAX)).unwrap();
            assert_eq!(trained, whole, "{:?} {steps}", model.config().kind());
        }
    }
}

fn some_snapshot() -> (Model, Snapshot) {
    let (model, data) = (model(ModelKind::Mlp), stripes(40));
    let base = model.initial(1).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let config = config();
    let mut until = Until::new(2);
    let _ = Training::new(&model, &config, &base, &data, &device).run(&mut until);
    (model, until.snapshot.unwrap())
}

#[test]
fn a_snapshot_of_another_training_is_refused() {
    let (model, snapshot) = some_snapshot();
    let device = DeviceChoice::Cpu.open().unwrap();
    let (good, base) = (config(), model.initial(1).unwrap());
    let other = TrainConfig {
        client_lr: 0.06,
        ..config()
    };
    let run = |config: &TrainConfig, base: &Parameters, data: &Dataset| {
        let training = Training {
            resume: Some(snapshot.clone()),
            ..Training::new(&model, config, base, data, &device)
        };
        training.run(&mut Until::new(u32::MAX))
    };
    assert!(run(&good, &base, &stripes(40)).is_ok());
    for result in [
        run(&other, &base, &stripes(40)),
        run(&good, &model.initial(2).unwrap(), &stripes(40)),
        run(&good, &base, &stripes(41)),
    ] {
        assert!(matches!(result, Err(ModelError::Snapshot(_))));
    }
}

#[test]
fn a_recommender_learns_what_its_users_like() {
    let (model, data) = pairs();
    let device = DeviceChoice::Cpu.open().unwrap();
    let Dataset::Interactions(all) = &data else {
        panic!("interactions");
    };
    let (before, _) = all.leave_one_out();
    let evaluator = Evaluator::new(&model, &device, &data).unwrap();
    let config = TrainConfig {
        optimizer: "adamw".parse().unwrap(),
        client_lr: 0.02,
        local_epochs: 20,
        ..config()
    };
    let mut parameters = model.initial(1).unwrap();
    let first = evaluator.evaluate(&parameters).unwrap();
    let trained = train(
        &model,
        &config,
        &parameters,
        &Dataset::Interactions(before),
        &device,
        &mut |_| ControlFlow::Continue(()),
    );
    parameters.add_scaled(&trained.unwrap().delta, 1.0).unwrap();
    let after = evaluator.evaluate(&parameters).unwrap();
    assert_eq!(after.num_examples, 30);
    // 15 items are open; those of the other half of the users are not liked.
    assert!(after.loss < first.loss - 0.3, "{first:?} {after:?}");
    assert!(after.hit_rate_at_10.unwrap() > 0.9, "{after:?}");
    let names: Vec<&str> = model
        .layout()
        .iter()
        .map(|spec| spec.name.as_str())
        .collect();
    assert!(names.contains(&"items") && !names.contains(&"users"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_snapshots_are_refused_or_read(place in 0usize..4000, byte in any::<u8>(), cut in any::<bool>()) {
        let (model, snapshot) = some_snapshot();
        let mut bytes = snapshot.to_bytes();
        prop_assert_eq!(Snapshot::from_bytes(&bytes, &model).unwrap(), snapshot);
        let place = place.min(bytes.len() - 1);
        if cut {
            bytes.truncate(place);
            prop_assert!(Snapshot::from_bytes(&bytes, &model).is_err());
        } else {
            bytes[place] = byte;
            let _ = Snapshot::from_bytes(&bytes, &model);
        }
    }
}
