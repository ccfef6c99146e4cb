//! The running trainer: follows the aggregator's orders, one round after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convoke_client::AddressBook;
use convoke_models::base::{BaseFile, Cache};
use convoke_models::{
    Dataset, DeviceChoice, Model, ModelError, Part, Precision, Trained, limit_threads,
};
use convoke_node::claims::claim_pay;
use convoke_node::{Link, LinkConfig, LinkEvent, Patches, StateDir, TaskContext};
use convoke_protocol::assignment::{Assignment, Start};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Role, RoundId, TaskId};
use convoke_protocol::message::{
    AggregatorMessage, NodeMessage, Notice, Order, PhaseName, RoundReport,
};
use convoke_protocol::task::TaskSpec;
use convoke_protocol::update::{SignedUpdate, UpdateHeader};
use convoke_transport::{BlobStore, Endpoint, Limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::TrainerError;
pub use crate::event::{Ended, Listener, TrainerEvent};
use crate::fate::{Fate, Outcome};
use crate::feedback;
use crate::packing::Packing;
use crate::record::Record;
use crate::sketching::{self, Question};
use crate::training::{Keeping, Workbench};
use crate::variate::Variate;
use crate::work::{Done, Job, Work};

/// What a trainer is started with.
#[derive(Debug)]
pub struct Config {
    /// Signs for the trainer.
    pub wallet: Wallet,
    /// Where the contracts are.
    pub chain: AddressBook,
    /// The task.
    pub task: TaskId,
    /// HOST:PORT of the aggregator.
    pub aggregator: String,
    /// Folder with the private data.
    pub data: PathBuf,
    /// State folder; of one trainer.
    pub dir: PathBuf,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Number format of matrix products; the device's own choice if not set.
    pub precision: Option<Precision>,
    /// CPU threads to use; all if not set.
    pub threads: Option<usize>,
    /// A training under way is kept this often at most, to go on from there after a restart.
    pub snapshot_every: Duration,
    /// Whether to claim pay when the task is over.
    pub claim: bool,
}

/// What a trainer does to its delta before it signs it. Honest trainers have none; scripted
/// adversaries of demonstrations and tests do.
pub trait Conduct: Send {
    /// Changes the flat delta.
    fn corrupt(&mut self, round: RoundId, delta: &mut [f32]);

    /// Whether to sign a sketch in this round that is not the delta's.
    fn lies(&self, _round: RoundId) -> bool {
        false
    }
}

/// Takes part in a task until it ends or `shutdown` is cancelled.
///
/// # Errors
/// [`TrainerError`] if task, stake, data or device cannot be used, or if the aggregator
/// refuses us; broken connections are dialled again.
pub async fn run(
    config: Config,
    conduct: Option<Box<dyn Conduct>>,
    listener: Listener,
    shutdown: CancellationToken,
) -> Result<Ended, TrainerError> {
    let mut node = tokio::select! {
        () = shutdown.cancelled() => return Ok(Ended::Stopped),
        node = Trainer::start(config, conduct, listener) => node?,
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
) -> Result<(Model, Dataset), TrainerError> {
    let spec = spec.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let mut tell = |file: &BaseFile, bytes| {
            listener(TrainerEvent::Fetching {
                file: file.name.clone(),
                bytes,
                of: file.bytes,
            });
        };
        let model = Model::open(&spec, &Cache::of_user(), &mut tell)?;
        let data = Dataset::open(&data, Part::Train, &model)?;
        Ok((model, data))
    });
    opening
        .await
        .map_err(|error| TrainerError::Thread(error.to_string()))?
}

struct Trainer {
    wallet: Wallet,
    task: TaskContext,
    link: Link,
    blobs: BlobStore,
    state: StateDir,
    bench: Arc<Workbench>,
    packing: Packing,
    snapshot_every: Duration,
    patches: Patches,
    conduct: Option<Box<dyn Conduct>>,
    listener: Listener,
    claim: bool,
    job: Option<Job>,
    fate: Fate,
    done_tx: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
}

impl Trainer {
    async fn start(
        config: Config,
        conduct: Option<Box<dyn Conduct>>,
        listener: Listener,
    ) -> Result<Self, TrainerError> {
        if let Some(threads) = config.threads {
            limit_threads(threads)?;
        }
        let device = config.device.open()?.with_precision(config.precision)?;
        listener(TrainerEvent::Computing {
            device: device.info(),
        });
        let state = StateDir::open(&config.dir)?;
        let blobs = BlobStore::open(&state.path().join("blobs"))?;
        let task =
            TaskContext::load(&config.chain, &config.wallet, config.task, Role::Trainer).await?;
        let (model, data) = opened(&task.spec, config.data, listener.clone()).await?;
        let bench = Arc::new(Workbench::new(&task.spec, model, data, device)?);
        let endpoint = Endpoint::client(config.wallet.clone(), Limits::default())?;
        let link = Link::open(
            endpoint,
            LinkConfig {
                aggregator: config.aggregator,
                expected: task.aggregator,
                task: config.task,
                role: Role::Trainer,
            },
        );
        let (done_tx, done) = mpsc::channel(1);
        let packing = Packing::of(&task.spec.compression);
        Ok(Self {
            wallet: config.wallet,
            task,
            link,
            blobs,
            state,
            bench,
            packing,
            snapshot_every: config.snapshot_every,
            patches: Patches::default(),
            conduct,
            listener,
            claim: config.claim,
            job: None,
            fate: Fate::default(),
            done_tx,
            done,
        })
    }

    async fn follow(&mut self) -> Result<Ended, TrainerError> {
        loop {
            tokio::select! {
                event = self.link.next() => match event? {
                    LinkEvent::Connected { history, .. } => {
                        for report in &history {
                            self.learn(report)?;
                        }
                        let aggregator = self.task.aggregator;
                        self.tell(TrainerEvent::Connected { aggregator });
                    }
                    LinkEvent::Disconnected { reason } => {
                        self.tell(TrainerEvent::Disconnected { reason });
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

    async fn hear(&mut self, message: AggregatorMessage) -> Result<Option<Ended>, TrainerError> {
        match message {
            AggregatorMessage::Order(order) => self.obey(order).await?,
            AggregatorMessage::Notice(Notice::RoundCommitted(report)) => self.learn(&report)?,
            AggregatorMessage::Notice(Notice::PhaseBegan { phase, .. }) => {
                if let Some(job) = self.job.as_ref().filter(|_| phase != PhaseName::Train) {
                    job.outlast_round();
                }
            }
            AggregatorMessage::Notice(Notice::RoundRetried { round, .. }) => {
                self.fate.forget(round);
            }
            AggregatorMessage::Notice(Notice::RoundSettled { round, .. }) => {
                self.tell(TrainerEvent::Settled { round });
            }
            AggregatorMessage::Notice(Notice::UpdateRefused {
                round,
                trainer,
                refusal,
            }) if trainer == self.wallet.address() => {
                self.fate.tell(round, Outcome::Refused);
                self.tell(TrainerEvent::Refused { round, refusal });
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

    async fn obey(&mut self, order: Order) -> Result<(), TrainerError> {
        match order {
            Order::Train {
                round,
                base,
                control,
            } => self.train(Start { round, base }, control).await,
            Order::SendDelta { round, delta } => {
                self.push(round, delta);
                Ok(())
            }
            Order::UpdateStored { round } => {
                self.fate.tell(round, Outcome::Stored);
                self.tell(TrainerEvent::Stored { round });
                Ok(())
            }
            Order::Sketch {
                round,
                attempt,
                delta,
                seed,
                clip_norm,
            } => {
                let question = Question {
                    round,
                    attempt,
                    seed,
                    clip_norm,
                };
                self.sketch(&delta, question)
            }
            // The notice to everybody says the same, and names us; it may have gone out before we
            // came back.
            Order::UpdateRefused { round, .. } => {
                self.fate.tell(round, Outcome::Refused);
                Ok(())
            }
            Order::Score { .. } | Order::Reveal { .. } | Order::Evaluate { .. } => {
                tracing::warn!("the aggregator takes this trainer for a validator");
                Ok(())
            }
        }
    }

    /// What became of our update decides whether its work is done, and which residual the next one
    /// takes up.
    fn learn(&mut self, report: &RoundReport) -> Result<(), TrainerError> {
        self.patches.learn(report);
        self.fate.read(report, self.wallet.address());
        let latest = Record::latest(&self.state)?;
        if let Some(record) = latest.filter(|r| r.update.header.round == report.round) {
            let used = self.fate.of(report.round) == Some(Outcome::Kept);
            feedback::settle(&self.state, record.start(), used)?;
        }
        Ok(())
    }

    /// Does what the round needs of us: what was signed, what is under way, or new work.
    async fn train(&mut self, order: Start, control: Option<BlobHash>) -> Result<(), TrainerError> {
        let latest = Record::latest(&self.state)?;
        let spent = |record: &Record| self.fate.of(record.update.header.round).is_some();
        let signed = latest.as_ref().map(|record| record.signed(spent(record)));
        let training = self.job.as_ref().map(Job::began);
        let limit = self.task.spec.aggregation.staleness_limit();
        match (Assignment::of(order, limit, signed, training), latest) {
            (Assignment::SendAgain, Some(record)) => self.announce(record.update).await,
            (Assignment::SignAgain, Some(record)) => {
                let mut header = record.update.header;
                header.round = order.round;
                self.sign(header, record.began).await?;
            }
            (Assignment::GoOn, _) => {
                if let Some(job) = &self.job {
                    job.serve(order.round);
                }
            }
            _ => self.begin(order, control)?,
        }
        Ok(())
    }

    /// Trains from a round's base; work that was under way is given up.
    fn begin(&mut self, start: Start, control: Option<BlobHash>) -> Result<(), TrainerError> {
        let Start { round, base } = start;
        let own = Variate::of_round(&self.state, &self.blobs, round, &self.fate)?;
        self.tell(TrainerEvent::RoundOpened { round, base });
        let job = self.job.insert(Job::new(start));
        let work = Work {
            began: start,
            course: job.course(),
            patch: self.patches.of(&base),
            packing: self.packing,
            server_control: control,
            own_control: own.current(),
            blobs: self.blobs.clone(),
            bench: self.bench.clone(),
            keeping: Keeping {
                file: self.state.path().join("training.snapshot"),
                every: self.snapshot_every,
            },
            handle: self.link.handle(),
            listener: self.listener.clone(),
        };
        let done = self.done_tx.clone();
        tokio::spawn(async move {
            let outcome = work.perform().await;
            let began = start;
            let _ = done.send(Done { began, outcome }).await;
        });
        Ok(())
    }

    /// Signs what was trained, remembers it, and announces it.
    async fn finish(&mut self, done: Done) -> Result<(), TrainerError> {
        let Some(job) = self.job.take_if(|job| job.began() == done.began) else {
            return Ok(());
        };
        let made = match done.outcome {
            Ok(made) => made,
            Err(TrainerError::Model(ModelError::Interrupted { .. })) => return Ok(()),
            // The connection broke while the checkpoint came: we are asked again.
            Err(TrainerError::Transport(error)) if error.retryable() => {
                tracing::info!(%error, "the checkpoint did not arrive");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let round = job.serves();
        if let Some(own) = &made.own_control {
            Variate::propose(&self.state, &self.blobs, round, own)?;
        }
        let header = self.header(round, done.began, made.trained)?;
        self.sign(header, done.began.round).await
    }

    /// Stores the delta, and says what it is.
    fn header(
        &mut self,
        round: RoundId,
        began: Start,
        trained: Trained,
    ) -> Result<UpdateHeader, TrainerError> {
        let mut delta = trained.delta;
        if let Some(conduct) = &mut self.conduct {
            conduct.corrupt(round, delta.values_mut());
        }
        let packed = self.packing.pack(began, delta, &self.state, &self.blobs)?;
        Ok(UpdateHeader {
            task: self.task.task,
            round,
            base: began.base,
            delta: packed.delta,
            delta_root: packed.stats.root,
            delta_bytes: packed.bytes,
            delta_norm: packed.stats.norm,
            num_examples: trained.num_examples as u64,
            // Saturates: a loss is never negative, and an absurd one stays absurd.
            train_loss_micros: (f64::from(trained.loss) * 1e6) as u64,
        })
    }

    /// Signs a header, remembers it, and announces it.
    async fn sign(&mut self, header: UpdateHeader, began: RoundId) -> Result<(), TrainerError> {
        let round = header.round;
        let update = header.sign(&self.task.chain.domain(), &self.wallet);
        let record = Record { update, began };
        record.save(&self.state)?;
        self.announce(record.update).await;
        self.tell(TrainerEvent::Sent { round });
        Ok(())
    }

    async fn announce(&self, update: SignedUpdate) {
        self.link.handle().send(&NodeMessage::Update(update)).await;
    }

    /// Says what the sketch of our update is, of the latest only.
    fn sketch(&self, delta: &BlobHash, question: Question) -> Result<(), TrainerError> {
        let latest = Record::latest(&self.state)?.map(|record| record.update);
        let asked = |update: &SignedUpdate| {
            update.header.round == question.round && update.header.delta == *delta
        };
        let Some(update) = latest.filter(asked) else {
            tracing::warn!(%delta, "asked for the sketch of a delta that is not ours");
            return Ok(());
        };
        let (blobs, codec, handle) = (self.blobs.clone(), self.packing.codec, self.link.handle());
        let (domain, wallet) = (self.task.chain.domain(), self.wallet.clone());
        let lie = self
            .conduct
            .as_ref()
            .is_some_and(|c| c.lies(question.round));
        tokio::spawn(async move {
            let work = move || {
                let mut claim = sketching::claim(&blobs, codec, &domain, &update, &question)?;
                if lie {
                    claim.sums_root.0[0] ^= 1;
                }
                Ok::<_, TrainerError>(claim.sign(&domain, &wallet))
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(signed)) => handle.send(&NodeMessage::Sketch(signed)).await,
                // The aggregator goes on with what it finds itself.
                Ok(Err(error)) => tracing::warn!(%error, "the sketch was not made"),
                Err(error) => tracing::warn!(%error, "the sketch was not made"),
            }
        });
        Ok(())
    }

    fn push(&self, round: RoundId, delta: BlobHash) {
        let (handle, blobs) = (self.link.handle(), self.blobs.clone());
        tokio::spawn(async move {
            let Some(connection) = handle.connection().await else {
                return;
            };
            match connection.push_blob(&delta, &blobs, |_| {}).await {
                Ok(receipt) => tracing::debug!(round = round.0, ?receipt, "delta delivered"),
                // After a break the aggregator asks again, and the rest is sent.
                Err(error) => tracing::info!(%error, "the delta was not delivered"),
            }
        });
    }

    async fn leave(&mut self) -> Result<Ended, TrainerError> {
        if self.claim {
            let account = self.wallet.address();
            let amount = claim_pay(&self.task.chain, self.task.task, account).await?;
            self.tell(TrainerEvent::Claimed { amount });
        }
        self.tell(TrainerEvent::Finished);
        Ok(Ended::Finished)
    }

    fn tell(&self, event: TrainerEvent) {
        (self.listener)(event);
    }
}
