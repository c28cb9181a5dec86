//! The Synapse architecture's own part of config.json, and the tensors of a layer: a router (a Mamba block, on disk
//! `thalamus.*`) that gates, per token, a language module (mLSTM or sLSTM), sparse SwiGLU experts and a fast-weight
//! memory. No attention. How they are computed, and what their weights start from, belongs to another crate.

use serde_json::{Value, json};

use crate::config_fields::Fields;
use crate::error::Result;

/// The fields that are read, and those that Hugging Face's tools add. Others are refused: a misspelled field would
/// silently train another model.
const KNOWN: [&str; 36] = [
    "architectures",
    "auto_map",
    "balance_loss_coefficient",
    "balance_over",
    "bos_token_id",
    "conv_kernel",
    "dtype",
    "eos_token_id",
    "expert_intermediate_size",
    "hidden_size",
    "initializer_range",
    "language_inner_size",
    "language_num_heads",
    "max_position_embeddings",
    "memory_decay",
    "memory_key_size",
    "memory_num_heads",
    "memory_value_size",
    "model_type",
    "modules_per_token",
    "num_experts",
    "num_hidden_layers",
    "pad_token_id",
    "relay_context",
    "rms_norm_eps",
    "router_inner_size",
    "router_state_size",
    "router_z_loss_coefficient",
    "routing",
    "selection_bias_rate",
    "slstm_every",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "vocab_size",
];

/// How tokens are routed to a layer's modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingMode {
    /// The router chooses `modules_per_token` of all modules for each token; only those see it.
    Dispatch,
    /// Every token passes the language module, its chosen experts and the memory, one after the other (the ablation).
    Sequential,
}

impl RoutingMode {
    /// The name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Sequential => "sequential",
        }
    }
}

/// The sizes of a layer's modules.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SynapseConfig {
    /// How tokens are routed to modules.
    pub routing: RoutingMode,
    /// Modules (dispatch) or experts (sequential) that a token is sent to.
    pub modules_per_token: usize,
    /// The router passes its context on: a module sees `u + r` instead of `u`.
    pub relay: bool,
    /// Experts in a layer.
    pub num_experts: usize,
    /// Width of an expert's SwiGLU.
    pub expert_size: usize,
    /// Inner width of the router's Mamba block.
    pub router_size: usize,
    /// State of each of its channels.
    pub router_state: usize,
    /// Width of every causal convolution.
    pub conv_kernel: usize,
    /// Inner width of the language module.
    pub language_size: usize,
    /// Its heads; divides `language_size`.
    pub language_heads: usize,
    /// Every n-th layer's language module is an sLSTM, the others' an mLSTM; 0 for none.
    pub slstm_every: usize,
    /// Heads of the memory.
    pub memory_heads: usize,
    /// Width of a key of a head.
    pub memory_key_size: usize,
    /// Width of a value of a head.
    pub memory_value_size: usize,
    /// The memory forgets by a learned gate (Gated DeltaNet); without it, it only overwrites (DeltaNet).
    pub memory_decay: bool,
    /// Factor on the balance loss.
    pub balance_loss: f64,
    /// The balance loss is over all of a token's choices, so that none of them starves; else over the experts alone.
    pub balance_all: bool,
    /// Factor on the router's z-loss.
    pub router_z_loss: f64,
    /// Step of the bias that a step of training moves towards the experts that got too few tokens (Wang et al. 2024);
    /// it moves what is chosen and not how much it weighs. 0 for none.
    pub selection_bias_rate: f64,
}

impl SynapseConfig {
    /// Reads the fields of a config.json whose `model_type` is `synapse`.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self> {
        fields.refuse_unknown(&KNOWN)?;
        let hidden = fields.size("hidden_size")?;
        let or = |field: &str, default: usize| Ok(fields.optional_size(field)?.unwrap_or(default));
        let config = Self {
            routing: match fields.text("routing")?.as_deref() {
                None | Some("dispatch") => RoutingMode::Dispatch,
                Some("sequential") => RoutingMode::Sequential,
                Some(other) => {
                    return Err(fields.error("routing", format!("is `{other}`; there are dispatch and sequential")));
                }
            },
            modules_per_token: or("modules_per_token", 2)?,
            relay: fields.flag("relay_context", true)?,
            num_experts: fields.size("num_experts")?,
            expert_size: fields.size("expert_intermediate_size")?,
            router_size: or("router_inner_size", hidden)?,
            router_state: or("router_state_size", 16)?,
            conv_kernel: or("conv_kernel", 4)?,
            language_size: or("language_inner_size", hidden)?,
            language_heads: fields.size("language_num_heads")?,
            slstm_every: fields.count("slstm_every", 0)?,
            memory_heads: fields.size("memory_num_heads")?,
            memory_key_size: fields.size("memory_key_size")?,
            memory_value_size: fields.size("memory_value_size")?,
            memory_decay: fields.flag("memory_decay", true)?,
            balance_all: match fields.text("balance_over")?.as_deref() {
                None | Some("modules") => true,
                Some("experts") => false,
                Some(other) => {
                    return Err(fields.error("balance_over", format!("is `{other}`; there are modules and experts")));
                }
            },
            balance_loss: fields.not_negative("balance_loss_coefficient", 0.01)?,
            router_z_loss: fields.not_negative("router_z_loss_coefficient", 0.001)?,
            selection_bias_rate: fields.not_negative("selection_bias_rate", 0.0)?,
        };
        if !config.language_size.is_multiple_of(config.language_heads) {
            return Err(fields.error(
                "language_num_heads",
                format!(
                    "is {}, which does not divide `language_inner_size` {}",
                    config.language_heads, config.language_size
                ),
            ));
        }
        let choices = config.choices();
        if config.modules_per_token > choices {
            return Err(fields.error(
                "modules_per_token",
                format!(
                    "is {}, but a token can be sent to at most {choices}",
                    config.modules_per_token
                ),
            ));
        }
        Ok(config)
    }

    /// Adds the fields to a config.json.
    pub(crate) fn write(&self, root: &mut Value) {
        root["routing"] = json!(self.routing.name());
        root["modules_per_token"] = json!(self.modules_per_token);
        root["relay_context"] = json!(self.relay);
        root["num_experts"] = json!(self.num_experts);
        root["expert_intermediate_size"] = json!(self.expert_size);
        root["router_inner_size"] = json!(self.router_size);
        root["router_state_size"] = json!(self.router_state);
        root["conv_kernel"] = json!(self.conv_kernel);
        root["language_inner_size"] = json!(self.language_size);
        root["language_num_heads"] = json!(self.language_heads);
        root["slstm_every"] = json!(self.slstm_every);
        root["memory_num_heads"] = json!(self.memory_heads);
        root["memory_key_size"] = json!(self.memory_key_size);
        root["memory_value_size"] = json!(self.memory_value_size);
        root["memory_decay"] = json!(self.memory_decay);
        root["balance_loss_coefficient"] = json!(self.balance_loss);
        root["balance_over"] = json!(if self.balance_all { "modules" } else { "experts" });
        root["router_z_loss_coefficient"] = json!(self.router_z_loss);
        root["selection_bias_rate"] = json!(self.selection_bias_rate);
    }

    /// Number of choices of the router: all modules in dispatch (the language module, the experts, the memory), the
    /// experts in sequence.
    #[must_use]
    pub fn choices(&self) -> usize {
        match self.routing {
            RoutingMode::Dispatch => self.num_experts + 2,
            RoutingMode::Sequential => self.num_experts,
        }
    }

    /// Whether the language module of a layer is an sLSTM.
    #[must_use]
    pub fn is_slstm(&self, layer: usize) -> bool {
        self.slstm_every > 0 && (layer + 1).is_multiple_of(self.slstm_every)
    }

    /// Rank of the router's step sizes: a sixteenth of the width, as Mamba has it.
    #[must_use]
    pub fn step_rank(&self, hidden: usize) -> usize {
        hidden.div_ceil(16)
    }

    /// Width of the feed-forward part after an sLSTM: four thirds of its own, in eights.
    #[must_use]
    pub fn slstm_feed_forward(&self) -> usize {
        (self.language_size * 4 / 3).next_multiple_of(8)
    }

    /// Weights of a layer's matrices that one token is multiplied with, averaged over the choices.
    pub(crate) fn weights_per_token(&self, layer: usize, hidden: usize) -> usize {
        let (mut always, mut sometimes) = (0, 0);
        for (name, shape) in self.layer_tensors(layer, hidden) {
            // filters, decay rates and norms are not matrix products
            if shape.len() < 2 || name.ends_with("conv.weight") || name.ends_with("A_log") {
                continue;
            }
            let sent =
                self.routing == RoutingMode::Dispatch && !name.starts_with("thalamus.") || name.starts_with("experts.");
            let weights: usize = shape.iter().product();
            if sent {
                sometimes += weights;
            } else {
                always += weights;
            }
        }
        always + sometimes * self.modules_per_token / self.choices()
    }

    /// The tensors of a layer without its prefix, as (name, shape), in file order.
    #[must_use]
    pub fn layer_tensors(&self, layer: usize, hidden: usize) -> Vec<(String, Vec<usize>)> {
        let mut tensors = Vec::new();
        let mut put = |name: &str, shape: &[usize]| tensors.push((name.to_owned(), shape.to_vec()));
        match self.routing {
            RoutingMode::Dispatch => put("norm.weight", &[hidden]),
            RoutingMode::Sequential => {
                for module in ["language", "experts", "memory"] {
                    put(&format!("{module}_norm.weight"), &[hidden]);
                }
            }
        }
        let (inner, state, kernel) = (self.router_size, self.router_state, self.conv_kernel);
        let rank = self.step_rank(hidden);
        put("thalamus.in_proj.weight", &[2 * inner, hidden]);
        put("thalamus.conv.weight", &[inner, kernel]);
        put("thalamus.conv.bias", &[inner]);
        put("thalamus.x_proj.weight", &[rank + 2 * state, inner]);
        put("thalamus.dt_proj.weight", &[inner, rank]);
        put("thalamus.dt_proj.bias", &[inner]);
        put("thalamus.A_log", &[inner, state]);
        put("thalamus.D", &[inner]);
        put("thalamus.out_proj.weight", &[hidden, inner]);
        put("thalamus.gate.weight", &[self.choices(), hidden]);
        put("thalamus.gate.bias", &[self.choices()]);
        if self.selection_bias_rate > 0.0 {
            put("thalamus.selection_bias", &[self.choices()]);
        }

        let (width, heads) = (self.language_size, self.language_heads);
        if self.is_slstm(layer) {
            let (dim, feed_forward) = (width / heads, self.slstm_feed_forward());
            put("language.conv.weight", &[hidden, kernel]);
            put("language.conv.bias", &[hidden]);
            put("language.cell_proj.weight", &[2 * width, hidden]);
            put("language.cell_proj.bias", &[2 * width]);
            put("language.gate_proj.weight", &[2 * width, hidden]);
            put("language.gate_proj.bias", &[2 * width]);
            put("language.recurrent", &[heads, 4, dim, dim]);
            put("language.norm.weight", &[width]);
            put("language.ffn.gate_proj.weight", &[feed_forward, width]);
            put("language.ffn.up_proj.weight", &[feed_forward, width]);
            put("language.down_proj.weight", &[hidden, feed_forward]);
        } else {
            put("language.up_proj.weight", &[2 * width, hidden]);
            put("language.conv.weight", &[width, kernel]);
            put("language.conv.bias", &[width]);
            put("language.q_proj.weight", &[width, width]);
            put("language.k_proj.weight", &[width, width]);
            put("language.v_proj.weight", &[width, width]);
            put("language.gates.weight", &[2 * heads, 3 * width]);
            put("language.gates.bias", &[2 * heads]);
            put("language.norm.weight", &[width]);
            put("language.skip", &[width]);
            put("language.down_proj.weight", &[hidden, width]);
        }

        for expert in 0..self.num_experts {
            put(
                &format!("experts.{expert}.gate_proj.weight"),
                &[self.expert_size, hidden],
            );
            put(&format!("experts.{expert}.up_proj.weight"), &[self.expert_size, hidden]);
            put(
                &format!("experts.{expert}.down_proj.weight"),
                &[hidden, self.expert_size],
            );
        }

        let (keys, values) = (
            self.memory_heads * self.memory_key_size,
            self.memory_heads * self.memory_value_size,
        );
        put("memory.q_proj.weight", &[keys, hidden]);
        put("memory.k_proj.weight", &[keys, hidden]);
        put("memory.v_proj.weight", &[values, hidden]);
        put("memory.conv.weight", &[2 * keys + values, kernel]);
        put("memory.conv.bias", &[2 * keys + values]);
        put("memory.beta_proj.weight", &[self.memory_heads, hidden]);
        put("memory.beta_proj.bias", &[self.memory_heads]);
        if self.memory_decay {
            put("memory.decay_proj.weight", &[self.memory_heads, hidden]);
            put("memory.decay_proj.bias", &[self.memory_heads]);
            put("memory.A_log", &[self.memory_heads]);
        }
        put("memory.g_proj.weight", &[values, hidden]);
        put("memory.norm.weight", &[values]);
        put("memory.o_proj.weight", &[hidden, values]);
        tensors
    }
}
