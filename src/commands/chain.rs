//! `convoke chain`: the contracts and what accounts hold.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_client::{AddressBook, Chain, DeployOptions};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount};
use serde_json::json;

use crate::cli::ChainArgs;
use crate::failure::{HintExt as _, usage};
use crate::keys::KeyArgs;
use crate::money;
use crate::output::Format;

/// Deploys, funds, looks.
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Deploy a token and the contracts, and write the address book
    #[command(
        after_help = "Example:\n  convoke chain deploy --rpc http://127.0.0.1:8545 --key creator.key --chain convoke-chain.toml"
    )]
    Deploy(DeployArgs),
    /// Send tokens, and coin to pay gas with
    #[command(
        after_help = "Example:\n  convoke chain fund 0x… --tokens 250 --coin 1 --key creator.key"
    )]
    Fund(FundArgs),
    /// Show the deployment, the newest block, and an account's balances
    #[command(after_help = "Example:\n  convoke chain status --account 0x…")]
    Status(StatusArgs),
}

/// Arguments of `chain deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// JSON-RPC endpoint
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    rpc: String,
    /// Tokens minted to the deployer
    #[arg(long, value_name = "TOKENS", default_value = "1000000", value_parser = money::parse)]
    supply: Amount,
    /// Seconds between the request for stake and its withdrawal
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800)]
    unbonding: u32,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `chain fund`.
#[derive(Debug, Args)]
pub(crate) struct FundArgs {
    /// Who receives
    #[arg(required = true, value_name = "ADDRESS")]
    accounts: Vec<Address>,
    /// Tokens for each
    #[arg(long, value_name = "TOKENS", default_value = "0", value_parser = money::parse)]
    tokens: Amount,
    /// The chain's own coin for each, to pay gas with
    #[arg(long, value_name = "COIN", default_value = "0", value_parser = money::parse)]
    coin: Amount,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `chain status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Whose balances to show
    #[arg(long, value_name = "ADDRESS")]
    account: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(command: ChainCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ChainCommand::Deploy(args) => run_deploy(args, format).await,
        ChainCommand::Fund(args) => run_fund(args, format).await,
        ChainCommand::Status(args) => status(args, format).await,
    }
}

async fn run_deploy(args: DeployArgs, format: Format) -> anyhow::Result<()> {
    let file = &args.chain.file;
    if file.exists() {
        return Err(usage(format!("{} exists", file.display()))).hint(
            "name another file with --chain, or remove it if its deployment is of no use any more",
        );
    }
    let options = DeployOptions {
        initial_supply: args.supply,
        unbonding_seconds: args.unbonding,
    };
    let book = deploy(&args.rpc, &args.key.wallet()?, options).await?;
    book.save(file)?;
    format.print(&json!({ "book": book, "file": file }), || {
        format!("{}\naddress book  {}", book_text(&book), file.display())
    })
}

async fn run_fund(args: FundArgs, format: Format) -> anyhow::Result<()> {
    if args.tokens == Amount::ZERO && args.coin == Amount::ZERO {
        return Err(usage("nothing to send: give --tokens or --coin"));
    }
    let wallet = args.key.wallet()?;
    let chain = args.chain.connect(Some(&wallet)).await?;
    for account in &args.accounts {
        fund(&chain, *account, args.tokens, args.coin).await?;
    }
    let sent = json!({ "accounts": args.accounts, "tokens": args.tokens, "coin": args.coin });
    format.print(&sent, || {
        let (tokens, coin) = (money::exact(args.tokens), money::exact(args.coin));
        let lines = args
            .accounts
            .iter()
            .map(|a| format!("{a}  {tokens} tokens, {coin} coin"));
        lines.collect::<Vec<_>>().join("\n")
    })
}

async fn status(args: StatusArgs, format: Format) -> anyhow::Result<()> {
    let chain = args.chain.connect(None).await?;
    let head = chain.latest_block().await?;
    let (symbol, _) = chain.token_symbol_decimals().await?;
    let held = match args.account {
        Some(account) => Some((
            account,
            chain.token_balance(account).await?,
            chain.native_balance(account).await?,
        )),
        None => None,
    };
    let value = json!({
        "book": chain.book(),
        "block": head.number,
        "timestamp": head.timestamp,
        "symbol": symbol,
        "account": held.map(|(account, tokens, coin)| json!({ "address": account, "tokens": tokens, "coin": coin })),
    });
    format.print(&value, || {
        let mut text = format!("{}\nblock         {}", book_text(chain.book()), head.number);
        if let Some((account, tokens, coin)) = held {
            text += &format!(
                "\naccount       {account}\nholds         {} {symbol}, {} coin",
                money::exact(tokens),
                money::exact(coin)
            );
        }
        text
    })
}

/// Deploys token and contracts.
pub(crate) async fn deploy(
    rpc: &str,
    wallet: &Wallet,
    options: DeployOptions,
) -> anyhow::Result<AddressBook> {
    Chain::deploy(rpc, wallet, options)
        .await
        .context("cannot deploy the contracts")
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

fn book_text(book: &AddressBook) -> String {
    format!(
        "chain         {} at {}\ntoken         {}\nstake manager {}\ntask manager  {}",
        book.chain_id, book.rpc, book.token, book.stake_manager, book.task_manager
    )
}
