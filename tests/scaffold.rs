//! SCAFFOLD as trainers and the aggregator do it, without network and chain: real training, real
//! files.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;

use convoke_aggregator::control::{advance, control_of};
use convoke_models::{
    ClientOptimizer, Correction, Dataset, DeviceChoice, Evaluator, Images, Model, Parameters, Part,
    TrainConfig, train_corrected,
};
use convoke_protocol::control::ControlStep;
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::task::TaskSpec;

const PARTIES: usize = 5;

fn task(batch_size: usize, local_epochs: u32) -> TaskSpec {
    TaskSpec::parse(&format!(
        "name = \"t\"\n[model]\nkind = \"mlp\"\n[training]\nclient_lr = 0.02\n\
         client_lr_decay = 1.0\nmomentum = 0.0\nlogit_calibration = false\n\
         control_variates = true\nbatch_size = {batch_size}\nlocal_epochs = {local_epochs}\n"
    ))
    .unwrap()
}

fn config(spec: &TaskSpec, round: u32) -> TrainConfig {
    let training = &spec.training;
    TrainConfig {
        optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
        client_lr: training.client_lr,
        local_epochs: training.local_epochs,
        steps_max: None,
        batch_size: training.batch_size as usize,
        calibrated: false,
        seed: 7,
        round,
        ..TrainConfig::default()
    }
}

/// Fashion-MNIST images of the two labels of each party, `each` of both.
fn two_labels_each(each: usize) -> Vec<Dataset> {
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fashion-mnist");
    let all = Images::open(&share, Part::Train).unwrap();
    let of_label = |label: usize| {
        let labels = all.labels().iter().enumerate();
        let found = labels.filter(move |(_, l)| usize::from(**l) == label);
        found.map(|(index, _)| index).take(each).collect::<Vec<_>>()
    };
    (0..PARTIES)
        .map(|party| {
            let pair = [of_label(2 * party), of_label(2 * party + 1)].concat();
            all.subset(&pair).into()
        })
        .collect()
}

fn put(dir: &Path, parameters: &Parameters) -> BlobHash {
    let bytes = parameters.to_safetensors();
    let blob = BlobHash::of(&bytes);
    std::fs::write(dir.join(blob.to_file_name()), bytes).unwrap();
    blob
}

fn get(dir: &Path, blob: &BlobHash) -> Parameters {
    let bytes = std::fs::read(dir.join(blob.to_file_name())).unwrap();
    Parameters::from_safetensors(&bytes, None).unwrap()
}

/// What the parties and the server have after some rounds.
struct Federation {
    model: Parameters,
    own: Vec<Option<Parameters>>,
    server: Option<Parameters>,
}

/// Rounds of FedAvg with every party, with control variates or without.
fn federate(spec: &TaskSpec, parties: &[Dataset], rounds: u32, corrected: bool) -> Federation {
    let dir = tempfile::tempdir().unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let model = Model::of_task(spec).unwrap();
    let mut at = put(dir.path(), &model.initial(3).unwrap());
    let mut own: Vec<Option<Parameters>> = vec![None; parties.len()];
    for round in 1..=rounds {
        let base = get(dir.path(), &at);
        let server = control_of(dir.path(), &at).unwrap();
        let server = server.map(|blob| get(dir.path(), &blob));
        let mut next = base.clone();
        for (data, own) in parties.iter().zip(&mut own) {
            let correction =
                Correction::new(model.layout().to_vec(), server.as_ref(), own.as_ref());
            let correction = correction.unwrap();
            let config = config(spec, round);
            let mut keep_on = |_| ControlFlow::Continue(());
            let trained = train_corrected(
                &model,
                &config,
                &base,
                &correction,
                data,
                &device,
                &mut keep_on,
            )
            .unwrap();
            next.add_scaled(&trained.delta, 1.0 / parties.len() as f32)
                .unwrap();
            if corrected {
                let after = correction.own_after(&trained.delta, trained.steps, config.client_lr);
                *own = Some(after.unwrap());
            }
        }
        let stepped = put(dir.path(), &next);
        if corrected {
            let examples = parties.iter().map(|data| data.len() as u64);
            let count = parties.len() as u32;
            let step = ControlStep::of(spec, RoundId(round), count, examples).unwrap();
            advance(dir.path(), spec, &step, &at, &stepped).unwrap();
        }
        at = stepped;
    }
    let server = control_of(dir.path(), &at).unwrap();
    Federation {
        model: get(dir.path(), &at),
        own,
        server: server.map(|blob| get(dir.path(), &blob)),
    }
}

/// The paper's c is the mean of the parties' variates; ours is made of two checkpoints.
#[test]
fn the_servers_variate_is_the_mean_of_the_parties() {
    let parties = two_labels_each(20);
    let ended = federate(&task(10, 2), &parties, 4, true);
    let server = ended.server.unwrap();
    let norm = server.norm();
    assert!(norm > 0.01, "{norm}");
    let mut left = server;
    for own in ended.own.iter().flatten() {
        assert!(own.norm() > norm, "parties differ more than their mean");
        left.add_scaled(own, -1.0 / PARTIES as f32).unwrap();
    }
    assert!(left.norm() < 1e-4 * norm, "{} {norm}", left.norm());
}

#[test]
fn control_variates_help_where_each_party_has_two_labels() {
    let parties = two_labels_each(60);
    let spec = task(10, 10);
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fashion-mnist");
    let test = Images::open(&share, Part::Test).unwrap();
    let test = test.subset(&(0..1_000).collect::<Vec<_>>());
    let device = DeviceChoice::Cpu.open().unwrap();
    let model = Model::of_task(&spec).unwrap();
    let evaluator = Evaluator::new(&model, &device, &test.into()).unwrap();
    let [plain, corrected] = [false, true].map(|corrected| {
        let ended = federate(&spec, &parties, 12, corrected);
        evaluator.evaluate(&ended.model).unwrap()
    });
    println!("FedAvg {plain:?}\nSCAFFOLD {corrected:?}");
    assert!(corrected.loss < 0.9 * plain.loss, "{plain:?} {corrected:?}");
    assert!(
        corrected.accuracy > plain.accuracy,
        "{plain:?} {corrected:?}"
    );
}
