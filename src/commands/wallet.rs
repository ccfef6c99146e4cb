//! `convoke wallet`: keys.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::keys;
use crate::output::Format;

/// Makes and looks at keys.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new key and print its address
    #[command(after_help = "Example:\n  convoke wallet new my.key")]
    New {
        /// The file to create, readable by you alone; it must not exist
        file: PathBuf,
    },
    /// Print a key's address; the secret stays in its file
    #[command(after_help = "Example:\n  convoke wallet show --key my.key")]
    Show(keys::KeyArgs),
}

/// Runs the command.
pub(crate) fn run(command: WalletCommand, format: Format) -> anyhow::Result<()> {
    match command {
        WalletCommand::New { file } => {
            let wallet = keys::random()?;
            keys::store(&file, &wallet)?;
            let address = wallet.address();
            format.print(&json!({ "address": address, "file": file }), || {
                let file = file.display();
                format!("address  {address}\nkey      {file}: keep a copy in a safe place, there is no other")
            })
        }
        WalletCommand::Show(key) => {
            let address = key.wallet()?.address();
            format.print(&json!({ "address": address }), || address.to_string())
        }
    }
}
