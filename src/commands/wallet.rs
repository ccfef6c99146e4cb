//! `convoke wallet`: keys, by name.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_protocol::identity::Wallet;
use serde_json::json;
use zeroize::Zeroizing;

use crate::address::checksummed;
use crate::failure::{HintExt as _, usage};
use crate::keys::keystore::Cost;
use crate::keys::password::{self, PasswordArgs};
use crate::keys::{self, KeyFile, Kind, folder};
use crate::output::{self, Format};

/// Makes, takes in and shows keys.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new key, behind a password
    #[command(
        after_help = "Examples:\n  convoke wallet new mine\n  convoke trainer --key mine --aggregator HOST:PORT --task 3 --data ./mine\n\n  \
                      convoke wallet new throwaway --plain --dir ."
    )]
    New(NewArgs),
    /// Take in a key that exists: from a file of either kind, or typed
    #[command(
        after_help = "Examples:\n  convoke wallet import mine --file ~/.ethereum/keystore/UTC--2026-…\n  \
                      convoke wallet import mine            # asks for the 64 hex digits, without showing them\n\n\
                      The file is left as it is. A plain one is worth removing afterwards."
    )]
    Import(ImportArgs),
    /// List the wallets that there are
    #[command(after_help = "Example:\n  convoke wallet list --format json")]
    List(ListArgs),
    /// Print a key's address; the secret stays in its file
    #[command(
        after_help = "Examples:\n  convoke wallet show mine\n  convoke wallet show ./throwaway.key"
    )]
    Show(ShowArgs),
}

/// Where wallets are.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// Wallets folder [default: convoke/wallets in your data folder]
    #[arg(long, value_name = "DIR", env = "CONVOKE_WALLETS")]
    dir: Option<PathBuf>,
}

impl FolderArgs {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        self.dir.clone().map_or_else(folder::default_folder, Ok)
    }
}

/// A wallet to be, and how it is kept.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Its name: letters, digits, `-`, `_`, `.`
    name: String,
    /// Keep the secret in plain hex, without a password: for throwaway keys of development chains
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Arguments of `wallet import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    wallet: NewArgs,
    /// Key file to take in; an encrypted one asks for its own password [default: asks for the secret]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// File with the password of the key file that is taken in
    #[arg(long, value_name = "FILE")]
    old_password_file: Option<PathBuf>,
}

/// Arguments of `wallet list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

/// Arguments of `wallet show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A wallet's name, or a key file
    #[arg(value_name = "NAME|FILE")]
    wallet: PathBuf,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Runs the command.
pub(crate) fn run(command: WalletCommand, format: Format) -> anyhow::Result<()> {
    match command {
        WalletCommand::New(args) => new(&args, format),
        WalletCommand::Import(args) => import(&args, format),
        WalletCommand::List(args) => list(&args, format),
        WalletCommand::Show(args) => show(&args, format),
    }
}

fn new(args: &NewArgs, format: Format) -> anyhow::Result<()> {
    keep(args, keys::random, format)
}

fn import(args: &ImportArgs, format: Format) -> anyhow::Result<()> {
    let read = || match &args.file {
        Some(file) => {
            let old = PasswordArgs::in_file(args.old_password_file.clone());
            KeyFile::read(file)?.open(&old)
        }
        None => typed_secret(),
    };
    keep(&args.wallet, read, format)
}

/// Writes a wallet of the key that `key` gives, after all that can be wrong without it was checked.
fn keep(
    args: &NewArgs,
    key: impl FnOnce() -> anyhow::Result<Wallet>,
    format: Format,
) -> anyhow::Result<()> {
    let kind = if args.plain {
        Kind::Plain
    } else {
        Kind::Encrypted
    };
    let folder = args.folder.folder()?;
    let file = folder::new_file(&folder, &args.name, kind)?;
    let wallet = key()?;
    make_folder(&folder)?;
    match kind {
        Kind::Plain => keys::store(&file, &wallet)?,
        Kind::Encrypted => {
            let password = args.password.new_one(&format!("wallet {:?}", args.name))?;
            keys::store_encrypted(&file, &wallet, &password, Cost::STANDARD)?;
        }
    }
    let address = checksummed(wallet.address());
    let value = json!({ "name": args.name, "address": address, "file": file, "kind": kind.name() });
    format.print(&value, || {
        let loss = match kind {
            Kind::Encrypted => "keep a copy of this file, and do not forget the password",
            Kind::Plain => "whoever can read this file has the account",
        };
        format!("address  {address}\nfile     {}\n{loss}", file.display())
    })
}

fn typed_secret() -> anyhow::Result<Wallet> {
    let typed: Zeroizing<String> = password::ask("Secret (64 hex digits): ")
        .hint("name a key file with --file where there is no terminal")?;
    keys::parse_secret(&typed)
        .ok_or_else(|| usage("that is no secret: 64 hex digits are expected"))?
        .context("that is no usable key")
}

fn list(args: &ListArgs, format: Format) -> anyhow::Result<()> {
    let folder = args.folder.folder()?;
    let wallets = folder::list(&folder)?;
    let values: Vec<_> = wallets
        .iter()
        .map(|wallet| {
            json!({
                "name": wallet.name,
                "address": wallet.address.map(checksummed),
                "kind": wallet.kind.name(),
                "file": wallet.file,
                "trouble": wallet.trouble,
            })
        })
        .collect();
    format.print(&values, || {
        if wallets.is_empty() {
            let folder = folder.display();
            return format!("no wallets in {folder}; make one with `convoke wallet new NAME`");
        }
        let mut table = output::table(["name", "address", "kind"]);
        for wallet in &wallets {
            let address = match (&wallet.trouble, wallet.address) {
                (Some(trouble), _) => trouble.clone(),
                (None, Some(address)) => checksummed(address),
                (None, None) => "not named in the file".into(),
            };
            table.add_row([wallet.name.clone(), address, wallet.kind.name().into()]);
        }
        format!("{table}\n{}", folder.display())
    })
}

fn show(args: &ShowArgs, format: Format) -> anyhow::Result<()> {
    let folder = args.folder.folder().ok();
    let path = keys::resolve(&args.wallet, folder.as_deref());
    let file = KeyFile::read(&path)?;
    let address = match file.address()? {
        Some(address) => address,
        None => file.open(&args.password)?.address(),
    };
    let address = checksummed(address);
    let value = json!({ "address": address, "file": path, "kind": file.kind().name() });
    format.print(&value, || address.clone())
}

/// Makes the folder, for its owner alone.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .with_context(|| format!("cannot create the wallets folder {}", folder.display()))
}
