//! The trace of a layer: routing and memory access of each token.

use crate::LayerTrace;

use super::{Layer, SavedActivations};

impl Layer {
    /// Routing and memory access of each token.
    pub(crate) fn trace(&self, saved: &SavedActivations) -> LayerTrace {
        let (routed, memory) = match saved {
            SavedActivations::Dispatch(saved) => {
                let memory = saved.memory.as_ref().map(|run| {
                    let rows = run.dispatch.rows.iter().map(|&(row, _)| row).collect::<Vec<_>>();
                    (rows, &run.saved)
                });
                (&saved.routed, memory)
            }
            SavedActivations::Sequential(saved) => {
                let rows = (0..saved.third.inverse.len()).collect();
                (&saved.routed, Some((rows, &saved.memory)))
            }
        };
        let (choices, k) = (self.choices(), routed.choices.k);
        let tokens = routed.logits.len() / choices;
        let mut trace = LayerTrace {
            weights: vec![vec![0.0; choices]; tokens],
            writes: vec![0.0; tokens],
            reads: vec![0.0; tokens],
        };
        for (place, (&module, &weight)) in routed.choices.modules.iter().zip(&routed.choices.weights).enumerate() {
            trace.weights[place / k][module as usize] = weight;
        }
        if let Some((rows, saved)) = memory {
            let heads = saved.beta.len() / rows.len().max(1);
            let width = saved.read.len() / rows.len().max(1);
            for (index, &row) in rows.iter().enumerate() {
                let betas = &saved.beta[index * heads..(index + 1) * heads];
                trace.writes[row] = betas.iter().sum::<f32>() / heads as f32;
                let read = &saved.read[index * width..(index + 1) * width];
                trace.reads[row] = read.iter().map(|value| value * value).sum::<f32>().sqrt();
            }
        }
        trace
    }
}
