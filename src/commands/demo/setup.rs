//! From nothing to a task with everybody at work: data, chain, contracts, stakes, task, nodes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use convoke_client::{AddressBook, Chain, DeployOptions, ProofCheck, VerifierKey};
use convoke_models::{Dataset, Images, Model, Part};
use convoke_proofs::size::Size;
use convoke_protocol::ids::{Amount, Role, TaskId};
use convoke_protocol::task::{StakeSpec, TaskSpec};
use convoke_sim::Persona;
use tokio::task::JoinSet;

use super::cast::{self, Cast, Player};
use super::plan::Plan;
use crate::commands::{chain, data, model, stake, task};
use crate::live::View;
use crate::live::board::Board;
use crate::money::tokens;
use crate::output::Format;
use crate::processes::Processes;
use crate::proof_keys;
use crate::session::Ledger;

/// Tokens there are on the demo's chain.
const SUPPLY: Amount = tokens(1_000_000);
/// The chain's own coin for each player, for gas.
const COIN: Amount = tokens(1);
/// Stake is bound for so long; it bounds the task's dispute window.
const UNBONDING_SECONDS: u32 = 3_600;

/// All that is set up.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Who plays what.
    pub(crate) cast: Cast,
    /// The creator's connection.
    pub(crate) chain: Chain,
    /// The task as posted.
    pub(crate) spec: TaskSpec,
    /// Its number.
    pub(crate) task: TaskId,
    /// The initial checkpoint.
    pub(crate) initial: PathBuf,
    /// What is trained.
    pub(crate) model: Model,
    /// Examples that neither trainers nor validators have.
    pub(crate) held_back: Dataset,
    /// HOST:PORT of the aggregator.
    pub(crate) aggregator: String,
    /// Number of examples of each trainer, in order.
    pub(crate) examples: Vec<usize>,
}

/// Sets everything up; the rounds begin by themselves.
pub(crate) async fn prepare(
    plan: &Plan,
    processes: &mut Processes,
    view: &mut View,
    board: &mut Board,
) -> anyhow::Result<Stage> {
    let cast = Cast::new(plan)?;
    introduce(board, &cast);
    view.remark(board, "preparing the data of trainers and validators")?;
    let source = plan.source()?;
    let mut spec = plan.task(source.as_ref())?;
    let model = task_model(&mut spec).await?;
    let dividing = {
        let (model, rehearsal, folders) = (model.clone(), plan.rehearsal.clone(), folders(&cast));
        let settings = (plan.alpha, plan.seed);
        tokio::task::spawn_blocking(move || match (source, rehearsal) {
            (Some(source), _) => divide(&source, &folders, settings),
            (None, Some(rehearsal)) => rehearsal.load(&model),
            (None, None) => Err(anyhow!("there is no data")),
        })
    };

    view.remark(board, "starting a chain and deploying the contracts")?;
    let Ledger { chain, token, .. } = start_chain(plan, &cast, processes).await?;
    board.chain_id = chain.book().chain_id;
    let initial = task::draw_initial(&mut spec, &model, &plan.out)?;
    plan.write("task.toml", task::in_tokens(&spec, &token)?)?;
    board.token = token;

    view.remark(board, "funding the nodes, posting the task, staking")?;
    fund(&chain, &cast, &spec.stake).await?;
    let task = task::create(&chain, &spec, cast.aggregator.address()).await?;
    board.task = Some(task);
    stake_all(chain.book(), task, &cast, &spec.stake).await?;

    let (held_back, examples) = dividing
        .await
        .context("the splitting of the data broke off")??;
    view.remark(board, "starting aggregator, trainers and validators")?;
    let aggregator = start_nodes(plan, task, &initial, &cast, processes).await?;
    Ok(Stage {
        cast,
        chain,
        spec,
        task,
        initial,
        model,
        held_back,
        aggregator,
        examples,
    })
}

/// Opens the model, on a thread that may take its time.
async fn task_model(spec: &mut TaskSpec) -> anyhow::Result<Model> {
    let mut own = spec.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let model = model::open(&mut own, Format::Json)?;
        anyhow::Ok((own, model))
    });
    let (own, model) = opening.await.context("opening the model broke off")??;
    *spec = own;
    Ok(model)
}

/// Tells the board the names, so that it shows everybody from the start.
fn introduce(board: &mut Board, cast: &Cast) {
    for player in &cast.trainers {
        let row = board.trainer(player.address());
        row.name.clone_from(&player.name);
        row.persona = player.persona.name().into();
    }
    for player in &cast.validators {
        board
            .validator(player.address())
            .name
            .clone_from(&player.name);
    }
}

/// The data folders of trainers and validators.
fn folders(cast: &Cast) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let of = |players: &[Player]| players.iter().map(Player::data).collect();
    (of(&cast.trainers), of(&cast.validators))
}

/// Splits the data and writes each party's part; gives what is held back and what each trainer has.
fn divide(
    source: &data::Source,
    (trainers, validators): &(Vec<PathBuf>, Vec<PathBuf>),
    (alpha, seed): (f64, u64),
) -> anyhow::Result<(Dataset, Vec<usize>)> {
    let parts = data::divide(source, trainers.len(), validators.len(), alpha, seed)?;
    let jobs: Vec<_> = parts
        .trainers
        .iter()
        .zip(trainers)
        .map(|(set, dir)| (set, dir, Part::Train))
        .chain(
            parts
                .validators
                .iter()
                .zip(validators)
                .map(|(set, dir)| (set, dir, Part::Test)),
        )
        .collect();
    // Compressing takes its time: as many at once as there are cores.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let saving: Vec<_> = jobs
            .chunks(jobs.len().div_ceil(threads).max(1))
            .map(|run| {
                scope.spawn(move || {
                    run.iter()
                        .try_for_each(|(set, dir, part)| data::save(set, dir, *part))
                })
            })
            .collect();
        saving.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("writing the data broke off")))
        })
    })?;
    Ok((
        parts.held_back.into(),
        parts.trainers.iter().map(Images::len).collect(),
    ))
}

async fn start_chain(
    plan: &Plan,
    cast: &Cast,
    processes: &mut Processes,
) -> anyhow::Result<Ledger> {
    let address = processes
        .start_listening(
            "devnet",
            arguments(&[
                "devnet".as_ref(),
                "--listen".as_ref(),
                "127.0.0.1:0".as_ref(),
                "--state".as_ref(),
                plan.out.join("nodes").join("chain-journal").as_os_str(),
                "--fund".as_ref(),
                cast.creator.address().to_string().as_ref(),
            ]),
        )
        .await?;
    let options = DeployOptions {
        unbonding_seconds: UNBONDING_SECONDS,
        proofs: ProofCheck::Keys(vec![proof_key(plan)?]),
        ..DeployOptions::new(SUPPLY)
    };
    let book = chain::deploy(&format!("http://{address}"), &cast.creator, options).await?;
    book.save(&cast::book_file(&plan.out))?;
    Ledger::of(Chain::connect(&book, Some(&cast.creator)).await?).await
}

/// The key of the circuit that the demonstration's rounds fit in, made at the first use.
fn proof_key(plan: &Plan) -> anyhow::Result<VerifierKey> {
    let size = Size::fitting(plan.trainers as usize)?;
    let keys = proof_keys::open_or_make(&proof_keys::default_folder()?, size)?;
    proof_keys::verifier_key(&keys)
}

/// Sends every player its stake, to the unit, and coin for gas.
async fn fund(chain: &Chain, cast: &Cast, stakes: &StakeSpec) -> anyhow::Result<()> {
    for player in cast.players() {
        chain::fund(chain, player.address(), stake_of(stakes, player.role), COIN).await?;
    }
    Ok(())
}

async fn stake_all(
    book: &AddressBook,
    task: TaskId,
    cast: &Cast,
    stakes: &StakeSpec,
) -> anyhow::Result<()> {
    let mut deposits = JoinSet::new();
    for player in cast.players() {
        let (book, wallet) = (book.clone(), player.wallet.clone());
        let (role, amount) = (player.role, stake_of(stakes, player.role));
        deposits.spawn(async move {
            let chain = Chain::connect(&book, Some(&wallet)).await?;
            stake::deposit(&chain, task, role, amount).await
        });
    }
    while let Some(deposit) = deposits.join_next().await {
        deposit.context("a deposit broke off")??;
    }
    Ok(())
}

fn stake_of(stakes: &StakeSpec, role: Role) -> Amount {
    match role {
        Role::Trainer => stakes.trainer,
        Role::Validator => stakes.validator,
        Role::Aggregator => stakes.aggregator,
        Role::Observer => Amount::ZERO,
    }
}

/// Starts all nodes; gives the aggregator's address.
async fn start_nodes(
    plan: &Plan,
    task: TaskId,
    initial: &Path,
    cast: &Cast,
    processes: &mut Processes,
) -> anyhow::Result<String> {
    let book = cast::book_file(&plan.out);
    let common = |player: &Player| {
        let task = task.to_string();
        let parts: [OsString; 8] = [
            "--task".into(),
            task.into(),
            "--chain".into(),
            book.clone().into(),
            "--key".into(),
            player.key().into(),
            "--dir".into(),
            player.state().into(),
        ];
        parts
    };
    let mut line = arguments(&[
        "aggregator".as_ref(),
        "--listen".as_ref(),
        "127.0.0.1:0".as_ref(),
    ]);
    line.extend(common(&cast.aggregator));
    line.extend(["--initial".into(), initial.into()]);
    let keys = proof_keys::default_folder()?;
    line.extend(["--proof-keys".into(), keys.into()]);
    let aggregator = processes
        .start_listening(&cast.aggregator.name, line)
        .await?;

    for player in cast.trainers.iter().chain(&cast.validators) {
        let role = player.role.to_string();
        // One thread each: there are more nodes than cores.
        let mut line = arguments(&[
            role.as_ref(),
            "--aggregator".as_ref(),
            aggregator.as_ref(),
            "--threads".as_ref(),
            "1".as_ref(),
            "--data".as_ref(),
            player.data().as_os_str(),
        ]);
        line.extend(common(player));
        if player.persona != Persona::Honest {
            let seed = plan.seed.to_string();
            let persona = [player.persona.name(), "--persona-seed", &seed];
            line.push("--persona".into());
            line.extend(persona.map(OsString::from));
        }
        processes.start(&player.name, line)?;
    }
    Ok(aggregator)
}

fn arguments(parts: &[&std::ffi::OsStr]) -> Vec<OsString> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}
