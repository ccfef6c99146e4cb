//! `convoke bench prove`: what the proof of one full round costs.

use clap::Args;
use convoke_proofs::measure::{Measured, measure};
use convoke_proofs::size::Size;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use super::usage::Usage;
use crate::output::{Format, Sheet};
use crate::proof_keys::{self, Bar};

/// The same round and keys on every machine.
const SEED: u64 = 4;

/// Arguments of `bench prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Trainers in the round: 16, 64 or 256
    #[arg(long, value_name = "N", default_value = "64", value_parser = proof_keys::parse_size)]
    trainers: Size,
}

/// Runs the command.
pub(crate) async fn run(args: &ProveArgs, format: Format) -> anyhow::Result<()> {
    let size = args.trainers;
    let measured = tokio::task::spawn_blocking(move || {
        measure(size, &mut StdRng::seed_from_u64(SEED), &Bar::new())
    });
    let Measured {
        constraints,
        circuit,
        setup,
        prove,
        verify,
        key_bytes,
    } = measured.await??;
    let peak = Usage::of(std::process::id())?.peak_rss_bytes;
    let value = json!({
        "trainers": size.slots(),
        "constraints": constraints,
        "circuit_seconds": circuit.as_secs_f64(),
        "setup_seconds": setup.as_secs_f64(),
        "prove_seconds": prove.as_secs_f64(),
        "verify_seconds": verify.as_secs_f64(),
        "key_bytes": key_bytes,
        "peak_rss_bytes": peak,
    });
    format.print(&value, || {
        let mut sheet = Sheet::default();
        sheet.line("trainers", size.slots().to_string());
        sheet.line("constraints", constraints.to_string());
        sheet.line("set-up", format!("{:.2} s", setup.as_secs_f64()));
        sheet.line("proof", format!("{:.2} s", prove.as_secs_f64()));
        sheet.line("verification", format!("{:.4} s", verify.as_secs_f64()));
        sheet.line("key", mebibytes(key_bytes as u64));
        sheet.line("peak memory", mebibytes(peak));
        sheet.to_string()
    })
}

/// Bytes, for people.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
