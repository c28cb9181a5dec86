//! The words of a recipe's training section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The linear modules of a decoder layer, sorted: what `targets: all-linear` stands for.
pub const LINEAR_MODULES: [&str; 7] = [
    "down_proj",
    "gate_proj",
    "k_proj",
    "o_proj",
    "q_proj",
    "up_proj",
    "v_proj",
];

/// Shape of the learning rate after warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Half a cosine down to zero.
    #[default]
    Cosine,
    /// A straight line down to zero.
    Linear,
    /// The peak, all the way.
    Constant,
}

/// Which tokens carry loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// Assistant answers and their end-of-turn tokens.
    #[default]
    Assistant,
    /// Every token.
    All,
}

/// What happens to a document longer than `max_seq_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlong {
    /// It is left out, and counted.
    #[default]
    Drop,
    /// Its end is cut off, and counted.
    Truncate,
    /// It becomes several documents; meant for plain text.
    Split,
}

/// Whether layers are computed again in the backward pass: `true`, `false` or `auto` in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Where keeping their activations would not fit into memory.
    #[default]
    Auto,
    /// `true`
    Always,
    /// `false`
    Never,
}

impl Serialize for Recompute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Recompute {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl serde::de::Visitor<'_> for Word {
            type Value = Recompute;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("true, false or auto")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Recompute, E> {
                Ok(if value { Recompute::Always } else { Recompute::Never })
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Recompute, E> {
                if value == "auto" {
                    Ok(Recompute::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(value), &self))
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for Recompute {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Recompute".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Whether layers are computed again in the backward pass; auto: where keeping their activations would not fit into memory.",
            "enum": [true, false, "auto"],
        })
    }
}

/// Precision of activations and matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16 inputs, f32 sums.
    #[default]
    Bf16,
}
