//! Which device to run on, by name.

use std::str::FromStr;

use candle_core::{DType, Device};

use crate::CompositeError;

/// A device as a user names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU this build and machine have, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
    /// The Metal device.
    Metal,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// The build lacks the device's feature, or the driver refuses. `Auto` never fails.
    pub fn open(self) -> Result<Device, CompositeError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => gpu("cuda", cfg!(feature = "cuda"), || Device::new_cuda(0)),
            Self::Metal => gpu("metal", cfg!(feature = "metal"), || Device::new_metal(0)),
            Self::Auto => Ok(Self::Cuda.open().or_else(|_| Self::Metal.open()).unwrap_or(Device::Cpu)),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            other => Err(format!("unknown device `{other}`: there are auto, cpu, cuda and metal")),
        }
    }
}

fn gpu(
    device: &'static str,
    compiled: bool,
    open: impl FnOnce() -> candle_core::Result<Device>,
) -> Result<Device, CompositeError> {
    if !compiled {
        let reason = format!("this program was built without it; build with `--features {device}`");
        return Err(CompositeError::Unavailable { device, reason });
    }
    open().map_err(|error| CompositeError::Unavailable {
        device,
        reason: error.to_string(),
    })
}

/// What to compute in unless told otherwise: bf16 on CUDA, f32 elsewhere.
#[must_use]
pub fn default_dtype(device: &Device) -> DType {
    if device.is_cuda() { DType::BF16 } else { DType::F32 }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn names_are_read_and_others_refused() {
        assert_eq!("metal".parse(), Ok(DeviceChoice::Metal));
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().contains("cuda"));
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    fn a_device_that_is_not_built_in_says_how_to_get_it() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let error = DeviceChoice::Cuda.open().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
