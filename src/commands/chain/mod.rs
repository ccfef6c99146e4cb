//! `convoke chain`: the contracts and what accounts hold.

mod deploy;
mod verifiers;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_client::{AddressBook, Chain};
use convoke_protocol::ids::{Address, Amount};
use serde_json::json;

use crate::address::{self, checksummed};
use crate::cli::ChainArgs;
use crate::failure::usage;
use crate::money::{self, Decimal};
use crate::output::{Format, Sheet};
use crate::presets::PRESETS;
use crate::session::{Deed, Ledger, SenderArgs};
use crate::times;

pub(crate) use self::deploy::deploy;

/// Deploys, funds, looks.
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Deploy the contracts, with a token or around one that is there, and write the address book
    #[command(
        after_help = "Examples:\n  convoke chain deploy --proof-sizes 16 --key creator          # on `convoke devnet`\n  \
                      convoke chain deploy --preset base-sepolia --token 0x… --guardian 0x… --key creator\n\n\
                      The address book is what everybody else needs: hand it to the other nodes."
    )]
    Deploy(deploy::DeployArgs),
    /// Send tokens, and coin to pay gas with
    #[command(
        after_help = "Example:\n  convoke chain fund 0x… --tokens 250 --coin 1 --key creator"
    )]
    Fund(FundArgs),
    /// Show the deployment, the newest block, and an account's balances
    #[command(after_help = "Example:\n  convoke chain status --account 0x…")]
    Status(StatusArgs),
    /// List the chains that are known by name
    #[command(after_help = "Example:\n  convoke chain presets --format json")]
    Presets,
}

/// Arguments of `chain fund`.
#[derive(Debug, Args)]
pub(crate) struct FundArgs {
    /// Who receives
    #[arg(required = true, value_name = "ADDRESS", value_parser = address::parse)]
    accounts: Vec<Address>,
    /// Tokens for each
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = money::parse)]
    tokens: Decimal,
    /// The chain's own coin for each, to pay gas with
    #[arg(long, value_name = "COIN", default_value = "0", value_parser = money::parse)]
    coin: Decimal,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Arguments of `chain status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Whose balances to show
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    account: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(command: ChainCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ChainCommand::Deploy(args) => deploy::run(args, format).await,
        ChainCommand::Fund(args) => run_fund(args, format).await,
        ChainCommand::Status(args) => status(args, format).await,
        ChainCommand::Presets => presets(format),
    }
}

async fn run_fund(args: FundArgs, format: Format) -> anyhow::Result<()> {
    if args.tokens.is_zero() && args.coin.is_zero() {
        return Err(usage("nothing to send: give --tokens or --coin"));
    }
    let session = args.sender.open(format).await?;
    let Ledger { token, coin, .. } = &session.ledger;
    let (tokens, coins) = (token.amount(&args.tokens)?, coin.amount(&args.coin)?);
    for account in args.accounts {
        let shown = checksummed(account);
        if coins > Amount::ZERO {
            let what = format!("send {} to {shown}", coin.exact(coins));
            let send = |chain: Chain| async move { chain.transfer_native(account, coins).await };
            session.send(Deed::new(what), send).await?;
        }
        if tokens > Amount::ZERO {
            let what = format!("send {} to {shown}", token.exact(tokens));
            let send = |chain: Chain| async move { chain.transfer_token(account, tokens).await };
            session.send(Deed::taking(what, tokens), send).await?;
        }
        if session.only_rehearses() {
            continue;
        }
        let mut value = json!({ "account": account });
        token.put(&mut value, "tokens", tokens);
        coin.put(&mut value, "coin", coins);
        format.print(&value, || {
            let (tokens, coins) = (token.exact(tokens), coin.exact(coins));
            format!("{shown}  {tokens}, {coins}")
        })?;
    }
    Ok(())
}

async fn status(args: StatusArgs, format: Format) -> anyhow::Result<()> {
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let Ledger { chain, token, coin } = &ledger;
    let head = chain.latest_block().await?;
    let circuits = chain.proof_circuits().await?;
    let unbonding = chain.unbonding_seconds().await?;
    let held = match args.account {
        Some(account) => Some((
            account,
            chain.token_balance(account).await?,
            chain.native_balance(account).await?,
        )),
        None => None,
    };
    let account = held.map(|(account, tokens, coins)| {
        let mut value = json!({ "address": account });
        token.put(&mut value, "tokens", tokens);
        coin.put(&mut value, "coin", coins);
        value
    });
    let value = json!({
        "book": chain.book(),
        "block": head.number,
        "timestamp": head.timestamp,
        "token": token.symbol,
        "decimals": token.decimals,
        "coin": coin.symbol,
        "proof_verifier": circuits.verifier(),
        "proofs": circuits,
        "unbonding_s": unbonding,
        "account": account,
    });
    format.print(&value, || {
        let mut sheet = book_sheet(chain.book());
        sheet.line(
            "block",
            format!("{}, {}", head.number, times::utc(head.timestamp)),
        );
        sheet.line(
            "pays in",
            format!("{}, {} decimal places", token.symbol, token.decimals),
        );
        sheet.line("unbonding", times::span(unbonding.into()));
        sheet.line("proofs", verifiers::words_of_circuits(&circuits));
        if let Some((account, tokens, coins)) = held {
            sheet.line("", "");
            sheet.line("account", checksummed(account));
            sheet.line(
                "holds",
                format!("{}, {}", token.exact(tokens), coin.exact(coins)),
            );
        }
        sheet.to_string()
    })
}

fn presets(format: Format) -> anyhow::Result<()> {
    format.print(&PRESETS, || {
        let mut sheet = Sheet::default();
        for preset in &PRESETS {
            let depth = match preset.confirmations {
                0 => "final at once".to_owned(),
                blocks => format!("final after {blocks} blocks"),
            };
            sheet.line(
                preset.name,
                format!(
                    "{}: chain {}, coin {}, {depth}",
                    preset.title, preset.chain_id, preset.coin
                ),
            );
            sheet.line("", preset.rpc);
            if let Some(explorer) = preset.explorer {
                sheet.line("", explorer);
            }
        }
        format!(
            "{sheet}\n\nThe public endpoints are rate-limited: to run a node, rent an endpoint or \
             run your own,\nand name it with --rpc."
        )
    })
}

/// Sends tokens and coin; either may be nothing.
pub(crate) async fn fund(
    chain: &Chain,
    account: Address,
    tokens: Amount,
    coin: Amount,
) -> anyhow::Result<()> {
    if coin > Amount::ZERO {
        chain
            .transfer_native(account, coin)
            .await
            .with_context(|| format!("cannot send coin to {account}"))?;
    }
    if tokens > Amount::ZERO {
        chain
            .transfer_token(account, tokens)
            .await
            .with_context(|| format!("cannot send tokens to {account}"))?;
    }
    Ok(())
}

/// Where everything is.
fn book_sheet(book: &AddressBook) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.line("chain", format!("{} at {}", book.chain_id, book.rpc));
    for (name, address) in [
        ("token", Some(book.token)),
        ("stake manager", Some(book.stake_manager)),
        ("task manager", Some(book.task_manager)),
        ("round manager", Some(book.round_manager)),
        ("penalty manager", Some(book.penalty_manager)),
        ("sketch audit", book.sketch_audit),
        ("timelock", book.timelock),
    ] {
        if let Some(address) = address {
            sheet.line(name, checksummed(address));
        }
    }
    sheet
}
