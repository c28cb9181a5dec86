//! One token of a head of the sLSTM cell, in lanes.

use std::array;

use super::{GATES, LANES, Lanes, STATE};
use crate::{
    math::{exp, sigmoid},
    recurrent::log_sigmoid,
};

crate::isa::multiversion! {
    /// One token of a head of `dim`: `gates [5, padded]` has `W x + b` of z, i, f and o and gets z, i', f', o and σ(−p_f);
    /// `state` is `[4, padded]`, `matrices` `[dim, 4, padded]`.
    pub(super) fn step(matrices: &[f32], dim: usize, gates: &mut [f32], state: &mut [f32]) = step_body
}

#[inline(always)]
fn step_body(matrices: &[f32], dim: usize, gates: &mut [f32], state: &mut [f32]) {
    let padded = state.len() / STATE;
    add_rows(&state[2 * padded..][..dim], matrices, &mut gates[..GATES * padded]);
    let (gates, state) = (gates.as_chunks_mut::<LANES>().0, state.as_chunks_mut::<LANES>().0);
    let blocks = padded / LANES;
    for block in 0..blocks {
        // copies, which the compiler knows not to overlap, and a loop for each vector, which it takes at once
        let [z, i, f, o]: [Lanes; GATES] = array::from_fn(|index| gates[index * blocks + block]);
        let [c, n, _, m]: [Lanes; STATE] = array::from_fn(|index| state[index * blocks + block]);
        let forget = lanes(|lane| log_sigmoid(f[lane]) + m[lane]);
        // n is 0 before a document's first token, and nowhere else
        let maximum = lanes(|lane| {
            if n[lane] == 0.0 {
                i[lane]
            } else {
                forget[lane].max(i[lane])
            }
        });
        let kept = lanes(|lane| exp(forget[lane] - maximum[lane]));
        let keep = lanes(|lane| if n[lane] == 0.0 { 0.0 } else { kept[lane] });
        let write = lanes(|lane| exp(i[lane] - maximum[lane]));
        // tanh
        let z = lanes(|lane| 2.0 * sigmoid(2.0 * z[lane]) - 1.0);
        let o = lanes(|lane| sigmoid(o[lane]));
        let c = lanes(|lane| keep[lane] * c[lane] + write[lane] * z[lane]);
        let n = lanes(|lane| keep[lane] * n[lane] + write[lane]);
        let h = lanes(|lane| o[lane] * c[lane] / n[lane]);
        let fall = lanes(|lane| sigmoid(-f[lane]));
        for (index, vector) in [c, n, h, maximum].into_iter().enumerate() {
            state[index * blocks + block] = vector;
        }
        for (index, vector) in [z, write, keep, o, fall].into_iter().enumerate() {
            gates[index * blocks + block] = vector;
        }
    }
}

/// A value for each lane.
#[inline(always)]
pub(super) fn lanes(value: impl Fn(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (index, lane) in lanes.iter_mut().enumerate() {
        *lane = value(index);
    }
    lanes
}

/// Adds `xᵀ·rows` to `out [n]`; `rows` is `[x.len(), n]`.
#[inline(always)]
pub(super) fn add_rows(x: &[f32], rows: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (fours, rest) = x.as_chunks::<4>();
    let (whole, last) = rows.split_at(fours.len() * 4 * n);
    // four rows in one pass over the sums
    for (x, rows) in fours.iter().zip(whole.chunks_exact(4 * n)) {
        let (first, rows) = rows.split_at(n);
        let (second, rows) = rows.split_at(n);
        let (third, fourth) = rows.split_at(n);
        for ((((out, a), b), c), d) in out.iter_mut().zip(first).zip(second).zip(third).zip(fourth) {
            *out = *out + x[0] * a + x[1] * b + x[2] * c + x[3] * d;
        }
    }
    for (x, row) in rest.iter().zip(last.chunks_exact(n)) {
        for (out, value) in out.iter_mut().zip(row) {
            *out += x * value;
        }
    }
}
