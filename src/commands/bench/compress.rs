//! `convoke bench compress`: how small and how fast a codec is, beside what the memory can do.

use std::num::NonZeroU32;

use anyhow::Context as _;
use clap::Args;
use convoke_compress::{Codec, EncodingError};
use convoke_protocol::task::CodecKind;
use convoke_sketch::speed::{best, memory_seconds};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, StandardNormal};
use serde_json::json;

use super::prove::mebibytes;
use super::usage::Usage;
use crate::cli;
use crate::output::{Format, Sheet};

/// Passes, of which the fastest counts.
const PASSES: usize = 5;

/// Arguments of `bench compress`.
#[derive(Debug, Args)]
pub(crate) struct CompressArgs {
    /// bf16, int8, top_k or dct_sign
    #[arg(long, value_name = "NAME", value_parser = cli::codec)]
    codec: CodecKind,
    /// Share of the values that top_k and dct_sign keep, in millionths
    #[arg(long, value_name = "PPM", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(100..=500_000))]
    keep_ppm: u32,
    /// Values, four bytes each
    #[arg(long, value_name = "N", default_value = "10000000")]
    parameters: NonZeroU32,
}

/// What one codec does to one vector.
struct Measured {
    encoded_bytes: u64,
    encode_seconds: f64,
    decode_seconds: f64,
    memory_seconds: f64,
    /// Of the vector's norm, what is lost.
    lost: f64,
}

/// Runs the command.
pub(crate) async fn run(args: &CompressArgs, format: Format) -> anyhow::Result<()> {
    let codec = Codec::new(args.codec, args.keep_ppm).context("there is nothing to measure")?;
    let parameters = args.parameters.get();
    let measured = tokio::task::spawn_blocking(move || measure(codec, parameters as usize));
    let measured = measured.await??;
    let peak = Usage::of(std::process::id())?.peak_rss_bytes;
    let dense = 4.0 * f64::from(parameters);
    let rate = |seconds: f64| dense / seconds / 1e9;
    let share = |seconds: f64| measured.memory_seconds / seconds;
    let ratio = dense / measured.encoded_bytes as f64;
    let value = json!({
        "codec": args.codec,
        "keep_ppm": args.keep_ppm,
        "parameters": parameters,
        "threads": rayon::current_num_threads(),
        "encoded_bytes": measured.encoded_bytes,
        "bytes_ratio": ratio,
        "lost_norm": measured.lost,
        "encode_gb_per_s": rate(measured.encode_seconds),
        "decode_gb_per_s": rate(measured.decode_seconds),
        "read_bandwidth_gb_per_s": rate(measured.memory_seconds),
        "encode_ratio": share(measured.encode_seconds),
        "decode_ratio": share(measured.decode_seconds),
        "peak_rss_bytes": peak,
    });
    format.print(&value, || {
        let speed = |seconds: f64| {
            let share = 100.0 * share(seconds);
            format!("{:.2} GB/s, {share:.0}% of the memory's", rate(seconds))
        };
        let mut sheet = Sheet::default();
        sheet.line("parameters", parameters.to_string());
        sheet.line(
            "bytes",
            format!("{}, 1 of {ratio:.1}", measured.encoded_bytes),
        );
        sheet.line("lost", format!("{:.4} of the norm", measured.lost));
        sheet.line("encode", speed(measured.encode_seconds));
        sheet.line("decode", speed(measured.decode_seconds));
        sheet.line(
            "memory",
            format!("{:.2} GB/s", rate(measured.memory_seconds)),
        );
        sheet.line("peak memory", mebibytes(peak));
        sheet.to_string()
    })
}

fn measure(codec: Codec, count: usize) -> Result<Measured, EncodingError> {
    let rng = StdRng::seed_from_u64(7);
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    let bytes = codec.encode(&values);
    let mut decoded = vec![0.0; count];
    let encode = || Ok::<_, EncodingError>(codec.encode(&values));
    let encode_seconds = best(PASSES, encode)?;
    let decode_seconds = best(PASSES, || codec.decode(&bytes, &mut decoded))?;
    let squares = |of: &mut dyn Iterator<Item = f32>| of.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let lost = squares(&mut values.iter().zip(&decoded).map(|(v, d)| v - d));
    Ok(Measured {
        encoded_bytes: bytes.len() as u64,
        encode_seconds,
        decode_seconds,
        memory_seconds: memory_seconds(PASSES, 4.0 * count as f64),
        lost: (lost / squares(&mut values.iter().copied())).sqrt(),
    })
}
