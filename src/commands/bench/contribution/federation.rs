//! A federation in one process, whose trainers differ in what they bring.

use std::ops::ControlFlow;

use anyhow::Context as _;
use convoke_aggregator::filter::clip_ppm;
use convoke_models::{
    ComputeDevice, Dataset, DeviceChoice, Images, Model, Parameters, TrainConfig, train,
};
use convoke_protocol::ids::{Address, BlobHash, RoundId};
use convoke_protocol::message::Candidate;
use convoke_protocol::sketch::Norm;
use convoke_protocol::task::TaskSpec;
use convoke_sim::Persona;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::commands::data;

/// Validators, each with held-out data of its own.
const VALIDATORS: usize = 3;
/// Of a noisy trainer's labels this share is drawn at random.
const NOISE: f64 = 0.5;
/// A poor trainer has this part of the examples that it would have.
const FEW: usize = 10;

/// What a trainer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Quality {
    /// Its share of the data, as it is.
    Clean,
    /// Trains, and sends next to nothing.
    FreeRider,
    /// Half of its labels are drawn at random.
    NoisyLabels,
    /// A tenth of the examples.
    FewExamples,
    /// Everything as the first trainer.
    Duplicate,
}

impl Quality {
    /// One of each kind, then clean ones.
    fn of(index: usize) -> Self {
        let kinds = [
            Self::Clean,
            Self::FreeRider,
            Self::NoisyLabels,
            Self::FewExamples,
            Self::Duplicate,
        ];
        kinds.get(index).copied().unwrap_or(Self::Clean)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::FreeRider => "free rider",
            Self::NoisyLabels => "noisy labels",
            Self::FewExamples => "few examples",
            Self::Duplicate => "duplicate",
        }
    }
}

/// A trainer's data, and what it is like.
pub(super) struct Trainer {
    pub(super) quality: Quality,
    pub(super) data: Dataset,
}

/// Trainers and validators of one task on the demo's images.
pub(super) struct Federation {
    pub(super) spec: TaskSpec,
    pub(super) model: Model,
    pub(super) device: ComputeDevice,
    pub(super) trainers: Vec<Trainer>,
    pub(super) held_out: Vec<Dataset>,
    seed: u64,
}

impl Federation {
    /// Splits the images by Dirichlet(0.5), and spoils what some of the trainers have.
    pub(super) fn new(kind: &str, trainers: usize, seed: u64) -> anyhow::Result<Self> {
        let spec = TaskSpec::parse(&format!(
            "name = \"bench\"\nseed = {seed}\n[model]\nkind = {kind:?}\n"
        ))?;
        let model = Model::of_task(&spec)?;
        let parts = data::divide(&data::embedded()?, trainers, VALIDATORS, 0.5, seed)?;
        let first = parts.trainers.first().cloned();
        let first = first.context("there is at least one trainer")?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let trainer = |(index, data): (usize, Images)| {
            let quality = Quality::of(index);
            let data = match quality {
                Quality::Clean | Quality::FreeRider => data,
                Quality::NoisyLabels => with_noisy_labels(&data, &mut rng)?,
                Quality::FewExamples => data.subset(&(0..data.len() / FEW).collect::<Vec<_>>()),
                Quality::Duplicate => first.clone(),
            };
            let data = data.into();
            anyhow::Ok(Trainer { quality, data })
        };
        let trainers = parts.trainers.into_iter().enumerate().map(trainer);
        Ok(Self {
            spec,
            model,
            device: DeviceChoice::Cpu.open()?,
            trainers: trainers.collect::<Result<_, _>>()?,
            held_out: parts.validators.into_iter().map(Into::into).collect(),
            seed,
        })
    }

    /// The checkpoint of the first round.
    pub(super) fn initial(&self) -> anyhow::Result<Parameters> {
        Ok(self.model.initial(self.seed)?)
    }

    /// What the trainers send in a round, counted from 0.
    pub(super) fn train(&self, base: &Parameters, round: u32) -> anyhow::Result<Vec<Parameters>> {
        let round = RoundId(round + 1);
        let config = TrainConfig::of_task(&self.spec, round)?;
        let delta = |trainer: &Trainer| {
            let mut go_on = |_| ControlFlow::Continue(());
            let mut trained = train(
                &self.model,
                &config,
                base,
                &trainer.data,
                &self.device,
                &mut go_on,
            )?;
            if trainer.quality == Quality::FreeRider
                && let Some(mut lazy) = Persona::FreeRider.adversary(self.seed)
            {
                lazy.corrupt(round, trained.delta.values_mut());
            }
            Ok(trained.delta)
        };
        self.trainers.iter().map(delta).collect()
    }

    /// The updates as validators are asked to score them: clipped to the lower median norm.
    pub(super) fn candidates(&self, deltas: &[Parameters]) -> Vec<Candidate> {
        let norms: Vec<Norm> = deltas.iter().map(|delta| Norm::of(delta.norm())).collect();
        let mut sorted = norms.clone();
        sorted.sort_unstable();
        let clip = sorted[(sorted.len() - 1) / 2];
        let candidate = |(index, norm): (usize, &Norm)| Candidate {
            trainer: Address([index as u8; 20]),
            delta: BlobHash([index as u8; 32]),
            delta_bytes: 0,
            num_examples: self.trainers[index].data.len() as u64,
            clip_ppm: clip_ppm(*norm, clip),
            alignment: 0,
            index: index as u16,
        };
        norms.iter().enumerate().map(candidate).collect()
    }
}

fn with_noisy_labels(data: &Images, rng: &mut ChaCha8Rng) -> anyhow::Result<Images> {
    let mut draw = |label: &u8| {
        if rng.random_bool(NOISE) {
            rng.random_range(0..data.classes()) as u8
        } else {
            *label
        }
    };
    let labels = data.labels().iter().map(&mut draw).collect();
    Ok(Images::new(
        data.images().to_vec(),
        data.height(),
        data.width(),
        labels,
        data.classes(),
    )?)
}
