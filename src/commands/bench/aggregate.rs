//! `convoke bench aggregate`: how fast updates become one, beside what binds it.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use convoke_aggregator::rules::by_name;
use convoke_aggregator::speed::{AggregationSpeed, Input, Work, measure_speed};
use convoke_protocol::task::AggregationSpec;
use serde_json::json;

use super::prove::mebibytes;
use super::usage::Usage;
use crate::output::{Format, Sheet};

/// Passes, of which the fastest counts.
const PASSES: usize = 5;
/// Updates of more bytes than this are aggregated once.
const LONG_BYTES: u64 = 8 << 30;

/// Arguments of `bench aggregate`.
#[derive(Debug, Args)]
pub(crate) struct AggregateArgs {
    /// The rule; `convoke rules` lists them
    #[arg(long, value_name = "NAME", default_value = "fedavg")]
    rule: String,
    /// Updates that are aggregated
    #[arg(long, value_name = "N", default_value = "32")]
    updates: NonZeroU16,
    /// Values of each, four bytes each
    #[arg(long, value_name = "D", default_value = "10000000")]
    parameters: NonZeroU64,
    /// Where the updates are
    #[arg(long, value_enum, default_value_t = Medium::Memory)]
    input: Medium,
    /// Threads; as many as there are processors, if not given
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,
}

/// Where updates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Medium {
    /// In memory, all of them
    Memory,
    /// In temporary files, which stay in the page cache if there is room
    Files,
    /// Nowhere: made anew as they are read, for models that no disk has room for
    Generated,
}

/// Runs the command.
pub(crate) async fn run(args: &AggregateArgs, format: Format) -> anyhow::Result<()> {
    let rule = by_name(&args.rule)?;
    let settings = AggregationSpec {
        rule: args.rule.clone(),
        ..AggregationSpec::default()
    };
    let (updates, parameters) = (args.updates.get(), args.parameters.get());
    let input = match args.input {
        Medium::Memory => Input::Memory,
        Medium::Files => Input::Files,
        Medium::Generated => Input::Generated,
    };
    let long = parameters.saturating_mul(4 * u64::from(updates)) > LONG_BYTES;
    let passes = if long { 0 } else { PASSES };
    let threads = args.threads.map_or(0, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.context("cannot start the threads")?;
    let measured = tokio::task::spawn_blocking(move || {
        let work = Work {
            rule,
            settings: &settings,
            updates,
            parameters,
            input,
            passes,
        };
        pool.install(|| measure_speed(&work))
    });
    let speed: AggregationSpeed = measured.await??;
    let peak = Usage::of(std::process::id())?.peak_rss_bytes;
    let (giga, limit) = (1e-9, speed.limit_seconds());
    let products = (speed.product_flops > 0.0).then_some(speed.fma_ratio());
    let value = json!({
        "rule": args.rule,
        "updates": updates,
        "parameters": parameters,
        "threads": speed.threads,
        "seconds": speed.seconds,
        "decide_seconds": speed.decide_seconds,
        "input_gb_per_s": giga * speed.input_rate(),
        "read_bandwidth_gb_per_s": giga * speed.read_bandwidth(),
        "ratio": speed.ratio(),
        "limit_seconds": limit,
        "limit_ratio": limit / speed.seconds,
        "fma_peak_gflops": giga * speed.fma_peak_flops,
        "fma_ratio": products,
        "peak_rss_bytes": peak,
    });
    format.print(&value, || {
        let percent = |share: f64| format!("{:.0}%", 100.0 * share);
        let mut sheet = Sheet::default();
        sheet.line("rule", args.rule.clone());
        sheet.line("updates", format!("{updates} of {parameters} values"));
        sheet.line("threads", speed.threads.to_string());
        let rate = giga * speed.input_rate();
        sheet.line(
            "aggregation",
            format!("{:.4} s, {rate:.2} GB/s", speed.seconds),
        );
        let bandwidth = giga * speed.read_bandwidth();
        let ratio = percent(speed.ratio());
        sheet.line(
            "reading alone",
            format!("{bandwidth:.2} GB/s: this is {ratio} of it"),
        );
        if let Some(products) = products {
            let peak = giga * speed.fma_peak_flops;
            let share = percent(products);
            sheet.line("inner products", format!("{share} of {peak:.0} GFLOP/s"));
        }
        let share = percent(limit / speed.seconds);
        sheet.line(
            "what binds",
            format!("{limit:.4} s at best: this is {share} of it"),
        );
        sheet.line("peak memory", mebibytes(peak));
        sheet.to_string()
    })
}
