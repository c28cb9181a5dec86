//! Bytes that training a Synapse model takes at its peak, from shapes alone. A token is counted with `modules_per_token`
//! modules of the widest kind, since which ones it is sent to is not known before.

use synapse_checkpoint::Routing;
use synapse_nn::{Memory, Trained, Workload};

/// Memory of training on a workload's micro-batches; all of it f32.
///
/// # Panics
/// A configuration of another architecture.
pub fn memory(workload: &Workload<'_>) -> Memory {
    let (config, tokens, recompute) = (workload.config, workload.tokens, workload.recompute);
    let Some(modules) = &config.synapse else {
        unreachable!("the caller asks for a Synapse model")
    };
    let (hidden, layers) = (config.hidden_size, config.num_hidden_layers);
    let thalamus = 8 * modules.router_size + 2 * modules.router_state + modules.step_rank(hidden) + hidden;
    // the states at the chunks' borders, shared out over their 64 tokens
    let matrix =
        13 * modules.language_size + modules.language_size * modules.language_size / modules.language_heads / 64;
    let scalar = hidden + 14 * modules.language_size + 3 * modules.slstm_feed_forward();
    let language = if modules.slstm_every > 0 {
        matrix.max(scalar)
    } else {
        matrix
    };
    let expert = 3 * modules.expert_size;
    let keys = modules.memory_heads * modules.memory_key_size;
    let values = modules.memory_heads * modules.memory_value_size;
    let memory = 8 * keys + 7 * values + keys * modules.memory_value_size / 64;
    let sent = match modules.routing {
        // what a module keeps, and the rows gathered for it and its own output
        Routing::Dispatch => modules.modules_per_token * (language.max(expert).max(memory) + 2 * hidden),
        Routing::Sequential => language + memory + 3 * hidden + modules.modules_per_token * (expert + 2 * hidden),
    };
    let kept = thalamus + sent + 2 * hidden;
    let layers_kept = if recompute { 1 } else { layers };
    let chunk = tokens.min(512) as u64 * config.vocab_size as u64;
    let (weights, trainable) = match workload.trained {
        Trained::Full => (0, config.parameters()),
        Trained::Lora { rank, targets, .. } => {
            let wanted = |module: &str| targets.iter().any(|target| module.ends_with(&format!(".{target}")));
            let adapted = config
                .adaptable_modules()
                .into_iter()
                .filter(|(module, ..)| wanted(module));
            let widths: usize = adapted.map(|(_, output, input)| output + input).sum();
            (4 * config.parameters(), (rank * widths) as u64)
        }
    };
    Memory {
        weights,
        trainable: 16 * trainable,
        activations: 4 * (tokens * (hidden * layers + kept * layers_kept)) as u64,
        workspace: 4 * (tokens * (kept + 4 * hidden)) as u64,
        logits: 8 * chunk,
    }
}
