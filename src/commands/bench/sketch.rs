//! `convoke bench sketch`: how fast deltas are sketched, beside what the memory can do at most.

use std::num::NonZeroU64;

use clap::Args;
use convoke_sketch::speed::{SketchSpeed, measure_speed};
use serde_json::json;

use super::prove::mebibytes;
use super::usage::Usage;
use crate::output::{Format, Sheet};

/// Passes, of which the fastest counts.
const PASSES: usize = 5;

/// Arguments of `bench sketch`.
#[derive(Debug, Args)]
pub(crate) struct SketchArgs {
    /// Values of the delta, four bytes each
    #[arg(long, value_name = "N", default_value = "10000000")]
    parameters: NonZeroU64,
}

/// Runs the command.
pub(crate) async fn run(args: &SketchArgs, format: Format) -> anyhow::Result<()> {
    let parameters = args.parameters.get();
    let measured = tokio::task::spawn_blocking(move || {
        measure_speed(&std::env::temp_dir(), parameters, PASSES)
    });
    let speed: SketchSpeed = measured.await??;
    let peak = Usage::of(std::process::id())?.peak_rss_bytes;
    let seconds = speed.sketch_seconds;
    let of_memory = speed.gigabytes_per_second(speed.memory_read_seconds);
    let value = json!({
        "parameters": parameters,
        "threads": speed.threads,
        "seconds": seconds,
        "gb_per_s": speed.gigabytes_per_second(seconds),
        "read_bandwidth_gb_per_s": of_memory,
        "ratio": speed.share_of_memory(seconds),
        "project_seconds": speed.project_seconds,
        "inspect_seconds": speed.inspect_seconds,
        "file_read_seconds": speed.file_read_seconds,
        "peak_rss_bytes": peak,
    });
    format.print(&value, || {
        let rate = |seconds: f64| format!("{:.2} GB/s", speed.gigabytes_per_second(seconds));
        let share = 100.0 * speed.share_of_memory(seconds);
        let mut sheet = Sheet::default();
        sheet.line("parameters", parameters.to_string());
        sheet.line("threads", speed.threads.to_string());
        sheet.line("sketch", format!("{seconds:.4} s, {}", rate(seconds)));
        sheet.line("projection", rate(speed.project_seconds));
        sheet.line("inspection", rate(speed.inspect_seconds));
        sheet.line("memory", format!("{of_memory:.2} GB/s"));
        sheet.line(
            "sketch is",
            format!("{share:.0}% of what the memory can do"),
        );
        sheet.line("peak memory", mebibytes(peak));
        sheet.to_string()
    })
}
