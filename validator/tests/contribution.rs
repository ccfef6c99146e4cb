//! What a validator makes of real updates by each method that a task may ask for.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use convoke_models::{
    ClientOptimizer, ComputeDevice, Dataset, DeviceChoice, Images, Model, Parameters, Part,
    TrainConfig, train,
};
use convoke_protocol::factors::FACTOR_ONE;
use convoke_protocol::held_out;
use convoke_protocol::ids::{Address, BlobHash, RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::{CandidateScore, Outcome};
use convoke_protocol::task::{ScoreMethod, TaskSpec};
use convoke_validator::scoring::{Bench, Scored};

const SHAPLEY: [ScoreMethod; 2] = [ScoreMethod::TmcShapley, ScoreMethod::GtgShapley];

/// Three honest updates of alike data, and a free rider's.
struct Round {
    spec: TaskSpec,
    base: Parameters,
    deltas: Vec<Parameters>,
    device: ComputeDevice,
}

impl Round {
    fn new(client_lr: f64) -> Self {
        let spec = TaskSpec::parse("name = \"t\"\n[model]\nkind = \"mlp\"\n").unwrap();
        let model = Model::of_task(&spec).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let base = model.initial(7).unwrap();
        let delta = |trainer: usize| {
            let config = TrainConfig {
                optimizer: ClientOptimizer::named("sgd", 0.9, 0.0).unwrap(),
                client_lr,
                local_epochs: 1,
                steps_max: Some(8),
                batch_size: 32,
                calibrated: false,
                seed: trainer as u64,
                round: 0,
                ..TrainConfig::default()
            };
            let data = images(Part::Train, 300 * trainer, 300);
            let mut go_on = |_| ControlFlow::Continue(());
            train(&model, &config, &base, &data, &device, &mut go_on)
                .unwrap()
                .delta
        };
        let mut deltas: Vec<_> = (0..4).map(delta).collect();
        // In the right direction, and next to nothing.
        deltas[FREE_RIDER]
            .values_mut()
            .iter_mut()
            .for_each(|value| *value *= 1e-4);
        Self {
            spec,
            base,
            deltas,
            device,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(place, delta): (usize, &Parameters)| Candidate {
            // No number of theirs counts from 0 or 1.
            trainer: Address([200 - 30 * place as u8; 20]),
            delta: BlobHash::of(&delta.to_safetensors()),
            delta_bytes: delta.to_safetensors().len() as u64,
            num_examples: 300,
            clip_ppm: 1_000_000,
            alignment: 1,
            index: 2 * place as u16 + 1,
        };
        self.deltas.iter().enumerate().map(candidate).collect()
    }

    fn score(&self, method: ScoreMethod, evaluations_max: u32) -> Scored {
        let mut spec = self.spec.clone();
        spec.contribution.method = method;
        spec.contribution.evaluations_max = evaluations_max;
        let held_out = images(Part::Test, 0, 300);
        let model = Model::of_task(&spec).unwrap();
        let bench = Bench::new(TaskId(3), &spec, model, held_out, self.device.clone()).unwrap();
        let candidates = self.candidates();
        let mut read = |wanted: &Candidate| {
            let place = candidates.iter().position(|c| c == wanted).unwrap();
            Ok(self.deltas[place].to_safetensors())
        };
        let (mut last, mut most) = (0, 0);
        let mut progress = |done, of| (last, most) = (done, of);
        let scored = bench.score(
            RoundId(1),
            &self.base.to_safetensors(),
            &candidates,
            &mut read,
            &AtomicBool::new(false),
            &mut progress,
        );
        assert!(last < most || scored.is_err(), "{last} of {most}");
        scored.unwrap()
    }

    /// The factors of the four updates.
    fn factors(&self, scored: &Scored) -> [u16; 4] {
        let places: Vec<_> = self.candidates().iter().map(|c| c.index).collect();
        let all = held_out::factors(&scored.sheet, &places, 9);
        assert!(all.iter().step_by(2).all(|factor| *factor == 0), "{all:?}");
        [1, 3, 5, 7].map(|place| all[place])
    }
}

const FREE_RIDER: usize = 2;

fn images(part: Part, from: usize, count: usize) -> Dataset {
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fashion-mnist");
    let all = Images::open(&share, part).unwrap();
    all.subset(&(from..from + count).collect::<Vec<_>>()).into()
}

fn honest(factors: [u16; 4]) -> [u16; 3] {
    [factors[0], factors[1], factors[3]]
}

#[test]
fn a_free_rider_adds_nothing_to_the_held_out_loss() {
    let round = Round::new(0.05);
    for method in SHAPLEY {
        let scored = round.score(method, 1_000);
        let factors = round.factors(&scored);
        let lowest = *honest(factors).iter().min().unwrap();
        assert!(lowest > FACTOR_ONE / 2, "{method:?}: {factors:?}");
        assert!(factors[FREE_RIDER] < lowest / 2, "{method:?}: {factors:?}");
        // 2⁴ coalitions less the empty one, whose loss is known.
        let effort = scored.effort.unwrap();
        assert!(
            effort.evaluations <= 15 && effort.permutations > 1,
            "{effort:?}"
        );
        assert_eq!(round.score(method, 1_000), scored);
    }
    // By direction alone it goes where the others go, and that is all that is asked.
    let direction = round.score(ScoreMethod::Direction, 1_000);
    assert_eq!(direction.effort, None);
    assert!(round.factors(&direction)[FREE_RIDER] > FACTOR_ONE / 2);
}

#[test]
fn what_is_allowed_bounds_the_evaluations_and_measures_everybody() {
    let round = Round::new(0.05);
    for method in SHAPLEY {
        let scored = round.score(method, 1);
        let effort = scored.effort.unwrap();
        assert!(effort.evaluations <= 5, "{effort:?}");
        assert!(effort.permutations >= 1, "{effort:?}");
        assert!(
            honest(round.factors(&scored))
                .iter()
                .any(|factor| *factor > 0)
        );
    }
    for method in [ScoreMethod::Gain, ScoreMethod::LeaveOneOut] {
        let effort = round.score(method, 1).effort.unwrap();
        assert!(
            effort.evaluations <= 5 && effort.permutations == 0,
            "{effort:?}"
        );
    }
}

#[test]
fn alignment_alone_treats_all_that_are_kept_alike() {
    let round = Round::new(0.05);
    let scored = round.score(ScoreMethod::Alignment, 1_000);
    assert_eq!(scored.effort, None);
    assert_eq!(round.factors(&scored), [FACTOR_ONE; 4]);
}

/// A step of some hundred thousandths of a nat is divided as any other; FedML 0.8.30 pays nobody
/// for less than a hundredth.
#[test]
fn a_round_of_small_progress_is_paid_by_contribution() {
    let round = Round::new(1e-6);
    for method in SHAPLEY {
        let scored = round.score(method, 1_000);
        let small = |score: &CandidateScore| match &score.outcome {
            Outcome::Scored(score) => score.gain_micros.abs() < 1_000,
            Outcome::SubmissionFailed => false,
        };
        assert!(scored.sheet.candidates.iter().all(small), "{scored:?}");
        let factors = round.factors(&scored);
        assert!(
            honest(factors).iter().all(|factor| *factor > 0),
            "{factors:?}"
        );
        assert!(factors[FREE_RIDER] < FACTOR_ONE / 4, "{factors:?}");
    }
}
