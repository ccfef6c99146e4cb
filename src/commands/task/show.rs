//! `convoke task list` and `convoke task show`.

use clap::Args;
use convoke_client::{TaskRecord, TaskTerms};
use convoke_protocol::ids::TaskId;
use convoke_protocol::task::ProofMode;
use serde_json::{Value, json};

use super::file;
use crate::address::checksummed;
use crate::cli::{self, ChainArgs};
use crate::output::{self, Format, Sheet};
use crate::session::Ledger;
use crate::times;

/// Arguments of `task list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `task show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The task
    #[arg(value_parser = cli::task_id)]
    task: TaskId,
    /// Print the task file alone, fit to be posted again
    #[arg(long)]
    file: bool,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs `task list`.
pub(crate) async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let mut tasks = Vec::new();
    for (id, record) in ledger.chain.tasks().await? {
        tasks.push((id, record, ledger.chain.terms(id).await?));
    }
    let values: Vec<_> = tasks
        .iter()
        .map(|(id, record, terms)| json_of(&ledger, *id, record, terms))
        .collect();
    format.print(&values, || {
        if tasks.is_empty() {
            return "no tasks yet; `convoke task init` writes a task file to post".into();
        }
        let escrow = format!("escrow ({})", ledger.token.symbol);
        let mut table =
            output::table(["task", "state", "rounds", &escrow, "creator", "aggregator"]);
        for (id, record, terms) in &tasks {
            table.add_row([
                id.to_string(),
                record.state.to_string(),
                format!("{}/{}", record.rounds_settled, terms.rounds),
                ledger.token.short(record.balances.escrowed),
                record.creator.short(),
                terms.aggregator.short(),
            ]);
        }
        for column in [0, 2, 3] {
            output::align_right(&mut table, column);
        }
        table.to_string()
    })
}

/// Runs `task show`.
pub(crate) async fn show(args: ShowArgs, format: Format) -> anyhow::Result<()> {
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let (chain, task) = (&ledger.chain, args.task);
    let record = chain.task(task).await?;
    let file = file::to_tokens(&chain.task_file(task).await?, &ledger.token);
    if args.file {
        return format.print(&json!({ "task": task, "file": file }), || {
            file.trim_end().to_owned()
        });
    }
    let terms = chain.terms(task).await?;
    let now = ledger.now().await?;
    let mut value = json_of(&ledger, task, &record, &terms);
    value["file"] = json!(file);
    format.print(&value, || {
        let sheet = sheet(&ledger, task, &record, &terms, now);
        format!("{sheet}\n\n{}", file.trim_end())
    })
}

fn sheet(ledger: &Ledger, task: TaskId, record: &TaskRecord, terms: &TaskTerms, now: u64) -> Sheet {
    let token = &ledger.token;
    let mut sheet = Sheet::default();
    sheet.line("task", task.to_string());
    sheet.line(
        "state",
        format!(
            "{}, {} of {} rounds settled",
            record.state, record.rounds_settled, terms.rounds
        ),
    );
    match record.ended_at {
        Some(at) => sheet.line("ended", times::utc(at)),
        None => {
            let at = record.last_progress_at + u64::from(terms.round_timeout_seconds);
            sheet.line(
                "times out",
                format!("{}, unless a result comes", times::due(at, now)),
            );
        }
    }
    sheet.line("creator", checksummed(record.creator));
    sheet.line("aggregator", checksummed(terms.aggregator));
    let b = &record.balances;
    sheet.line(
        "escrow",
        format!(
            "{} = paid {} + refunded {} + vesting {} + held {}",
            token.exact(b.escrowed),
            token.number(b.paid),
            token.number(b.refunded),
            token.number(b.vesting),
            token.number(b.held),
        ),
    );
    if !record.state.has_ended() {
        sheet.line("a round pays", token.exact(record.round_pool));
    }
    let least = &terms.stakes_min;
    sheet.line(
        "least stakes",
        format!(
            "trainer {}, validator {}, aggregator {} {}",
            token.number(least.trainer),
            token.number(least.validator),
            token.number(least.aggregator),
            token.symbol
        ),
    );
    sheet.line("proofs", proof_words(terms.proof_mode));
    sheet
}

fn proof_words(mode: ProofMode) -> &'static str {
    match mode {
        ProofMode::OnSubmission => "checked with each result",
        ProofMode::OnChallenge => "checked if a result is challenged",
    }
}

/// A task for programs.
pub(crate) fn json_of(
    ledger: &Ledger,
    task: TaskId,
    record: &TaskRecord,
    terms: &TaskTerms,
) -> Value {
    let balances = &record.balances;
    let mut value = json!({
        "task": task,
        "state": record.state.to_string(),
        "creator": record.creator,
        "aggregator": terms.aggregator,
        "rounds": terms.rounds,
        "rounds_settled": record.rounds_settled,
        "rounds_opened": record.rounds_opened,
        "last_progress_at": record.last_progress_at,
        "ended_at": record.ended_at,
        "release_bps": record.release_bps,
        "terms": {
            "trainers_min": terms.trainers_min,
            "trainers_max": terms.trainers_max,
            "validators_min": terms.validators_min,
            "attempts_max": terms.attempts_max,
            "trainers_bps": terms.shares.trainers_bps,
            "validators_bps": terms.shares.validators_bps,
            "aggregator_bps": terms.shares.aggregator_bps,
            "vesting_bps": terms.vesting_bps,
            "split": terms.split,
            "rank_decay_bps": terms.rank_decay_bps,
            "slash_bps": terms.slash_bps,
            "reporter_bps": terms.reporter_bps,
            "proof": terms.proof_mode,
            "train_window_s": terms.train_window_seconds,
            "score_window_s": terms.score_window_seconds,
            "grace_window_s": terms.grace_window_seconds,
            "settle_window_s": terms.settle_window_seconds,
            "dispute_window_s": terms.dispute_window_seconds,
            "round_timeout_s": terms.round_timeout_seconds,
        },
    });
    for (name, amount) in [
        ("reward", terms.reward),
        ("escrowed", balances.escrowed),
        ("paid", balances.paid),
        ("refunded", balances.refunded),
        ("vesting", balances.vesting),
        ("held", balances.held),
        ("round_pool", record.round_pool),
        ("forfeited", record.forfeited),
        ("stake_trainer", terms.stakes_min.trainer),
        ("stake_validator", terms.stakes_min.validator),
        ("stake_aggregator", terms.stakes_min.aggregator),
    ] {
        ledger.token.put(&mut value, name, amount);
    }
    ledger.object(value)
}
