//! What the state machine asks for that takes time: each job runs beside the service and
//! answers with an event. All are idempotent, since after a restart they are asked for again.

use std::path::PathBuf;
use std::sync::Arc;

use convoke_client::Stage;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId};
use convoke_protocol::message::Candidate;
use convoke_protocol::round::Event;
use convoke_transport::BlobStore;
use tokio::sync::mpsc;

use super::Input;
use super::rounds::{Attempt, Rounds, Sealed};
use crate::aggregate::{Step, aggregate_step};
use crate::delta_file::{self, Layout};
use crate::error::AggregatorError;
use crate::filter::filter_updates;
use crate::rules;
use crate::server_optimizer::SgdMomentum;

pub(super) struct Jobs {
    pub(super) rounds: Rounds,
    pub(super) blobs: BlobStore,
    pub(super) layout: Arc<Layout>,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Jobs {
    /// Checks a delta that has arrived: its tensors, and that every value is finite.
    pub(super) fn inspect(&self, trainer: Address, delta: BlobHash) {
        let (path, layout) = (self.blobs.path(&delta), self.layout.clone());
        self.compute(move || {
            Ok(match delta_file::inspect(&path, &layout)? {
                Ok(_) => Event::DeltaStored { trainer, delta },
                Err(refusal) => Event::DeltaRefused {
                    trainer,
                    delta,
                    refusal,
                },
            })
        });
    }

    pub(super) fn draw_seed(&self) {
        let rounds = self.rounds();
        self.spawn(async move {
            Ok(Event::SeedDrawn {
                seed: rounds.block_hash().await?,
            })
        });
    }

    pub(super) fn open_round(
        &self,
        round: RoundId,
        after: u16,
        base: BlobHash,
        cohort: Vec<Address>,
    ) {
        let rounds = self.rounds();
        self.spawn(async move { Ok(rounds.open(round, after, base, &cohort).await?) });
    }

    /// The sketches' seed is drawn when all updates are committed to, and none can be fitted to it.
    pub(super) fn filter(
        &self,
        at: Attempt,
        committed: Vec<(Address, Digest)>,
        updates: Vec<Candidate>,
    ) {
        let (rounds, blobs, layout) = (self.rounds(), self.blobs.clone(), self.layout.clone());
        self.spawn(async move {
            let Sealed { seed, own_updates } = match rounds.seal(at, &committed).await? {
                Ok(sealed) => sealed,
                Err(lost) => return Ok(lost),
            };
            let seed = keccak(&[b"convoke.sketch.v1", &seed.0]);
            let updates = with_paths(updates, &blobs);
            let verdicts = blocking(move || filter_updates(&updates, &seed, &layout)).await?;
            Ok(Event::Filtered {
                own_updates,
                verdicts,
            })
        });
    }

    pub(super) fn open_reveal(&self, at: Attempt) {
        let rounds = self.rounds();
        self.spawn(async move {
            let reached = rounds.until(at, Stage::Revealing).await?;
            Ok(reached.map_or_else(|lost| lost, |()| Event::RevealOpened))
        });
    }

    pub(super) fn read_scores(&self, at: Attempt) {
        let rounds = self.rounds();
        self.spawn(async move { Ok(rounds.read_scores(at).await?) });
    }

    pub(super) fn aggregate(&self, round: RoundId, base: BlobHash, kept: Vec<Candidate>) {
        let (blobs, rounds) = (self.blobs.clone(), self.rounds());
        self.compute(move || {
            let aggregation = &rounds.setup().spec.aggregation;
            let kept = with_paths(kept, &blobs);
            let step = Step {
                base,
                base_path: &blobs.path(&base),
                kept: &kept,
                rule: rules::by_name(&aggregation.rule)?,
                optimizer: SgdMomentum::of(aggregation),
                out_dir: blobs.dir(),
            };
            let (checkpoint, _) = aggregate_step(&step)?;
            tracing::info!(round = round.0, %checkpoint, updates = kept.len(), "step taken");
            Ok(Event::Aggregated { checkpoint })
        });
    }

    pub(super) fn submit_result(
        &self,
        at: Attempt,
        checkpoint: BlobHash,
        payouts: Vec<(Address, Amount)>,
        factors: Vec<u16>,
        reveals: Vec<Vec<u16>>,
    ) {
        let rounds = self.rounds();
        self.spawn(async move {
            let settled = rounds.settle(at, checkpoint, payouts, factors, reveals);
            Ok(settled.await?)
        });
    }

    /// Ends the task on chain, and has the rest refunded to its creator.
    pub(super) fn close_task(&self) {
        let rounds = self.rounds();
        self.spawn(async move { Ok(rounds.close().await?) });
    }

    pub(super) fn await_closing(&self) {
        let rounds = self.rounds();
        self.spawn(async move { Ok(rounds.await_closing().await?) });
    }

    fn rounds(&self) -> Rounds {
        self.rounds.clone()
    }

    /// Runs a computation on a thread of its own.
    fn compute(&self, job: impl FnOnce() -> Result<Event, AggregatorError> + Send + 'static) {
        self.spawn(blocking(job));
    }

    fn spawn(&self, job: impl Future<Output = Result<Event, AggregatorError>> + Send + 'static) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let input = match job.await {
                Ok(event) => Input::Answer(event),
                Err(error) => Input::Broken(error),
            };
            let _ = inputs.send(input).await;
        });
    }
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, AggregatorError> + Send + 'static,
) -> Result<T, AggregatorError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(error) => Err(AggregatorError::Job(error.to_string())),
    }
}

fn with_paths(updates: Vec<Candidate>, blobs: &BlobStore) -> Vec<(Candidate, PathBuf)> {
    let with_path = |update: Candidate| {
        let path = blobs.path(&update.delta);
        (update, path)
    };
    updates.into_iter().map(with_path).collect()
}
