//! One decoder layer: norm, attention, residual, norm, SwiGLU, residual. The same code runs with and without a
//! tape; whether a gradient is wanted shows in the operands.

use candle_core::{Result, Tensor};
use synapse_checkpoint::ModelConfig;

use crate::{
    CandleError,
    attention::attend,
    frozen,
    load::Loader,
    lora::{Branch, Branches},
    norm::rms_norm,
    sequences::Sequences,
    weight::Weight,
};

/// Slots of a layer's seven linears, in the order of [`ModelConfig::linear_modules`].
mod slot {
    pub(super) const QUERY: usize = 0;
    pub(super) const KEY: usize = 1;
    pub(super) const VALUE: usize = 2;
    pub(super) const OUTPUT: usize = 3;
    pub(super) const GATE: usize = 4;
    pub(super) const UP: usize = 5;
    pub(super) const DOWN: usize = 6;
}

/// A frozen linear layer.
#[derive(Debug)]
struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// `x·Wᵀ + b` and the branch, `[t, out]` from a contiguous `[t, in]`.
    fn forward(&self, x: &Tensor, branch: Option<&Branch>) -> Result<Tensor> {
        let mut y = frozen::linear(x, &self.weight)?;
        if let Some(bias) = &self.bias {
            y = frozen::add(&y, bias)?;
        }
        match branch {
            Some(branch) => branch.add_to(&y, x),
            None => Ok(y),
        }
    }
}

/// Rotated keys and values of one layer, each `[len, kv_heads, head_dim]`; rows past the cache's length are stale.
pub(crate) type LayerCache = Option<(Tensor, Tensor)>;

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// f32, as `post_norm`.
    input_norm: Tensor,
    post_norm: Tensor,
    linears: Vec<Linear>,
    /// Weights `[head_dim]` of the norms over each head of queries and keys, f32.
    head_norms: Option<[Tensor; 2]>,
    /// Whether queries and keys are rotated by their positions.
    is_rotated: bool,
    /// Query heads, key/value heads, head width.
    heads: (usize, usize, usize),
    epsilon: f64,
}

impl Layer {
    pub(crate) fn load(
        loader: &Loader<'_>,
        config: &ModelConfig,
        index: usize,
    ) -> std::result::Result<Self, CandleError> {
        let prefix = format!("model.layers.{index}");
        let mut linears = Vec::with_capacity(7);
        for (module, output, input) in config.linear_modules() {
            let weight = loader.linear(&format!("{prefix}.{module}.weight"), [output, input])?;
            let bias = config
                .has_bias(module)
                .then(|| loader.bias(&format!("{prefix}.{module}.bias")))
                .transpose()?;
            linears.push(Linear { weight, bias });
        }
        let head_norm = |name: &str| loader.norm(&format!("{prefix}.self_attn.{name}.weight"));
        let head_norms = match config.qk_norm {
            true => Some([head_norm("q_norm")?, head_norm("k_norm")?]),
            false => None,
        };
        Ok(Self {
            head_norms,
            is_rotated: config.is_rotated(index),
            input_norm: loader.norm(&format!("{prefix}.input_layernorm.weight"))?,
            post_norm: loader.norm(&format!("{prefix}.post_attention_layernorm.weight"))?,
            linears,
            heads: (config.num_attention_heads, config.num_key_value_heads, config.head_dim),
            epsilon: config.rms_norm_eps,
        })
    }

    /// Bytes of the linears' weights on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.linears.iter().map(|linear| linear.weight.bytes()).sum()
    }

    /// `[t, hidden]` to `[t, hidden]`. With a cache, the rows continue it and are appended.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        branches: &Branches,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let linear = |slot: usize, x: &Tensor| self.linears[slot].forward(x, branches[slot].as_ref());
        let normed = rms_norm(x, &self.input_norm, self.epsilon)?;
        let (queries, keys, dim) = self.heads;
        let by_head = |slot, heads| linear(slot, &normed)?.reshape(((), heads, dim));
        let (mut q, mut k) = (by_head(slot::QUERY, queries)?, by_head(slot::KEY, keys)?);
        if let Some([query, key]) = &self.head_norms {
            (q, k) = (rms_norm(&q, query, self.epsilon)?, rms_norm(&k, key, self.epsilon)?);
        }
        if self.is_rotated {
            (q, k) = (sequences.rotation.apply(&q)?, sequences.rotation.apply(&k)?);
        }
        let v = by_head(slot::VALUE, keys)?;
        let attended = match cache {
            None => within_documents(&q, &k, &v, sequences)?,
            Some(cache) => {
                let (k, v) = append(cache, sequences.past(), &k, &v)?;
                attend(&q, &k, &v, sequences.mask(x.dim(0)?)?.as_ref())?
            }
        };
        let x = (x + linear(slot::OUTPUT, &attended)?)?;
        let normed = rms_norm(&x, &self.post_norm, self.epsilon)?;
        let activated = (linear(slot::GATE, &normed)?.silu()? * linear(slot::UP, &normed)?)?;
        x + linear(slot::DOWN, &activated)?
    }
}

/// Each document attends to itself alone.
fn within_documents(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences) -> Result<Tensor> {
    let document = |(first, count)| {
        let rows = |x: &Tensor| x.narrow(0, first, count);
        attend(&rows(q)?, &rows(k)?, &rows(v)?, sequences.mask(count)?.as_ref())
    };
    Tensor::cat(&sequences.spans().map(document).collect::<Result<Vec<_>>>()?, 0)
}

/// The cached rows before `past` and the new ones; the cache holds both afterwards.
fn append(cache: &mut LayerCache, past: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let joined = match cache {
        Some((keys, values)) if past > 0 => {
            let join = |old: &Tensor, new: &Tensor| Tensor::cat(&[&old.narrow(0, 0, past)?, new], 0);
            (join(keys, k)?, join(values, v)?)
        }
        _ => (k.clone(), v.clone()),
    };
    *cache = Some(joined.clone());
    Ok(joined)
}
