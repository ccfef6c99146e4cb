//! What the state machine asks for that takes time: each job runs beside the service and
//! answers with an event. All are idempotent, since after a restart they are asked for again.

use std::path::PathBuf;

use convoke_client::{ResultSubmission, Stage};
use convoke_compress::Codec;
use convoke_proofs::error::ProofError;
use convoke_proofs::public_data::RoundContext;
use convoke_protocol::control::ControlStep;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId};
use convoke_protocol::message::{Broadcast, Candidate};
use convoke_protocol::record::{BroadcastRecord, Dossier, RECORD_VERSION, RoundRecord, StepRecord};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Comparand, Event, Setup};
use convoke_protocol::sketch::Norm;
use convoke_protocol::update::UpdateHeader;
use convoke_sketch::DeltaStats;
use convoke_transport::BlobStore;
use tokio::sync::mpsc;

use super::Input;
use super::deltas::Deltas;
use super::proving::Prover;
use super::rounds::{Attempt, Rounds};
use crate::aggregate::{Step, Stepped, aggregate_step, states_of};
use crate::broadcast;
use crate::control::{self, control_of};
use crate::error::AggregatorError;
use crate::filter::filter_updates;
use crate::rules;

pub(super) struct Jobs {
    pub(super) rounds: Rounds,
    pub(super) prover: Prover,
    pub(super) blobs: BlobStore,
    pub(super) deltas: Deltas,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Jobs {
    /// Checks a delta that has arrived: its tensors, that every value is finite, and that norm and
    /// root are those of its header. What was not measured on the way is read once more.
    pub(super) fn inspect(
        &self,
        trainer: Address,
        header: &UpdateHeader,
        measured: Option<Measured>,
    ) {
        let deltas = self.deltas.clone();
        let (delta, norm, root) = (header.delta, header.delta_norm, header.delta_root);
        self.compute(move || {
            let stats = match measured {
                Some(measured) => measured,
                None => deltas.inspect(&delta)?,
            };
            Ok(match stats.and_then(|stats| check(&stats, norm, root)) {
                Ok(()) => Event::DeltaStored { trainer, delta },
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
    pub(super) fn seal(&self, at: Attempt, committed: Vec<(Address, Digest)>) {
        let rounds = self.rounds();
        self.spawn(async move { Ok(rounds.seal(at, &committed).await?) });
    }

    pub(super) fn filter(
        &self,
        at: Attempt,
        seed: Digest,
        clip_norm: Norm,
        updates: Vec<Comparand>,
    ) {
        let setup = self.rounds.setup();
        let context = RoundContext {
            chain_id: setup.domain.chain_id,
            contract: setup.domain.contract,
            task: setup.task,
            round: at.round,
            attempt: at.attempt,
            seed,
        };
        let deltas = self.deltas.clone();
        self.compute(move || {
            let with_path = |update: Comparand| {
                let path = deltas.values_of(&update.candidate.delta)?;
                Ok((update, path))
            };
            let updates: Result<Vec<_>, AggregatorError> =
                updates.into_iter().map(with_path).collect();
            let verdicts = filter_updates(&updates?, &context, clip_norm, deltas.layout())?;
            Ok(Event::Filtered { verdicts })
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

    pub(super) fn aggregate(
        &self,
        round: RoundId,
        base: BlobHash,
        kept: Vec<Candidate>,
        control: Option<ControlStep>,
    ) {
        let (blobs, deltas, rounds) = (self.blobs.clone(), self.deltas.clone(), self.rounds());
        self.compute(move || {
            let spec = &rounds.setup().spec;
            let aggregation = &spec.aggregation;
            let kept = with_paths(kept, &deltas)?;
            let from = broadcast::exact_of(&blobs, &base)?;
            let step = Step {
                base: from,
                base_path: &blobs.path(&from),
                kept: &kept,
                rule: rules::by_name(&aggregation.rule)?,
                settings: aggregation,
                dir: blobs.dir(),
            };
            let Stepped {
                checkpoint: exact,
                states,
                shares,
                noise,
                ..
            } = aggregate_step(&step)?;
            let codec = Codec::of_checkpoints(&rounds.setup().spec.compression);
            let (checkpoint, broadcast) = match codec {
                None => (exact, None),
                Some(_) if kept.is_empty() => (base, None),
                Some(codec) => broadcast::encode(codec, &blobs, base, exact)?,
            };
            tracing::info!(round = round.0, %checkpoint, updates = kept.len(), "step taken");
            let control = match control {
                Some(step) => control::advance(blobs.dir(), spec, &step, &base, &checkpoint)?,
                None => control_of(blobs.dir(), &checkpoint)?,
            };
            Ok(Event::Aggregated {
                checkpoint,
                states,
                control,
                broadcast,
                shares,
                noise,
            })
        });
    }

    /// Publishes the round's record, proves it and submits it.
    pub(super) fn submit_result(&self, outcome: Outcome) {
        let (rounds, blobs, prover) = (self.rounds(), self.blobs.clone(), self.prover.clone());
        self.spawn(async move {
            let (at, reveals) = (outcome.at, outcome.reveals.clone());
            let pool = rounds.trainers_pool(at.round).await?;
            let of_rounds = rounds.clone();
            let proven = blocking(move || {
                let setup = of_rounds.setup();
                let dir = blobs.dir();
                let exact = broadcast::exact_of(&blobs, &outcome.base)?;
                let before = Before {
                    states: states_of(dir, &exact)?,
                    exact,
                    control: control_of(dir, &outcome.base)?,
                };
                let control = control_of(dir, &outcome.checkpoint)?;
                let record = outcome.record(setup, before, control);
                let name = blobs.insert_bytes(&record.to_json().map_err(|error| {
                    AggregatorError::Job(format!("the record cannot be written: {error}"))
                })?)?;
                let result_hash = Digest(name.0);
                let proof = match prover.prove(&record, setup, pool, result_hash) {
                    Err(AggregatorError::Proof(
                        hopeless @ (ProofError::NothingToPay | ProofError::NoSuchSize(_)),
                    )) => Err(hopeless),
                    proof => Ok(proof?),
                };
                Ok((record, result_hash, proof))
            });
            let (record, result_hash, proof) = proven.await?;
            let proof = match proof {
                Ok(proof) => proof,
                Err(hopeless) => return Ok(rounds.give_up(at, hopeless.to_string()).await?),
            };
            tracing::info!(round = at.round.0, bytes = proof.len(), "round proven");
            let result = ResultSubmission {
                checkpoint: record.checkpoint,
                result_hash,
                payouts: record.payouts,
                factors: record.factors,
                reveals,
                proof,
            };
            Ok(rounds.settle(at, &result).await?)
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

/// What was found in a delta, or its trainer's fault.
pub(super) type Measured = Result<DeltaStats, Refusal>;

/// How a round ended.
pub(super) struct Outcome {
    pub(super) at: Attempt,
    pub(super) base: BlobHash,
    pub(super) checkpoint: BlobHash,
    pub(super) states: Vec<BlobHash>,
    pub(super) broadcast: Option<Broadcast>,
    pub(super) dossier: Box<Dossier>,
    pub(super) payouts: Vec<(Address, Amount)>,
    pub(super) factors: Vec<u16>,
    pub(super) reveals: Vec<Vec<u16>>,
}

/// What belonged to the base of a round.
struct Before {
    /// The exact model behind it.
    exact: BlobHash,
    /// The server optimizer's moments.
    states: Vec<BlobHash>,
    /// The server's control variate.
    control: Option<BlobHash>,
}

impl Outcome {
    fn record(self, setup: &Setup, before: Before, control_after: Option<BlobHash>) -> RoundRecord {
        let broadcast = self.broadcast.map(|sent| BroadcastRecord {
            exact_before: before.exact,
            sent,
        });
        RoundRecord {
            version: RECORD_VERSION,
            domain: setup.domain,
            task: setup.task,
            round: self.at.round,
            attempt: self.at.attempt,
            base: self.base,
            checkpoint: self.checkpoint,
            step: StepRecord {
                control_before: before.control,
                control_after,
                ..StepRecord::of(&setup.spec.aggregation, before.states, self.states)
            },
            broadcast,
            dossier: *self.dossier,
            factors: self.factors,
            payouts: self.payouts,
        }
    }
}

/// Norms are sums in another order on other machines.
fn check(stats: &DeltaStats, claimed: Norm, root: Digest) -> Result<(), Refusal> {
    let actual = stats.norm;
    if (claimed.value() - actual.value()).abs() > NORM_TOLERANCE * actual.value() {
        return Err(Refusal::WrongNorm { claimed, actual });
    }
    if root != stats.root {
        let (claimed, actual) = (root, stats.root);
        return Err(Refusal::WrongRoot { claimed, actual });
    }
    Ok(())
}

/// Ten times what rounding to single precision makes of a norm.
const NORM_TOLERANCE: f64 = 1e-6;

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, AggregatorError> + Send + 'static,
) -> Result<T, AggregatorError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(error) => Err(AggregatorError::Job(error.to_string())),
    }
}

fn with_paths(
    updates: Vec<Candidate>,
    deltas: &Deltas,
) -> Result<Vec<(Candidate, PathBuf)>, AggregatorError> {
    let with_path = |update: Candidate| {
        let path = deltas.values_of(&update.delta)?;
        Ok((update, path))
    };
    updates.into_iter().map(with_path).collect()
}
