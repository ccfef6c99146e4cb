//! What the state machine asks for that takes time: each job runs beside the service and
//! answers with an event. All are idempotent, since after a restart they are asked for again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use convoke_client::{Chain, ChainError, ResultSubmission};
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId};
use convoke_protocol::message::Candidate;
use convoke_protocol::payout::{MerkleTree, Payout};
use convoke_protocol::round::{Event, Setup};
use convoke_transport::BlobStore;
use tokio::sync::mpsc;

use super::Input;
use crate::aggregate::{Step, aggregate_step};
use crate::delta_file::{self, Layout};
use crate::error::AggregatorError;
use crate::filter::filter_updates;
use crate::rules;
use crate::server_optimizer::SgdMomentum;

pub(super) struct Jobs {
    pub(super) chain: Chain,
    pub(super) blobs: BlobStore,
    pub(super) layout: Arc<Layout>,
    pub(super) setup: Arc<Setup>,
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
        let chain = self.chain.clone();
        self.spawn(async move {
            Ok(Event::SeedDrawn {
                seed: block_hash(&chain).await?,
            })
        });
    }

    /// The sketches' seed is drawn now, when every delta is in and none can be fitted to it.
    pub(super) fn filter(&self, updates: Vec<Candidate>) {
        let (chain, blobs, layout) = (self.chain.clone(), self.blobs.clone(), self.layout.clone());
        self.spawn(async move {
            let seed = keccak(&[b"convoke.sketch.v1", &block_hash(&chain).await?.0]);
            let updates = with_paths(updates, &blobs);
            let verdicts = blocking(move || filter_updates(&updates, &seed, &layout)).await?;
            Ok(Event::Filtered { verdicts })
        });
    }

    pub(super) fn aggregate(&self, round: RoundId, base: BlobHash, kept: Vec<Candidate>) {
        let (blobs, setup) = (self.blobs.clone(), self.setup.clone());
        self.compute(move || {
            let aggregation = &setup.spec.aggregation;
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

    pub(super) fn submit_result(&self, round: RoundId, checkpoint: BlobHash, payouts: Vec<Payout>) {
        let (chain, setup) = (self.chain.clone(), self.setup.clone());
        self.spawn(async move {
            let tree = MerkleTree::of_payouts(&setup.domain, setup.task, round, &payouts);
            let total: Amount = payouts.iter().map(|payout| payout.amount).sum();
            let result_hash = result_hash(&setup, round, &checkpoint, &tree.root());
            let submission = ResultSubmission {
                payouts_root: tree.root(),
                total,
                checkpoint,
                result_hash,
            };
            persist(|| chain.submit_result(setup.task, round, &submission)).await?;
            Ok(Event::ResultRecorded)
        });
    }

    /// Ends the task on chain, and has the rest refunded to its creator.
    pub(super) fn close_task(&self) {
        let (chain, setup) = (self.chain.clone(), self.setup.clone());
        self.spawn(async move {
            persist(|| close(&chain, &setup)).await?;
            Ok(Event::TaskClosed)
        });
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

/// Tries until the chain answers; only what it refuses for good is an error.
async fn persist<T, F: Future<Output = Result<T, ChainError>>>(
    call: impl FnMut() -> F,
) -> Result<T, ChainError> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    call.retry(backoff)
        .sleep(tokio::time::sleep)
        .when(ChainError::retryable)
        .notify(|error, after| tracing::warn!(%error, ?after, "the chain does not answer"))
        .await
}

fn with_paths(updates: Vec<Candidate>, blobs: &BlobStore) -> Vec<(Candidate, PathBuf)> {
    let with_path = |update: Candidate| {
        let path = blobs.path(&update.delta);
        (update, path)
    };
    updates.into_iter().map(with_path).collect()
}

async fn block_hash(chain: &Chain) -> Result<Digest, AggregatorError> {
    Ok(persist(|| chain.latest_block()).await?.hash)
}

async fn close(chain: &Chain, setup: &Setup) -> Result<(), ChainError> {
    chain.finish(setup.task).await?;
    if !chain.task(setup.task).await?.is_refunded {
        chain.refund(setup.task).await?;
    }
    Ok(())
}

/// Binds what the contract does not read for itself, for later verification.
fn result_hash(setup: &Setup, round: RoundId, checkpoint: &BlobHash, root: &Digest) -> Digest {
    keccak(&[
        b"convoke.result.v1",
        &setup.domain.chain_id.to_be_bytes(),
        &setup.domain.contract.0,
        &setup.task.0.to_be_bytes(),
        &round.0.to_be_bytes(),
        &checkpoint.0,
        &root.0,
    ])
}
