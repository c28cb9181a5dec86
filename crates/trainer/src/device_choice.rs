//! The choice of a device: what the user asked for, checked against what this build and this machine offer.
//!
//! The CPU kernels are always available. The candle devices are cargo features: `candle` (on by default in
//! `synapse-train`), `cuda` and `metal`.

use synapse_recipe::TrainingMethod;

use crate::{Device, TrainError, backend};

/// The device that a user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU of this build and machine if the recipe's method trains on it, else the CPU kernels.
    #[default]
    Auto,
    /// This device and no other.
    Named(Device),
}

impl DeviceChoice {
    /// The device for recipes with this training method.
    ///
    /// # Errors
    /// [`TrainError::Device`] if this build or machine does not have the named device, and [`TrainError::Unusable`] if
    /// it does not support the method.
    pub fn resolve(self, method: &TrainingMethod) -> Result<Device, TrainError> {
        match (self, method) {
            (Self::Named(Device::Cpu), _) | (Self::Auto, TrainingMethod::Full) => Ok(Device::Cpu),
            (Self::Named(device), TrainingMethod::Lora(_)) => backend::check(device).map(|()| device),
            (Self::Named(device), TrainingMethod::Full) => {
                backend::check(device)?;
                Err(TrainError::full_on(device))
            }
            (Self::Auto, TrainingMethod::Lora(_)) => Ok([Device::Cuda, Device::Metal]
                .into_iter()
                .find(|device| backend::check(*device).is_ok())
                .unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn lora() -> TrainingMethod {
        TrainingMethod::Lora(synapse_recipe::LoraPlan {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            targets: vec!["q_proj".to_owned()],
            rslora: false,
        })
    }

    #[test]
    fn the_kernels_are_always_there_and_train_by_every_method() {
        for method in [lora(), TrainingMethod::Full] {
            assert_eq!(DeviceChoice::Named(Device::Cpu).resolve(&method).unwrap(), Device::Cpu);
        }
        assert_eq!(DeviceChoice::Auto.resolve(&TrainingMethod::Full).unwrap(), Device::Cpu);
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
        let refused = |method: &TrainingMethod| reference.resolve(method).unwrap_err().to_string();
        if cfg!(feature = "candle") {
            assert_eq!(reference.resolve(&lora()).unwrap(), Device::CandleCpu);
            let error = refused(&TrainingMethod::Full);
            assert!(
                error.contains("method: full") && error.contains("--device cpu"),
                "{error}"
            );
        } else {
            assert!(refused(&lora()).contains("--features candle"));
            assert!(refused(&TrainingMethod::Full).contains("--features candle"));
        }
    }
}
