//! Looks on while a model is trained: a bar, a file of metrics, snapshots.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use convoke_models::{Evaluation, Observer, Snapshot, StepReport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::commands::evaluate::as_json;
use crate::progress::Progress;

/// A file of metrics, one JSON object a line.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file to write behind what is there.
    pub(super) fn append(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.with_context(|| format!("cannot write {}", path.display()))?,
        })
    }

    /// Takes out what was written of this round behind a step, from which it is done again.
    pub(super) fn cut(&mut self, round: u32, step: u32) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
        let stays = |line: &&str| {
            // A line that a crash cut short goes, too.
            serde_json::from_str::<Value>(line).is_ok_and(|value| {
                let place = (number(&value, "round"), number(&value, "step"));
                place <= (u64::from(round), u64::from(step))
            })
        };
        let kept: Vec<&str> = text.lines().filter(stays).collect();
        let mut kept = kept.join("\n");
        if !kept.is_empty() {
            kept.push('\n');
        }
        std::fs::write(&self.path, kept)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Adds a measurement on held-out data.
    pub(super) fn measured(
        &mut self,
        round: u32,
        step: u32,
        result: &Evaluation,
    ) -> anyhow::Result<()> {
        self.line(&json!({ "round": round, "step": step, "held_out": as_json(result)? }))
    }

    fn line(&mut self, value: &Value) -> anyhow::Result<()> {
        writeln!(self.file, "{value}")
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The observer of one round.
pub(super) struct Watch<'a> {
    round: u32,
    noun: &'static str,
    shown: &'a Progress,
    metrics: &'a mut Metrics,
    snapshot: PathBuf,
    every: Duration,
    due: Instant,
    began: Instant,
    examples: usize,
    stop: &'a CancellationToken,
    failure: Option<anyhow::Error>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        round: u32,
        noun: &'static str,
        shown: &'a Progress,
        metrics: &'a mut Metrics,
        snapshot: PathBuf,
        snapshot_every_s: u32,
        stop: &'a CancellationToken,
    ) -> Self {
        let every = Duration::from_secs(u64::from(snapshot_every_s));
        let began = Instant::now();
        Self {
            round,
            noun,
            shown,
            metrics,
            snapshot,
            every,
            due: began + every,
            began,
            examples: 0,
            stop,
            failure: None,
        }
    }

    /// Why it stopped the training, if not on request.
    pub(super) fn failure(self) -> Option<anyhow::Error> {
        self.failure
    }

    fn rate(&self) -> f64 {
        self.examples as f64 / self.began.elapsed().as_secs_f64().max(1e-9)
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        self.examples += report.num_examples;
        let (rate, noun) = (self.rate(), self.noun);
        let label = format!(
            "round {}: loss {:.4}, {rate:.1} {noun}/s",
            self.round, report.loss
        );
        let (step, steps) = (u64::from(report.step), u64::from(report.steps));
        self.shown.step(&label, step, steps);
        let line = json!({
            "round": self.round,
            "step": report.step,
            "epoch": report.epoch,
            "loss": report.loss,
            "client_lr": report.client_lr,
            "gradient_norm": report.gradient_norm,
            "examples_per_s": rate,
        });
        if let Err(error) = self.metrics.line(&line) {
            self.failure.get_or_insert(error);
        }
        if self.failure.is_some() || self.stop.is_cancelled() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn wants_snapshot(&mut self, _report: &StepReport) -> bool {
        self.stop.is_cancelled() || Instant::now() >= self.due
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        match snapshot.save(&self.snapshot) {
            Ok(()) => self.shown.detail(
                &json!({ "event": "snapshot", "round": self.round, "step": snapshot.step() }),
            ),
            Err(error) => {
                self.failure.get_or_insert(error.into());
            }
        }
        self.due = Instant::now() + self.every;
    }

    fn evaluated(&mut self, step: u32, result: &Evaluation) {
        if let Err(error) = self.metrics.measured(self.round, step, result) {
            self.failure.get_or_insert(error);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_again_is_taken_out_of_the_metrics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |round: u32, step: u32| json!({ "round": round, "step": step });
        let mut metrics = Metrics::append(&path).unwrap();
        for (round, step) in [(1, 1), (1, 9), (2, 1), (2, 2), (2, 3)] {
            metrics.line(&line(round, step)).unwrap();
        }
        write!(metrics.file, "{{\"round\": 2, \"st").unwrap();
        metrics.cut(2, 2).unwrap();
        metrics.line(&line(2, 3)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected = [line(1, 1), line(1, 9), line(2, 1), line(2, 2), line(2, 3)];
        assert_eq!(steps, expected);
    }
}
