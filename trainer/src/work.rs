//! The training of one update: fetch the checkpoint, train on a thread of its own, tell how far it
//! is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use convoke_models::StepReport;
use convoke_node::link::LinkHandle;
use convoke_node::{Patch, fetch_checkpoint};
use convoke_protocol::assignment::Start;
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::message::NodeMessage;
use convoke_transport::{BlobStore, TransportError};
use tokio::sync::mpsc;

use crate::error::TrainerError;
use crate::event::{Listener, TrainerEvent};
use crate::packing::Packing;
use crate::training::{Files, Keeping, Made, Workbench};

/// The aggregator hears of progress no more often than this.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Largest control variate that is fetched, in bytes.
const CONTROL_BYTES_MAX: u64 = 64 << 30;

/// Training under way. Dropping it stops the thread at its next step.
pub(crate) struct Job {
    began: Start,
    course: Arc<Course>,
}

/// What a job's work looks at on its way.
pub(crate) struct Course {
    /// The round that the work is for.
    round: AtomicU32,
    /// Whether that round still trains; if not, nobody asks how far the work is.
    trains: AtomicBool,
    stop: AtomicBool,
}

impl Job {
    pub(crate) fn new(began: Start) -> Self {
        let course = Course {
            round: AtomicU32::new(began.round.0),
            trains: AtomicBool::new(true),
            stop: AtomicBool::new(false),
        };
        Self {
            began,
            course: Arc::new(course),
        }
    }

    pub(crate) fn began(&self) -> Start {
        self.began
    }

    /// For the work.
    pub(crate) fn course(&self) -> Arc<Course> {
        self.course.clone()
    }

    /// The work is for this round now.
    pub(crate) fn serve(&self, round: RoundId) {
        self.course.round.store(round.0, Ordering::Relaxed);
        self.course.trains.store(true, Ordering::Relaxed);
    }

    /// The round does not wait for the work any more; the next may.
    pub(crate) fn outlast_round(&self) {
        self.course.trains.store(false, Ordering::Relaxed);
    }

    /// The round that the work is for.
    pub(crate) fn serves(&self) -> RoundId {
        self.course.round()
    }
}

impl Course {
    fn round(&self) -> RoundId {
        RoundId(self.round.load(Ordering::Relaxed))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.course.stop.store(true, Ordering::Relaxed);
    }
}

/// How a job ended.
pub(crate) struct Done {
    pub(crate) began: Start,
    pub(crate) outcome: Result<Made, TrainerError>,
}

/// The work of a job, apart from the conversation.
pub(crate) struct Work {
    pub(crate) began: Start,
    pub(crate) course: Arc<Course>,
    /// How to make the base of the one before, if that is known.
    pub(crate) patch: Option<Patch>,
    pub(crate) packing: Packing,
    /// SCAFFOLD's control variates: the server's and our own, where there are any.
    pub(crate) server_control: Option<BlobHash>,
    pub(crate) own_control: Option<BlobHash>,
    pub(crate) blobs: BlobStore,
    pub(crate) bench: Arc<Workbench>,
    /// Where it is kept while it is under way.
    pub(crate) keeping: Keeping,
    pub(crate) handle: LinkHandle,
    pub(crate) listener: Listener,
}

impl Work {
    pub(crate) async fn perform(self) -> Result<Made, TrainerError> {
        let Start { round, base } = self.began;
        let codec = self.packing.checkpoint;
        fetch_checkpoint(&self.handle, &self.blobs, &base, self.patch, codec).await?;
        if let Some(control) = &self.server_control {
            self.fetch(control).await?;
        }
        let read = |blob: BlobHash| self.blobs.read(&blob);
        let files = Files {
            checkpoint: read(base)?,
            server_control: self.server_control.map(read).transpose()?,
            own_control: self.own_control.map(read).transpose()?,
        };
        let (reports, mut heard) = mpsc::channel::<StepReport>(64);
        let (bench, course, keeping) = (self.bench, self.course.clone(), self.keeping);
        let thread = tokio::task::spawn_blocking(move || {
            let mut report = |step: &StepReport| {
                // A report lost because nobody listens in time is no loss.
                let _ = reports.try_send(*step);
            };
            bench.train(round, &files, Some(&keeping), &course.stop, &mut report)
        });
        let mut reported = tokio::time::Instant::now();
        while let Some(StepReport {
            step, steps, loss, ..
        }) = heard.recv().await
        {
            let round = self.course.round();
            (self.listener)(TrainerEvent::Training {
                round,
                step,
                steps,
                loss,
            });
            let due = reported.elapsed() >= REPORT_EVERY || step == steps;
            if due && self.course.trains.load(Ordering::Relaxed) {
                reported = tokio::time::Instant::now();
                self.handle
                    .send(&NodeMessage::Progress { round, step, steps })
                    .await;
            }
        }
        let made = thread
            .await
            .map_err(|error| TrainerError::Thread(error.to_string()))?;
        Ok(made?)
    }

    async fn fetch(&self, blob: &BlobHash) -> Result<(), TrainerError> {
        if self.blobs.contains(blob) {
            return Ok(());
        }
        let connection = self.handle.connection().await;
        let connection = connection.ok_or(TransportError::Closed)?;
        connection
            .fetch_blob(blob, CONTROL_BYTES_MAX, &self.blobs, |_| {})
            .await?;
        Ok(())
    }
}
