//! Makes the proofs that rounds are paid against.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoke_client::{Chain, ProofCircuit, ProofCircuits, VerifierKey};
use convoke_proofs::error::ProofError;
use convoke_proofs::keys::{Circuit, Keys};
use convoke_proofs::settle::{CheckedSketch, Round, Settled, Update};
use convoke_proofs::size::Size;
use convoke_proofs::statement::{SPLIT_BY_SCORE, Statement, own_commitments};
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Amount, Digest};
use convoke_protocol::payout::MerkleTree;
use convoke_protocol::record::{Dossier, RecordedUpdate, RoundRecord};
use convoke_protocol::round::Setup;
use convoke_protocol::split::SplitKind;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::error::AggregatorError;

/// What the chain wants to see before it pays.
#[derive(Clone)]
pub(super) enum Prover {
    /// Proofs. The chain takes that of the smallest circuit which a round's updates fit in; by
    /// ascending room, each with its keys.
    Circuits(Arc<[(u16, Keys)]>),
    /// Nothing: a chain for tests of other things.
    Unchecked,
}

impl Prover {
    /// Loads the keys of all circuits on chain that rounds of this task may need.
    pub(super) async fn open(
        chain: &Chain,
        setup: &Setup,
        folder: PathBuf,
    ) -> Result<Self, AggregatorError> {
        let mut circuits = match chain.proof_circuits().await? {
            ProofCircuits::None => return Err(AggregatorError::NoProofVerifier),
            ProofCircuits::Unchecked { .. } => {
                tracing::warn!("this chain pays without proofs: it is for development only");
                return Ok(Self::Unchecked);
            }
            ProofCircuits::Circuits { circuits, .. } => circuits,
            ProofCircuits::Unknown { verifier } => {
                return Err(AggregatorError::UnknownVerifier { verifier });
            }
        };
        if setup.spec.reward.split != SplitKind::Score {
            return Err(AggregatorError::SplitNotProven { task: setup.task });
        }
        circuits.sort_by_key(|circuit| circuit.slots);
        let needed = setup.spec.cohort.trainers_max;
        let Some(largest) = circuits.iter().position(|c| u32::from(c.slots) >= needed) else {
            return Err(AggregatorError::TooManyTrainers {
                task: setup.task,
                needed,
                most: circuits.last().map(|c| c.slots).unwrap_or_default(),
            });
        };
        circuits.truncate(largest + 1);
        let mut loaded = Vec::new();
        for circuit in circuits {
            let of = folder.clone();
            let keys = tokio::task::spawn_blocking(move || load(&of, &circuit)).await;
            let keys = keys.map_err(|error| AggregatorError::Job(error.to_string()))??;
            let ours = VerifierKey {
                slots: circuit.slots,
                circuit: circuit.circuit,
                words: keys.verifying().words(),
            };
            if !chain.has_key(circuit.address, &ours).await? {
                let reason = "those there are of another set-up; copy the ones that the contracts \
                              were deployed with";
                return Err(no_keys(&folder, &circuit, reason.into()));
            }
            tracing::info!(slots = circuit.slots, circuit = %circuit.circuit, "proving keys loaded");
            loaded.push((circuit.slots, keys));
        }
        Ok(Self::Circuits(loaded.into()))
    }

    /// Proves a round that ends as `record` says; an empty proof if none is wanted. Seconds of all
    /// cores. The same record always gives the same proof, so that after a kill the result
    /// submitted again is the same.
    ///
    /// # Errors
    /// [`AggregatorError::Proof`] with `NothingToPay`, or if record and keys contradict.
    pub(super) fn prove(
        &self,
        record: &RoundRecord,
        setup: &Setup,
        trainers_pool: Amount,
        result_hash: Digest,
    ) -> Result<Vec<u8>, AggregatorError> {
        let Self::Circuits(circuits) = self else {
            return Ok(Vec::new());
        };
        let updates = record.dossier.count();
        let fitting = circuits
            .iter()
            .find(|(slots, _)| usize::from(*slots) >= updates);
        // Trainers that commit to updates themselves take places, too.
        let (_, keys) = fitting.ok_or(ProofError::NoSuchSize(updates))?;
        let round = round_of(record, setup, trainers_pool, result_hash);
        // What it hides, the record tells: it need not be drawn at random.
        let seed = keccak(&[b"convoke.proof-blinding.v1", &result_hash.0]);
        let Settled { payouts, proof } = round.prove(keys, &mut ChaCha20Rng::from_seed(seed.0))?;
        if payouts != record.payouts {
            return Err(AggregatorError::OtherPayouts(record.round));
        }
        Ok(proof)
    }
}

fn no_keys(folder: &Path, circuit: &ProofCircuit, reason: String) -> AggregatorError {
    AggregatorError::NoKeys {
        folder: folder.to_owned(),
        slots: circuit.slots,
        circuit: circuit.circuit,
        reason,
    }
}

/// Keys of a circuit on chain.
fn load(folder: &Path, circuit: &ProofCircuit) -> Result<Keys, AggregatorError> {
    let missing = |reason: String| no_keys(folder, circuit, reason);
    let size = Size::fitting(usize::from(circuit.slots))?;
    if *Circuit::of(size)?.hash() != circuit.circuit.0 {
        let reason = "this program's circuit is another; use the version that the contracts were \
                      deployed with";
        return Err(missing(reason.into()));
    }
    let keys = Keys::open(folder, size, &()).map_err(|error| missing(error.to_string()))?;
    let reason = "copy them from where the contracts were deployed, or name their folder with \
                  --proof-keys";
    keys.ok_or_else(|| missing(reason.into()))
}

fn round_of(
    record: &RoundRecord,
    setup: &Setup,
    trainers_pool: Amount,
    result_hash: Digest,
) -> Round {
    let dossier = &record.dossier;
    let committed: Vec<_> = dossier.committed().collect();
    let tree = MerkleTree::of_updates(&record.domain, record.task, record.round, &committed);
    // Both bounded by the cohort.
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    Round {
        domain: record.domain,
        statement: Statement {
            task: record.task,
            round: record.round,
            attempt: record.attempt,
            aggregator: setup.aggregator,
            updates_root: tree.root(),
            own_commitments: own_commitments(&dossier.own_updates),
            updates: count(dossier.count()),
            seed: dossier.seed,
            trainers_pool,
            split: SPLIT_BY_SCORE,
            rank_decay_bps: setup.spec.reward.rank_decay_bps,
            checkpoint: record.checkpoint,
            result_hash,
        },
        clip_norm: dossier.clip_norm,
        own: count(dossier.own_updates.len()),
        updates: updates_of(dossier, &record.factors),
    }
}

fn updates_of(dossier: &Dossier, factors: &[u16]) -> Vec<Update> {
    let checked = |entry: &RecordedUpdate| {
        entry.sketched.map(|sketched| CheckedSketch {
            values: sketched.sketch.0,
            sums_root: sketched.sums_root,
        })
    };
    let sketches = dossier.updates.iter().map(checked);
    let own = dossier.own_updates.iter().map(|_| None);
    let pairs = dossier
        .committed()
        .chain(dossier.own_updates.iter().copied());
    pairs
        .zip(sketches.chain(own))
        .zip(factors)
        .map(|(((trainer, update), sketch), factor)| Update {
            trainer,
            update,
            sketch,
            factor: *factor,
        })
        .collect()
}
