//! The selective scan of Mamba (Gu and Dao 2023, section 3): every channel has N states that decay at input-dependent
//! rates, `h_t = exp(Δ_t A) ⊙ h_{t−1} + (Δ_t x_t) ⊗ B_t` and `y_t = h_t C_t + D ⊙ x_t`, with `A = −exp(A_log)`.
//!
//! There is one form, token by token: the recurrence is elementwise, so chunks would win no matrix product. Channels
//! are taken in blocks of one vector, a lane each, and tokens in segments that are copied together first, since the
//! rows of a narrow block lie far apart in memory. What this is not: it has no convolution, no softplus and no gate.

mod backward;
mod block;
mod reverse;

use std::{cell::RefCell, ops::Range};

pub use backward::{ScanGradients, backward};

use self::block::{Block, Blocks, LANES, Lanes, Segment, at_least, pack, segments, transpose, transpose_back, unpack};
use super::documents;
use crate::{
    math::exp,
    parallel::{SharedMut, parallel_for},
};

/// Groups that the blocks are dealt into at most: the backward pass keeps a partial sum for each.
const GROUPS: usize = 32;

/// State elements below which a wake-up costs more than it gains.
const SMALL: usize = 1 << 15;

/// The learned parameters.
#[derive(Debug, Clone, Copy)]
pub struct ScanParameters<'a> {
    /// `A_log [inner, state]`; `A = −exp(A_log)`
    pub a_log: &'a [f32],
    /// The skip `D [inner]`
    pub d: &'a [f32],
    /// States N of a channel.
    pub state: usize,
}

/// The inputs of each token.
#[derive(Debug, Clone, Copy)]
pub struct ScanInputs<'a> {
    /// `x [t, inner]`
    pub x: &'a [f32],
    /// The steps `Δ [t, inner]`, positive: after the softplus.
    pub delta: &'a [f32],
    /// `B [t, state]`, the same for all channels
    pub b: &'a [f32],
    /// `C [t, state]`, the same for all channels
    pub c: &'a [f32],
}

/// `y [t, inner]` of documents that have `lengths` rows.
///
/// A document's state is `h [inner, state]`; it is read before the document and left as it is after it, and zeros are
/// the state before the first row. None starts every document from zeros and keeps nothing.
///
/// # Panics
/// If an operand is too short.
pub fn forward(
    parameters: ScanParameters<'_>,
    inputs: ScanInputs<'_>,
    lengths: &[usize],
    states: Option<&mut [&mut [f32]]>,
    y: &mut [f32],
) {
    let layout = Layout::new(parameters, inputs, lengths);
    let Layout { rows, inner, state } = layout;
    assert!(y.len() >= rows * inner, "the scan's output is too short");
    let states = states.map(|states| {
        assert!(
            states.len() >= lengths.len() && states.iter().all(|h| h.len() >= inner * state),
            "the scan's states are too short"
        );
        states.iter_mut().map(|h| SharedMut::new(h)).collect::<Vec<_>>()
    });
    let documents: Vec<_> = documents(lengths).collect();
    let blocks = Blocks::new(parameters);
    let y = SharedMut::new(y);
    layout.spread(documents.len(), |document, group| {
        SCRATCH.with_borrow_mut(|scratch| {
            for block in layout.blocks(group) {
                let columns = layout.columns(block);
                let h = at_least(&mut scratch.h, state);
                h.fill([0.0; LANES]);
                let kept = states.as_ref().map(|states| {
                    // SAFETY: one task owns a block's channels of a document; the length was checked above.
                    unsafe { states[document].slice(columns.start * state, columns.len() * state) }
                });
                if let Some(kept) = &kept {
                    transpose(kept, h);
                }
                for rows in segments(documents[document].clone()) {
                    pack(inputs.x, inner, &rows, &columns, &mut scratch.x);
                    pack(inputs.delta, inner, &rows, &columns, &mut scratch.delta);
                    let out = at_least(&mut scratch.y, rows.len());
                    let segment = Segment::new(&scratch.x, &scratch.delta, inputs, state, &rows);
                    advance(blocks.get(block), segment, h, out);
                    // SAFETY: as above, for a document's rows of the output.
                    unsafe { unpack(out, inner, &rows, &columns, y) };
                }
                if let Some(kept) = kept {
                    transpose_back(h, kept);
                }
            }
        });
    });
}

#[derive(Default)]
struct Scratch {
    x: Vec<Lanes>,
    delta: Vec<Lanes>,
    y: Vec<Lanes>,
    h: Vec<Lanes>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The sizes, and how channels are dealt out: by the sizes alone, so that no sum depends on the threads.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    inner: usize,
    state: usize,
}

impl Layout {
    fn new(parameters: ScanParameters<'_>, inputs: ScanInputs<'_>, lengths: &[usize]) -> Self {
        let (rows, inner, state) = (lengths.iter().sum::<usize>(), parameters.d.len(), parameters.state);
        assert!(
            state > 0 && parameters.a_log.len() == inner * state,
            "A_log of {} elements is not {inner} channels by {state} states",
            parameters.a_log.len()
        );
        assert!(
            inputs.x.len().min(inputs.delta.len()) >= rows * inner
                && inputs.b.len().min(inputs.c.len()) >= rows * state,
            "the scan's inputs are too short"
        );
        Self { rows, inner, state }
    }

    fn block_count(self) -> usize {
        self.inner.div_ceil(LANES)
    }

    fn blocks_of_group(self) -> usize {
        self.block_count().div_ceil(GROUPS).max(1)
    }

    fn groups(self) -> usize {
        self.block_count().div_ceil(self.blocks_of_group())
    }

    /// The blocks of a group.
    fn blocks(self, group: usize) -> Range<usize> {
        let count = self.blocks_of_group();
        group * count..(group * count + count).min(self.block_count())
    }

    /// The channels of a block.
    fn columns(self, block: usize) -> Range<usize> {
        block * LANES..(block * LANES + LANES).min(self.inner)
    }

    /// Runs `task(item, group)` for every item and every group, on all threads where it pays.
    fn spread(self, items: usize, task: impl Fn(usize, usize) + Sync) {
        let (count, groups) = (items * self.groups(), self.groups());
        let task = |index: usize| task(index / groups, index % groups);
        if self.rows * self.inner * self.state < SMALL {
            (0..count).for_each(task);
        } else {
            parallel_for(count, task);
        }
    }
}

crate::isa::multiversion! {
    /// Takes `h [state]` over a segment and writes `y [tokens]`.
    fn advance(block: Block<'_>, segment: Segment<'_>, h: &mut [Lanes], y: &mut [Lanes]) = advance_body
}

#[inline(always)]
fn advance_body(block: Block<'_>, segment: Segment<'_>, h: &mut [Lanes], y: &mut [Lanes]) {
    let state = block.a.len();
    for (t, y) in y.iter_mut().enumerate() {
        let (x, delta) = (&segment.x[t], &segment.delta[t]);
        let b = &segment.b[t * state..(t + 1) * state];
        let c = &segment.c[t * state..(t + 1) * state];
        let mut sum = [0.0; LANES];
        for (((h, a), b), c) in h.iter_mut().zip(block.a).zip(b).zip(c) {
            for lane in 0..LANES {
                h[lane] = exp(delta[lane] * a[lane]) * h[lane] + delta[lane] * x[lane] * b;
                sum[lane] += h[lane] * c;
            }
        }
        for lane in 0..LANES {
            y[lane] = sum[lane] + block.d[lane] * x[lane];
        }
    }
}

#[cfg(test)]
mod tests;
