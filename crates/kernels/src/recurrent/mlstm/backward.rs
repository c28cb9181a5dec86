//! The backward pass of the chunkwise mLSTM, last chunk first: which task computes what, and where it goes.

use std::cell::RefCell;

use super::{MlstmInputs, MlstmShape, chunk::Chunk, chunk_gradients::ChunkGradients, chunkwise::MlstmChunkStates};
use crate::{
    math::sigmoid,
    parallel::{SharedMut, parallel_for},
};

/// Where the backward pass writes; all are overwritten.
#[derive(Debug)]
pub struct MlstmGradients<'a> {
    /// Of the queries, `[t, heads * dk]`.
    pub q: &'a mut [f32],
    /// Of the keys, `[t, heads * dk]`.
    pub k: &'a mut [f32],
    /// Of the values, `[t, heads * dv]`.
    pub v: &'a mut [f32],
    /// Of `ĩ`, `[t, heads]`.
    pub input_gate: &'a mut [f32],
    /// Of `f̃`, `[t, heads]`.
    pub forget_gate: &'a mut [f32],
}

#[derive(Clone, Copy)]
struct Targets<'a> {
    q: SharedMut<'a>,
    k: SharedMut<'a>,
    v: SharedMut<'a>,
    input_gate: SharedMut<'a>,
    forget_gate: SharedMut<'a>,
}

thread_local! {
    static SCRATCH: RefCell<ChunkGradients> = RefCell::default();
}

/// The backward pass of [`super::chunkwise`]: gradients of all inputs from `dh [t, heads * dv]`.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn backward(
    shape: MlstmShape,
    inputs: MlstmInputs<'_>,
    lengths: &[usize],
    boundaries: &MlstmChunkStates,
    dh: &[f32],
    gradients: MlstmGradients<'_>,
) {
    let documents = inputs.documents(shape, lengths);
    boundaries.check(shape, lengths);
    let MlstmGradients {
        q,
        k,
        v,
        input_gate,
        forget_gate,
    } = gradients;
    assert!(
        dh.len() == inputs.v.len()
            && v.len() == dh.len()
            && q.len() == inputs.q.len()
            && k.len() == inputs.k.len()
            && input_gate.len() == inputs.input_gate.len()
            && forget_gate.len() == inputs.forget_gate.len(),
        "gradients are shaped like their inputs"
    );
    let targets = Targets {
        q: SharedMut::new(q),
        k: SharedMut::new(k),
        v: SharedMut::new(v),
        input_gate: SharedMut::new(input_gate),
        forget_gate: SharedMut::new(forget_gate),
    };
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        let rows = documents[document].clone();
        let states = boundaries.states(document, head, rows.len());
        SCRATCH.with_borrow_mut(|scratch| {
            for (index, first) in rows.clone().step_by(boundaries.chunk()).enumerate().rev() {
                let chunk = Chunk {
                    shape,
                    inputs,
                    head,
                    first,
                    rows: boundaries.chunk().min(rows.end - first),
                };
                let before = states[..index * shape.head_state()]
                    .rchunks_exact(shape.head_state())
                    .next();
                let last = first + chunk.rows == rows.end;
                scratch.compute(&chunk, (before, last), dh);
                write(&chunk, scratch, targets);
            }
        });
    });
}

/// Hands the chunk's gradients out.
fn write(chunk: &Chunk<'_>, scratch: &ChunkGradients, targets: Targets<'_>) {
    let MlstmShape { key, value, .. } = chunk.shape;
    for t in 0..chunk.rows {
        // SAFETY: one task owns a head's columns of a document, in every gradient.
        let (q, k, v, input, forget) = unsafe {
            (
                targets.q.slice(chunk.key_place(t), key),
                targets.k.slice(chunk.key_place(t), key),
                targets.v.slice(chunk.value_place(t), value),
                targets.input_gate.slice(chunk.gate_place(t), 1),
                targets.forget_gate.slice(chunk.gate_place(t), 1),
            )
        };
        q.copy_from_slice(&scratch.dq[t * key..(t + 1) * key]);
        k.copy_from_slice(&scratch.dk[t * key..(t + 1) * key]);
        v.copy_from_slice(&scratch.dv[t * value..(t + 1) * value]);
        input[0] = scratch.inputs[t];
        // d ln σ(x) = σ(−x) dx
        forget[0] = scratch.forgets[t] * sigmoid(-chunk.inputs.forget_gate[chunk.gate_place(t)]);
    }
}
