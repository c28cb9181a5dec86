//! What computes a run's steps: the names a user gives, and what this build and machine have of them.
//!
//! The CPU kernels are the engine and always there. The other devices run the same decoder in candle operations
//! (`synapse-candle`); they are cargo features, because candle lengthens the first build. A device
//! computes the training steps and the held-out losses between them, nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};
use synapse_recipe::Method;

use crate::{TrainError, candle};

/// A device by name. Its name is part of what a run's numbers depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The CPU kernels.
    #[default]
    Cpu,
    /// candle's operations on the CPU: the slow reference path.
    CandleCpu,
    /// The first CUDA device.
    Cuda,
    /// The Metal device.
    Metal,
}

impl Device {
    /// The name `--device` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CandleCpu => "candle-cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// Whether this machine can train on it with this build.
    ///
    /// # Errors
    /// [`TrainError::Device`] with the way to build it in, or with what the driver says.
    pub fn check(self) -> Result<(), TrainError> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda if !cfg!(feature = "cuda") => Err(self.not_built_in()),
            Self::Metal if !cfg!(feature = "metal") => Err(self.not_built_in()),
            Self::CandleCpu | Self::Cuda | Self::Metal => candle::check(self),
        }
    }

    /// The refusal of a device that this build lacks.
    pub(crate) fn not_built_in(self) -> TrainError {
        let (feature, place) = match self {
            Self::Cpu | Self::CandleCpu => ("candle", ""),
            Self::Cuda => ("cuda", ", where the CUDA toolkit is installed,"),
            Self::Metal => ("metal", ", on macOS,"),
        };
        let reason = format!(
            "this program was built without it; `cargo build --release --locked -p synapse-train --features {feature}`{place} builds one with it"
        );
        TrainError::on(self, reason)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that this build and machine have and that can train by the recipe's method, else the kernels.
    #[default]
    Auto,
    /// This one or none.
    Named(Device),
}

impl DeviceChoice {
    /// The device for recipes of a method.
    ///
    /// # Errors
    /// As [`Device::check`], and [`TrainError::Unusable`] for a method that the named device does not train by.
    pub fn resolve(self, method: &Method) -> Result<Device, TrainError> {
        match (self, method) {
            (Self::Named(Device::Cpu), _) | (Self::Auto, Method::Full) => Ok(Device::Cpu),
            (Self::Named(device), Method::Lora(_)) => device.check().map(|()| device),
            (Self::Named(device), Method::Full) => {
                device.check()?;
                Err(TrainError::full_on(device))
            }
            (Self::Auto, Method::Lora(_)) => Ok([Device::Cuda, Device::Metal]
                .into_iter()
                .find(|device| device.check().is_ok())
                .unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn lora() -> Method {
        Method::Lora(synapse_recipe::LoraPlan {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            targets: vec!["q_proj".to_owned()],
            rslora: false,
        })
    }

    #[test]
    fn the_kernels_are_always_there_and_train_by_every_method() {
        for method in [lora(), Method::Full] {
            assert_eq!(DeviceChoice::Named(Device::Cpu).resolve(&method).unwrap(), Device::Cpu);
        }
        assert_eq!(DeviceChoice::Auto.resolve(&Method::Full).unwrap(), Device::Cpu);
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    fn without_a_gpu_auto_takes_the_kernels_and_a_named_one_says_how_to_build_it() {
        assert_eq!(DeviceChoice::Auto.resolve(&lora()).unwrap(), Device::Cpu);
        for device in [Device::Cuda, Device::Metal] {
            let error = DeviceChoice::Named(device).resolve(&lora()).unwrap_err().to_string();
            let feature = format!("--features {device}");
            assert!(error.contains(&feature) && error.contains("cargo build"), "{error}");
        }
    }

    #[test]
    fn the_reference_path_is_there_where_it_is_built_in_and_trains_adapters_only() {
        let reference = DeviceChoice::Named(Device::CandleCpu);
        let refused = |method: &Method| reference.resolve(method).unwrap_err().to_string();
        if cfg!(feature = "candle") {
            assert_eq!(reference.resolve(&lora()).unwrap(), Device::CandleCpu);
            let error = refused(&Method::Full);
            assert!(
                error.contains("method: full") && error.contains("--device cpu"),
                "{error}"
            );
        } else {
            assert!(refused(&lora()).contains("--features candle"));
            assert!(refused(&Method::Full).contains("--features candle"));
        }
    }
}
