//! The loops of the scan's backward pass over one segment of one block: the states once more, and the way back.

use super::block::{Block, LANES, Lanes, Segment};
use crate::math::exp;
use crate::math::fold;

/// The saved activations of a segment, and the incoming gradient.
#[derive(Clone, Copy)]
pub(super) struct Trace<'a> {
    /// `[tokens]`
    pub(super) dy: &'a [Lanes],
    /// `[tokens + 1, state]`
    pub(super) states: &'a [Lanes],
    /// `[tokens, state]`
    pub(super) decays: &'a [Lanes],
}

/// Where a segment's gradients go; x and delta are overwritten, carry is taken on, and the rest is added to.
pub(super) struct Targets<'a> {
    /// `[state]`
    pub(super) carry: &'a mut [Lanes],
    /// `[tokens]`
    pub(super) x: &'a mut [Lanes],
    /// `[tokens]`
    pub(super) delta: &'a mut [Lanes],
    /// `[tokens, state]`
    pub(super) b: &'a mut [f32],
    /// `[tokens, state]`
    pub(super) c: &'a mut [f32],
    /// `dA [state]`, not yet of its logarithm
    pub(super) a: &'a mut [Lanes],
    pub(super) d: &'a mut Lanes,
}

crate::isa::multiversion! {
    /// From `states[0]`, the states after every token of a segment and the decays that led there.
    pub(super) fn record(block: Block<'_>, segment: Segment<'_>, states: &mut [Lanes], decays: &mut [Lanes]) = record_body
}

#[inline(always)]
fn record_body(block: Block<'_>, segment: Segment<'_>, states: &mut [Lanes], decays: &mut [Lanes]) {
    let state = block.a.len();
    for (t, decays) in decays.chunks_exact_mut(state).enumerate() {
        let (x, delta) = (&segment.x[t], &segment.delta[t]);
        let b = &segment.b[t * state..(t + 1) * state];
        let (before, after) = states[t * state..(t + 2) * state].split_at_mut(state);
        let rows = after.iter_mut().zip(before).zip(decays).zip(block.a).zip(b);
        for ((((after, before), decay), a), b) in rows {
            // copies, which the compiler knows not to overlap
            let (mut next, mut factor) = (*before, [0.0; LANES]);
            for lane in 0..LANES {
                factor[lane] = exp(delta[lane] * a[lane]);
                next[lane] = factor[lane] * next[lane] + delta[lane] * x[lane] * b;
            }
            (*after, *decay) = (next, factor);
        }
    }
}

crate::isa::multiversion! {
    /// A segment from its last token back to its first.
    pub(super) fn reverse(block: Block<'_>, segment: Segment<'_>, trace: Trace<'_>, targets: Targets<'_>) = reverse_body
}

#[inline(always)]
fn reverse_body(block: Block<'_>, segment: Segment<'_>, trace: Trace<'_>, targets: Targets<'_>) {
    let state = block.a.len();
    let Targets {
        carry,
        x: dx,
        delta: ddelta,
        b: db,
        c: dc,
        a: slopes,
        d: skip,
    } = targets;
    let (carry, slopes) = (&mut carry[..state], &mut slopes[..state]);
    for t in (0..segment.x.len()).rev() {
        let (x, delta, dy) = (segment.x[t], segment.delta[t], trace.dy[t]);
        let mut input = [0.0; LANES];
        for lane in 0..LANES {
            input[lane] = delta[lane] * x[lane];
        }
        let row = t * state..(t + 1) * state;
        let (before, after) = trace.states[t * state..(t + 2) * state].split_at(state);
        let decays = &trace.decays[row.clone()];
        let (b, c) = (&segment.b[row.clone()], &segment.c[row.clone()]);
        let (db, dc) = (&mut db[row.clone()], &mut dc[row]);
        // Σ_n g_t B_t and Σ_n g_t ⊙ h_{t−1} ⊙ Ā_t ⊙ A
        let (mut by_input, mut by_decay) = ([0.0; LANES], [0.0; LANES]);
        for n in 0..state {
            // copies, which the compiler knows not to overlap
            let (mut pulled, mut slope) = (carry[n], slopes[n]);
            let (a, before, after, decay) = (block.a[n], before[n], after[n], decays[n]);
            let (mut parts_b, mut parts_c) = ([0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                let g = pulled[lane] + c[n] * dy[lane];
                parts_b[lane] = g * input[lane];
                parts_c[lane] = dy[lane] * after[lane];
                by_input[lane] += g * b[n];
                pulled[lane] = g * decay[lane];
                let rate = pulled[lane] * before[lane];
                by_decay[lane] += rate * a[lane];
                slope[lane] += rate * delta[lane];
            }
            (carry[n], slopes[n]) = (pulled, slope);
            db[n] += fold(parts_b);
            dc[n] += fold(parts_c);
        }
        let (mut row_x, mut row_delta, mut row_skip) = ([0.0; LANES], [0.0; LANES], *skip);
        let d = *block.d;
        for lane in 0..LANES {
            row_x[lane] = delta[lane] * by_input[lane] + d[lane] * dy[lane];
            row_delta[lane] = by_decay[lane] + by_input[lane] * x[lane];
            row_skip[lane] += x[lane] * dy[lane];
        }
        (dx[t], ddelta[t], *skip) = (row_x, row_delta, row_skip);
    }
}
