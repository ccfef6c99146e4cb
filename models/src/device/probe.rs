//! Finding out which devices there are, and whether they compute.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};

use super::{ComputeDevice, DeviceChoice};
use crate::error::panic_text;

/// A way to reach GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Cuda,
    Wgpu,
}

impl Backend {
    pub(super) const ALL: [Self; 2] = [Self::Cuda, Self::Wgpu];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }

    pub(super) fn choice(self, index: usize) -> DeviceChoice {
        match self {
            Self::Cuda => DeviceChoice::Cuda(index),
            Self::Wgpu => DeviceChoice::Wgpu(index),
        }
    }

    /// Its devices, in the order of their numbers; why there are none if that is not the machine's
    /// doing.
    pub(super) fn devices(self) -> Result<Vec<Device>, String> {
        let devices = match self {
            Self::Cuda => cuda_devices(),
            Self::Wgpu => wgpu_devices(),
        };
        devices.unwrap_or_else(|| {
            let name = self.name();
            Err(format!(
                "this build has no {name}; build with `cargo build --release --features {name}`"
            ))
        })
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Option<Result<Vec<Device>, String>> {
    Some(quietly(|| {
        Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec()
    }))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_devices() -> Option<Result<Vec<Device>, String>> {
    None
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Option<Result<Vec<Device>, String>> {
    Some(quietly(|| {
        Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec()
    }))
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Option<Result<Vec<Device>, String>> {
    None
}

/// The first device that computes, GPUs before the CPU.
pub(super) fn best() -> ComputeDevice {
    for backend in Backend::ALL {
        let devices = match backend.devices() {
            Ok(devices) => devices,
            Err(reason) => {
                tracing::debug!(backend = backend.name(), reason, "backend passed over");
                continue;
            }
        };
        for (index, device) in devices.into_iter().enumerate() {
            let choice = backend.choice(index);
            if emulated(&device) {
                tracing::info!(device = %choice, "passed over: the GPU is emulated in software");
                continue;
            }
            match compute(&device) {
                Ok(()) => return ComputeDevice::new(choice, device),
                Err(reason) => {
                    tracing::warn!(device = %choice, reason, "passed over: it does not compute");
                }
            }
        }
    }
    ComputeDevice::new(DeviceChoice::Cpu, Device::flex())
}

/// The name of the part, if the device says it, and whether it is a real card.
pub(super) fn identity(device: &Device) -> Option<(String, bool)> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return quietly(|| device.identity())
        .ok()
        .flatten()
        .map(|identity| (identity.name, identity.physical.is_some()));
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    {
        let _ = device;
        None
    }
}

/// Whether the device is known to be none but a program.
pub(super) fn emulated(device: &Device) -> bool {
    identity(device).is_some_and(|(_, real)| !real)
}

/// Multiplies two small matrices on the device and looks at the result.
pub(super) fn compute(device: &Device) -> Result<(), String> {
    let product = quietly(|| {
        let a = Tensor::<2>::ones([8, 16], device);
        let b = Tensor::<2>::ones([16, 4], device);
        a.matmul(b).sum().try_into_scalar::<f32>()
    })?;
    match product {
        Ok(512.0) => Ok(()),
        Ok(other) => Err(format!("a first computation gave {other}, not 512")),
        Err(error) => Err(format!("a first computation failed: {error}")),
    }
}

/// Runs what panics where a driver or a device is missing; the panic's text becomes the error, and
/// nothing is printed.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // The hook is the process's: one at a time.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    outcome.map_err(|panic| {
        let text = panic_text(&*panic).unwrap_or("no reason given");
        text.lines().next().unwrap_or_default().trim().to_owned()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes() {
        compute(&Device::flex()).unwrap();
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = quietly(|| panic!("no driver\nin two lines")).unwrap_err();
        assert_eq!(error, "no driver");
        assert_eq!(quietly(|| 3), Ok(3));
    }
}
