//! Opens candle's devices by name.

use candle_core::Device;

use crate::CandleError;

/// A kind of candle device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
    /// The Metal device.
    Metal,
}

impl DeviceKind {
    /// Opens the device.
    ///
    /// # Errors
    /// The build lacks the device's feature, or the driver refuses.
    pub fn open(self) -> Result<Device, CandleError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => gpu("cuda", cfg!(feature = "cuda"), || Device::new_cuda(0)),
            Self::Metal => gpu("metal", cfg!(feature = "metal"), || Device::new_metal(0)),
        }
    }
}

fn gpu(
    device: &'static str,
    compiled: bool,
    open: impl FnOnce() -> candle_core::Result<Device>,
) -> Result<Device, CandleError> {
    if !compiled {
        let reason = format!("this program was built without {device} support; rebuild it with `--features {device}`");
        return Err(CandleError::Unavailable { device, reason });
    }
    open().map_err(|error| CandleError::Unavailable {
        device,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_built_in_names_the_feature() {
        assert!(DeviceKind::Cpu.open().unwrap().is_cpu());
        let error = DeviceKind::Cuda.open().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
