//! The selective scan's backward pass, in reverse time. With `Ā_t = exp(Δ_t A)`:
//!
//! ```text
//! g_t  = C_t ⊗ dy_t + Ā_{t+1} ⊙ g_{t+1}                 dD = Σ_t x_t dy_t
//! dC_t = Σ_d dy_t h_t                                   dx_t = Δ_t Σ_n g_t B_t + D dy_t
//! dB_t = Σ_d g_t Δ_t x_t                                dA_log = A ⊙ Σ_t g_t ⊙ h_{t−1} ⊙ Ā_t Δ_t
//! dΔ_t = Σ_n (g_t ⊙ h_{t−1} ⊙ Ā_t ⊙ A + g_t B_t x_t)
//! ```
//!
//! The states are not kept: each block of channels goes forward once more and keeps h before every segment, then
//! computes a segment's states again when the way back reaches it. Sums that cross tasks go through partial sums
//! whose number and order depend on the sizes alone.

use std::{cell::RefCell, ops::Range};

use super::{
    Layout, ScanInputs, ScanParameters, advance,
    block::{Block, Blocks, LANES, Lanes, Segment, at_least, pack, segments, unpack},
    documents,
    reverse::{Targets, Trace, record, reverse},
};
use crate::parallel::{SharedMut, for_each_row_block};

/// Rows from which neighboring documents make a run of their own, which is what has a partial sum of the parameters'
/// gradients: short documents must not cost one each.
const RUN: usize = 512;

/// Where the backward pass writes.
#[derive(Debug)]
pub struct ScanGradients<'a> {
    /// `[t, inner]`, overwritten
    pub x: &'a mut [f32],
    /// `[t, inner]`, overwritten
    pub delta: &'a mut [f32],
    /// `[t, state]`, overwritten
    pub b: &'a mut [f32],
    /// `[t, state]`, overwritten
    pub c: &'a mut [f32],
    /// `[inner, state]`, added to
    pub a_log: &'a mut [f32],
    /// `[inner]`, added to
    pub d: &'a mut [f32],
}

/// The gradients of [`forward`](super::forward) from zero states, from `dy [t, inner]`. Sets those of the inputs and
/// adds to those of the parameters.
///
/// # Panics
/// If an operand is too short.
pub fn backward(
    parameters: ScanParameters<'_>,
    inputs: ScanInputs<'_>,
    lengths: &[usize],
    dy: &[f32],
    gradients: ScanGradients<'_>,
) {
    let layout = Layout::new(parameters, inputs, lengths);
    let Layout { rows, inner, state } = layout;
    let ScanGradients {
        x,
        delta,
        b,
        c,
        a_log,
        d,
    } = gradients;
    assert!(
        dy.len().min(x.len()).min(delta.len()) >= rows * inner
            && b.len().min(c.len()) >= rows * state
            && a_log.len() >= inner * state
            && d.len() >= inner,
        "the scan's gradients are too short"
    );
    let blocks = Blocks::new(parameters);
    let (documents, runs) = (documents(lengths).collect::<Vec<_>>(), runs(lengths));
    // [groups, t, state] each
    let mut partial_b = vec![0.0; layout.groups() * rows * state];
    let mut partial_c = partial_b.clone();
    // [runs, blocks, state + 1]: dA and then dD
    let mut partial_parameters = vec![[0.0; LANES]; runs.len() * layout.block_count() * (state + 1)];
    let pass = Pass {
        layout,
        inputs,
        dy,
        x: SharedMut::new(x),
        delta: SharedMut::new(delta),
        b: SharedMut::new(&mut partial_b),
        c: SharedMut::new(&mut partial_c),
    };
    let shared = SharedMut::new(&mut partial_parameters);
    layout.spread(runs.len(), |run, group| {
        SCRATCH.with_borrow_mut(|scratch| {
            for block in layout.blocks(group) {
                let place = (run * layout.block_count() + block) * (state + 1);
                // SAFETY: one task owns a block's channels of a run.
                let slopes = unsafe { shared.slice(place, state + 1) };
                for document in &documents[runs[run].clone()] {
                    pass.document(document, group, block, blocks.get(block), scratch, slopes);
                }
            }
        });
    });
    for (target, partial) in [(b, &partial_b), (c, &partial_c)] {
        for_each_row_block(&mut target[..rows * state], state, |first, target| {
            target.fill(0.0);
            for partial in partial.chunks_exact(rows * state) {
                let partial = &partial[first * state..first * state + target.len()];
                target
                    .iter_mut()
                    .zip(partial)
                    .for_each(|(target, part)| *target += part);
            }
        });
    }
    for channel in 0..inner {
        let (block, lane) = (channel / LANES, channel % LANES);
        let sum = |n: usize| {
            let place = |run: usize| (run * layout.block_count() + block) * (state + 1) + n;
            (0..runs.len())
                .map(|run| partial_parameters[place(run)][lane])
                .sum::<f32>()
        };
        for (n, a) in blocks.get(block).a.iter().enumerate() {
            a_log[channel * state + n] += sum(n) * a[lane];
        }
        d[channel] += sum(state);
    }
}

/// Neighboring documents in runs of at least [`RUN`] rows; what is left at the end is a run too.
fn runs(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut first, mut rows) = (0, 0);
    for (index, length) in lengths.iter().enumerate() {
        rows += length;
        if rows >= RUN || index + 1 == lengths.len() {
            runs.push(first..index + 1);
            (first, rows) = (index + 1, 0);
        }
    }
    runs
}

#[derive(Default)]
struct Scratch {
    // one segment
    x: Vec<Lanes>,
    delta: Vec<Lanes>,
    dy: Vec<Lanes>,
    dx: Vec<Lanes>,
    ddelta: Vec<Lanes>,
    /// h before the segment and after each of its tokens, `[SEGMENT + 1, state]`
    states: Vec<Lanes>,
    /// `Ā`, `[SEGMENT, state]`
    decays: Vec<Lanes>,
    /// h before every segment of a document, `[segments, state]`
    starts: Vec<Lanes>,
    /// `Ā_{t+1} ⊙ g_{t+1}`, `[state]`
    carry: Vec<Lanes>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The operands of all tasks, and the outputs that they divide among them.
struct Pass<'a> {
    layout: Layout,
    inputs: ScanInputs<'a>,
    dy: &'a [f32],
    x: SharedMut<'a>,
    delta: SharedMut<'a>,
    b: SharedMut<'a>,
    c: SharedMut<'a>,
}

impl Pass<'_> {
    /// One block of one document; `slopes [state + 1]` gets what is due to dA and dD.
    fn document(
        &self,
        document: &Range<usize>,
        group: usize,
        block: usize,
        parameters: Block<'_>,
        scratch: &mut Scratch,
        slopes: &mut [Lanes],
    ) {
        let Layout { rows, inner, state } = self.layout;
        let columns = self.layout.columns(block);
        self.keep_starts(document, &columns, parameters, scratch);
        let carry = at_least(&mut scratch.carry, state);
        carry.fill([0.0; LANES]);
        for (index, part) in segments(document.clone()).enumerate().rev() {
            pack(self.inputs.x, inner, &part, &columns, &mut scratch.x);
            pack(self.inputs.delta, inner, &part, &columns, &mut scratch.delta);
            pack(self.dy, inner, &part, &columns, &mut scratch.dy);
            let segment = Segment::new(&scratch.x, &scratch.delta, self.inputs, state, &part);
            let states = at_least(&mut scratch.states, (part.len() + 1) * state);
            let decays = at_least(&mut scratch.decays, part.len() * state);
            states[..state].copy_from_slice(&scratch.starts[index * state..(index + 1) * state]);
            record(parameters, segment, states, decays);
            let (place, len) = ((group * rows + part.start) * state, part.len() * state);
            // SAFETY: one task owns a group's partial sums of a run's rows.
            let (b, c) = unsafe { (self.b.slice(place, len), self.c.slice(place, len)) };
            let (dx, ddelta) = (
                at_least(&mut scratch.dx, part.len()),
                at_least(&mut scratch.ddelta, part.len()),
            );
            let (slopes_a, slope_d) = slopes.split_at_mut(state);
            let trace = Trace {
                dy: &scratch.dy,
                states,
                decays,
            };
            let targets = Targets {
                carry: &mut *carry,
                x: &mut *dx,
                delta: &mut *ddelta,
                b,
                c,
                a: slopes_a,
                d: &mut slope_d[0],
            };
            reverse(parameters, segment, trace, targets);
            // SAFETY: one task owns a block's channels of a run's rows; `backward` checked the lengths.
            unsafe {
                unpack(dx, inner, &part, &columns, self.x);
                unpack(ddelta, inner, &part, &columns, self.delta);
            }
        }
    }

    /// Goes forward and keeps h before every segment.
    fn keep_starts(
        &self,
        document: &Range<usize>,
        columns: &Range<usize>,
        parameters: Block<'_>,
        scratch: &mut Scratch,
    ) {
        let Layout { inner, state, .. } = self.layout;
        let count = segments(document.clone()).len();
        let starts = at_least(&mut scratch.starts, count.max(1) * state);
        starts[..state].fill([0.0; LANES]);
        // where the last segment leads is of no use
        for (index, part) in segments(document.clone()).enumerate().take(count.saturating_sub(1)) {
            pack(self.inputs.x, inner, &part, columns, &mut scratch.x);
            pack(self.inputs.delta, inner, &part, columns, &mut scratch.delta);
            let segment = Segment::new(&scratch.x, &scratch.delta, self.inputs, state, &part);
            let (before, after) = starts.split_at_mut((index + 1) * state);
            let h = &mut after[..state];
            h.copy_from_slice(&before[index * state..]);
            // the output is computed too: it costs little compared with the exponentials
            advance(parameters, segment, h, at_least(&mut scratch.dy, part.len()));
        }
    }
}
