//! The running aggregator: one task owns the round state machine, logs every accepted event
//! before its effects are carried out, and talks to everything else through bounded channels.

mod access;
mod deltas;
mod input;
mod jobs;
mod peers;
mod proving;
mod pulse;
mod rounds;
mod start;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convoke_client::{AddressBook, Chain};
use convoke_protocol::codec;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Role, RoundId, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, Notice, Order};
use convoke_protocol::round::{Effect, Event, Fault, Run, Setup};
use convoke_transport::{BlobStore, Endpoint, Limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use self::deltas::Deltas;
use self::input::Input;
use self::jobs::{Jobs, Measured, Outcome};
use self::peers::{PeerEvent, Peers};
use self::proving::Prover;
use self::rounds::{Attempt, Rounds};
use crate::error::AggregatorError;
use crate::rules;
use crate::store::Store;

/// Inputs that wait for the state machine at most; beyond that peers are held back.
const INPUTS_MAX: usize = 1_024;

/// After the end, everyone is waited for to leave, but no longer than this.
const LINGER: Duration = Duration::from_secs(600);

/// An aggregator that was restarted stays so long after the end, since observers of the process
/// before it may be on their way back.
const FAREWELL: Duration = Duration::from_secs(15);

/// Members that are away when the task ends have so long to come back and hear of it: a broken
/// connection is noticed and dialled anew well within it.
const RETURN: Duration = Duration::from_secs(45);

/// What an aggregator is started with.
#[derive(Debug)]
pub struct Config {
    /// Signs for the aggregator; the task names its address.
    pub wallet: Wallet,
    /// Where the contracts are.
    pub chain: AddressBook,
    /// The task to aggregate.
    pub task: TaskId,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// State and blobs; of one task.
    pub dir: PathBuf,
    /// The initial checkpoint; needed at the first start only.
    pub initial: Option<PathBuf>,
    /// Folder with the keys for proofs.
    pub keys: PathBuf,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All rounds are settled and the task is closed.
    Finished,
    /// The task was given up, and why.
    Failed(String),
    /// Asked to stop; the next start goes on from here.
    Stopped,
}

/// Runs the aggregator of one task until it ends or is told to stop.
///
/// `listening` is called once, with the address that nodes can dial.
///
/// # Errors
/// [`AggregatorError`] if the task, the state folder or the chain cannot be used.
pub async fn run(
    config: Config,
    listening: impl FnOnce(SocketAddr) + Send,
    shutdown: CancellationToken,
) -> Result<Ended, AggregatorError> {
    let service = Service::start(config, &shutdown).await?;
    listening(service.endpoint.local_addr()?);
    service.serve(shutdown).await
}

struct Service {
    run: Run,
    store: Store,
    blobs: BlobStore,
    access: Access,
    jobs: Jobs,
    peers: Peers,
    endpoint: Endpoint,
    inputs: mpsc::Receiver<Input>,
    over_since: Option<tokio::time::Instant>,
    /// Members that were connected after the end, and so have heard of it.
    told: BTreeSet<Address>,
    /// Whether another process had this task before.
    resumed: bool,
}

impl Service {
    async fn start(config: Config, shutdown: &CancellationToken) -> Result<Self, AggregatorError> {
        let chain = Chain::connect(&config.chain, Some(&config.wallet)).await?;
        let spec = start::task_spec(&chain, &config).await?;
        start::check_chain(&chain, &config, &spec).await?;
        rules::by_name(&spec.aggregation.rule)?;
        let store = Store::open(&config.dir).await?;
        let blobs = BlobStore::open(&config.dir.join("blobs"))?;
        let initial = start::admit_initial(&blobs, &spec, config.initial.as_deref())?;
        let deltas = Deltas::open(blobs.clone(), &initial, &spec.compression)?;
        let setup = Setup {
            task: config.task,
            domain: chain.domain(),
            aggregator: config.wallet.address(),
            initial,
            delta_bytes: deltas.blob_bytes(),
            spec,
        };
        let prover = Prover::open(&chain, &setup, config.keys).await?;
        let (run, resumed) = start::replay(setup, &store).await?;

        let (inputs_tx, inputs) = mpsc::channel(INPUTS_MAX);
        let endpoint = Endpoint::server(config.wallet, config.listen, Limits::default())?;
        let access = Access::new(deltas.clone(), inputs_tx.clone());
        let jobs = Jobs {
            rounds: Rounds::new(chain.clone(), Arc::new(run.setup().clone())),
            prover,
            blobs: blobs.clone(),
            deltas,
            inputs: inputs_tx.clone(),
        };
        let peers = Peers::listen(
            endpoint.clone(),
            chain,
            run.setup(),
            blobs.clone(),
            access.clone(),
            inputs_tx,
            shutdown.child_token(),
        );
        Ok(Self {
            run,
            store,
            blobs,
            access,
            jobs,
            peers,
            endpoint,
            inputs,
            over_since: None,
            told: BTreeSet::new(),
            resumed,
        })
    }

    async fn serve(mut self, shutdown: CancellationToken) -> Result<Ended, AggregatorError> {
        self.run.resume();
        self.feed(Event::Restarted).await?;
        loop {
            if self.is_done() {
                self.endpoint.close("the task is over").await;
                return Ok(match self.run.failure() {
                    Some(reason) => Ended::Failed(reason.to_owned()),
                    None => Ended::Finished,
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.endpoint.close("the aggregator is stopping").await;
                    return Ok(Ended::Stopped);
                }
                () = pulse::until(self.run.deadline()) => self.feed(Event::Tick).await?,
                () = pulse::until_instant(self.patience()) => {}
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input).await?,
                    None => return Ok(Ended::Stopped),
                },
            }
        }
    }

    /// When to look again whether the end has come, once it is near.
    fn patience(&self) -> Option<tokio::time::Instant> {
        let since = self.over_since?;
        let steps = [FAREWELL, RETURN, LINGER];
        steps
            .into_iter()
            .find(|step| since.elapsed() < *step)
            .map(|step| since + step)
    }

    /// Over, closed on chain, and nobody is left who has not heard of it.
    fn is_done(&mut self) -> bool {
        if !self.run.is_over() {
            return false;
        }
        let since = *self
            .over_since
            .get_or_insert_with(tokio::time::Instant::now);
        self.told.extend(self.peers.addresses());
        let all_told = self
            .run
            .members()
            .addresses()
            .all(|member| self.told.contains(&member));
        let all_back = all_told && (!self.resumed || since.elapsed() >= FAREWELL);
        let everyone_left = self.peers.is_empty() && (all_back || since.elapsed() >= RETURN);
        everyone_left || since.elapsed() >= LINGER
    }

    async fn take(&mut self, input: Input) -> Result<(), AggregatorError> {
        match input {
            Input::Peer(PeerEvent::Joined(peer)) => {
                let (address, role, stake) = (peer.address, peer.role, peer.stake);
                let welcome = AggregatorMessage::Welcome {
                    round: self.run.round(),
                    history: self.run.history().cloned().collect(),
                };
                self.peers.add(peer, &welcome);
                if role == Role::Observer {
                    self.tell_the_end(address);
                    return Ok(());
                }
                self.feed(Event::Joined {
                    address,
                    role,
                    stake,
                })
                .await
            }
            Input::Peer(PeerEvent::Left {
                address,
                connection,
            }) => {
                let role = self.peers.remove(address, connection);
                match role {
                    Some(Role::Observer) | None => Ok(()),
                    Some(_) => self.feed(Event::Left { address }).await,
                }
            }
            Input::Peer(PeerEvent::Said { address, message }) => self.hear(address, message).await,
            Input::Answer(event) => self.feed(event).await,
            Input::Broken(error) => Err(error),
            Input::Delivered(delivery) => {
                if self.run.expects_delta(delivery.trainer, &delivery.delta) {
                    self.inspect(delivery.trainer, delivery.measured);
                }
                Ok(())
            }
            Input::Arriving { trainer } => {
                self.feed(Event::Progressed {
                    trainer,
                    step: 0,
                    steps: 0,
                })
                .await
            }
        }
    }

    async fn hear(&mut self, from: Address, message: NodeMessage) -> Result<(), AggregatorError> {
        let round = self.run.round();
        let stale = |got: RoundId| (got != round).then_some(Fault::WrongRound { got, now: round });
        let (fault, event) = match message {
            NodeMessage::Hello { .. } => {
                return self.complain(from, "hello was said already".to_owned());
            }
            NodeMessage::Update(update) if update.trainer != from => {
                return self.complain(
                    from,
                    format!("this update is signed for {}", update.trainer),
                );
            }
            NodeMessage::Update(update) => (None, Event::UpdateAnnounced(update)),
            NodeMessage::Sketch(claim) if claim.trainer != from => {
                return self.complain(from, format!("this sketch is signed for {}", claim.trainer));
            }
            NodeMessage::Sketch(claim) => (stale(claim.claim.round), Event::SketchClaimed(claim)),
            NodeMessage::Progress { round, step, steps } => (
                stale(round),
                Event::Progressed {
                    trainer: from,
                    step,
                    steps,
                },
            ),
            NodeMessage::CommitScores { round, commitment } => (
                stale(round),
                Event::ScoresCommitted {
                    validator: from,
                    commitment,
                },
            ),
            NodeMessage::RevealScores {
                sheet,
                salt,
                reveal,
            } => (
                None,
                Event::ScoresRevealed {
                    validator: from,
                    sheet,
                    salt,
                    reveal,
                },
            ),
            NodeMessage::MachineFailed { round, reason } => {
                let reason: String = reason.chars().take(200).collect();
                tracing::warn!(validator = %from, %reason, "a validator's machine failed");
                (stale(round), Event::ValidatorFailed { validator: from })
            }
        };
        if let Some(fault) = fault {
            return self.complain(from, fault.to_string());
        }
        match self.try_feed(event).await? {
            Err(fault) if fault != Fault::Unchanged => self.complain(from, fault.to_string()),
            _ => Ok(()),
        }
    }

    /// Tells a peer that its message was refused. Nothing of ours failed.
    fn complain(&mut self, to: Address, reason: String) -> Result<(), AggregatorError> {
        tracing::debug!(peer = %to, %reason, "message refused");
        self.peers.tell(to, &AggregatorMessage::Fault { reason });
        Ok(())
    }

    /// Members hear of the end as they join; observers are no members.
    fn tell_the_end(&mut self, to: Address) {
        if !self.run.is_over() {
            return;
        }
        let notice = match self.run.failure() {
            Some(reason) => Notice::TaskFailed {
                reason: reason.to_owned(),
            },
            None => Notice::TaskFinished {
                checkpoint: self.run.base(),
            },
        };
        self.peers.tell(to, &AggregatorMessage::Notice(notice));
    }

    /// Feeds an event that is ours; a fault means that it came too late to matter.
    async fn feed(&mut self, event: Event) -> Result<(), AggregatorError> {
        if let Err(fault) = self.try_feed(event).await?
            && fault != Fault::Unchanged
        {
            tracing::debug!(%fault, "event refused");
        }
        Ok(())
    }

    /// Decides, logs, then acts: in this order, so that a kill at any point loses nothing.
    async fn try_feed(&mut self, event: Event) -> Result<Result<(), Fault>, AggregatorError> {
        let before = (self.run.round(), self.run.phase());
        let now = pulse::now();
        if let Err(fault) = self.run.handle(now, &event) {
            return Ok(Err(fault));
        }
        self.store
            .append_event(now, &codec::encode(&event)?)
            .await?;
        let after = (self.run.round(), self.run.phase());
        if before != after {
            tracing::info!(round = after.0.0, phase = %after.1, "phase");
            if before.0 != after.0 {
                self.discard_deltas();
            }
        }
        self.carry_out();
        if before != after {
            pulse::pause_for_tests(after.0, after.1).await;
        }
        Ok(Ok(()))
    }

    fn carry_out(&mut self) {
        self.access.update(&self.run);
        while let Some(effect) = self.run.poll_effect() {
            match effect {
                Effect::Tell { to, order } => self.order(to, order),
                Effect::Announce(notice) => {
                    self.peers.announce(&AggregatorMessage::Notice(notice));
                }
                Effect::DrawSeed => self.jobs.draw_seed(),
                Effect::OpenRound {
                    round,
                    after,
                    base,
                    cohort,
                } => self.jobs.open_round(round, after, base, cohort),
                Effect::Seal {
                    round,
                    attempt,
                    committed,
                } => self.jobs.seal(Attempt { round, attempt }, committed),
                Effect::Filter {
                    round,
                    attempt,
                    seed,
                    clip_norm,
                    updates,
                } => {
                    let at = Attempt { round, attempt };
                    self.jobs.filter(at, seed, clip_norm, updates);
                }
                Effect::OpenReveal { round, attempt } => {
                    self.jobs.open_reveal(Attempt { round, attempt });
                }
                Effect::ReadScores { round, attempt } => {
                    self.jobs.read_scores(Attempt { round, attempt });
                }
                Effect::Aggregate {
                    round,
                    base,
                    kept,
                    control,
                } => self.jobs.aggregate(round, base, kept, control),
                Effect::SubmitResult {
                    round,
                    attempt,
                    base,
                    checkpoint,
                    states,
                    broadcast,
                    dossier,
                    payouts,
                    factors,
                    reveals,
                } => self.jobs.submit_result(Outcome {
                    at: Attempt { round, attempt },
                    base,
                    checkpoint,
                    states,
                    broadcast,
                    dossier,
                    payouts,
                    factors,
                    reveals,
                }),
                Effect::CloseTask => self.jobs.close_task(),
                Effect::AwaitClosing => self.jobs.await_closing(),
            }
        }
    }

    fn inspect(&self, trainer: Address, measured: Option<Measured>) {
        if let Some(header) = self.run.announced(trainer) {
            self.jobs.inspect(trainer, header, measured);
        }
    }

    fn order(&mut self, to: Address, order: Order) {
        if let Order::SendDelta { delta, .. } = &order
            && self.blobs.contains(delta)
        {
            // It has been sent before, in another attempt or by another trainer.
            self.inspect(to, None);
            return;
        }
        self.peers.tell(to, &AggregatorMessage::Order(order));
    }

    /// Deltas are needed in their round only; checkpoints stay.
    fn discard_deltas(&self) {
        self.jobs
            .deltas
            .discard(&self.access.take_finished_deltas(&self.run));
    }
}
