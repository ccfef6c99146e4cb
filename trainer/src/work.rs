//! One round's training: fetch the checkpoint, train on a thread of its own, tell how far it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use convoke_models::{StepReport, Trained};
use convoke_node::link::LinkHandle;
use convoke_node::{Patch, fetch_checkpoint};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::message::NodeMessage;
use convoke_transport::BlobStore;
use tokio::sync::mpsc;

use crate::error::TrainerError;
use crate::packing::Packing;
use crate::service::{Listener, TrainerEvent};
use crate::training::Workbench;

/// The aggregator hears of progress no more often than this.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// One round's work, apart from the conversation.
pub(crate) struct Work {
    pub(crate) round: RoundId,
    pub(crate) base: BlobHash,
    /// How to make the base of the one before, if that is known.
    pub(crate) patch: Option<Patch>,
    pub(crate) packing: Packing,
    pub(crate) blobs: BlobStore,
    pub(crate) bench: Arc<Workbench>,
    pub(crate) handle: LinkHandle,
    pub(crate) listener: Listener,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Work {
    pub(crate) async fn perform(self) -> Result<Trained, TrainerError> {
        let (base, codec) = (&self.base, self.packing.checkpoint);
        fetch_checkpoint(&self.handle, &self.blobs, base, self.patch, codec).await?;
        let checkpoint = self.blobs.read(&self.base)?;
        let (reports, mut heard) = mpsc::channel::<StepReport>(64);
        let (round, bench, stop) = (self.round, self.bench, self.stop);
        let thread = tokio::task::spawn_blocking(move || {
            let mut report = |step: &StepReport| {
                // A report lost because nobody listens in time is no loss.
                let _ = reports.try_send(*step);
            };
            bench.train(round, &checkpoint, &stop, &mut report)
        });
        let mut reported = tokio::time::Instant::now();
        while let Some(StepReport {
            step, steps, loss, ..
        }) = heard.recv().await
        {
            (self.listener)(TrainerEvent::Training {
                round,
                step,
                steps,
                loss,
            });
            if reported.elapsed() >= REPORT_EVERY || step == steps {
                reported = tokio::time::Instant::now();
                self.handle
                    .send(&NodeMessage::Progress { round, step, steps })
                    .await;
            }
        }
        let trained = thread
            .await
            .map_err(|error| TrainerError::Thread(error.to_string()))?;
        Ok(trained?)
    }
}
