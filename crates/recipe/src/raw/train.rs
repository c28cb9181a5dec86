//! The training half of a recipe as it is written: storage of weights, adapters, the loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enums::{ComputeDtype, LossOn, Overlong, Recompute, Scheduler};
use crate::plan::TrainPlan;

/// Storage of the frozen base weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawQuantization {
    /// `nf4` (4-bit NormalFloat) or `none`.
    #[serde(rename = "type")]
    pub(crate) kind: QuantizationKind,
    /// Weights that share one scale; 64 as in QLoRA is what the kernels support.
    #[schemars(extend("enum" = [64]))]
    pub(crate) block_size: usize,
    /// Store the scales in 8 bits too, which saves 0.37 bits a weight.
    pub(crate) double_quant: bool,
}

impl Default for RawQuantization {
    fn default() -> Self {
        Self {
            kind: QuantizationKind::Nf4,
            block_size: 64,
            double_quant: true,
        }
    }
}

/// Kinds of quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QuantizationKind {
    /// 4-bit NormalFloat, as bitsandbytes computes it.
    Nf4,
    /// Weights keep the compute dtype.
    None,
}

/// Shape of the adapters.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lora {
    /// Inner dimension of the adapters; more learns more and costs memory.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) rank: usize,
    /// The adapters' output is scaled by alpha / rank; twice the rank when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) alpha: Option<f64>,
    /// Share of the adapters' input dropped while training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub(crate) dropout: f32,
    /// `all-linear`, or a list of module names such as q_proj.
    pub(crate) targets: Targets,
    /// Scale by alpha / √rank instead of alpha / rank.
    pub(crate) rslora: bool,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: None,
            dropout: 0.0,
            targets: Targets::default(),
            rslora: false,
        }
    }
}

/// Modules that get an adapter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Targets {
    /// A word.
    Word(TargetsWord),
    /// Module names.
    Modules(#[schemars(length(min = 1))] Vec<LinearModule>),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Word(TargetsWord::AllLinear)
    }
}

/// The word `targets` takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TargetsWord {
    /// All seven linear modules of every layer.
    AllLinear,
}

/// A linear module of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "these are the modules' names")]
pub(crate) enum LinearModule {
    /// MLP, back to the hidden size.
    DownProj,
    /// MLP, the gate.
    GateProj,
    /// Attention keys.
    KProj,
    /// Attention output.
    OProj,
    /// Attention queries.
    QProj,
    /// MLP, the gated half.
    UpProj,
    /// Attention values.
    VProj,
}

impl LinearModule {
    /// The suffix of the module's name in a checkpoint.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DownProj => "down_proj",
            Self::GateProj => "gate_proj",
            Self::KProj => "k_proj",
            Self::OProj => "o_proj",
            Self::QProj => "q_proj",
            Self::UpProj => "up_proj",
            Self::VProj => "v_proj",
        }
    }
}

/// What training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawMethod {
    /// Adapters beside frozen weights.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

/// The training loop.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Train {
    /// `lora` trains adapters, `full` every weight.
    pub(crate) method: RawMethod,
    /// Passes over the data; a fraction stops early in the last one.
    #[schemars(range(max = 10000.0), extend("exclusiveMinimum" = 0))]
    pub(crate) epochs: f64,
    /// Stop after this many optimizer steps; the schedule ends there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_steps: Option<u64>,
    /// Rows of one forward pass; costs memory.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) batch_size: usize,
    /// Forward passes of one optimizer step; batch_size times this is the effective batch.
    #[schemars(range(min = 1, max = 65536))]
    pub(crate) gradient_accumulation: usize,
    /// Tokens of one row, at most; costs memory.
    #[schemars(range(min = 8, max = 1_048_576))]
    pub(crate) max_seq_len: usize,
    /// Peak learning rate.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub(crate) learning_rate: f64,
    /// Shape of the learning rate after warmup.
    pub(crate) scheduler: Scheduler,
    /// Share of the steps spent warming up.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub(crate) warmup_ratio: f64,
    /// Decoupled weight decay.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 turns clipping off.
    #[schemars(range(min = 0.0))]
    pub(crate) max_grad_norm: f64,
    /// Decay of Adam's first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub(crate) adam_beta1: f64,
    /// Decay of Adam's second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub(crate) adam_beta2: f64,
    /// Added to the root of Adam's second moment.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) adam_epsilon: f64,
    /// Tokens that carry loss: the assistant's answers, or all.
    pub(crate) loss_on: LossOn,
    /// Several documents share a row; attention stays inside each document.
    pub(crate) packing: bool,
    /// What happens to documents longer than max_seq_len; every one is counted.
    pub(crate) overlong: Overlong,
    /// Compute layer activations again in the backward pass instead of keeping them: slower, far less memory.
    pub(crate) recompute: Recompute,
    /// Precision of activations and products; sums are always f32.
    pub(crate) compute_dtype: ComputeDtype,
    /// Seed of initialization, dropout and row order.
    pub(crate) seed: u64,
    /// Optimizer steps between checkpoints; 0 keeps only the last.
    pub(crate) checkpoint_every: u64,
}

impl Default for Train {
    fn default() -> Self {
        let TrainPlan {
            epochs,
            max_steps,
            batch_size,
            gradient_accumulation,
            max_seq_len,
            learning_rate,
            scheduler,
            warmup_ratio,
            weight_decay,
            max_grad_norm,
            adam_beta1,
            adam_beta2,
            adam_epsilon,
            loss_on,
            packing,
            overlong,
            recompute,
            compute_dtype,
            seed,
            checkpoint_every,
        } = TrainPlan::default();
        Self {
            method: RawMethod::default(),
            epochs,
            max_steps,
            batch_size,
            gradient_accumulation,
            max_seq_len,
            learning_rate,
            scheduler,
            warmup_ratio,
            weight_decay,
            max_grad_norm,
            adam_beta1,
            adam_beta2,
            adam_epsilon,
            loss_on,
            packing,
            overlong,
            recompute,
            compute_dtype,
            seed,
            checkpoint_every,
        }
    }
}
