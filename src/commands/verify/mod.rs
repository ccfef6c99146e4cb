//! `convoke verify`: a round checked from public data alone.

mod accuse;
mod again;
mod blobs;
mod broadcast;
mod control;
mod deltas;
mod facts;
mod record;
mod report;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use convoke_aggregator::server_optimizer;
use convoke_client::{Chain, ChainError, ProofCircuits};
use convoke_compress::Codec;
use convoke_proofs::keys::Keys;
use convoke_proofs::settle::verify_round;
use convoke_proofs::size::Size;
use convoke_protocol::ids::{BlobHash, RoundId, TaskId};
use convoke_protocol::record::{RECORD_BYTES_MAX, RoundRecord, StepRecord};
use serde_json::json;

use self::blobs::Blobs;
use self::deltas::Finding;
use self::facts::Facts;
use self::report::Check;
use self::step::StepFiles;
use crate::cli::{self, ChainArgs};
use crate::failure::Falsified;
use crate::keys::KeyArgs;
use crate::output::{self, Format};
use crate::proof_keys::{self, ProofKeyArgs};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  convoke verify --task 3 --round 7 --aggregator example.org:4433\n  \
                  convoke verify --task 3 --round 7 --record round7.json --deltas ./blobs --format json\n\n\
                  Exit codes: 0 nothing fails, 3 a check fails. What cannot be checked is said, with the reason."
)]
pub(crate) struct VerifyArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// The round, from 1
    #[arg(long)]
    round: u32,
    /// Ask this aggregator for the round's record and its files
    #[arg(long, value_name = "HOST:PORT")]
    aggregator: Option<String>,
    /// The round's record, instead of the aggregator's
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Folder with deltas, checkpoints and states, each named by its BLAKE3 hash
    #[arg(long, value_name = "DIR")]
    deltas: Option<PathBuf>,
    /// Send the contract the evidence of false sketches that are found; needs a key with coin
    #[arg(long)]
    accuse: bool,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    keys: ProofKeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(args: VerifyArgs, format: Format) -> anyhow::Result<()> {
    let wallet = args.accuse.then(|| args.key.wallet()).transpose()?;
    let chain = args.chain.connect(wallet.as_ref()).await?;
    let round = RoundId(args.round);
    let facts = Facts::gather(&chain, args.task, round).await?;
    let aggregator = args.aggregator.clone();
    let blobs = Blobs::open(&chain, args.task, aggregator, args.deltas.clone()).await?;
    let circuits = chain.proof_circuits().await?;
    let mut checks = vec![
        proof_on_chain(&chain, &facts, &circuits).await?,
        proof_here(&chain, &facts, &circuits, &args.keys).await?,
    ];
    let mut findings = Vec::new();
    match read_record(&args, &facts, &blobs).await {
        Ok(record) => {
            let of_record = record::check_record(&facts, &record);
            let is_true = !report::any_fails(&of_record);
            checks.extend(of_record);
            if is_true {
                checks.push(optimizer(&facts, &record));
                checks.extend(step_checks(&facts, &record, &blobs).await?);
                checks.extend(broadcast_check(&facts, &record, &blobs).await?);
                checks.extend(control_check(&facts, &record, &blobs).await?);
                let (check, found) = delta_checks(&facts, &record, &blobs).await?;
                checks.push(check);
                findings = found;
            }
            if args.accuse {
                send_evidence(&chain, &facts, &record, &findings, &mut checks).await?;
            }
        }
        Err(check) => checks.push(check),
    }
    print(&args, format, &checks, &findings)?;
    match report::any_fails(&checks) {
        false => Ok(()),
        true => Err(Falsified.into()),
    }
}

fn print(
    args: &VerifyArgs,
    format: Format,
    checks: &[Check],
    findings: &[(Finding, PathBuf)],
) -> anyhow::Result<()> {
    let value = json!({
        "task": args.task,
        "round": args.round,
        "fails": report::any_fails(checks),
        "checks": checks,
        "findings": findings.iter().map(|(finding, _)| finding).collect::<Vec<_>>(),
    });
    format.print(&value, || {
        let mut table = output::table(["check", "outcome", "why"]);
        for check in checks {
            table.add_row([
                check.check.to_owned(),
                check.outcome.to_string(),
                check.why.clone(),
            ]);
        }
        table.to_string()
    })
}

async fn proof_on_chain(
    chain: &Chain,
    facts: &Facts,
    circuits: &ProofCircuits,
) -> anyhow::Result<Check> {
    const NAME: &str = "proof (chain)";
    if let ProofCircuits::Unchecked { .. } = circuits {
        let why = "this chain pays without proofs: it is for tests only";
        return Ok(Check::not_checkable(NAME, why));
    }
    let (task, round) = (facts.statement.task, facts.statement.round);
    match chain.check_proof(task, round, &facts.submission).await {
        Ok(()) => Ok(Check::holds(NAME, "the round's verifier takes it")),
        Err(ChainError::Reverted { words, .. }) => Ok(Check::fails(NAME, words)),
        Err(error) => Err(error.into()),
    }
}

/// Again, without the chain's own arithmetic, if the key on chain is one that is here.
async fn proof_here(
    chain: &Chain,
    facts: &Facts,
    circuits: &ProofCircuits,
    keys: &ProofKeyArgs,
) -> anyhow::Result<Check> {
    const NAME: &str = "proof (here)";
    let not = |why: &str| Ok(Check::not_checkable(NAME, why));
    let ProofCircuits::Circuits { circuits, .. } = circuits else {
        return not("the chain names no circuit");
    };
    let fitting = circuits.iter().find(|c| c.slots >= facts.statement.updates);
    let Some(circuit) = fitting.copied() else {
        return not("no circuit on chain has room for so many updates");
    };
    let Ok(size) = Size::fitting(usize::from(circuit.slots)) else {
        return not("this program has no circuit of that size");
    };
    let folder = keys.folder()?;
    let opened = tokio::task::spawn_blocking(move || Keys::open(&folder, size, &())).await?;
    let Some(keys) = opened? else {
        return not("there are no keys of this size here: `convoke proofs list`");
    };
    if !chain
        .has_key(circuit.address, &proof_keys::verifier_key(&keys)?)
        .await?
    {
        return not("the keys here are others than the chain's");
    }
    let (submission, key) = (&facts.submission, keys.verifying());
    let verified = verify_round(
        &key,
        &facts.domain,
        &facts.statement,
        &submission.factors,
        &submission.payouts,
        &submission.proof,
    );
    Ok(match verified {
        Ok(_) => Check::holds(NAME, "by the same key, computed on this machine"),
        Err(error) => Check::fails(NAME, error.to_string()),
    })
}

/// The record, or the check that says why there is none.
async fn read_record(
    args: &VerifyArgs,
    facts: &Facts,
    blobs: &Blobs,
) -> Result<RoundRecord, Check> {
    const NAME: &str = "record";
    let hash = BlobHash(facts.statement.result_hash.0);
    let path = match &args.record {
        Some(path) => path.clone(),
        None => blobs.find(&hash, RECORD_BYTES_MAX).await.map_err(|why| {
            Check::not_checkable(NAME, format!("the record is not to be had: {why}"))
        })?,
    };
    let wrong = |why: String| Check::fails(NAME, format!("{}: {why}", path.display()));
    let length = std::fs::metadata(&path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if length > RECORD_BYTES_MAX {
        return Err(wrong(format!(
            "{length} bytes are more than any record has"
        )));
    }
    let bytes = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let got = BlobHash::of(&bytes);
    if got != hash {
        return Err(wrong(format!("has hash {got}, the chain names {hash}")));
    }
    RoundRecord::from_json(&bytes).map_err(|error| wrong(error.to_string()))
}

/// Rule and server optimizer are the task's.
fn optimizer(facts: &Facts, record: &RoundRecord) -> Check {
    let (task, said) = (&facts.aggregation, &record.step);
    let (before, after) = (said.states_before.clone(), said.states_after.clone());
    let due = StepRecord {
        // Checked on their own.
        control_before: said.control_before,
        control_after: said.control_after,
        ..StepRecord::of(task, before, after)
    };
    let remembers = server_optimizer::of(task).remembers();
    let found = match () {
        () if said.rule != task.rule => Err(format!(
            "the rule is {}, the task wants {}",
            said.rule, task.rule
        )),
        () if *said != due => {
            Err("the server optimizer or its settings are not the task's".to_owned())
        }
        () if record.round == RoundId::FIRST && !said.states_before.is_empty() => {
            Err("there is a state before the first step".to_owned())
        }
        () => Ok(()),
    };
    let memory = if remembers { "with" } else { "without" };
    let good = format!(
        "{}, {:?}, learning rate {}, {memory} moments",
        said.rule, said.server_optimizer, said.server_lr
    );
    Check::of("server optimizer", good, found)
}

async fn step_checks(
    facts: &Facts,
    record: &RoundRecord,
    blobs: &Blobs,
) -> anyhow::Result<Vec<Check>> {
    let states = (&record.step.states_before, &record.step.states_after);
    let (from, to) = record.step_ends();
    let files = StepFiles {
        base: blobs.find(&from, u64::MAX).await.ok(),
        checkpoint: blobs.find(&to, u64::MAX).await.ok(),
        before: find_all(blobs, states.0).await,
        after: find_all(blobs, states.1).await,
    };
    let kept: Vec<BlobHash> = step::kept(record)
        .iter()
        .map(|entry| entry.update.header.delta)
        .collect();
    let deltas = find_all(blobs, &kept).await;
    let codec = Codec::of_updates(&facts.compression);
    let (record, settings) = (record.clone(), facts.aggregation.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let mut checks = step::check_step(&record, &settings, &files);
        if !kept.is_empty() {
            let deltas = deltas.as_deref();
            checks.push(again::check_again(
                &record, &settings, &files, deltas, codec,
            )?);
        }
        Ok(checks)
    });
    checked.await?
}

/// Where these blobs are; nothing if one of them is not to be had.
async fn find_all(blobs: &Blobs, names: &[BlobHash]) -> Option<Vec<PathBuf>> {
    let mut paths = Vec::with_capacity(names.len());
    for name in names {
        paths.push(blobs.find(name, u64::MAX).await.ok()?);
    }
    Some(paths)
}

/// Where those of these blobs are that are to be had.
async fn those_at_hand(
    blobs: &Blobs,
    names: impl IntoIterator<Item = BlobHash>,
) -> BTreeMap<BlobHash, PathBuf> {
    let mut paths = BTreeMap::new();
    for name in names {
        if let Ok(path) = blobs.find(&name, u64::MAX).await {
            paths.insert(name, path);
        }
    }
    paths
}

/// Of tasks whose checkpoints travel encoded.
async fn broadcast_check(
    facts: &Facts,
    record: &RoundRecord,
    blobs: &Blobs,
) -> anyhow::Result<Option<Check>> {
    let paths = those_at_hand(blobs, broadcast::blobs_of(record)).await;
    let (record, codec) = (record.clone(), Codec::of_checkpoints(&facts.compression));
    let checked = tokio::task::spawn_blocking(move || {
        let file = |blob: &BlobHash| paths.get(blob).map(PathBuf::as_path);
        broadcast::check_broadcast(&record, codec, file)
    });
    Ok(checked.await?)
}

/// Of tasks with control variates.
async fn control_check(
    facts: &Facts,
    record: &RoundRecord,
    blobs: &Blobs,
) -> anyhow::Result<Option<Check>> {
    let Some(terms) = facts.control.clone() else {
        return Ok(None);
    };
    let paths = those_at_hand(blobs, control::blobs_of(record)).await;
    let record = record.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let file = |blob: &BlobHash| paths.get(blob).map(PathBuf::as_path);
        control::check_control(&terms, &record, file)
    });
    Ok(Some(checked.await?))
}

/// Every delta that is to be had, one after the other.
async fn delta_checks(
    facts: &Facts,
    record: &RoundRecord,
    blobs: &Blobs,
) -> anyhow::Result<(Check, Vec<(Finding, PathBuf)>)> {
    const NAME: &str = "sketches of deltas";
    let context = facts.statement.context(&facts.domain);
    let codec = Codec::of_updates(&facts.compression);
    let (mut checked, mut findings) = (0, Vec::new());
    let sketched = record.dossier.updates.iter().enumerate();
    let sketched = sketched.filter(|(_, entry)| entry.sketched.is_some());
    for (slot, entry) in sketched.clone() {
        let header = &entry.update.header;
        let Ok(path) = blobs.find(&header.delta, header.delta_bytes).await else {
            continue;
        };
        let (of_task, delta) = (record.clone(), path.clone());
        let found = tokio::task::spawn_blocking(move || {
            deltas::check_delta(&of_task, &context, slot, &delta, codec)
        });
        let found = found.await?;
        let found = found.with_context(|| format!("delta of update {slot}"))?;
        checked += 1;
        findings.extend(found.map(|finding| (finding, path)));
    }
    let check = match (checked, findings.first()) {
        (0, _) => Check::not_checkable(
            NAME,
            "the deltas are private to trainers and validators: whoever has some names their folder",
        ),
        (_, None) => Check::holds(NAME, format!("of {checked} of {} deltas", sketched.count())),
        (_, Some((first, _))) => Check::fails(
            NAME,
            format!(
                "{} of {checked}; update {} of {}: {}",
                findings.len(),
                first.slot,
                first.trainer,
                first.lie.words()
            ),
        ),
    };
    Ok((check, findings))
}

/// Sends what can be proven, and says what came of it.
async fn send_evidence(
    chain: &Chain,
    facts: &Facts,
    record: &RoundRecord,
    findings: &[(Finding, PathBuf)],
    checks: &mut Vec<Check>,
) -> anyhow::Result<()> {
    const NAME: &str = "evidence";
    for (finding, delta) in findings {
        if !finding.provable {
            let why = format!(
                "update {}: {}: no one opening shows it; ask for the aggregator's sums on chain first",
                finding.slot,
                finding.lie.words()
            );
            checks.push(Check::not_checkable(NAME, why));
            continue;
        }
        let accused = accuse::accuse(chain, facts, record, finding, delta).await;
        let accused =
            accused.map_err(|error| anyhow!("the contract refused the evidence: {error}"))?;
        let taken = |taken: Option<_>| match taken {
            Some(amount) => format!("{amount} base units"),
            None => "nothing, it was punished before".to_owned(),
        };
        let mut why = format!("taken from the aggregator: {}", taken(accused.aggregator));
        if let Some(trainer) = accused.trainer {
            why += &format!("; from the trainer: {}", taken(trainer));
        }
        checks.push(Check::holds(NAME, why));
    }
    if findings.is_empty() {
        checks.push(Check::not_checkable(
            NAME,
            "nothing false was found in any sketch",
        ));
    }
    Ok(())
}
