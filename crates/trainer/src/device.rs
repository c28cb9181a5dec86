//! The devices that can compute training steps, by the names that `--device` takes.
//!
//! A device computes the training steps and the held-out losses between them. Everything else runs on the CPU.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device. Its name is part of what a run's numbers depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The CPU kernels.
    #[default]
    Cpu,
    /// candle on the CPU: the slow reference path.
    CandleCpu,
    /// candle on the first CUDA device.
    Cuda,
    /// candle on the Metal device.
    Metal,
}

impl Device {
    /// The name that `--device` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CandleCpu => "candle-cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
