//! The validator's daemon: scores when asked, commits, reveals, evaluates the outcome in the
//! end, and claims pay.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use convoke_client::AddressBook;
use convoke_compress::Codec;
use convoke_models::base::{BaseFile, Cache};
use convoke_models::{Dataset, DeviceChoice, Model, Part, Precision, limit_threads};
use convoke_node::claims::claim_pay;
use convoke_node::{Link, LinkConfig, LinkEvent, NodeError, Patches, StateDir, TaskContext};
use convoke_protocol::factors::{AttemptId, SignedReveal};
use convoke_protocol::held_out;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Role, RoundId, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, Notice, Order};
use convoke_protocol::scores::commitment;
use convoke_protocol::task::TaskSpec;
use convoke_transport::{BlobStore, Endpoint, Limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::duty::{Attendance, Duty, Step, closing_attempt};
use crate::error::ValidatorError;
pub use crate::event::{Listener, ValidatorEvent};
use crate::record::{Record, Request, Verdict};
use crate::scoring::Bench;
use crate::work::{Done, Found, Job, Task, Work};

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
    /// Where to compute.
    pub device: DeviceChoice,
    /// Number format of matrix products; the device's own choice if not set.
    pub precision: Option<Precision>,
    /// CPU threads to use; all if not set.
    pub threads: Option<usize>,
    /// Whether to claim pay when the task is over.
    pub claim: bool,
    /// Commit, but never reveal, neither to the aggregator nor on chain: a fault that tests stage.
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

/// The task's model, whose base may have to be fetched first, and our data.
async fn opened(
    spec: &TaskSpec,
    data: PathBuf,
    listener: Listener,
) -> Result<(Model, Dataset), ValidatorError> {
    let spec = spec.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let mut tell = |file: &BaseFile, bytes| {
            listener(ValidatorEvent::Fetching {
                file: file.name.clone(),
                bytes,
                of: file.bytes,
            });
        };
        let model = Model::open(&spec, &Cache::of_user(), &mut tell)?;
        let data = Dataset::open(&data, Part::Test, &model)?;
        Ok((model, data))
    });
    opening
        .await
        .map_err(|error| ValidatorError::Thread(error.to_string()))?
}

struct Validator {
    wallet: Wallet,
    task: TaskContext,
    link: Link,
    blobs: BlobStore,
    state: StateDir,
    bench: Arc<Bench>,
    patches: Patches,
    listener: Listener,
    claim: bool,
    withhold: bool,
    job: Option<Job>,
    done_tx: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
    attendance: Option<Attendance>,
    steps_tx: mpsc::Sender<(AttemptId, Step)>,
    steps: mpsc::Receiver<(AttemptId, Step)>,
}

impl Validator {
    async fn start(config: Config, listener: Listener) -> Result<Self, ValidatorError> {
        if let Some(threads) = config.threads {
            limit_threads(threads)?;
        }
        let device = config.device.open()?.with_precision(config.precision)?;
        listener(ValidatorEvent::Computing {
            device: device.info(),
        });
        let state = StateDir::open(&config.dir)?;
        let blobs = BlobStore::open(&state.path().join("blobs"))?;
        let task =
            TaskContext::load(&config.chain, &config.wallet, config.task, Role::Validator).await?;
        let (model, data) = opened(&task.spec, config.data, listener.clone()).await?;
        let bench = Arc::new(Bench::new(config.task, &task.spec, model, data, device)?);
        let endpoint = Endpoint::client(config.wallet.clone(), Limits::default())?;
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
        let (steps_tx, steps) = mpsc::channel(4);
        Ok(Self {
            wallet: config.wallet,
            task,
            link,
            blobs,
            state,
            bench,
            patches: Patches::default(),
            listener,
            claim: config.claim,
            withhold: config.withhold,
            job: None,
            done_tx,
            done,
            attendance: None,
            steps_tx,
            steps,
        })
    }

    async fn follow(&mut self) -> Result<Ended, ValidatorError> {
        loop {
            tokio::select! {
                event = self.link.next() => match event? {
                    LinkEvent::Connected { history, .. } => {
                        for report in &history {
                            self.patches.learn(report);
                        }
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
                Some((attempt, step)) = self.steps.recv() => self.advance(attempt, step).await?,
            }
        }
    }

    async fn hear(&mut self, message: AggregatorMessage) -> Result<Option<Ended>, ValidatorError> {
        match message {
            AggregatorMessage::Order(Order::Score {
                round,
                attempt,
                base,
                updates,
                candidates,
            }) => {
                let request = Request {
                    round,
                    attempt,
                    base,
                    updates,
                    candidates,
                };
                self.begin_scoring(request).await?;
            }
            AggregatorMessage::Order(Order::Reveal { round }) => self.reveal(round).await?,
            AggregatorMessage::Order(Order::Evaluate {
                round,
                initial,
                checkpoint,
            }) => {
                let task = Task::Evaluate {
                    round,
                    initial,
                    checkpoint,
                };
                match Verdict::find(&self.state, round, checkpoint)? {
                    Some(verdict) => self.attend_closing(&verdict).await?,
                    None => self.begin(task),
                }
            }
            AggregatorMessage::Notice(Notice::RoundCommitted(report)) => {
                if let Some(unused) = self.patches.learn(&report) {
                    self.discard(&unused);
                }
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
    async fn begin_scoring(&mut self, request: Request) -> Result<(), ValidatorError> {
        match Record::find(&self.state, request.round)? {
            Some(record) if record.request == request => {
                if self.attend_round(&record) == Some(Step::Committed) {
                    self.send_commitment(&record).await;
                }
            }
            _ => self.begin(Task::Score(request)),
        }
        Ok(())
    }

    /// Begins a job, unless it is under way.
    fn begin(&mut self, task: Task) {
        if self.job.as_ref().is_some_and(|job| job.task == task) {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        self.job = Some(Job {
            task: task.clone(),
            stop: stop.clone(),
        });
        let work = Work {
            blobs: self.blobs.clone(),
            bench: self.bench.clone(),
            codec: Codec::of_updates(&self.task.spec.compression),
            checkpoint_codec: Codec::of_checkpoints(&self.task.spec.compression),
            patch: task.base().and_then(|base| self.patches.of(base)),
            handle: self.link.handle(),
            listener: self.listener.clone(),
            stop,
        };
        let done = self.done_tx.clone();
        tokio::spawn(async move {
            let outcome = work.perform(&task).await;
            let _ = done.send(Done { task, outcome }).await;
        });
    }

    async fn finish(&mut self, done: Done) -> Result<(), ValidatorError> {
        if self.job.take_if(|job| job.task == done.task).is_none() {
            return Ok(());
        }
        let round = done.task.round();
        match (done.outcome, done.task) {
            (Ok(Found::Sheet(sheet)), Task::Score(request)) => {
                let places: Vec<_> = request.candidates.iter().map(|c| c.index).collect();
                let record = Record {
                    factors: held_out::factors(&sheet, &places, request.updates),
                    request,
                    sheet,
                    salt: rand::random(),
                };
                record.save(&self.state)?;
                self.attend_round(&record);
            }
            (Ok(Found::Losses(first, last)), Task::Evaluate { checkpoint, .. }) => {
                let verdict = Verdict {
                    round,
                    checkpoint,
                    release_bps: held_out::release_bps_down(first, self.last_seen(first)?, last),
                    salt: rand::random(),
                };
                verdict.save(&self.state)?;
                self.attend_closing(&verdict).await?;
            }
            (Ok(_), task) => tracing::error!(?task, "a job gave another's answer"),
            // The connection broke while the blobs came: we are asked again.
            (Err(ValidatorError::Transport(error)), _) if error.retryable() => {
                tracing::info!(%error, round = round.0, "the blobs did not arrive");
            }
            (Err(error), _) => {
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

    /// Does a round's duty on chain, unless that is under way; how far it has come.
    fn attend_round(&mut self, record: &Record) -> Option<Step> {
        let attempt = self.attempt_of(record);
        self.attend(Duty {
            attempt,
            factors: record.factors.clone(),
            salt: record.salt,
            withhold: self.withhold,
        })
    }

    async fn attend_closing(&mut self, verdict: &Verdict) -> Result<(), ValidatorError> {
        let chain = &self.task.chain;
        let attempt = closing_attempt(chain, self.task.task, verdict.round).await;
        let duty = Duty {
            attempt: attempt.map_err(NodeError::from)?,
            factors: vec![verdict.release_bps],
            salt: verdict.salt,
            withhold: self.withhold,
        };
        self.attend(duty);
        Ok(())
    }

    fn attend(&mut self, duty: Duty) -> Option<Step> {
        if let Some(attendance) = &self.attendance
            && attendance.attempt == duty.attempt
        {
            return attendance.done;
        }
        self.attendance = Some(Attendance::begin(
            self.task.chain.clone(),
            self.wallet.address(),
            duty,
            self.steps_tx.clone(),
        ));
        None
    }

    /// A step of the duty on chain is done: the aggregator hears of it.
    async fn advance(&mut self, attempt: AttemptId, step: Step) -> Result<(), ValidatorError> {
        let Some(attendance) = &mut self.attendance else {
            return Ok(());
        };
        if attendance.attempt != attempt {
            return Ok(());
        }
        attendance.done = Some(step);
        let wanted = attendance.reveal_wanted;
        let round = attempt.round;
        let record = Record::find(&self.state, round)?;
        match step {
            Step::Committed => {
                if let Some(record) = record {
                    self.send_commitment(&record).await;
                }
                self.tell(ValidatorEvent::Committed { round });
            }
            Step::Revealed => {
                if let Some(record) = record.filter(|_| wanted) {
                    self.send_reveal(&record).await;
                }
                self.tell(ValidatorEvent::Revealed { round });
            }
        }
        Ok(())
    }

    async fn reveal(&mut self, round: RoundId) -> Result<(), ValidatorError> {
        let Some(record) = Record::find(&self.state, round)?.filter(|_| !self.withhold) else {
            return Ok(());
        };
        let done = self.attend_round(&record);
        if let Some(attendance) = &mut self.attendance {
            attendance.reveal_wanted = true;
            attendance.look();
        }
        if done == Some(Step::Revealed) {
            self.send_reveal(&record).await;
        }
        Ok(())
    }

    async fn send_commitment(&self, record: &Record) {
        let (round, address) = (record.sheet.round, self.wallet.address());
        let commitment = commitment(address, &record.sheet, &record.salt);
        let message = NodeMessage::CommitScores { round, commitment };
        self.link.handle().send(&message).await;
    }

    async fn send_reveal(&self, record: &Record) {
        let reveal = SignedReveal::sign(
            &self.task.chain.domain(),
            &self.attempt_of(record),
            record.factors.clone(),
            record.salt,
            &self.wallet,
        );
        let message = NodeMessage::RevealScores {
            sheet: record.sheet.clone(),
            salt: record.salt,
            reveal,
        };
        self.link.handle().send(&message).await;
    }

    fn attempt_of(&self, record: &Record) -> AttemptId {
        AttemptId {
            task: self.task.task,
            round: record.request.round,
            attempt: record.request.attempt,
        }
    }

    /// The held-out loss that this validator measured last; without any, `otherwise`.
    fn last_seen(&self, otherwise: u64) -> Result<u64, ValidatorError> {
        Ok(Record::latest(&self.state)?.map_or(otherwise, |record| record.sheet.base_loss_micros))
    }

    /// Candidates are of no use once their round is over.
    fn discard(&self, base: &BlobHash) {
        let record = Record::latest(&self.state).ok().flatten();
        let spent = record.map(|record| record.request.candidates);
        let spent = spent.into_iter().flatten().map(|candidate| candidate.delta);
        for blob in spent.chain([*base]) {
            if let Err(error) = self.blobs.remove(&blob) {
                tracing::debug!(%error, "a blob could not be removed");
            }
        }
    }

    async fn leave(&mut self) -> Result<Ended, ValidatorError> {
        if self.claim {
            let account = self.wallet.address();
            let amount = claim_pay(&self.task.chain, self.task.task, account).await?;
            self.tell(ValidatorEvent::Claimed { amount });
        }
        self.tell(ValidatorEvent::Finished);
        Ok(Ended::Finished)
    }

    fn tell(&self, event: ValidatorEvent) {
        (self.listener)(event);
    }
}
