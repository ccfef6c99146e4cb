//! `convoke proofs ceremony` and `import`: keys of which nobody knows the secrets.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_proofs::ceremony::{Phase, Receipt, Transcript};
use convoke_proofs::size::Size;
use convoke_protocol::ids::Digest;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{CEREMONY, ImportArgs};
use crate::failure::{HintExt as _, usage};
use crate::output::{Format, Sheet};
use crate::proof_keys::{self, Bar};

/// Steps of a ceremony, each on a file that goes around.
#[derive(Debug, Subcommand)]
pub(crate) enum CeremonyCommand {
    /// Begin: a transcript that nobody has contributed to
    #[command(
        after_help = "Example:\n  convoke proofs ceremony start ceremony-64.transcript --trainers 64\n\n\
                      Then everybody contributes, one seals, everybody contributes again, and everybody imports."
    )]
    Start(FileArgs),
    /// Multiply the secrets by your own, which are forgotten at once; prints the receipt to publish
    #[command(
        after_help = "Example:\n  convoke proofs ceremony contribute ceremony-64.transcript --trainers 64 --entropy-file dice.txt"
    )]
    Contribute(ContributeArgs),
    /// End the first phase: turn the powers into the key of the circuit
    #[command(
        after_help = "Example:\n  convoke proofs ceremony seal ceremony-64.transcript --trainers 64"
    )]
    Seal(FileArgs),
    /// Check all that was done from the file alone, and list the receipts
    #[command(
        after_help = "Example:\n  convoke proofs ceremony verify ceremony-64.transcript --trainers 64 --format json"
    )]
    Verify(FileArgs),
}

/// Which transcript.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The transcript
    file: PathBuf,
    /// Trainers in one round at most: 16, 64 or 256
    #[arg(long, value_name = "N", default_value = "16", value_parser = proof_keys::parse_size)]
    trainers: Size,
}

/// Arguments of `proofs ceremony contribute`.
#[derive(Debug, Args)]
pub(crate) struct ContributeArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Randomness of your own besides the machine's, such as throws of dice; either alone is enough
    #[arg(long, value_name = "FILE")]
    entropy_file: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(command: CeremonyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        CeremonyCommand::Start(args) => start(&args, format),
        CeremonyCommand::Contribute(args) => contribute(&args, format),
        CeremonyCommand::Seal(args) => seal(&args, format),
        CeremonyCommand::Verify(args) => verify(&args, format),
    }
}

fn start(args: &FileArgs, format: Format) -> anyhow::Result<()> {
    if args.file.exists() {
        return Err(usage(format!("{} exists", args.file.display())))
            .hint("name another file: a transcript is never begun anew");
    }
    let transcript = Transcript::start(args.trainers)?;
    transcript.save(&args.file)?;
    tell(
        args,
        &transcript,
        json!({}),
        "nobody has contributed yet",
        format,
    )
}

fn contribute(args: &ContributeArgs, format: Format) -> anyhow::Result<()> {
    let entropy = match &args.entropy_file {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => Vec::new(),
    };
    let entropy = Zeroizing::new(entropy);
    let mut transcript = open(&args.file)?;
    let bar = Bar::new();
    // Contributing to a bad one is wasted.
    transcript.verify(&bar)?;
    let receipt = transcript.contribute(&entropy, &mut OsRng.unwrap_err(), &bar)?;
    transcript.save(&args.file.file)?;
    drop(bar);
    let words = format!("your receipt, to be published: {receipt}");
    let value = json!({ "receipt": receipt.to_string() });
    tell(&args.file, &transcript, value, &words, format)
}

fn seal(args: &FileArgs, format: Format) -> anyhow::Result<()> {
    let mut transcript = open(args)?;
    let bar = Bar::new();
    transcript.verify(&bar)?;
    transcript.seal(&bar)?;
    transcript.save(&args.file)?;
    drop(bar);
    tell(
        args,
        &transcript,
        json!({}),
        "contributions to the key may begin",
        format,
    )
}

fn verify(args: &FileArgs, format: Format) -> anyhow::Result<()> {
    let transcript = open(args)?;
    let bar = Bar::new();
    let receipts = transcript.verify(&bar)?;
    drop(bar);
    let value = json!({ "receipts": texts(&receipts) });
    let words = match receipts.len() {
        0 => "nobody has contributed yet".to_owned(),
        _ => texts(&receipts).join("\n"),
    };
    tell(args, &transcript, value, &words, format)
}

/// Checks a transcript and keeps its keys.
pub(super) fn import(args: &ImportArgs, format: Format) -> anyhow::Result<()> {
    let folder = args.keys.folder()?;
    let transcript = load(&args.file, args.trainers)?;
    let bar = Bar::new();
    let (keys, receipts) = transcript.finish(&bar)?;
    drop(bar);
    let path = keys.save(&folder)?;
    let value = json!({
        "file": path,
        "slots": args.trainers.slots(),
        "circuit": Digest(*keys.circuit().hash()),
        "origin": keys.origin().name(),
        "receipts": texts(&receipts),
    });
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("keys", path.display().to_string());
        sheet.line("security", CEREMONY);
        for (index, receipt) in receipts.iter().enumerate() {
            let name = if index == 0 { "receipts" } else { "" };
            sheet.line(name, receipt.to_string());
        }
        sheet.to_string()
    })
}

fn open(args: &FileArgs) -> anyhow::Result<Transcript> {
    load(&args.file, args.trainers)
}

fn load(file: &std::path::Path, size: Size) -> anyhow::Result<Transcript> {
    Transcript::load(file, size)
        .context("cannot use the transcript")
        .hint("--trainers says the size that the ceremony was begun with")
}

fn tell(
    args: &FileArgs,
    transcript: &Transcript,
    mut value: Value,
    words: &str,
    format: Format,
) -> anyhow::Result<()> {
    let phase = match transcript.phase() {
        Phase::Powers => "powers",
        Phase::Key => "key",
    };
    value["file"] = json!(args.file);
    value["slots"] = json!(args.trainers.slots());
    value["circuit"] = json!(Digest(*transcript.circuit().hash()));
    value["phase"] = json!(phase);
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("transcript", args.file.display().to_string());
        sheet.line("phase", phase);
        for (index, line) in words.lines().enumerate() {
            sheet.line(if index == 0 { "contributions" } else { "" }, line);
        }
        sheet.to_string()
    })
}

fn texts(receipts: &[Receipt]) -> Vec<String> {
    receipts.iter().map(ToString::to_string).collect()
}
