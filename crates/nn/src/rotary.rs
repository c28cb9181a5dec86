//! Rotary position embedding's inverse frequencies, the one table that all backends share.

use synapse_checkpoint::ModelConfig;

/// Angle per position of each pair of a head, `[head_dim / 2]`: `1 / θ^(2i/d)`, divided by Llama 3's
/// frequency scaling if the model has one.
pub fn inverse_frequencies(config: &ModelConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let divisors = config.rope_scaling.as_ref().map_or_else(
        || vec![1.0; half],
        |scaling| scaling.divisors(config.head_dim, config.rope_theta),
    );
    let frequency = |pair: usize| 1.0 / config.rope_theta.powf((2 * pair) as f64 / config.head_dim as f64);
    divisors
        .into_iter()
        .enumerate()
        .map(|(pair, divisor)| (frequency(pair) / divisor) as f32)
        .collect()
}
