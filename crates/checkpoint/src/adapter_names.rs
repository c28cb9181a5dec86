//! PEFT's names of stored tensors: which tensor of the base each belongs to, and what it is to it. One copy for running and
//! merging adapters.

/// PEFT's own wrapper around the base model, in every tensor's name.
pub(crate) const PREFIX: &str = "base_model.model.";
/// Parts of names that torch's wrappers around a module add.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// A stored name without what `torch.compile`, FSDP, activation checkpointing and data parallelism put into it.
pub(crate) fn without_wrappers(name: &str) -> String {
    let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
    let parts: Vec<&str> = parts.skip_while(|part| *part == "module").collect();
    parts.join(".")
}

/// What a stored tensor is to the base's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterTensorKind {
    /// A of a linear module.
    A,
    /// B of a linear module.
    B,
    /// DoRA's magnitude.
    Magnitude,
    /// A of an embedding.
    EmbeddingA,
    /// B of an embedding.
    EmbeddingB,
    /// The bias of B.
    Bias,
    /// The tensor itself: of a module in `modules_to_save`, a trained bias, or a copy of the base's.
    Whole,
}

use AdapterTensorKind as Kind;

/// The base's tensor that a stored name belongs to, its module, and its kind. Names are PEFT's as saved, or with the
/// adapter's name in them as a running PEFT model calls them, or with the wrapper of `torch.compile`; `None` for other
/// names.
#[must_use]
pub fn classify_adapter_tensor(name: &str) -> Option<(String, String, AdapterTensorKind)> {
    let unwrapped = without_wrappers(name);
    let name = unwrapped.strip_prefix(PREFIX)?;
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
            ("_orig_mod.lm_head.base_layer.weight", "lm_head.weight", Kind::Whole),
        ];
        for (name, tensor, kind) in cases {
            let sorted = classify_adapter_tensor(&format!("{PREFIX}{name}"));
            assert_eq!(
                sorted.map(|(tensor, _, kind)| (tensor, kind)),
                Some((tensor.to_owned(), kind)),
                "{name}"
            );
        }
        for unknown in ["prompt_embeddings", "q_proj.lora_E", "q_proj.lora_A", "other"] {
            assert_eq!(
                classify_adapter_tensor(&format!("{PREFIX}{unknown}")),
                None,
                "{unknown}"
            );
        }
        assert_eq!(classify_adapter_tensor("q_proj.lora_A.weight"), None);
    }
}
