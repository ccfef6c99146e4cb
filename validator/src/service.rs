//! The validator's daemon: scores when asked, commits, reveals, and claims pay in the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_client::AddressBook;
use convoke_models::{Dataset, DeviceChoice, Part, limit_threads};
use convoke_node::claims::claim_pay;
use convoke_node::link::LinkHandle;
use convoke_node::{Link, LinkConfig, LinkEvent, StateDir, TaskContext};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount, BlobHash, Role, RoundId, TaskId};
use convoke_protocol::message::{AggregatorMessage, Candidate, NodeMessage, Notice, Order};
use convoke_protocol::scores::{ScoreSheet, commitment};
use convoke_transport::{BlobStore, Endpoint, Limits, TransportError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::ValidatorError;
use crate::scoring::Bench;

/// Largest checkpoint that is fetched, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 30;

/// What a validator is started with.
#[derive(Debug)]
pub struct Config {
    /// Signs for the validator.
    pub wallet: Wallet,
    /// Where the contracts are.
    pub chain: AddressBook,
    /// The task.
    pub task: TaskId,
    /// HOST:PORT of the aggregator.
    pub aggregator: String,
    /// Folder with held-out data.
    pub data: PathBuf,
    /// State folder; of one validator.
    pub dir: PathBuf,
    /// `cpu`, `cuda[:i]` or `wgpu[:i]`.
    pub device: String,
    /// CPU threads to use; all if not set.
    pub threads: Option<usize>,
    /// Whether to claim pay when the task is over.
    pub claim: bool,
    /// Commit, but never reveal: a fault that tests stage.
    pub withhold: bool,
}

/// How a validator ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The task is over, and pay is claimed if that was wanted.
    Finished,
    /// The task was given up, and why.
    Failed(String),
    /// Asked to stop.
    Stopped,
}

/// What happens, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum ValidatorEvent {
    /// The aggregator has proven its address and welcomed us.
    Connected {
        /// The aggregator.
        aggregator: Address,
    },
    /// The connection broke; it is dialled again.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Scoring goes on.
    Scoring {
        /// The round.
        round: RoundId,
        /// Measurements done.
        done: usize,
        /// Measurements in all.
        of: usize,
    },
    /// The scores are committed to.
    Committed {
        /// The round.
        round: RoundId,
    },
    /// The scores are revealed.
    Revealed {
        /// The round.
        round: RoundId,
    },
    /// Our machine failed; we sit the round out.
    MachineFailed {
        /// The round.
        round: RoundId,
        /// Why.
        reason: String,
    },
    /// Pay was claimed.
    Claimed {
        /// What was paid at once.
        amount: Amount,
    },
    /// The task is over.
    Finished,
}

/// Hears of events.
pub type Listener = Arc<dyn Fn(ValidatorEvent) + Send + Sync>;

/// Takes part in a task until it ends or `shutdown` is cancelled.
///
/// # Errors
/// [`ValidatorError`] if task, stake, data or device cannot be used, or if the aggregator
/// refuses us. A failure within a round is reported and survived.
pub async fn run(
    config: Config,
    listener: Listener,
    shutdown: CancellationToken,
) -> Result<Ended, ValidatorError> {
    let mut node = tokio::select! {
        () = shutdown.cancelled() => return Ok(Ended::Stopped),
        node = Validator::start(config, listener) => node?,
    };
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(Ended::Stopped),
        ended = node.follow() => ended,
    };
    node.link.close().await;
    ended
}

/// The scores of the latest round, on disk before they are committed to: a restarted
/// validator commits and reveals the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    base: BlobHash,
    candidates: Vec<BlobHash>,
    sheet: ScoreSheet,
    salt: [u8; 32],
}

const RECORD: &str = "scores.json";

struct Validator {
    address: Address,
    task: TaskContext,
    link: Link,
    blobs: BlobStore,
    state: StateDir,
    bench: Arc<Bench>,
    listener: Listener,
    claim: bool,
    withhold: bool,
    job: Option<Job>,
    done_tx: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
}

/// Scoring under way. Dropping it stops the thread at its next step.
struct Job {
    round: RoundId,
    base: BlobHash,
    candidates: Vec<BlobHash>,
    stop: Arc<AtomicBool>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Done {
    round: RoundId,
    outcome: Result<ScoreSheet, ValidatorError>,
}

impl Validator {
    async fn start(config: Config, listener: Listener) -> Result<Self, ValidatorError> {
        if let Some(threads) = config.threads {
            limit_threads(threads)?;
        }
        let device = config.device.parse::<DeviceChoice>()?.open()?;
        let data = Dataset::open(&config.data, Part::Test)?;
        let state = StateDir::open(&config.dir)?;
        let blobs = BlobStore::open(&state.path().join("blobs"))?;
        let task =
            TaskContext::load(&config.chain, &config.wallet, config.task, Role::Validator).await?;
        let bench = Arc::new(Bench::new(config.task, &task.spec, data, device)?);
        let address = config.wallet.address();
        let endpoint = Endpoint::client(config.wallet, Limits::default())?;
        let link = Link::open(
            endpoint,
            LinkConfig {
                aggregator: config.aggregator,
                expected: task.aggregator,
                task: config.task,
                role: Role::Validator,
            },
        );
        let (done_tx, done) = mpsc::channel(1);
        Ok(Self {
            address,
            task,
            link,
            blobs,
            state,
            bench,
            listener,
            claim: config.claim,
            withhold: config.withhold,
            job: None,
            done_tx,
            done,
        })
    }

    async fn follow(&mut self) -> Result<Ended, ValidatorError> {
        loop {
            tokio::select! {
                event = self.link.next() => match event? {
                    LinkEvent::Connected { .. } => {
                        let aggregator = self.task.aggregator;
                        self.tell(ValidatorEvent::Connected { aggregator });
                    }
                    LinkEvent::Disconnected { reason } => {
                        self.tell(ValidatorEvent::Disconnected { reason });
                    }
                    LinkEvent::Message(message) => {
                        if let Some(ended) = self.hear(message).await? {
                            return Ok(ended);
                        }
                    }
                },
                Some(done) = self.done.recv() => self.finish(done).await?,
            }
        }
    }

    async fn hear(&mut self, message: AggregatorMessage) -> Result<Option<Ended>, ValidatorError> {
        match message {
            AggregatorMessage::Order(Order::Score {
                round,
                base,
                candidates,
            }) => {
                self.begin(round, base, candidates).await?;
            }
            AggregatorMessage::Order(Order::Reveal { round }) => self.reveal(round).await?,
            AggregatorMessage::Notice(Notice::RoundCommitted(report)) => {
                self.discard(&report.base);
            }
            AggregatorMessage::Notice(Notice::TaskFinished { .. }) => {
                return self.leave().await.map(Some);
            }
            AggregatorMessage::Notice(Notice::TaskFailed { reason }) => {
                return Ok(Some(Ended::Failed(reason)));
            }
            AggregatorMessage::Fault { reason } => tracing::warn!(%reason, "message refused"),
            _ => {}
        }
        Ok(None)
    }

    /// Scores a round's candidates, unless that is under way or done already.
    async fn begin(
        &mut self,
        round: RoundId,
        base: BlobHash,
        candidates: Vec<Candidate>,
    ) -> Result<(), ValidatorError> {
        let deltas: Vec<_> = candidates.iter().map(|candidate| candidate.delta).collect();
        if let Some(record) = self.record(round)?
            && record.base == base
            && record.candidates == deltas
        {
            self.commit(&record).await;
            return Ok(());
        }
        let under_way =
            |job: &Job| job.round == round && job.base == base && job.candidates == deltas;
        if self.job.as_ref().is_some_and(under_way) {
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        self.job = Some(Job {
            round,
            base,
            candidates: deltas,
            stop: stop.clone(),
        });
        let work = Work {
            round,
            base,
            candidates,
            blobs: self.blobs.clone(),
            bench: self.bench.clone(),
            handle: self.link.handle(),
            listener: self.listener.clone(),
            stop,
        };
        let done = self.done_tx.clone();
        tokio::spawn(async move {
            let outcome = work.perform().await;
            let _ = done.send(Done { round, outcome }).await;
        });
        Ok(())
    }

    async fn finish(&mut self, done: Done) -> Result<(), ValidatorError> {
        let Some(job) = self.job.take_if(|job| job.round == done.round) else {
            return Ok(());
        };
        let round = done.round;
        match done.outcome {
            Ok(sheet) => {
                let candidates = job.candidates.clone();
                let record = Record {
                    base: job.base,
                    candidates,
                    sheet,
                    salt: rand::random(),
                };
                self.state.save(RECORD, &record)?;
                self.commit(&record).await;
            }
            // The connection broke while the candidates came: we are asked again.
            Err(ValidatorError::Transport(error)) if error.retryable() => {
                tracing::info!(%error, round = round.0, "the candidates did not arrive");
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(%error, round = round.0, "this machine could not score");
                let message = NodeMessage::MachineFailed {
                    round,
                    reason: reason.clone(),
                };
                self.link.handle().send(&message).await;
                self.tell(ValidatorEvent::MachineFailed { round, reason });
            }
        }
        Ok(())
    }

    async fn commit(&self, record: &Record) {
        let round = record.sheet.round;
        let commitment = commitment(self.address, &record.sheet, &record.salt);
        self.link
            .handle()
            .send(&NodeMessage::CommitScores { round, commitment })
            .await;
        self.tell(ValidatorEvent::Committed { round });
    }

    async fn reveal(&self, round: RoundId) -> Result<(), ValidatorError> {
        if self.withhold {
            return Ok(());
        }
        if let Some(record) = self.record(round)? {
            let Record { sheet, salt, .. } = record;
            self.link
                .handle()
                .send(&NodeMessage::RevealScores { sheet, salt })
                .await;
            self.tell(ValidatorEvent::Revealed { round });
        }
        Ok(())
    }

    fn record(&self, round: RoundId) -> Result<Option<Record>, ValidatorError> {
        let record: Option<Record> = self.state.load(RECORD)?;
        Ok(record.filter(|record| record.sheet.round == round))
    }

    /// Candidates are of no use once their round is over.
    fn discard(&self, base: &BlobHash) {
        let record: Result<Option<Record>, _> = self.state.load(RECORD);
        let spent = record
            .ok()
            .flatten()
            .map(|record| record.candidates)
            .unwrap_or_default();
        for blob in spent.iter().chain([base]) {
            if let Err(error) = self.blobs.remove(blob) {
                tracing::debug!(%error, "a blob could not be removed");
            }
        }
    }

    async fn leave(&mut self) -> Result<Ended, ValidatorError> {
        if self.claim {
            let amount = claim_pay(
                &mut self.link,
                &self.task.chain,
                self.task.task,
                self.address,
            )
            .await?;
            self.tell(ValidatorEvent::Claimed { amount });
        }
        self.tell(ValidatorEvent::Finished);
        Ok(Ended::Finished)
    }

    fn tell(&self, event: ValidatorEvent) {
        (self.listener)(event);
    }
}

/// One round's work, apart from the conversation.
struct Work {
    round: RoundId,
    base: BlobHash,
    candidates: Vec<Candidate>,
    blobs: BlobStore,
    bench: Arc<Bench>,
    handle: LinkHandle,
    listener: Listener,
    stop: Arc<AtomicBool>,
}

impl Work {
    async fn perform(self) -> Result<ScoreSheet, ValidatorError> {
        self.fetch(&self.base, CHECKPOINT_BYTES_MAX).await?;
        for candidate in &self.candidates {
            self.fetch(&candidate.delta, candidate.delta_bytes).await?;
        }
        let checkpoint = self.blobs.read(&self.base)?;
        let thread = tokio::task::spawn_blocking(move || {
            let round = self.round;
            let mut progress =
                |done, of| (self.listener)(ValidatorEvent::Scoring { round, done, of });
            let mut read = |candidate: &Candidate| {
                self.blobs
                    .read(&candidate.delta)
                    .map_err(|error| convoke_models::ModelError::Parameters(error.to_string()))
            };
            let (candidates, stop) = (&self.candidates, &self.stop);
            self.bench.score(
                round,
                &checkpoint,
                candidates,
                &mut read,
                stop,
                &mut progress,
            )
        });
        let sheet = thread
            .await
            .map_err(|error| ValidatorError::Thread(error.to_string()))?;
        Ok(sheet?)
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
