//! PEFT's names of stored tensors.

/// PEFT's own wrapper around the base model, in every tensor's name.
const PREFIX: &str = "base_model.model.";

/// The kind of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    B,
    Magnitude,
    EmbeddingA,
    EmbeddingB,
    Bias,
    Whole,
}

/// The base's tensor that a stored name belongs to, its module, and its kind. Names are PEFT's as saved, or with the
/// adapter's name in them as a running PEFT model calls them.
pub(super) fn classify(name: &str) -> Option<(String, String, Kind)> {
    let name = name.strip_prefix(PREFIX)?;
    let weight = |module: &str, kind| Some((format!("{module}.weight"), module.to_owned(), kind));
    let bare = |end: &str| {
        let rest = name.strip_suffix(".weight").unwrap_or(name);
        let rest = rest.strip_suffix(".default").unwrap_or(rest);
        rest.strip_suffix(end)
            .filter(|module| !module.is_empty())
            .map(str::to_owned)
    };
    let full = |end: &str| bare(end).filter(|_| name.ends_with(".weight"));
    if let Some(module) = full(".lora_A") {
        return weight(&module, Kind::A);
    }
    if let Some(module) = full(".lora_B") {
        return weight(&module, Kind::B);
    }
    if let Some(module) = bare(".lora_magnitude_vector") {
        return weight(&module, Kind::Magnitude);
    }
    if let Some(module) = bare(".lora_embedding_A") {
        return weight(&module, Kind::EmbeddingA);
    }
    if let Some(module) = bare(".lora_embedding_B") {
        return weight(&module, Kind::EmbeddingB);
    }
    if let Some(module) = name.strip_suffix(".bias") {
        let module = module.strip_suffix(".default").unwrap_or(module);
        if let Some(module) = module.strip_suffix(".lora_B") {
            return Some((format!("{module}.bias"), module.to_owned(), Kind::Bias));
        }
    }
    if name.contains("lora_") || name.contains("prompt") {
        return None;
    }
    let (module, kind) = name
        .rsplit_once('.')
        .filter(|(_, kind)| ["weight", "bias"].contains(kind))?;
    let module = module
        .replace(".modules_to_save.default", "")
        .replace(".modules_to_save", "");
    let module = module.replace(".original_module", "").replace(".base_layer", "");
    Some((format!("{module}.{kind}"), module, Kind::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind() {
        let cases = [
            (
                "model.layers.0.q_proj.lora_A.weight",
                "model.layers.0.q_proj.weight",
                Kind::A,
            ),
            (
                "model.layers.0.q_proj.lora_B.default.weight",
                "model.layers.0.q_proj.weight",
                Kind::B,
            ),
            (
                "model.layers.0.q_proj.lora_B.bias",
                "model.layers.0.q_proj.bias",
                Kind::Bias,
            ),
            ("model.layers.0.q_proj.bias", "model.layers.0.q_proj.bias", Kind::Whole),
            ("q_proj.lora_magnitude_vector", "q_proj.weight", Kind::Magnitude),
            (
                "q_proj.lora_magnitude_vector.default.weight",
                "q_proj.weight",
                Kind::Magnitude,
            ),
            (
                "model.embed_tokens.lora_embedding_A",
                "model.embed_tokens.weight",
                Kind::EmbeddingA,
            ),
            (
                "model.embed_tokens.lora_embedding_B.default",
                "model.embed_tokens.weight",
                Kind::EmbeddingB,
            ),
            ("lm_head.modules_to_save.weight", "lm_head.weight", Kind::Whole),
            ("lm_head.weight", "lm_head.weight", Kind::Whole),
        ];
        for (name, tensor, kind) in cases {
            let sorted = classify(&format!("{PREFIX}{name}"));
            assert_eq!(
                sorted.map(|(tensor, _, kind)| (tensor, kind)),
                Some((tensor.to_owned(), kind)),
                "{name}"
            );
        }
        for unknown in ["prompt_embeddings", "q_proj.lora_E", "q_proj.lora_A", "other"] {
            assert_eq!(classify(&format!("{PREFIX}{unknown}")), None, "{unknown}");
        }
        assert_eq!(classify("q_proj.lora_A.weight"), None);
    }
}
