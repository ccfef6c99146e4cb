//! Where to compute, as options of the commands that do.

use anyhow::Context as _;
use clap::Args;
use convoke_models::{ComputeDevice, DeviceChoice, DeviceInfo, Memory, Precision, limit_threads};

use crate::failure::HintExt as _;

/// Device, number format and threads.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda, cuda:1, wgpu; `convoke devices` lists what is there
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Number format of matrix products: f32, bf16 or f16 [default: bf16 on a GPU that has it, else
    /// f32]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) precision: Option<Precision>,
    /// CPU threads to use [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

impl DeviceArgs {
    /// Opens the device, for a command that computes at once.
    pub(crate) fn open(&self) -> anyhow::Result<ComputeDevice> {
        if let Some(threads) = self.threads {
            limit_threads(threads)?;
        }
        self.device
            .open()
            .and_then(|device| device.with_precision(self.precision))
            .context("cannot compute there")
            .hint("`convoke devices` lists what is there, and `--device auto` takes the best")
    }
}

/// A device in a few words: `cuda:0, NVIDIA H200, 139.8 GiB`.
pub(crate) fn described(info: &DeviceInfo) -> String {
    let mut text = info.name.clone();
    if !info.title.is_empty() {
        text += &format!(", {}", info.title);
    }
    if let Some(memory) = &info.memory {
        text += &format!(", {}", gib(memory.total_bytes));
    }
    text
}

/// Free and total memory: `120.4 of 139.8 GiB`.
pub(crate) fn free_of_total(memory: &Memory) -> String {
    format!(
        "{:.1} of {}",
        memory.free_bytes as f64 / GIB,
        gib(memory.total_bytes)
    )
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB)
}

const GIB: f64 = (1u64 << 30) as f64;
