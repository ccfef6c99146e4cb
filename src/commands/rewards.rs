//! `convoke rewards`: pay, seen and claimed.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_client::{Chain, Claim, DelegationRecord, TaskRecord};
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};
use convoke_protocol::payout::MerkleTree;
use serde_json::{Value, json};

use crate::address::{self, checksummed};
use crate::cli::{self, ChainArgs};
use crate::output::{self, Format, Sheet};
use crate::session::{Deed, Ledger, SenderArgs, Session};
use crate::times;

/// Shows, claims.
#[derive(Debug, Subcommand)]
pub(crate) enum RewardsCommand {
    /// Show what an account has earned in a task, round by round, and what of it was claimed
    #[command(
        after_help = "Examples:\n  convoke rewards show --task 3 --account 0x…\n  \
                      convoke rewards show --task 3 --account 0x… --operator 0x…"
    )]
    Show(ShowArgs),
    /// Claim the pay of all settled rounds, what has vested, and rewards for delegating
    #[command(
        after_help = "Examples:\n  convoke rewards claim --task 3 --key mine\n  \
                      convoke rewards claim --task 3 --operator 0x… --key mine\n\n\
                      What was claimed before is passed over. Anyone may claim for an --account: it is paid, the key pays the gas."
    )]
    Claim(ClaimArgs),
}

/// Arguments of `rewards show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Whose pay
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    account: Address,
    /// Also the rewards for what the account has delegated to this trainer or validator
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    operator: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `rewards claim`.
#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Whose pay [default: the key's]
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    account: Option<Address>,
    /// Also the rewards for what the account has delegated to this trainer or validator
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    operator: Option<Address>,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Runs the command.
pub(crate) async fn run(command: RewardsCommand, format: Format) -> anyhow::Result<()> {
    match command {
        RewardsCommand::Show(args) => show(args, format).await,
        RewardsCommand::Claim(args) => claim(args, format).await,
    }
}

/// An account's pay for one round.
#[derive(Debug)]
struct RoundPay {
    round: RoundId,
    /// The whole of it, what vests and the delegators' part included.
    amount: Amount,
    is_claimed: bool,
    /// Unix seconds.
    claimable_at: u64,
    /// What claims it.
    claim: Claim,
}

impl RoundPay {
    fn is_open(&self, now: u64) -> bool {
        !self.is_claimed && self.claimable_at <= now
    }
}

/// What an account has earned in a task.
struct Statement {
    record: TaskRecord,
    rounds: Vec<RoundPay>,
    vesting: Amount,
    delegation: Option<(Address, DelegationRecord)>,
    now: u64,
}

impl Statement {
    async fn read(
        ledger: &Ledger,
        task: TaskId,
        account: Address,
        operator: Option<Address>,
    ) -> anyhow::Result<Self> {
        let chain = &ledger.chain;
        let record = chain.task(task).await?;
        let mut rounds = Vec::new();
        for round in (1..=record.rounds_settled).map(RoundId) {
            rounds.extend(pay_of(chain, task, round, account).await?);
        }
        let delegation = match operator {
            Some(operator) => Some((operator, chain.delegation(task, operator, account).await?)),
            None => None,
        };
        Ok(Self {
            record,
            rounds,
            vesting: chain.vesting_of(task, account).await?,
            delegation,
            now: ledger.now().await?,
        })
    }

    fn sum(&self, which: impl Fn(&RoundPay) -> bool) -> Amount {
        let rounds = self.rounds.iter().filter(|pay| which(pay));
        rounds.map(|pay| pay.amount).sum()
    }

    fn json(&self, ledger: &Ledger, task: TaskId, account: Address) -> Value {
        let token = &ledger.token;
        let rounds: Vec<_> = self
            .rounds
            .iter()
            .map(|pay| {
                let mut value = json!({
                    "round": pay.round,
                    "claimed": pay.is_claimed,
                    "claimable_at": pay.claimable_at,
                });
                token.put(&mut value, "amount", pay.amount);
                value
            })
            .collect();
        let mut value = json!({
            "task": task,
            "account": account,
            "state": self.record.state.to_string(),
            "rounds_settled": self.record.rounds_settled,
            "rounds": rounds,
            "operator": self.delegation.map(|(operator, _)| operator),
        });
        let rewards = self
            .delegation
            .map_or(Amount::ZERO, |(_, record)| record.rewards);
        for (name, amount) in [
            ("earned", self.sum(|_| true)),
            ("claimed", self.sum(|pay| pay.is_claimed)),
            ("claimable", self.sum(|pay| pay.is_open(self.now))),
            ("vesting", self.vesting),
            ("delegation_rewards", rewards),
        ] {
            token.put(&mut value, name, amount);
        }
        ledger.object(value)
    }

    fn text(&self, ledger: &Ledger, task: TaskId, account: Address) -> String {
        let token = &ledger.token;
        let mut sheet = Sheet::default();
        sheet.line("account", checksummed(account));
        let settled = self.record.rounds_settled;
        let (earned, rounds) = (token.exact(self.sum(|_| true)), self.rounds.len());
        sheet.line(
            "earned",
            format!("{earned} in {rounds} of {settled} settled rounds of task {task}"),
        );
        sheet.line("claimed", token.exact(self.sum(|pay| pay.is_claimed)));
        sheet.line(
            "to claim",
            token.exact(self.sum(|pay| pay.is_open(self.now))),
        );
        let disputable = self.sum(|pay| !pay.is_claimed && !pay.is_open(self.now));
        if disputable > Amount::ZERO {
            sheet.line("later", token.exact(disputable));
        }
        if self.vesting > Amount::ZERO {
            let when = if self.record.state.has_ended() {
                let kept = super::stake::percent(self.record.release_bps);
                format!("{kept} of it can be claimed")
            } else {
                "until the task ends".into()
            };
            sheet.line("vesting", format!("{}, {when}", token.exact(self.vesting)));
        }
        if let Some((operator, record)) = &self.delegation {
            let rewards = token.exact(record.rewards);
            sheet.line(
                "delegating",
                format!("{rewards} from {}", checksummed(*operator)),
            );
        }
        if self.rounds.is_empty() {
            return sheet.to_string();
        }
        let pay = format!("pay ({})", token.symbol);
        let mut table = output::table(["round", &pay, "claim"]);
        for pay in &self.rounds {
            let claim = if pay.is_claimed {
                "claimed".into()
            } else if pay.is_open(self.now) {
                "open".into()
            } else {
                format!("from {}", times::due(pay.claimable_at, self.now))
            };
            table.add_row([pay.round.to_string(), token.number(pay.amount), claim]);
        }
        output::align_right(&mut table, 0);
        output::align_right(&mut table, 1);
        format!("{sheet}\n\n{table}")
    }
}

/// What an account gets for a round: a trainer's payout, under the round's Merkle root, or what
/// the contract knows of a validator or the aggregator.
async fn pay_of(
    chain: &Chain,
    task: TaskId,
    round: RoundId,
    account: Address,
) -> anyhow::Result<Option<RoundPay>> {
    let Some(result) = chain.round_result(task, round).await? else {
        return Ok(None);
    };
    let direct = chain.direct_pay(task, round, account).await?;
    if direct > Amount::ZERO {
        return Ok(Some(RoundPay {
            round,
            amount: direct,
            is_claimed: chain.direct_claimed(task, round, account).await?,
            claimable_at: result.claimable_at,
            claim: Claim::direct(round, account),
        }));
    }
    let payouts = chain.payouts(task, round).await?;
    let Some(index) = payouts.iter().position(|(to, _)| *to == account) else {
        return Ok(None);
    };
    let amount = payouts[index].1;
    let proof = MerkleTree::of_payouts(&chain.domain(), task, round, &payouts).proof(index);
    Ok(Some(RoundPay {
        round,
        amount,
        is_claimed: chain.claimed(task, round, account).await?,
        claimable_at: result.claimable_at,
        claim: Claim {
            round,
            account,
            amount,
            proof: proof.context("a payout outside its own tree")?,
        },
    }))
}

async fn show(args: ShowArgs, format: Format) -> anyhow::Result<()> {
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let (task, account) = (args.task, args.account);
    let statement = Statement::read(&ledger, task, account, args.operator).await?;
    format.print(&statement.json(&ledger, task, account), || {
        statement.text(&ledger, task, account)
    })
}

async fn claim(args: ClaimArgs, format: Format) -> anyhow::Result<()> {
    let session = args.sender.open(format).await?;
    let task = args.task;
    let account = args.account.unwrap_or(session.account);
    let statement = Statement::read(&session.ledger, task, account, args.operator).await?;
    let claimed = claim_rounds(&session, task, &statement).await?;
    // What was claimed just now vests with the rest.
    let released = release(&session, task, account, &statement).await?;
    let rewards = claim_delegated(&session, task, account, &statement).await?;
    if session.only_rehearses() && [claimed, released, rewards].iter().any(Option::is_none) {
        return Ok(());
    }
    let [claimed, released, rewards] = [claimed, released, rewards].map(Option::unwrap_or_default);
    let token = &session.ledger.token;
    let mut value = json!({ "task": task, "account": account });
    token.put(&mut value, "claimed", claimed);
    token.put(&mut value, "released", released);
    token.put(&mut value, "delegation_rewards", rewards);
    format.print(&session.ledger.object(value), || {
        let parts = [
            ("for settled rounds", claimed),
            ("that had vested", released),
            ("for delegating", rewards),
        ];
        let paid: Vec<_> = parts
            .iter()
            .filter(|(_, amount)| *amount > Amount::ZERO)
            .map(|(what, amount)| format!("{} {what}", token.exact(*amount)))
            .collect();
        if paid.is_empty() {
            let account = checksummed(account);
            format!("nothing to claim now; `convoke rewards show --task {task} --account {account}` says what is to come")
        } else {
            format!("paid to {}: {}", checksummed(account), paid.join(", "))
        }
    })
}

/// Claims all open rounds; nothing in a dry run that showed something.
async fn claim_rounds(
    session: &Session,
    task: TaskId,
    statement: &Statement,
) -> anyhow::Result<Option<Amount>> {
    let open = |pay: &&RoundPay| pay.is_open(statement.now);
    let claims: Vec<_> = statement.rounds.iter().filter(open).collect();
    let claims: Vec<_> = claims.into_iter().map(|pay| pay.claim.clone()).collect();
    if claims.is_empty() {
        return Ok(Some(Amount::ZERO));
    }
    let sum = statement.sum(|pay| pay.is_open(statement.now));
    let what = format!(
        "claim {} for {} of task {task}",
        session.ledger.token.exact(sum),
        match claims.len() {
            1 => "one round".into(),
            rounds => format!("{rounds} rounds"),
        }
    );
    session
        .send(Deed::new(what), |chain| async move {
            chain.claim_many(task, &claims).await
        })
        .await
}

/// Releases what has vested, if the task has ended.
async fn release(
    session: &Session,
    task: TaskId,
    account: Address,
    statement: &Statement,
) -> anyhow::Result<Option<Amount>> {
    let vesting = session.ledger.chain.vesting_of(task, account).await?;
    if vesting == Amount::ZERO || !statement.record.state.has_ended() {
        return Ok(Some(Amount::ZERO));
    }
    let what = format!(
        "release the {} that vested in task {task}",
        session.ledger.token.exact(vesting)
    );
    session
        .send(Deed::new(what), |chain| async move {
            chain.release_vested(task, account).await
        })
        .await
}

async fn claim_delegated(
    session: &Session,
    task: TaskId,
    account: Address,
    statement: &Statement,
) -> anyhow::Result<Option<Amount>> {
    let Some((operator, record)) = statement.delegation else {
        return Ok(Some(Amount::ZERO));
    };
    if record.rewards == Amount::ZERO {
        return Ok(Some(Amount::ZERO));
    }
    let what = format!(
        "claim {} for delegating to {} in task {task}",
        session.ledger.token.exact(record.rewards),
        checksummed(operator)
    );
    session
        .send(Deed::new(what), |chain| async move {
            chain.claim_rewards(task, operator, account).await
        })
        .await
}
