//! What a start needs: the task from the chain, its first checkpoint, the state from the log.

use std::path::Path;

use convoke_client::Chain;
use convoke_protocol::codec;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Amount, BlobHash};
use convoke_protocol::round::{Event, Run, Setup};
use convoke_protocol::task::TaskSpec;
use convoke_transport::BlobStore;

use super::{Config, pulse};
use crate::error::AggregatorError;
use crate::store::Store;

/// The task file, of a task that names this aggregator.
pub(super) async fn task_spec(chain: &Chain, config: &Config) -> Result<TaskSpec, AggregatorError> {
    let named = chain.terms(config.task).await?.aggregator;
    if named != config.wallet.address() {
        return Err(AggregatorError::NotTheAggregator {
            task: config.task,
            named,
            ours: config.wallet.address(),
        });
    }
    let file = chain.task_file(config.task).await?;
    TaskSpec::parse(&file).map_err(|source| AggregatorError::TaskFile {
        task: config.task,
        source,
    })
}

/// Checks that our own stake is enough to open rounds, and that the contract can take results.
pub(super) async fn check_chain(
    chain: &Chain,
    config: &Config,
    spec: &TaskSpec,
) -> Result<(), AggregatorError> {
    let (task, needed) = (config.task, spec.stake.aggregator);
    let staked = chain.stake_of(task, config.wallet.address()).await?;
    let got = staked.map_or(Amount::ZERO, |(_, amount)| amount);
    if got < needed {
        return Err(AggregatorError::Stake { task, got, needed });
    }
    if chain.proof_verifier().await?.is_none() {
        return Err(AggregatorError::NoProofVerifier);
    }
    Ok(())
}

/// Makes sure that the task's initial checkpoint is among the blobs.
pub(super) fn admit_initial(
    blobs: &BlobStore,
    spec: &TaskSpec,
    file: Option<&Path>,
) -> Result<BlobHash, AggregatorError> {
    let initial = spec.initial.ok_or(AggregatorError::NoInitialCheckpoint)?;
    if blobs.contains(&initial) {
        return Ok(initial);
    }
    let file = file.ok_or(AggregatorError::InitialMissing { expected: initial })?;
    let got = blobs.insert_file(file)?;
    if got != initial {
        blobs.remove(&got)?;
        let file = file.to_path_buf();
        return Err(AggregatorError::InitialMismatch {
            file,
            got,
            expected: initial,
        });
    }
    Ok(initial)
}

/// Brings the machine to where the log ends; tells whether there was one.
pub(super) async fn replay(setup: Setup, store: &Store) -> Result<(Run, bool), AggregatorError> {
    // The clock of the first event is the log's own; without one, time starts now.
    store.bind(&keccak(&[&codec::encode(&setup)?])).await?;
    let events = store.events().await?;
    let born = events.first().map_or_else(pulse::now, |event| event.at);
    let mut run = Run::new(setup, born);
    let count = events.len();
    for logged in events {
        let event: Event = codec::decode(&logged.bytes)?;
        run.handle(logged.at, &event)
            .map_err(|fault| AggregatorError::Log(fault.to_string()))?;
        // They were carried out then, or are demanded anew by `resume`.
        while run.poll_effect().is_some() {}
    }
    if count > 0 {
        tracing::info!(
            events = count, round = run.round().0, phase = %run.phase(), "state restored"
        );
    }
    Ok((run, count > 0))
}
