//! What commands that speak with a chain have in common: a checked connection, the token and the
//! coin that amounts are in, a key, and `--dry-run`.

use anyhow::{Context as _, anyhow};
use clap::Args;
use convoke_client::{Chain, ChainError, Preview};
use convoke_protocol::ids::{Address, Amount};
use serde_json::{Value, json};

use crate::address::checksummed;
use crate::cli::ChainArgs;
use crate::failure::{HintExt as _, hinted};
use crate::keys::KeyArgs;
use crate::money::{self, Unit};
use crate::output::{self, Format};
use crate::presets;
use crate::progress::Waiting;

/// Arguments of a command that acts for an account.
#[derive(Debug, Args)]
pub(crate) struct SenderArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
    /// Show what would be sent and what it would cost; send nothing
    #[arg(long)]
    dry_run: bool,
}

impl SenderArgs {
    /// Connects with the key.
    pub(crate) async fn open(&self, format: Format) -> anyhow::Result<Session> {
        let wallet = self.key.wallet()?;
        let chain = self.chain.connect(Some(&wallet)).await?;
        Ok(Session {
            ledger: Ledger::of(chain).await?,
            account: wallet.address(),
            format,
            dry_run: self.dry_run,
        })
    }
}

/// A connection, and what amounts on it are in.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// The connection.
    pub(crate) chain: Chain,
    /// Of stakes and rewards.
    pub(crate) token: Unit,
    /// Of gas.
    pub(crate) coin: Unit,
}

impl Ledger {
    /// Asks the token for its name and decimal places.
    pub(crate) async fn of(chain: Chain) -> anyhow::Result<Self> {
        let (symbol, decimals) = chain
            .token_symbol_decimals()
            .await
            .context("the token does not say what it is")?;
        Ok(Self {
            token: Unit::token(&symbol, decimals)?,
            coin: presets::coin_of(chain.book().chain_id),
            chain,
        })
    }

    /// A JSON object that says what its amounts are in.
    pub(crate) fn object(&self, mut value: Value) -> Value {
        value["token"] = json!(self.token.symbol);
        value
    }

    /// The time of the newest block, in Unix seconds: the contracts have no other clock.
    pub(crate) async fn now(&self) -> anyhow::Result<u64> {
        Ok(self.chain.latest_block().await?.timestamp)
    }
}

/// What is about to be done.
#[derive(Debug)]
pub(crate) struct Deed {
    /// As in "cannot …" and "would …".
    what: String,
    /// Tokens that leave the account with it.
    tokens: Amount,
}

impl Deed {
    /// Costs nothing but gas.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            tokens: Amount::ZERO,
        }
    }

    /// Takes so many tokens from the account.
    pub(crate) fn taking(what: impl Into<String>, tokens: Amount) -> Self {
        Self {
            what: what.into(),
            tokens,
        }
    }
}

/// A connection that acts for an account, or only rehearses.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection and its units.
    pub(crate) ledger: Ledger,
    /// Who acts.
    pub(crate) account: Address,
    /// Form of standard output.
    pub(crate) format: Format,
    dry_run: bool,
}

impl Session {
    /// Who acts, for people.
    pub(crate) fn name(&self) -> String {
        checksummed(self.account)
    }

    /// Whether nothing is to be sent, or written.
    pub(crate) fn only_rehearses(&self) -> bool {
        self.dry_run
    }

    /// Sends what `calls` sends. With `--dry-run` shows it instead, and gives nothing.
    ///
    /// # Errors
    /// What the chain says against it; in a dry run also if it would be refused.
    pub(crate) async fn send<T, F>(
        &self,
        deed: Deed,
        calls: impl FnOnce(Chain) -> F,
    ) -> anyhow::Result<Option<T>>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        let chain = &self.ledger.chain;
        if self.dry_run {
            let previews = chain.preview(calls).await;
            let previews = self.ledger.explain(previews, &deed.what)?;
            self.show(&deed, &previews).await?;
            return Ok(None);
        }
        let waiting = Waiting::start(self.format, &deed.what);
        let done = calls(chain.clone()).await;
        drop(waiting);
        self.ledger.explain(done, &deed.what).map(Some)
    }

    async fn show(&self, deed: &Deed, previews: &[Preview]) -> anyhow::Result<()> {
        let chain = &self.ledger.chain;
        let bill = Bill {
            deed,
            previews,
            tokens_held: chain.token_balance(self.account).await?,
            coin_held: chain.native_balance(self.account).await?,
        };
        let refusal = bill.refusal(&self.ledger);
        let value = bill.json(self, refusal.as_deref());
        self.format.print(&value, || bill.text(self))?;
        match refusal {
            None => Ok(()),
            Some(refusal) => Err(anyhow!("this would be refused: {refusal}")),
        }
    }
}

impl Ledger {
    /// An error of the chain, with amounts in tokens where it has any.
    pub(crate) fn explain<T>(&self, done: Result<T, ChainError>, what: &str) -> anyhow::Result<T> {
        let error = match done {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let cannot = format!("cannot {what}");
        match &error {
            ChainError::NotEnoughTokens {
                account,
                balance,
                needed,
            } => {
                let (held, needed) = (self.token.exact(*balance), self.token.exact(*needed));
                let account = checksummed(*account);
                Err(anyhow!("{account} holds {held}, {needed} are needed"))
                    .context(cannot)
                    .hint("`convoke chain status --account ADDRESS` shows what an account holds")
            }
            ChainError::Reverted { words, .. } if has_base_units(words) => {
                let one = money::grouped(10u128.pow(u32::from(self.token.decimals)));
                let unit = format!(
                    "the contract counts in base units: 1 {} is {one}",
                    self.token.symbol
                );
                Err(hinted(anyhow::Error::from(error).context(cannot), unit))
            }
            _ => Err(error).context(cannot),
        }
    }
}

/// Whether a number in the text is so large that it must be an amount.
fn has_base_units(words: &str) -> bool {
    const DIGITS: usize = 12;
    words
        .split(|c: char| !c.is_ascii_digit())
        .any(|number| number.len() >= DIGITS)
}

/// What a dry run shows.
struct Bill<'a> {
    deed: &'a Deed,
    previews: &'a [Preview],
    tokens_held: Amount,
    coin_held: Amount,
}

impl Bill<'_> {
    fn fee_max(&self) -> Amount {
        self.previews.iter().filter_map(|p| p.fee_wei_max).sum()
    }

    fn coin_max(&self) -> Amount {
        let value: Amount = self.previews.iter().map(|p| p.value_wei).sum();
        Amount(value.0.saturating_add(self.fee_max().0))
    }

    /// Why it would fail, if it would.
    fn refusal(&self, ledger: &Ledger) -> Option<String> {
        let refused = self.previews.iter().find_map(|p| p.refused.clone());
        let (held, needed) = (self.coin_held, self.coin_max());
        refused.or_else(|| {
            (held < needed).then(|| {
                format!(
                    "the account holds {}, up to {} are needed for gas",
                    ledger.coin.exact(held),
                    ledger.coin.exact(needed)
                )
            })
        })
    }

    fn json(&self, session: &Session, refusal: Option<&str>) -> Value {
        let Ledger { token, coin, .. } = &session.ledger;
        let transactions: Vec<_> = self
            .previews
            .iter()
            .map(|preview| {
                json!({
                    "call": preview.call,
                    "to": preview.to,
                    "value": coin.plain(preview.value_wei),
                    "gas": preview.gas,
                    "fee_max": preview.fee_wei_max.map(|fee| coin.plain(fee)),
                    "refused": preview.refused,
                })
            })
            .collect();
        let mut value = json!({
            "dry_run": true,
            "action": self.deed.what,
            "account": session.account,
            "transactions": transactions,
            "refused": refusal,
            "coin": coin.symbol,
        });
        token.put(&mut value, "tokens", self.deed.tokens);
        coin.put(&mut value, "fee_max", self.fee_max());
        session.ledger.object(value)
    }

    fn text(&self, session: &Session) -> String {
        let Ledger { token, coin, chain } = &session.ledger;
        let head = format!("would {}, from {}", self.deed.what, session.name());
        if self.previews.is_empty() {
            return format!("{head}\nnothing is left to send: it is done already");
        }
        let mut table = output::table(["transaction", "to", "gas at most", "fee at most"]);
        for preview in self.previews {
            let unknown = match preview.refused {
                Some(_) => "refused",
                None => "unknown yet",
            };
            let gas = preview.gas.map(|gas| money::grouped(gas.into()));
            let fee = preview.fee_wei_max.map(|fee| coin.exact(fee));
            table.add_row([
                preview.call.clone(),
                contract_name(chain, preview.to),
                gas.unwrap_or_else(|| unknown.into()),
                fee.unwrap_or_default(),
            ]);
        }
        for column in 2..4 {
            output::align_right(&mut table, column);
        }
        let mut text = format!("{head}\n\n{table}");
        if self.deed.tokens > Amount::ZERO {
            text += &format!(
                "\ntokens  {} of the {} that the account holds",
                token.exact(self.deed.tokens),
                token.exact(self.tokens_held)
            );
        }
        text += &format!(
            "\nfees    {} at most, of the {} that the account holds\n\nnothing was sent",
            coin.exact(self.fee_max()),
            coin.exact(self.coin_held)
        );
        text
    }
}

/// Contracts of the deployment by name, others by address.
fn contract_name(chain: &Chain, to: Option<Address>) -> String {
    let Some(to) = to else {
        return "new contract".into();
    };
    let book = chain.book();
    let known = [
        ("token", book.token),
        ("stake manager", book.stake_manager),
        ("task manager", book.task_manager),
        ("round manager", book.round_manager),
        ("penalty manager", book.penalty_manager),
    ];
    known
        .iter()
        .find(|(_, address)| *address == to)
        .map_or_else(|| to.short(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_numbers_are_taken_for_amounts() {
        assert!(has_base_units(
            "StakeTooSmall (100000000000000000000 asked for, 0 is staked)"
        ));
        assert!(!has_base_units(
            "StillUnbonding (the stake is free at Unix time 1800000000)"
        ));
    }
}
