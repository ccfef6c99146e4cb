//! The compute device, chosen by name at run time.

mod describe;
mod memory;
mod precision;
mod probe;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

pub use self::describe::{DeviceInfo, devices};
pub use self::memory::Memory;
pub use self::precision::Precision;
use crate::error::ModelError;

/// A device by name: `auto`, `cpu`, `wgpu`, `wgpu:1`, `cuda`, `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// `auto`: the first of `cuda`, `wgpu` and `cpu` that computes. A GPU that is only emulated in
    /// software is passed over.
    Auto,
    /// `cpu`: burn's flex backend with fused kernels, pure Rust.
    #[default]
    Cpu,
    /// `wgpu[:index]`: a GPU through Vulkan, Metal or DirectX; needs the feature `wgpu`.
    Wgpu(usize),
    /// `cuda[:index]`: an NVIDIA GPU; needs the feature `cuda`.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device after a first computation on it. `auto` says to the log what it passes
    /// over, and why; a device that was asked for by name is never replaced by another.
    ///
    /// # Errors
    /// [`ModelError::Device`] if this build lacks the backend, the machine the device, or the device
    /// does not compute.
    pub fn open(self) -> Result<ComputeDevice, ModelError> {
        match self {
            Self::Auto => Ok(probe::best()),
            Self::Cpu => Ok(ComputeDevice::new(self, Device::flex())),
            Self::Wgpu(index) => self.nth(probe::Backend::Wgpu, index),
            Self::Cuda(index) => self.nth(probe::Backend::Cuda, index),
        }
    }

    fn nth(self, backend: probe::Backend, index: usize) -> Result<ComputeDevice, ModelError> {
        let refused = |reason| ModelError::Device {
            name: self.to_string(),
            reason,
        };
        let devices = backend.devices().map_err(refused)?;
        let found = devices.len();
        let device = devices
            .into_iter()
            .nth(index)
            .ok_or_else(|| refused(format!("this machine has {found} such devices")))?;
        probe::compute(&device).map_err(refused)?;
        Ok(ComputeDevice::new(self, device))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let refused = || ModelError::Device {
            name: name.to_owned(),
            reason: "known are auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX".into(),
        };
        let (backend, index) = match name.split_once(':') {
            None => (name, None),
            Some((backend, index)) => (backend, Some(index.parse().map_err(|_| refused())?)),
        };
        match (backend, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(refused()),
        }
    }
}

/// An open device that models run on.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    choice: DeviceChoice,
    precision: Precision,
    pub(crate) device: Device,
}

impl ComputeDevice {
    fn new(choice: DeviceChoice, device: Device) -> Self {
        Self {
            choice,
            precision: Precision::F32,
            device,
        }
    }

    /// Its name: what `auto` has become.
    pub fn name(&self) -> String {
        self.choice.to_string()
    }

    /// The number format that its matrix products are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Computes matrix products in that format from now on; `None` is the fastest that the device
    /// has and that needs no care: bf16 on a GPU that has it, else f32.
    ///
    /// # Errors
    /// [`ModelError::Device`] if the device does not have the format.
    pub fn with_precision(mut self, wanted: Option<Precision>) -> Result<Self, ModelError> {
        self.precision = match wanted {
            Some(wanted) if self.has(wanted) => wanted,
            Some(wanted) => {
                return Err(ModelError::Device {
                    name: self.name(),
                    reason: format!("it does not compute in {wanted}"),
                });
            }
            None if self.choice != DeviceChoice::Cpu && self.has(Precision::Bf16) => {
                Precision::Bf16
            }
            None => Precision::F32,
        };
        Ok(self)
    }

    fn has(&self, precision: Precision) -> bool {
        precision::supported(&self.device).contains(&precision)
    }
}

/// Limits computing on the CPU to `threads` threads for the whole process; 0 means one for each
/// core. Several trainers on one machine should share its cores. Results of training may differ
/// between numbers of threads.
///
/// # Errors
/// [`ModelError::Config`] if computing has begun, or an earlier call said something else.
pub fn limit_threads(threads: usize) -> Result<(), ModelError> {
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    if built.is_ok() || rayon::current_num_threads() == threads {
        return Ok(());
    }
    Err(ModelError::Config {
        field: "threads",
        got: threads.to_string(),
        allowed: "one choice for the whole process, before computing begins",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_printed() {
        for (name, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("wgpu:0", DeviceChoice::Wgpu(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), name);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for name in [
            "", "gpu", "cpu:0", "auto:0", "cuda:", "cuda:x", "cuda:-1", "CPU",
        ] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let device = DeviceChoice::Cpu.open().unwrap();
        let device = device.with_precision(None).unwrap();
        assert_eq!(device.precision(), Precision::F32);
        let auto = DeviceChoice::Auto.open().unwrap();
        assert!(!auto.name().is_empty());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_says_how_to_build_it() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
