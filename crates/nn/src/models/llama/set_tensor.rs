//! New values for the tensors of a loaded decoder, so that a merge can be tried in memory without writing a folder.

use synapse_checkpoint::DType;

use crate::{NnError, tensor::Tensor};

use super::decoder::Decoder;

impl Decoder {
    /// Replaces a tensor's values by little-endian elements of `dtype`, in the storage that it has. Afterwards the decoder
    /// is the one that loading a folder with these values would give.
    ///
    /// # Errors
    /// The model has no such tensor, the number of elements differs, or the tensor is quantized or trainable.
    pub fn set_tensor(&mut self, name: &str, dtype: DType, bytes: &[u8]) -> Result<(), NnError> {
        let refused = |hint: String| NnError::Unsupported {
            what: format!("replacing {name} by {} bytes of {dtype}", bytes.len()),
            hint,
        };
        let count = match self.tensor_mut(name) {
            None => return Err(refused("this model has no such tensor".into())),
            Some(Tensor::F32(values)) => {
                let mut other = Vec::with_capacity(values.len());
                dtype.extend_f32(bytes, &mut other);
                if other.len() == values.len() {
                    *values = other;
                    return Ok(());
                }
                values.len()
            }
            Some(Tensor::Bf16(values)) => {
                let mut other = Vec::with_capacity(values.len());
                dtype.extend_bf16(bytes, &mut other);
                if other.len() == values.len() {
                    *values = other;
                    return Ok(());
                }
                values.len()
            }
            Some(Tensor::Nf4(_) | Tensor::Packed(_) | Tensor::Parameter(_)) => {
                return Err(refused("load the model in bf16 or f32".into()));
            }
        };
        Err(refused(format!("it has {count} elements of F32, F16 or BF16")))
    }

    /// The tensor that a model folder calls by this name; a tied head has none of its own.
    fn tensor_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        match name {
            "model.embed_tokens.weight" => return Some(&mut self.embedding),
            "model.norm.weight" => return Some(&mut self.norm),
            "lm_head.weight" => return self.head.as_mut(),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let layer = self.layers.get_mut(layer.parse::<usize>().ok()?)?;
        match rest {
            "input_layernorm.weight" => return Some(&mut layer.input_norm),
            "post_attention_layernorm.weight" => return Some(&mut layer.post_norm),
            "self_attn.q_norm.weight" => return layer.head_norms.as_mut().map(|norms| &mut norms.query),
            "self_attn.k_norm.weight" => return layer.head_norms.as_mut().map(|norms| &mut norms.key),
            _ => {}
        }
        let (module, kind) = rest.rsplit_once('.')?;
        let slot = self
            .config
            .linear_modules()
            .iter()
            .position(|(name, ..)| *name == module)?;
        match kind {
            "weight" => Some(&mut layer.linears[slot].weight),
            "bias" => layer.linears[slot].bias.as_mut(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use synapse_checkpoint::ModelConfig;

    use super::*;
    use crate::{CausalLm, LoadOptions, LogitsFor, Phase, Sequence};

    const QWEN2: &str = r#"{ "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "head_dim": 16, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 32, "max_position_embeddings": 16, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "initializer_range": 0.2 }"#;

    /// Logits of one token.
    fn logits(decoder: &Decoder) -> Vec<f32> {
        let mut cache = decoder.new_cache();
        let sequence = Sequence {
            tokens: &[3],
            cache: &mut cache,
            phase: Phase::Prefill,
            adapter: None,
            logits: LogitsFor::Last,
        };
        decoder.forward(&mut [sequence]).unwrap().remove(0)
    }

    #[test]
    fn every_tensor_can_be_replaced() {
        let qwen3 = QWEN2.replace("Qwen2", "Qwen3").replace("qwen2", "qwen3");
        let config = |text: &str| ModelConfig::from_json(text, std::path::Path::new("config.json")).unwrap();
        let configs = [config(QWEN2), config(&qwen3)];
        let storages = [LoadOptions::EXACT, LoadOptions::BF16];
        for (config, options) in configs
            .iter()
            .flat_map(|config| storages.map(|options| (config, options)))
        {
            let mut decoder = Decoder::random(config, &options).unwrap();
            let before = logits(&decoder);
            let mut first = true;
            for (name, shape) in config.tensors() {
                let count: usize = shape.iter().product();
                let values: Vec<f32> = (0..count).map(|at| ((at * 7 % 13) as f32 - 6.0) / 16.0).collect();
                let mut bytes = Vec::new();
                DType::BF16.extend_bytes(&values, &mut bytes);
                decoder.set_tensor(&name, DType::BF16, &bytes).unwrap();
                let short = decoder.set_tensor(&name, DType::BF16, &bytes[2..]);
                assert!(
                    short
                        .unwrap_err()
                        .to_string()
                        .contains(&format!("it has {count} elements"))
                );
                // The embedding comes first: what a token is looked up in changes at once.
                assert!(!first || logits(&decoder) != before);
                first = false;
            }
            assert_ne!(logits(&decoder), before);
            let unknown = decoder.set_tensor("model.layers.2.input_layernorm.weight", DType::F32, &[0; 256]);
            assert!(unknown.unwrap_err().to_string().contains("no such tensor"));
        }
    }
}
