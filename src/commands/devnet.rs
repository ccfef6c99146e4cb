//! `convoke devnet`: an embedded chain for development, behind JSON-RPC.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use convoke_devnet::{Config, DEFAULT_CHAIN_ID, Devnet};
use convoke_protocol::ids::Address;
use serde_json::json;

use crate::address;
use crate::money::{self, Decimal};
use crate::output::Format;
use crate::presets;
use crate::shutdown::ParentArgs;

/// Arguments of `devnet`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke wallet new creator --plain\n  convoke devnet --fund ADDRESS\n  convoke chain deploy --proof-sizes 16 --key creator\n\n\
                  Any Ethereum client can use it: point it at http://127.0.0.1:8545."
)]
pub(crate) struct DevnetArgs {
    /// Where to listen (TCP, HTTP); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8545")]
    listen: SocketAddr,
    /// Keep the chain in this file, and go on from it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Accounts that start with coin, on a new chain
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    fund: Vec<Address>,
    /// Coin of each funded account
    #[arg(long, value_name = "COIN", default_value = "10000", value_parser = money::parse)]
    coin: Decimal,
    /// EIP-155 chain id
    #[arg(long, value_name = "ID", default_value_t = DEFAULT_CHAIN_ID)]
    chain_id: u64,
    #[command(flatten)]
    parent: ParentArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DevnetArgs, format: Format) -> anyhow::Result<()> {
    let stop = args.parent.token();
    let coin = presets::coin_of(args.chain_id).amount(&args.coin)?.0;
    let funded = args
        .fund
        .iter()
        .map(|account| Ok((account.0.into(), coin.try_into().context("too much coin")?)))
        .collect::<anyhow::Result<_>>()?;
    let config = Config {
        listen: args.listen,
        journal: args.state,
        chain_id: args.chain_id,
        funded,
    };
    let devnet = Devnet::start(config).await?;
    let (address, url) = (devnet.local_addr(), devnet.url());
    let event = json!({ "event": "listening", "address": address.to_string(), "url": url, "chain_id": args.chain_id });
    format.event(
        &event,
        &format!("listening on {address}\nchain {} at {url}", args.chain_id),
    )?;
    stop.cancelled().await;
    devnet.shutdown();
    Ok(())
}
