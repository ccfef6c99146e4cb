//! From a checkpoint to a delta, on a thread of its own.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use convoke_models::{
    ComputeDevice, Correction, Dataset, Model, ModelError, Observer, Parameters, Snapshot,
    StepReport, TrainConfig, Trained, Training,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

/// What a round's training begins with: safetensors files.
#[derive(Debug)]
pub struct Files {
    /// The checkpoint.
    pub checkpoint: Vec<u8>,
    /// The server's control variate, if the task has one yet.
    pub server_control: Option<Vec<u8>>,
    /// Our own, if there is one yet.
    pub own_control: Option<Vec<u8>>,
}

/// Where a training under way is kept, so that it goes on after a restart.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// The file.
    pub file: PathBuf,
    /// Least time from one snapshot to the next. Where snapshots take long they are taken less
    /// often, for a twentieth of the time at most.
    pub every: Duration,
}

/// What training gives.
#[derive(Debug)]
pub struct Made {
    /// The delta and how it came about.
    pub trained: Trained,
    /// Our control variate after it, in tasks that have such.
    pub own_control: Option<Parameters>,
}

/// Data, device and settings of one task.
#[derive(Debug)]
pub struct Workbench {
    model: Model,
    data: Dataset,
    device: ComputeDevice,
    spec: TaskSpec,
}

impl Workbench {
    /// Checks that the data fits the task's model.
    ///
    /// # Errors
    /// [`ModelError`] for an unknown model, and for images or labels that it cannot take.
    pub fn new(
        spec: &TaskSpec,
        model: Model,
        data: Dataset,
        device: ComputeDevice,
    ) -> Result<Self, ModelError> {
        model.check_data(&data)?;
        let bench = Self {
            model,
            data,
            device,
            spec: spec.clone(),
        };
        bench.config(RoundId::FIRST)?.check()?;
        Ok(bench)
    }

    /// Trains from the checkpoint until done or stopped, or from what was kept of the same
    /// training.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] if `stop` was set; [`ModelError`] for files of another model and
    /// for training that diverges.
    pub fn train(
        &self,
        round: RoundId,
        files: &Files,
        keeping: Option<&Keeping>,
        stop: &AtomicBool,
        report: &mut dyn FnMut(&StepReport),
    ) -> Result<Made, ModelError> {
        let (model, layout) = (&self.model, self.model.layout());
        let read = |bytes: &Vec<u8>| Parameters::from_safetensors(bytes, Some(layout));
        let base = read(&files.checkpoint)?;
        let config = self.config(round)?;
        let correction = if self.spec.training.control_variates {
            let server = files.server_control.as_ref().map(read).transpose()?;
            let own = files.own_control.as_ref().map(read).transpose()?;
            let correction = Correction::new(layout.to_vec(), server.as_ref(), own.as_ref())?;
            Some(correction)
        } else {
            None
        };
        let mut training = Training {
            correction: correction.as_ref(),
            ..Training::new(model, &config, &base, &self.data, &self.device)
        };
        training.resume = keeping.and_then(|keeping| kept(keeping, &training));
        let trained = training.run(&mut Watch {
            keeping,
            due: Instant::now() + keeping.map_or(Duration::ZERO, |keeping| keeping.every),
            stop,
            report,
        })?;
        let own_control = correction
            .map(|correction| correction.own_after(&trained.delta, trained.steps, config.client_lr))
            .transpose()?;
        Ok(Made {
            trained,
            own_control,
        })
    }

    fn config(&self, round: RoundId) -> Result<TrainConfig, ModelError> {
        TrainConfig::of_task(&self.spec, round)
    }
}

/// What was kept of this very training; what was kept of another is of no use.
fn kept(keeping: &Keeping, training: &Training<'_>) -> Option<Snapshot> {
    match Snapshot::load(&keeping.file, training.model) {
        Ok(snapshot) => {
            let snapshot = snapshot.filter(|snapshot| snapshot.belongs_to(training))?;
            tracing::info!(step = snapshot.step(), "training goes on where it was");
            Some(snapshot)
        }
        Err(error) => {
            tracing::warn!(%error, "training begins anew");
            None
        }
    }
}

/// Passes reports on, keeps snapshots, and stops when asked to.
struct Watch<'a> {
    keeping: Option<&'a Keeping>,
    /// When the next snapshot is due.
    due: Instant,
    stop: &'a AtomicBool,
    report: &'a mut dyn FnMut(&StepReport),
}

/// A snapshot may take this part of the time.
const SNAPSHOT_SHARE: u32 = 20;

impl Observer for Watch<'_> {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        (self.report)(report);
        if self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_snapshot(&mut self, _report: &StepReport) -> bool {
        self.keeping.is_some() && Instant::now() >= self.due
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let Some(keeping) = self.keeping else {
            return;
        };
        let began = Instant::now();
        if let Err(error) = snapshot.save(&keeping.file) {
            // Training goes on: at worst it begins anew after a restart.
            tracing::warn!(%error, "snapshot not kept");
        }
        let pause = keeping.every.max(began.elapsed() * SNAPSHOT_SHARE);
        self.due = Instant::now() + pause;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_models::{DeviceChoice, Images};

    use super::*;

    fn bench() -> Workbench {
        let text = "name = \"t\"\n[model]\nkind = \"mlp\"\nheight = 4\nwidth = 4\nclasses = 2\n\
                    [training]\nlocal_epochs = 4\nbatch_size = 4\n";
        let spec = TaskSpec::parse(text).unwrap();
        let model = Model::of_task(&spec).unwrap();
        let pixels = (0..16 * 20).map(|pixel| (pixel * 31 % 251) as u8);
        let labels = (0..20).map(|example| example % 2).collect();
        let images = Images::new(pixels.collect(), 4, 4, labels, 2).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        Workbench::new(&spec, model, images.into(), device).unwrap()
    }

    fn files(bench: &Workbench, seed: u64) -> Files {
        Files {
            checkpoint: bench.model.initial(seed).unwrap().to_safetensors(),
            server_control: None,
            own_control: None,
        }
    }

    /// Trains; stops after `until` steps. Returns the steps that were done here, too.
    fn run(
        bench: &Workbench,
        files: &Files,
        keeping: &Keeping,
        until: u32,
    ) -> (Result<Trained, ModelError>, Vec<u32>) {
        let stop = AtomicBool::new(false);
        let mut steps = Vec::new();
        let mut report = |step: &StepReport| {
            steps.push(step.step);
            stop.store(step.step >= until, Ordering::Relaxed);
        };
        let made = bench.train(RoundId(3), files, Some(keeping), &stop, &mut report);
        (made.map(|made| made.trained), steps)
    }

    #[test]
    fn a_killed_training_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |name: &str| Keeping {
            file: folder.path().join(name),
            every: Duration::ZERO,
        };
        let bench = bench();
        let files = files(&bench, 1);
        let (whole, steps) = run(&bench, &files, &keep("whole"), u32::MAX);
        assert_eq!(steps.len(), 20);
        let (first, _) = run(&bench, &files, &keep("cut"), 7);
        assert!(matches!(first, Err(ModelError::Interrupted { step: 7 })));
        let (second, steps) = run(&bench, &files, &keep("cut"), u32::MAX);
        // Not all of the first seven steps left a snapshot, if that took long.
        assert!(*steps.first().unwrap() > 1, "{steps:?}");
        assert_eq!(second.unwrap(), whole.unwrap());
    }

    #[test]
    fn what_is_kept_of_another_training_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let keeping = Keeping {
            file: folder.path().join("kept"),
            every: Duration::ZERO,
        };
        let ours = bench();
        let _ = run(&ours, &files(&ours, 1), &keeping, 7);
        let (_, steps) = run(&ours, &files(&ours, 2), &keeping, u32::MAX);
        assert_eq!(steps.first(), Some(&1));
        std::fs::write(&keeping.file, b"damaged").unwrap();
        let (trained, steps) = run(&ours, &files(&ours, 2), &keeping, u32::MAX);
        assert_eq!((trained.unwrap().steps, steps.first()), (20, Some(&1)));
    }
}
