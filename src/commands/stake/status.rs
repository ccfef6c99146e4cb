//! `convoke stake status`: one account's stake in a task, from all sides.

use clap::Args;
use convoke_client::{DelegationRecord, PoolRecord, StakeRecord};
use convoke_protocol::ids::{Address, Amount, TaskId};
use serde_json::{Value, json};

use super::delegation::percent;
use crate::cli::{self, ChainArgs};
use crate::output::{Format, Sheet};
use crate::session::Ledger;
use crate::{address, times};

/// Arguments of `stake status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Whose stake
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    account: Address,
    /// Also show what the account has delegated to this trainer or validator
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    operator: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
}

/// What there is to be shown.
struct Status {
    stake: Option<StakeRecord>,
    effective: Amount,
    pool: PoolRecord,
    /// With the operator that it is delegated to.
    delegation: Option<(Address, DelegationRecord)>,
    now: u64,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs, format: Format) -> anyhow::Result<()> {
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let (chain, task, account) = (&ledger.chain, args.task, args.account);
    // An unknown task would only look like one without stakes.
    chain.task(task).await?;
    let delegation = match args.operator {
        Some(operator) => Some((operator, chain.delegation(task, operator, account).await?)),
        None => None,
    };
    let status = Status {
        stake: chain.stake(task, account).await?,
        effective: chain.effective_stake(task, account).await?,
        pool: chain.pool(task, account).await?,
        delegation,
        now: ledger.now().await?,
    };
    format.print(&status.json(&ledger, task, account), || {
        status.text(&ledger, task, account)
    })
}

impl Status {
    fn json(&self, ledger: &Ledger, task: TaskId, account: Address) -> Value {
        let token = &ledger.token;
        let stake = self.stake;
        let mut value = json!({
            "task": task,
            "account": account,
            "role": stake.map(|stake| stake.role),
            "available_at": stake.and_then(|stake| stake.available_at),
            "locked_by": stake.and_then(|stake| stake.locked_by),
            "commission_bps": self.pool.commission_bps,
            "next_commission_bps": self.pool.next_commission.map(|next| next.bps),
            "next_commission_at": self.pool.next_commission.map(|next| next.at),
        });
        for (name, amount) in [
            ("staked", stake.map_or(Amount::ZERO, |stake| stake.amount)),
            (
                "unbonding",
                stake.map_or(Amount::ZERO, |stake| stake.unbonding),
            ),
            ("effective", self.effective),
            ("delegated", self.pool.assets),
            ("delegated_unbonding", self.pool.unbonding_assets),
        ] {
            token.put(&mut value, name, amount);
        }
        value["delegation"] = self.delegation.map_or(Value::Null, |(operator, record)| {
            let mut value = json!({
                "operator": operator,
                "active_at": record.active_at,
                "available_at": record.available_at,
                "locked_by": record.locked_by,
            });
            for (name, amount) in [
                ("active", record.active),
                ("pending", record.pending),
                ("unbonding", record.unbonding),
                ("rewards", record.rewards),
            ] {
                token.put(&mut value, name, amount);
            }
            value
        });
        ledger.object(value)
    }

    fn text(&self, ledger: &Ledger, task: TaskId, account: Address) -> String {
        let token = &ledger.token;
        let mut sheet = Sheet::default();
        sheet.line("account", address::checksummed(account));
        match self.stake {
            None => sheet.line("own stake", format!("none in task {task}")),
            Some(stake) => {
                let staked = token.exact(stake.amount);
                sheet.line(
                    "own stake",
                    format!("{staked} as {} of task {task}", stake.role),
                );
                self.unbonding_line(&mut sheet, ledger, &stake);
            }
        }
        if self.pool.assets > Amount::ZERO || self.pool.unbonding_assets > Amount::ZERO {
            let mut delegated = token.exact(self.pool.assets);
            if self.pool.unbonding_assets > Amount::ZERO {
                let unbonding = token.exact(self.pool.unbonding_assets);
                delegated += &format!(", and {unbonding} on their way back");
            }
            sheet.line("delegated", delegated);
        }
        if self.stake.is_some() {
            sheet.line("weighs", format!("{} in all", token.exact(self.effective)));
            sheet.line("commission", self.commission());
        }
        if let Some((operator, record)) = &self.delegation {
            self.delegation_lines(&mut sheet, ledger, *operator, record);
        }
        sheet.to_string()
    }

    fn unbonding_line(&self, sheet: &mut Sheet, ledger: &Ledger, stake: &StakeRecord) {
        if stake.unbonding == Amount::ZERO {
            return;
        }
        let unbonding = ledger.token.exact(stake.unbonding);
        let when = self.when(stake.available_at);
        sheet.line("unbonding", format!("{unbonding}, {when}"));
        if let Some(key) = stake.locked_by {
            sheet.line("", format!("and not while {key} is open"));
        }
    }

    fn delegation_lines(
        &self,
        sheet: &mut Sheet,
        ledger: &Ledger,
        operator: Address,
        record: &DelegationRecord,
    ) {
        let token = &ledger.token;
        sheet.line("", String::new());
        sheet.line("delegated to", address::checksummed(operator));
        sheet.line("in its pool", token.exact(record.active));
        if record.pending > Amount::ZERO {
            let pending = token.exact(record.pending);
            let when = match record.active_at {
                Some(at) if at > self.now => {
                    format!("can join from {} on", times::due(at, self.now))
                }
                _ => "can join now: `convoke stake activate`".into(),
            };
            sheet.line("waiting", format!("{pending}, {when}"));
        }
        if record.unbonding > Amount::ZERO {
            let unbonding = token.exact(record.unbonding);
            sheet.line(
                "unbonding",
                format!("{unbonding}, {}", self.when(record.available_at)),
            );
        }
        sheet.line("rewards due", token.exact(record.rewards));
    }

    fn commission(&self) -> String {
        let rate = percent(self.pool.commission_bps);
        match self.pool.next_commission {
            Some(next) => format!(
                "{rate} of the delegators' rewards, {} from {} on",
                percent(next.bps),
                times::due(next.at, self.now)
            ),
            None => format!("{rate} of the delegators' rewards"),
        }
    }

    fn when(&self, available_at: Option<u64>) -> String {
        match available_at {
            Some(at) if at > self.now => {
                format!("can be paid from {} on", times::due(at, self.now))
            }
            _ => "can be paid now".into(),
        }
    }
}
