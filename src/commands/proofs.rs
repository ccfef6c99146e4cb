//! `convoke proofs`: the keys that rounds are proven with.

mod ceremony;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use convoke_proofs::keys::{self, KeyFile, Keys, Origin};
use convoke_proofs::size::Size;
use convoke_protocol::ids::Digest;
use serde_json::{Value, json};

use crate::output::{self, Format, Sheet};
use crate::proof_keys::{self, ProofKeyArgs};
use crate::times;

/// What is said of keys that one machine made.
pub(crate) const DEVELOPMENT: &str =
    "INSECURE, for development: whoever made them can forge proofs";
/// What is said of those of a ceremony.
const CEREMONY: &str = "of a ceremony: nobody can forge proofs if one of its parties was honest";

/// Makes, lists.
#[derive(Debug, Subcommand)]
pub(crate) enum ProofsCommand {
    /// Make keys for development, or check those that are there
    #[command(
        after_help = "Examples:\n  convoke proofs setup\n  convoke proofs setup --trainers 64 --proof-keys ./keys\n\n\
                      These keys are INSECURE: this machine draws their secrets and is trusted to forget them.\n\
                      Real money needs the keys of a ceremony, which are preferred where there are both."
    )]
    Setup(SetupArgs),
    /// List the keys in a folder
    #[command(after_help = "Example:\n  convoke proofs list --format json")]
    List(ProofKeyArgs),
    /// Check a ceremony's transcript and take its keys in
    #[command(
        after_help = "Example:\n  convoke proofs import ceremony-64.transcript --trainers 64\n\n\
                      Compare the receipts with those that the contributors have published."
    )]
    Import(ImportArgs),
    /// Make keys together with others, of whom one has to be honest
    #[command(subcommand)]
    Ceremony(ceremony::CeremonyCommand),
}

/// Arguments of `proofs import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The transcript
    file: PathBuf,
    /// Trainers in one round at most: 16, 64 or 256
    #[arg(long, value_name = "N", default_value = "16", value_parser = proof_keys::parse_size)]
    trainers: Size,
    #[command(flatten)]
    keys: ProofKeyArgs,
}

/// Arguments of `proofs setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Trainers in one round at most: 16, 64 or 256
    #[arg(long, value_name = "N", default_value = "16", value_parser = proof_keys::parse_size)]
    trainers: Size,
    #[command(flatten)]
    keys: ProofKeyArgs,
}

/// Runs the command.
pub(crate) fn run(command: ProofsCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ProofsCommand::Setup(args) => setup(&args, format),
        ProofsCommand::List(args) => list(&args, format),
        ProofsCommand::Import(args) => ceremony::import(&args, format),
        ProofsCommand::Ceremony(command) => ceremony::run(command, format),
    }
}

fn setup(args: &SetupArgs, format: Format) -> anyhow::Result<()> {
    let folder = args.keys.folder()?;
    let started = std::time::Instant::now();
    let keys = proof_keys::open_or_make(&folder, args.trainers)?;
    let seconds = started.elapsed();
    let circuit = keys.circuit();
    let path = Keys::file(&folder, circuit, keys.origin());
    let value = json!({
        "file": path,
        "slots": circuit.size().slots(),
        "circuit": Digest(*circuit.hash()),
        "constraints": circuit.constraints(),
        "origin": keys.origin().name(),
        "bytes": keys.encoded_len(),
        "seconds": seconds.as_secs_f64(),
    });
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("keys", path.display().to_string());
        sheet.line("trainers", circuit.size().slots().to_string());
        sheet.line("circuit", Digest(*circuit.hash()).to_string());
        sheet.line("constraints", circuit.constraints().to_string());
        sheet.line("security", security(keys.origin()));
        sheet.line("took", times::span(seconds.as_secs()));
        sheet.to_string()
    })
}

fn list(args: &ProofKeyArgs, format: Format) -> anyhow::Result<()> {
    let folder = args.folder()?;
    let files = keys::list(&folder)?;
    let value = json!({
        "folder": folder,
        "keys": files.iter().map(described).collect::<Vec<_>>(),
    });
    format.print(&value, || text(&folder, &files))
}

fn described(file: &KeyFile) -> Value {
    json!({
        "file": file.path,
        "slots": file.size.slots(),
        "circuit": Digest(file.circuit),
        "origin": file.origin.name(),
        "bytes": file.bytes,
    })
}

fn text(folder: &Path, files: &[KeyFile]) -> String {
    if files.is_empty() {
        return format!(
            "no keys in {}\n`convoke proofs setup` makes some for development",
            folder.display()
        );
    }
    let mut table = output::table(["trainers", "circuit", "bytes", "security"]);
    for file in files {
        table.add_row([
            file.size.slots().to_string(),
            hex(&file.circuit[..8]),
            file.bytes.to_string(),
            security(file.origin).to_owned(),
        ]);
    }
    format!("{table}\n{}", folder.display())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What keys of this origin are worth.
pub(crate) fn security(origin: Origin) -> &'static str {
    match origin {
        Origin::Development => DEVELOPMENT,
        Origin::Ceremony => CEREMONY,
    }
}
