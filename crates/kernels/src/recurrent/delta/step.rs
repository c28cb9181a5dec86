//! One token: the value under the key is replaced, then the memory is read with the query.

use super::{
    DeltaInputs, DeltaShape,
    columns::{Columns, for_columns, load},
    decay,
};

/// The token of one head: `u = β·(v − α·S·k)`, `S ← α·S + u·kᵀ`, `o = S·q`, with `memory [key, value]` the transpose
/// of `S` and `o [value]`.
pub(super) fn step(
    shape: DeltaShape,
    inputs: DeltaInputs<'_>,
    (token, head): (usize, usize),
    memory: &mut [f32],
    o: &mut [f32],
) {
    let gate = token * shape.heads + head;
    let mut step = Step {
        q: &inputs.q[shape.keys(token, head)],
        k: &inputs.k[shape.keys(token, head)],
        v: &inputs.v[shape.values(token, head)],
        beta: inputs.beta[gate],
        alpha: decay(inputs.log_decay[gate]),
        memory,
        o,
    };
    for_columns(&mut step, shape.value);
}

struct Step<'a> {
    /// `[key]`
    q: &'a [f32],
    /// `[key]`
    k: &'a [f32],
    /// `[value]`
    v: &'a [f32],
    beta: f32,
    alpha: f32,
    /// `[key, value]`
    memory: &'a mut [f32],
    /// `[value]`
    o: &'a mut [f32],
}

impl Columns for Step<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let (width, columns) = (self.v.len(), first..first + W);
        // S·k
        let mut found = [0.0f32; W];
        for (k, row) in self.k.iter().zip(self.memory.chunks_exact(width)) {
            let row: [f32; W] = load(row, first);
            for lane in 0..W {
                found[lane] += k * row[lane];
            }
        }
        let mut written: [f32; W] = load(self.v, first);
        for lane in 0..W {
            written[lane] = self.beta * (written[lane] - self.alpha * found[lane]);
        }
        let (mut output, alpha) = ([0.0f32; W], self.alpha);
        let rows = self.memory.chunks_exact_mut(width);
        for ((k, q), row) in self.k.iter().zip(self.q).zip(rows) {
            let mut kept: [f32; W] = load(row, first);
            for lane in 0..W {
                kept[lane] = alpha * kept[lane] + k * written[lane];
                output[lane] += q * kept[lane];
            }
            row[columns.clone()].copy_from_slice(&kept);
        }
        self.o[columns].copy_from_slice(&output);
    }
}
