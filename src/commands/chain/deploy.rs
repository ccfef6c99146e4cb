//! `convoke chain deploy`: a new deployment.

use anyhow::Context as _;
use clap::Args;
use convoke_client::{AddressBook, Chain, DeployOptions, DeployToken, ProofCheck};
use convoke_devnet::{Config, Devnet};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount};
use serde_json::json;

use super::book_sheet;
use super::verifiers::{self, VerifierArgs};
use crate::address::{self, checksummed};
use crate::cli::ChainArgs;
use crate::failure::{HintExt as _, usage};
use crate::keys::KeyArgs;
use crate::money::{self, Decimal, Unit};
use crate::output::{Format, Sheet};
use crate::presets::{self, Named};
use crate::progress::Waiting;
use crate::times;

/// Where a chain for development listens.
const LOCAL_RPC: &str = "http://127.0.0.1:8545";
/// Gas of a transfer of coin, as the protocol has it.
const TRANSFER_GAS: u128 = 21_000;

/// Arguments of `chain deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Chain by name: `convoke chain presets` lists them
    #[arg(long, value_name = "NAME")]
    preset: Option<Named>,
    /// JSON-RPC endpoint [default: the preset's, or http://127.0.0.1:8545]
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Token of stakes and rewards, an ERC-20 that is there [default: deploys one, for development]
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    token: Option<Address>,
    /// Tokens of a new token that the deployer gets
    #[arg(long, value_name = "TOKENS", default_value = "1000000", value_parser = money::parse, conflicts_with = "token")]
    supply: Decimal,
    /// Seconds between the request for stake and its payment; no dispute window can be longer
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800)]
    unbonding: u32,
    /// Seconds until a delegation joins its operator's pool
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    warmup: u32,
    /// Seconds between the announcement of a higher commission and its force
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800)]
    commission_notice: u32,
    /// Delegation counts up to this part of an operator's own stake, in basis points
    #[arg(long, value_name = "BPS", default_value_t = 50_000)]
    delegation_cap: u32,
    #[command(flatten)]
    verifiers: VerifierArgs,
    /// Seconds before what the governor decides comes into force
    #[arg(long, value_name = "SECONDS", default_value_t = 172_800)]
    timelock_delay: u64,
    /// Who decides, through the timelock [default: the deployer]
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    governor: Option<Address>,
    /// Who may stop new tasks, deposits and delegations at once, and nothing else [default: the deployer]
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    guardian: Option<Address>,
    /// Show what would be deployed and its cost; send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

impl DeployArgs {
    fn options(&self) -> anyhow::Result<DeployOptions> {
        // A new token has as many decimal places as every coin.
        let supply = Unit::default().amount(&self.supply)?;
        let token = self
            .token
            .map_or(DeployToken::New { supply }, DeployToken::Existing);
        let mut options = DeployOptions::new(supply);
        options.token = token;
        options.unbonding_seconds = self.unbonding;
        options.warmup_seconds = self.warmup;
        options.commission_notice_seconds = self.commission_notice;
        options.delegation_cap_bps = self.delegation_cap;
        options.timelock_delay_seconds = self.timelock_delay;
        options.governor = self.governor;
        options.guardian = self.guardian;
        Ok(options)
    }

    fn rpc(&self) -> &str {
        let preset = self.preset.map_or(LOCAL_RPC, |Named(preset)| preset.rpc);
        self.rpc.as_deref().unwrap_or(preset)
    }

    fn check(&self) -> anyhow::Result<()> {
        let file = &self.chain.file;
        if file.exists() {
            return Err(usage(format!("{} exists", file.display()))).hint(
                "name another file with --chain, or remove it if its deployment is of no use any more",
            );
        }
        self.verifiers.check(self.preset)
    }

    /// Whether tokens may be worth something: on any chain that is neither for tests nor on this
    /// machine.
    fn is_live(&self) -> bool {
        const LOCAL: [&str; 3] = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        match self.preset {
            Some(Named(preset)) => !preset.is_test,
            None => !LOCAL.iter().any(|local| self.rpc().starts_with(local)),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: DeployArgs, format: Format) -> anyhow::Result<()> {
    args.check()?;
    let (mut options, file) = (args.options()?, &args.chain.file);
    let wallet = args.key.wallet()?;
    if args.dry_run {
        options.proofs = args.verifiers.rehearsed();
        return rehearse(&args, &wallet, options, format).await;
    }
    options.proofs = args.verifiers.load(args.is_live())?;
    let proofs = verifiers::words_of_check(&options.proofs);
    let waiting = Waiting::start(format, "deploy the contracts");
    let book = deploy(args.rpc(), &wallet, options).await?;
    drop(waiting);
    // First of all, whatever is wrong with it: the contracts are there.
    book.save(file)?;
    let value = json!({ "book": book, "file": file });
    format.print(&value, || {
        let mut sheet = book_sheet(&book);
        sheet.line("address book", file.display().to_string());
        sheet.line("proofs", proofs);
        sheet.to_string()
    })?;
    match args.preset {
        Some(Named(preset)) if preset.chain_id != book.chain_id => Err(anyhow::anyhow!(
            "{} serves chain {}, not {} ({})",
            book.rpc,
            book.chain_id,
            preset.title,
            preset.chain_id
        ))
        .hint("the contracts are on the chain that the endpoint serves"),
        _ => Ok(()),
    }
}

/// Deploys token and contracts.
pub(crate) async fn deploy(
    rpc: &str,
    wallet: &Wallet,
    options: DeployOptions,
) -> anyhow::Result<AddressBook> {
    Chain::deploy(rpc, wallet, &options)
        .await
        .context("cannot deploy the contracts")
}

/// Deploys the same on a chain inside this process, which shows what it takes and that it works.
async fn rehearse(
    args: &DeployArgs,
    wallet: &Wallet,
    options: DeployOptions,
    format: Format,
) -> anyhow::Result<()> {
    let gas = gas_of(wallet, &options).await?;
    let plain = Unit::default();
    let supply = plain.number(plain.amount(&args.supply)?);
    let chain_id = args.preset.map(|Named(preset)| preset.chain_id);
    let coin = chain_id.map_or_else(|| Unit::coin("coin"), presets::coin_of);
    let fee = |price: u128| Amount(gas.saturating_mul(price));
    let mut value = json!({
        "dry_run": true,
        "action": "deploy the contracts",
        "account": wallet.address(),
        "rpc": args.rpc(),
        "chain_id": chain_id,
        "token": args.token,
        "gas": gas,
        "unbonding_s": options.unbonding_seconds,
        "warmup_s": options.warmup_seconds,
        "commission_notice_s": options.commission_notice_seconds,
        "delegation_cap_bps": options.delegation_cap_bps,
        "timelock_delay_s": options.timelock_delay_seconds,
        "unchecked_proofs": options.proofs == ProofCheck::Unchecked,
        "governor": options.governor.unwrap_or(wallet.address()),
        "guardian": options.guardian.unwrap_or(wallet.address()),
        "address_book": args.chain.file,
        "coin": coin.symbol,
    });
    coin.put(&mut value, "fee_at_1_gwei", fee(GWEI));
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("deployer", checksummed(wallet.address()));
        sheet.line(
            "chain",
            match args.preset {
                Some(Named(preset)) => {
                    format!("{} ({}) at {}", preset.title, preset.chain_id, args.rpc())
                }
                None => format!("the one at {}", args.rpc()),
            },
        );
        sheet.line(
            "token",
            match args.token {
                Some(token) => checksummed(token),
                None => format!("a new one, {supply} of it for the deployer"),
            },
        );
        let named = |account: Option<Address>| account.map_or("the deployer".into(), checksummed);
        let delay = times::span(options.timelock_delay_seconds);
        sheet.line(
            "governor",
            format!("{}, after {delay}", named(options.governor)),
        );
        sheet.line("guardian", named(options.guardian));
        sheet.line("unbonding", times::span(options.unbonding_seconds.into()));
        sheet.line("warm-up", times::span(options.warmup_seconds.into()));
        sheet.line("proofs", verifiers::words_of_check(&options.proofs));
        sheet.line("gas", money::grouped(gas));
        sheet.line(
            "fee",
            format!("{} for each gwei of the gas price", coin.exact(fee(GWEI))),
        );
        sheet.line("address book", args.chain.file.display().to_string());
        format!("would deploy the contracts\n\n{sheet}\n\nnothing was sent")
    })
}

/// A billionth of a coin, the usual unit of gas prices.
const GWEI: u128 = 1_000_000_000;

/// Gas of all transactions of a deployment.
async fn gas_of(wallet: &Wallet, options: &DeployOptions) -> anyhow::Result<u128> {
    let purse = money::tokens(1_000_000);
    let config = Config {
        listen: "127.0.0.1:0".parse().context("loopback")?,
        journal: None,
        chain_id: convoke_devnet::DEFAULT_CHAIN_ID,
        funded: vec![(
            wallet.address().0.into(),
            purse.0.try_into().context("coin")?,
        )],
    };
    let devnet = Devnet::start(config).await?;
    let mut options = options.clone();
    // A token that is there is there on the other chain only.
    let has_token = matches!(options.token, DeployToken::Existing(_));
    options.token = DeployToken::New {
        supply: Amount::ZERO,
    };
    let book = deploy(&devnet.url(), wallet, options).await?;
    let chain = Chain::connect(&book, Some(wallet)).await?;
    let account = wallet.address();
    let after = chain.native_balance(account).await?;
    chain.transfer_native(account, Amount::ZERO).await?;
    let last = chain.native_balance(account).await?;
    let price = (after.0 - last.0) / TRANSFER_GAS;
    let gas = (purse.0 - after.0)
        .checked_div(price)
        .context("gas is free")?;
    devnet.shutdown();
    Ok(gas.saturating_sub(if has_token { TOKEN_GAS } else { 0 }))
}

/// Gas of the deployment of a new token, about.
const TOKEN_GAS: u128 = 600_000;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::keys;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        deploy: DeployArgs,
    }

    fn typed(arguments: &[&str]) -> DeployArgs {
        let line = ["deploy", "--chain", "/nowhere/at/all.toml"];
        Typed::try_parse_from(line.iter().chain(arguments))
            .unwrap()
            .deploy
    }

    #[test]
    fn the_defaults_are_those_of_the_contracts_client() {
        let options = typed(&[]).options().unwrap();
        assert_eq!(options, DeployOptions::new(money::tokens(1_000_000)));
        assert_eq!(typed(&[]).rpc(), LOCAL_RPC);
    }

    #[test]
    fn a_preset_gives_the_endpoint_unless_one_is_named() {
        assert_eq!(
            typed(&["--preset", "base"]).rpc(),
            "https://mainnet.base.org"
        );
        let own = typed(&["--preset", "base", "--rpc", "http://own"]);
        assert_eq!(own.rpc(), "http://own");
    }

    #[test]
    fn chains_elsewhere_may_be_live() {
        assert!(!typed(&[]).is_live());
        assert!(!typed(&["--preset", "base-sepolia"]).is_live());
        assert!(typed(&["--preset", "base"]).is_live());
        assert!(typed(&["--rpc", "https://example.org"]).is_live());
    }

    #[tokio::test]
    async fn a_rehearsed_deployment_tells_its_gas() {
        let options = DeployOptions::new(Amount::ZERO);
        let gas = gas_of(&keys::random().unwrap(), &options).await.unwrap();
        assert!((5_000_000..60_000_000).contains(&gas), "{gas}");
        let mut unchecked = options.clone();
        unchecked.proofs = ProofCheck::Unchecked;
        let more = gas_of(&keys::random().unwrap(), &unchecked).await.unwrap();
        assert!(more > gas, "{more} {gas}");
    }
}
