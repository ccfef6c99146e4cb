//! The compute device, chosen by name at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::ModelError;

/// A device by name: `cpu`, `wgpu`, `wgpu:1`, `cuda`, `cuda:1`. Never chosen silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// `cpu`: burn's flex backend, pure Rust.
    #[default]
    Cpu,
    /// `wgpu[:index]`: a GPU through Vulkan, Metal or DirectX; needs the feature `wgpu`.
    Wgpu(usize),
    /// `cuda[:index]`: an NVIDIA GPU; needs the feature `cuda`.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`ModelError::Device`] if this build lacks the backend, or the machine the device.
    pub fn open(self) -> Result<ComputeDevice, ModelError> {
        match self {
            Self::Cpu => Ok(ComputeDevice(Device::flex())),
            Self::Wgpu(index) => self.nth(wgpu_devices(), "wgpu", index),
            Self::Cuda(index) => self.nth(cuda_devices(), "cuda", index),
        }
    }

    fn nth(
        self,
        devices: Option<Vec<Device>>,
        feature: &str,
        index: usize,
    ) -> Result<ComputeDevice, ModelError> {
        let refused = |reason| ModelError::Device {
            name: self.to_string(),
            reason,
        };
        let devices = devices.ok_or_else(|| {
            refused(format!(
                "this build has no {feature}; build with `cargo build --release --features {feature}`"
            ))
        })?;
        let found = devices.len();
        devices
            .into_iter()
            .nth(index)
            .map(ComputeDevice)
            .ok_or_else(|| refused(format!("this machine has {found} such devices")))
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Option<Vec<Device>> {
    Some(Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec())
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_devices() -> Option<Vec<Device>> {
    None
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Option<Vec<Device>> {
    Some(Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec())
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Option<Vec<Device>> {
    None
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            reason: "known are cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX".into(),
        };
        let (backend, index) = match name.split_once(':') {
            None => (name, None),
            Some((backend, index)) => (backend, Some(index.parse().map_err(|_| refused())?)),
        };
        match (backend, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(refused()),
        }
    }
}

/// An open device that models run on.
#[derive(Debug, Clone)]
pub struct ComputeDevice(pub(crate) Device);

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
        for name in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        DeviceChoice::Cpu.open().unwrap();
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_says_how_to_build_it() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
