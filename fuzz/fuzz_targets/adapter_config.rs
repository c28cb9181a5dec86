//! A PEFT adapter's configuration, as it is run and as it is merged.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use synapse_checkpoint::AdapterConfig;

fuzz_target!(|text: &str| {
    let path = Path::new("adapter_config.json");
    for config in [AdapterConfig::from_json(text, path), AdapterConfig::from_json_for_merging(text, path)] {
        if let Ok(config) = config {
            let module = "model.layers.1.self_attn.q_proj";
            let rank = config.rank_of(module);
            let _ = config.scale_of(module, rank.max(1));
        }
    }
});
