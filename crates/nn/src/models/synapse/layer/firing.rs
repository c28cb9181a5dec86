//! What a layer did with each token, for a trace.

use crate::LayerTrace;

use super::{Kept, Layer};

impl Layer {
    /// What the layer did with each token.
    pub(crate) fn firing(&self, kept: &Kept) -> LayerTrace {
        let (routed, memory) = match kept {
            Kept::Dispatch(kept) => {
                let memory = kept.memory.as_ref().map(|part| {
                    let rows = part.sent.rows.iter().map(|&(row, _)| row).collect::<Vec<_>>();
                    (rows, &part.kept)
                });
                (&kept.routed, memory)
            }
            Kept::Sequential(kept) => {
                let rows = (0..kept.third.inverse.len()).collect();
                (&kept.routed, Some((rows, &kept.memory)))
            }
        };
        let (choices, k) = (self.choices(), routed.choices.k);
        let tokens = routed.logits.len() / choices;
        let mut firing = LayerTrace {
            weights: vec![vec![0.0; choices]; tokens],
            writes: vec![0.0; tokens],
            reads: vec![0.0; tokens],
        };
        for (place, (&module, &weight)) in routed.choices.modules.iter().zip(&routed.choices.weights).enumerate() {
            firing.weights[place / k][module as usize] = weight;
        }
        if let Some((rows, kept)) = memory {
            let heads = kept.beta.len() / rows.len().max(1);
            let width = kept.read.len() / rows.len().max(1);
            for (index, &row) in rows.iter().enumerate() {
                let betas = &kept.beta[index * heads..(index + 1) * heads];
                firing.writes[row] = betas.iter().sum::<f32>() / heads as f32;
                let read = &kept.read[index * width..(index + 1) * width];
                firing.reads[row] = read.iter().map(|value| value * value).sum::<f32>().sqrt();
            }
        }
        firing
    }
}
