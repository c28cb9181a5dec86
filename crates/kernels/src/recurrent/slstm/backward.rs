//! The gradient of the sLSTM, last token first. `h = o·c/n` does not change with `m`, so `m` is a constant.
//!
//! `dp_o = dh·c/n·o(1 − o)`; `dc += dh·o/n`, `dn −= dh·h/n`; `dp_z = dc·i'·(1 − z²)`, `dp_i = (dc·z + dn)·i'`,
//! `dp_f = (dc·c_{t−1} + dn·n_{t−1})·f'·σ(−p_f)`; then `dc` and `dn` times `f'` and `dh_{t−1} += Σ_g R_gᵀ dp_g` go to the
//! token before. The matrices' gradient is one product per head and gate over all rows, `dR_g += Σ_t dp_g,t h_{t−1}ᵀ`.

use std::{array, cell::RefCell};

use super::{
    GATES, LANES, Lanes, RECORD, RECORD_H, RECORD_STATE, SlstmActivations, SlstmInputs, SlstmShape,
    step::{add_rows, lanes},
};
use crate::{
    Accumulate, Precision,
    gemm::{Left, Right, Sum, Term},
    parallel::{SharedMut, for_each_row_block, parallel_for},
};

/// Where the backward pass writes.
#[derive(Debug)]
pub struct SlstmGradients<'a> {
    /// Of `W x + b`, `[t, 4, heads * dim]`; overwritten.
    pub pre: &'a mut [f32],
    /// Of the recurrent matrices, `[heads, 4, dim (out), dim (in)]`; added to.
    pub recurrent: &'a mut [f32],
}

/// Scratch buffers of a task.
#[derive(Default)]
struct Scratch {
    /// The gradients of what a token hands on: h, c and n, `[3, padded]`.
    flow: Vec<f32>,
    /// The gradients of a token's gates before their functions, `[4, padded]`.
    gates: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The backward pass of [`super::forward_saved`]: gradients of its inputs from `dh [t, heads * dim]`. The recurrent
/// gradient is summed over the rows of all documents in their order.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn backward(
    shape: SlstmShape,
    inputs: SlstmInputs<'_>,
    lengths: &[usize],
    saved: &SlstmActivations,
    dh: &[f32],
    gradients: SlstmGradients<'_>,
) {
    let documents = inputs.documents(shape, lengths, dh);
    let total: usize = lengths.iter().sum();
    let SlstmGradients { pre, recurrent } = gradients;
    assert!(
        pre.len() == inputs.pre.len()
            && recurrent.len() == inputs.recurrent.len()
            && saved.records.len() == shape.record(total, 0),
        "gradients are shaped like their inputs, and what was saved has their rows"
    );
    let target = SharedMut::new(pre);
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        let matrices = &inputs.recurrent[head * shape.matrices()..(head + 1) * shape.matrices()];
        let rows = documents[document].clone();
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.begin(shape);
            for t in rows.clone().rev() {
                let record =
                    |t: usize| &saved.records[shape.record(t, head)..shape.record(t, head) + RECORD * shape.padded()];
                let before = (t > rows.start).then(|| record(t - 1));
                let dh = &dh[shape.place(t, (0, 1), head)..][..shape.dim];
                scratch.flow.iter_mut().zip(dh).for_each(|(flow, dh)| *flow += dh);
                token(matrices, (record(t), before), shape.dim, scratch);
                for (index, slopes) in scratch.gates.chunks_exact(shape.padded()).enumerate() {
                    // SAFETY: one task owns a head's columns of a document.
                    let pre = unsafe { target.slice(shape.place(t, (index, GATES), head), shape.dim) };
                    pre.copy_from_slice(&slopes[..shape.dim]);
                }
            }
        });
    });
    if total > 0 {
        matrices(shape, total, (saved, pre), recurrent);
    }
}

impl Scratch {
    fn begin(&mut self, shape: SlstmShape) {
        self.flow.clear();
        self.flow.resize(3 * shape.padded(), 0.0);
        self.gates.clear();
        self.gates.resize(GATES * shape.padded(), 0.0);
    }
}

/// `dR_g += Σ_t dp_g,t h_{t−1}ᵀ`: the record of a document's first token has an h of zeros.
fn matrices(shape: SlstmShape, total: usize, (saved, d_pre): (&SlstmActivations, &[f32]), recurrent: &mut [f32]) {
    let SlstmShape { heads, dim } = shape;
    for_each_row_block(recurrent, dim * dim, |first, block| {
        for (index, out) in (first..).zip(block.chunks_exact_mut(dim * dim)) {
            let (head, gate) = (index / GATES, index % GATES);
            let previous = &saved.records[shape.record(0, head) + RECORD_H * shape.padded()..];
            let term = Term {
                left: Left::transposed(&d_pre[shape.place(0, (gate, GATES), head)..], GATES * shape.width()),
                right: Right::rows(previous, heads * RECORD * shape.padded()),
                k: total,
                scale: 1.0,
            };
            Sum {
                m: dim,
                n: dim,
                terms: &[term],
                accumulate: Accumulate::Add,
                precision: Precision::F32,
            }
            .compute_panels_serial(out, dim);
        }
    });
}

crate::isa::multiversion! {
    /// One token of a head of `dim`, from its record and that of the token before: the gradients of its gates, and in
    /// `flow` those of what it was handed; `matrices` is `[4, dim, dim]`.
    fn token(matrices: &[f32], records: (&[f32], Option<&[f32]>), dim: usize, work: &mut Scratch) = token_body
}

#[inline(always)]
fn token_body(matrices: &[f32], (record, before): (&[f32], Option<&[f32]>), dim: usize, work: &mut Scratch) {
    let padded = record.len() / RECORD;
    let blocks = padded / LANES;
    let (flow, gates) = (
        work.flow.as_chunks_mut::<LANES>().0,
        work.gates.as_chunks_mut::<LANES>().0,
    );
    let record = record.as_chunks::<LANES>().0;
    let before = before.map(|before| before.as_chunks::<LANES>().0);
    for block in 0..blocks {
        // copies, which the compiler knows not to overlap, and a loop for each vector, which it takes at once
        let [z, write, keep, o, fall, c, n]: [Lanes; RECORD_H] = array::from_fn(|index| record[index * blocks + block]);
        let [c_before, n_before]: [Lanes; 2] = array::from_fn(|index| {
            before.map_or([0.0; LANES], |before| before[(RECORD_STATE + index) * blocks + block])
        });
        let [dh, dc, dn]: [Lanes; 3] = array::from_fn(|index| flow[index * blocks + block]);
        let mean = lanes(|lane| c[lane] / n[lane]);
        let pull = lanes(|lane| dh[lane] * o[lane] / n[lane]);
        let dc = lanes(|lane| dc[lane] + pull[lane]);
        let dn = lanes(|lane| dn[lane] - pull[lane] * mean[lane]);
        let slopes = [
            lanes(|lane| dc[lane] * write[lane] * (1.0 - z[lane] * z[lane])),
            lanes(|lane| (dc[lane] * z[lane] + dn[lane]) * write[lane]),
            lanes(|lane| (dc[lane] * c_before[lane] + dn[lane] * n_before[lane]) * keep[lane] * fall[lane]),
            lanes(|lane| dh[lane] * mean[lane] * o[lane] * (1.0 - o[lane])),
        ];
        for (index, vector) in slopes.into_iter().enumerate() {
            gates[index * blocks + block] = vector;
        }
        let next = [
            [0.0; LANES],
            lanes(|lane| dc[lane] * keep[lane]),
            lanes(|lane| dn[lane] * keep[lane]),
        ];
        for (index, vector) in next.into_iter().enumerate() {
            flow[index * blocks + block] = vector;
        }
    }
    if before.is_some() {
        let dh = &mut work.flow[..dim];
        for (slopes, matrix) in work.gates.chunks_exact(padded).zip(matrices.chunks_exact(dim * dim)) {
            add_rows(&slopes[..dim], matrix, dh);
        }
    }
}
