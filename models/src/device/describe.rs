//! All devices that a model could run on, for people who choose one.

use burn::tensor::Device;
use serde::Serialize;

use super::memory::{self, Memory};
use super::precision::{self, Precision};
use super::probe::{self, Backend};
use super::{ComputeDevice, DeviceChoice};

/// A device, or a backend without any.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// What `--device` takes: `cuda:0`.
    pub name: String,
    /// What the part calls itself.
    pub title: String,
    /// Its memory, where that can be found out.
    pub memory: Option<Memory>,
    /// Number formats that it computes matrix products in.
    pub precisions: Vec<Precision>,
    /// Whether a GPU is only emulated in software.
    pub emulated: bool,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

/// All devices, GPUs first; each has computed something. Backends without a device stand there
/// with the reason.
pub fn devices() -> Vec<DeviceInfo> {
    let mut all = Vec::new();
    for backend in Backend::ALL {
        match backend.devices() {
            Ok(devices) if devices.is_empty() => {
                all.push(none(backend, "no such device on this machine".into()));
            }
            Ok(devices) => {
                let memory = match backend {
                    Backend::Cuda => memory::of_nvidia(),
                    // Vulkan, Metal and DirectX do not say through burn.
                    Backend::Wgpu => Vec::new(),
                };
                let found = devices.iter().enumerate();
                all.extend(found.map(|(index, device)| {
                    gpu(backend.choice(index), device, memory.get(index).copied())
                }));
            }
            Err(reason) => all.push(none(backend, reason)),
        }
    }
    all.push(cpu());
    all
}

fn none(backend: Backend, reason: String) -> DeviceInfo {
    DeviceInfo {
        name: backend.name().to_owned(),
        title: String::new(),
        memory: None,
        precisions: Vec::new(),
        emulated: false,
        unusable: Some(reason),
    }
}

fn gpu(choice: DeviceChoice, device: &Device, memory: Option<Memory>) -> DeviceInfo {
    let (title, real) = probe::identity(device).unwrap_or_else(|| ("unnamed".into(), true));
    let unusable = probe::compute(device).err();
    let precisions = if unusable.is_none() {
        precision::supported(device)
    } else {
        Vec::new()
    };
    DeviceInfo {
        name: choice.to_string(),
        title,
        // An emulated GPU computes in the machine's own memory.
        memory: memory.or_else(|| if real { None } else { memory::of_machine() }),
        precisions,
        emulated: !real,
        unusable,
    }
}

fn cpu() -> DeviceInfo {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = cpu_model().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    DeviceInfo {
        name: DeviceChoice::Cpu.to_string(),
        title: format!("{model}, {cores} cores{}", instructions()),
        memory: memory::of_machine(),
        precisions: precision::supported(&Device::flex()),
        emulated: false,
        unusable: None,
    }
}

fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The widest instructions that the kernels choose at run time.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return ", AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return ", AVX2 and FMA";
        }
    }
    ""
}

impl ComputeDevice {
    /// What it is, with its memory.
    pub fn info(&self) -> DeviceInfo {
        match self.choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => cpu(),
            DeviceChoice::Cuda(index) => {
                let memory = memory::of_nvidia().get(index).copied();
                gpu(self.choice, &self.device, memory)
            }
            DeviceChoice::Wgpu(_) => gpu(self.choice, &self.device, None),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_stands_last_and_is_usable() {
        let all = devices();
        let cpu = all.last().unwrap();
        assert_eq!(cpu.name, "cpu");
        assert_eq!(cpu.unusable, None);
        assert!(cpu.precisions.contains(&Precision::F32));
        assert_eq!(DeviceChoice::Cpu.open().unwrap().info().title, cpu.title);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_is_not_built_in_says_so() {
        let all = devices();
        let cuda = all.iter().find(|device| device.name == "cuda").unwrap();
        let reason = cuda.unusable.as_deref().unwrap();
        assert!(reason.contains("--features cuda"), "{reason}");
    }
}
