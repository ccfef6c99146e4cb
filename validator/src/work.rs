//! The jobs of a validator, apart from the conversation: fetch, and measure on a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_compress::{Codec, wrap};
use convoke_models::ModelError;
use convoke_node::link::LinkHandle;
use convoke_node::{Patch, fetch_checkpoint};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::ScoreSheet;
use convoke_transport::{BlobStore, TransportError};

use crate::error::ValidatorError;
use crate::record::Request;
use crate::scoring::Bench;
use crate::service::{Listener, ValidatorEvent};

/// Work under way. Dropping it stops the thread at its next step.
pub(crate) struct Job {
    pub(crate) task: Task,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What a job is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    Score(Request),
    Evaluate {
        round: RoundId,
        initial: BlobHash,
        checkpoint: BlobHash,
    },
}

impl Task {
    /// The checkpoint that candidates are scored against.
    pub(crate) fn base(&self) -> Option<&BlobHash> {
        match self {
            Self::Score(request) => Some(&request.base),
            Self::Evaluate { .. } => None,
        }
    }

    pub(crate) fn round(&self) -> RoundId {
        match self {
            Self::Score(request) => request.round,
            Self::Evaluate { round, .. } => *round,
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Done {
    pub(crate) task: Task,
    pub(crate) outcome: Result<Found, ValidatorError>,
}

/// What a job found.
pub(crate) enum Found {
    Sheet(ScoreSheet),
    /// Held-out losses of the first and the last checkpoint, millionths of a nat.
    Losses(u64, u64),
}

/// One job's work, apart from the conversation.
pub(crate) struct Work {
    pub(crate) blobs: BlobStore,
    pub(crate) bench: Arc<Bench>,
    /// Of the task's deltas, if they are encoded.
    pub(crate) codec: Option<Codec>,
    /// Of the patches that make checkpoints.
    pub(crate) checkpoint_codec: Option<Codec>,
    /// How to make the round's base of the one before, if that is known.
    pub(crate) patch: Option<Patch>,
    pub(crate) handle: LinkHandle,
    pub(crate) listener: Listener,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Work {
    pub(crate) async fn perform(self, task: &Task) -> Result<Found, ValidatorError> {
        match task {
            Task::Score(request) => self.score(request.clone()).await.map(Found::Sheet),
            Task::Evaluate {
                initial,
                checkpoint,
                ..
            } => self.evaluate(initial, checkpoint).await,
        }
    }

    async fn score(self, request: Request) -> Result<ScoreSheet, ValidatorError> {
        let (base, codec) = (&request.base, self.checkpoint_codec);
        fetch_checkpoint(&self.handle, &self.blobs, base, self.patch, codec).await?;
        for candidate in &request.candidates {
            self.fetch(&candidate.delta, candidate.delta_bytes).await?;
        }
        let checkpoint = self.blobs.read(&request.base)?;
        let (round, listener) = (request.round, self.listener.clone());
        let scored = blocking(move || {
            let mut progress =
                |done, of| (self.listener)(ValidatorEvent::Scoring { round, done, of });
            let mut read = |candidate: &Candidate| {
                let bytes = self.blobs.read(&candidate.delta);
                let bytes = bytes.map_err(|error| ModelError::Parameters(error.to_string()))?;
                Ok(match self.codec {
                    None => bytes,
                    // What is no encoding is no delta either: the submission's fault.
                    Some(codec) => wrap(codec, &bytes, &checkpoint).unwrap_or_default(),
                })
            };
            let (candidates, stop) = (&request.candidates, &self.stop);
            let bench = &self.bench;
            bench.score(
                round,
                &checkpoint,
                candidates,
                &mut read,
                stop,
                &mut progress,
            )
        })
        .await?;
        if let Some(effort) = scored.effort {
            let (evaluations, permutations) = (effort.evaluations, effort.permutations);
            tracing::info!(round = round.0, evaluations, permutations, "updates valued");
            listener(ValidatorEvent::Valued(round, effort));
        }
        Ok(scored.sheet)
    }

    async fn evaluate(
        self,
        initial: &BlobHash,
        checkpoint: &BlobHash,
    ) -> Result<Found, ValidatorError> {
        for blob in [initial, checkpoint] {
            fetch_checkpoint(&self.handle, &self.blobs, blob, None, None).await?;
        }
        let (first, last) = (self.blobs.read(initial)?, self.blobs.read(checkpoint)?);
        let (first, last) = blocking(move || self.bench.losses(&first, &last)).await?;
        Ok(Found::Losses(first, last))
    }

    async fn fetch(&self, blob: &BlobHash, len_max: u64) -> Result<(), ValidatorError> {
        if self.blobs.contains(blob) {
            return Ok(());
        }
        let connection = self
            .handle
            .connection()
            .await
            .ok_or(TransportError::Closed)?;
        connection
            .fetch_blob(blob, len_max, &self.blobs, |_| {})
            .await?;
        Ok(())
    }
}

async fn blocking<T: Send + 'static, E: Into<ValidatorError> + Send + 'static>(
    compute: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ValidatorError> {
    let thread = tokio::task::spawn_blocking(compute);
    let found = thread
        .await
        .map_err(|error| ValidatorError::Thread(error.to_string()))?;
    found.map_err(Into::into)
}
