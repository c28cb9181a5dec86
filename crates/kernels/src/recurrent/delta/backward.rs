//! The backward pass over documents: chunk by chunk from the last, with the gradient of the state carried back.

mod chunk;

use std::cell::RefCell;

use chunk::Scratch;

use super::{DeltaChunkStates, DeltaInputs, DeltaShape, chunk::Chunk, chunked};
use crate::parallel::{SharedMut, parallel_for};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Where the gradients of [`DeltaInputs`] go; all are overwritten.
#[derive(Debug)]
pub struct DeltaGradients<'a> {
    /// `[t, heads * key]`
    pub q: &'a mut [f32],
    /// `[t, heads * key]`
    pub k: &'a mut [f32],
    /// `[t, heads * value]`
    pub v: &'a mut [f32],
    /// `[t, heads]`
    pub beta: &'a mut [f32],
    /// `[t, heads]`
    pub log_decay: &'a mut [f32],
}

/// The backward pass of [`super::chunkwise`], with `boundaries` from it and `d_o [t, heads * value]` the gradient of
/// its output. `gradients` are overwritten.
///
/// # Panics
/// If anything does not fit the shape and the lengths.
pub fn backward(
    shape: DeltaShape,
    inputs: DeltaInputs<'_>,
    lengths: &[usize],
    boundaries: &DeltaChunkStates,
    d_o: &[f32],
    gradients: DeltaGradients<'_>,
) {
    inputs.check(shape, lengths, d_o);
    let DeltaGradients {
        q,
        k,
        v,
        beta,
        log_decay,
    } = gradients;
    DeltaInputs {
        q,
        k,
        v,
        beta,
        log_decay,
    }
    .check(shape, lengths, d_o);
    let (documents, chunks) = chunked(lengths);
    assert!(
        boundaries.states.len() == chunks * shape.state(),
        "the boundaries are those of other documents"
    );
    let (q, k, v) = (SharedMut::new(q), SharedMut::new(k), SharedMut::new(v));
    let (beta, log_decay) = (SharedMut::new(beta), SharedMut::new(log_decay));
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.d_memory.clear();
            scratch.d_memory.resize(shape.memory(), 0.0);
            for (index, rows) in documents[document].chunks().rev() {
                let chunk = Chunk::new(shape, inputs, head, rows.clone());
                scratch.chunk(chunk, boundaries.memory(shape, index, head), chunk.values(d_o));
                for (t, token) in rows.enumerate() {
                    let (keys, values) = (shape.keys(token, head), shape.values(token, head));
                    let (local, wide) = (
                        t * shape.key..(t + 1) * shape.key,
                        t * shape.value..(t + 1) * shape.value,
                    );
                    let gate = chunk.gate(t);
                    // SAFETY: one task owns a head's columns of a document; the lengths were checked.
                    unsafe {
                        q.slice(keys.start, shape.key)
                            .copy_from_slice(&scratch.d_q[local.clone()]);
                        k.slice(keys.start, shape.key).copy_from_slice(&scratch.d_k[local]);
                        v.slice(values.start, shape.value)
                            .copy_from_slice(&scratch.d_errors[wide]);
                        beta.slice(gate, 1)[0] = scratch.d_beta[t];
                        log_decay.slice(gate, 1)[0] = scratch.d_sums[t];
                    }
                }
            }
        });
    });
}
