//! The scaling of rotary frequencies: how config.json describes it, and the divisors it stands for.

use serde_json::{Map, Value};

use crate::architecture::Architecture;
use crate::config_fields::{Fields, LARGEST_SIZE};
use crate::error::Result;

/// Llama 3.1's frequency-dependent RoPE scaling (`rope_type: llama3`), the one scaling that is supported.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3RopeScaling {
    /// Divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled by the whole factor.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are not scaled.
    pub high_freq_factor: f64,
    /// The context the model was first trained with, in tokens.
    pub original_max_position_embeddings: usize,
}

impl Llama3RopeScaling {
    /// The divisor of each rotary frequency of a head: `head_dim / 2` numbers ≥ 1, highest frequency first. Source: transformers' `_compute_llama3_parameters`.
    #[must_use]
    pub fn divisors(&self, head_dim: usize, rope_theta: f64) -> Vec<f64> {
        let original = self.original_max_position_embeddings as f64;
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        (0..head_dim / 2)
            .map(|pair| {
                let frequency = rope_theta.powf(-((2 * pair) as f64) / head_dim as f64);
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < original / high {
                    1.0
                } else if wavelength > original / low {
                    self.factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    1.0 / ((1.0 - smooth) / self.factor + smooth)
                }
            })
            .collect()
    }

    /// Reads the rotary base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
    pub(crate) fn read(fields: &Fields<'_>, architecture: Architecture) -> Result<(f64, Option<Self>)> {
        let parameters = fields.object("rope_parameters")?;
        let mut inner = None;
        for (field, object) in [
            ("rope_parameters.rope_theta", parameters),
            // transformers 5 takes either object for the other.
            ("rope_scaling.rope_theta", fields.object("rope_scaling")?),
        ] {
            if let (None, Some(value)) = (inner, object.and_then(|object| object.get("rope_theta"))) {
                inner = Some(fields.positive_number(field, value)?);
            }
        }
        let outer = fields
            .get("rope_theta")
            .map(|value| fields.positive_number("rope_theta", value))
            .transpose()?;
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner != outer
        {
            return Err(fields.error(
                "rope_theta",
                format!("is {outer}, but `rope_parameters.rope_theta` is {inner}"),
            ));
        }
        let scaling = match (parameters, fields.object("rope_scaling")?) {
            (Some(parameters), None) => Self::read_object(fields, "rope_parameters", parameters)?,
            (None, Some(scaling)) => Self::read_object(fields, "rope_scaling", scaling)?,
            (None, None) => None,
            (Some(parameters), Some(scaling)) => {
                let (new, old) = (
                    Self::read_object(fields, "rope_parameters", parameters)?,
                    Self::read_object(fields, "rope_scaling", scaling)?,
                );
                if new != old {
                    return Err(fields.error("rope_scaling", "disagrees with `rope_parameters`; remove one of them"));
                }
                new
            }
        };
        let default = if architecture == Architecture::SmolLM3 {
            2_000_000.0
        } else {
            10_000.0
        };
        Ok((inner.or(outer).unwrap_or(default), scaling))
    }

    /// Reads one object, which was found at `field`.
    fn read_object(fields: &Fields<'_>, field: &str, object: &Map<String, Value>) -> Result<Option<Self>> {
        if object
            .get("partial_rotary_factor")
            .is_some_and(|value| value.as_f64() != Some(1.0))
        {
            return Err(fields.error(
                &format!("{field}.partial_rotary_factor"),
                "is not 1, and only full rotation is supported",
            ));
        }
        let kind = object
            .get("rope_type")
            .or_else(|| object.get("type"))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let number = |key: &str| match object.get(key) {
            Some(value) => fields.positive_number(&format!("{field}.{key}"), value),
            None => Err(fields.error(&format!("{field}.{key}"), "is missing")),
        };
        match kind {
            "default" => Ok(None),
            "llama3" => {
                let original = number("original_max_position_embeddings")?;
                if original.fract() != 0.0 || original > LARGEST_SIZE as f64 {
                    return Err(fields.error(
                        &format!("{field}.original_max_position_embeddings"),
                        format!("must be a number of tokens, found {original}"),
                    ));
                }
                let scaling = Self {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_max_position_embeddings: original as usize,
                };
                if scaling.high_freq_factor <= scaling.low_freq_factor {
                    return Err(fields.error(&format!("{field}.high_freq_factor"), "must be above `low_freq_factor`"));
                }
                Ok(Some(scaling))
            }
            other => Err(fields.error(
                &format!("{field}.rope_type"),
                format!("is `{other}`, which is not supported; supported: default, llama3"),
            )),
        }
    }
}
