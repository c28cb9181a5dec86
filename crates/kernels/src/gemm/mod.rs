//! Matrix products `y (+)= Σ scale · left · right` for f32 or bf16 activations and f32, bf16 or NF4 weights.
//!
//! The right operand is packed panel by panel into a small buffer and dequantized on the way, so an NF4 weight is never
//! expanded as a whole. Several products into one output are one [`Sum`], so that a linear layer and its LoRA branch
//! write the output once. Each output element is summed by one thread in an order that depends only on the shapes, so
//! the number of threads does not change a bit of the result.

mod gemv;
mod grid;
mod left;
mod micro;
mod operand;
mod right;
#[cfg(simd_x86)]
mod tile16;

use std::cell::RefCell;

use grid::{Block, Grid};
pub use operand::{Left, Right};

use crate::{
    Isa, Matrix,
    micro_tile::{NARROW_PANEL, PANEL},
    parallel::{SharedMut, parallel_for, threads},
};

/// Output is `[m, n]`; `k` is summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
}

/// Whether the output is overwritten or added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// The output is overwritten.
    Overwrite,
    /// The product is added to the output.
    Add,
}

/// How factors are rounded before they are multiplied; sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// No rounding.
    F32,
    /// To bf16 if the machine multiplies bf16 faster ([`Isa::multiplies_bf16`]); otherwise no rounding.
    Bf16,
}

/// One product.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// Its shape.
    pub shape: Shape,
    /// Left operand.
    pub left: Left<'a>,
    /// Right operand.
    pub right: Right<'a>,
    /// Factor on the product.
    pub scale: f32,
    /// Overwrite or add.
    pub accumulate: Accumulate,
    /// Rounding of the factors.
    pub precision: Precision,
}

/// One product of a [`Sum`].
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// Left operand, `m` rows.
    pub left: Left<'a>,
    /// Right operand, `n` columns.
    pub right: Right<'a>,
    /// Length of the sums.
    pub k: usize,
    /// Factor on the product.
    pub scale: f32,
}

/// Several products added into one output `[m, n]`, term by term in the order given.
#[derive(Debug, Clone, Copy)]
pub struct Sum<'a> {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// The products.
    pub terms: &'a [Term<'a>],
    /// Overwrite or add.
    pub accumulate: Accumulate,
    /// Rounding of the factors.
    pub precision: Precision,
}

/// Depth of a packed block in 4-byte units (an f32, or a pair of bf16): its rows fit in the L1 cache.
const DEPTH: usize = 384;
/// The same for panels of sixteen columns: with the rows of a tile, a panel fits in an L1 cache of 32 KiB.
pub(crate) const NARROW_DEPTH: usize = 256;
/// The same for the tile unit (AMX), whose blocks have more rows and which reads its operands four times as fast.
const TILE_DEPTH: usize = 192;
/// Up to this number of rows, packing a weight costs more than it saves.
const FEW_ROWS: usize = 4;

thread_local! {
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static LEFT: RefCell<Vec<left::Buffer>> = const { RefCell::new(Vec::new()) };
}

/// The plain linear layer `y[m, n] = x[m, k] · w[n, k]ᵀ`.
pub fn linear<'a>(x: impl Into<Matrix<'a>>, w: Matrix<'a>, y: &mut [f32], shape: Shape, precision: Precision) {
    Product {
        shape,
        left: Left::rows(x, shape.k),
        right: Right::transposed(w, shape.k),
        scale: 1.0,
        accumulate: Accumulate::Overwrite,
        precision,
    }
    .compute(y, shape.n);
}

impl Product<'_> {
    /// Computes into `out`, rows `out_stride` elements apart, on all threads.
    ///
    /// # Panics
    /// If an operand or the output is too short for the shape.
    pub fn compute(&self, out: &mut [f32], out_stride: usize) {
        self.run(out, out_stride, true);
    }

    /// Computes on the calling thread alone, for use inside a parallel task.
    ///
    /// # Panics
    /// Same as [`Product::compute`].
    pub fn compute_serial(&self, out: &mut [f32], out_stride: usize) {
        self.run(out, out_stride, false);
    }

    fn run(&self, out: &mut [f32], out_stride: usize, parallel: bool) {
        let term = Term {
            left: self.left,
            right: self.right,
            k: self.shape.k,
            scale: self.scale,
        };
        Sum {
            m: self.shape.m,
            n: self.shape.n,
            terms: &[term],
            accumulate: self.accumulate,
            precision: self.precision,
        }
        .run(out, out_stride, parallel);
    }
}

/// The operands' formats in the micro-kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    isa: Isa,
    /// Pairs of bf16 instead of f32.
    pairs: bool,
}

impl Format {
    fn new(isa: Isa, precision: Precision) -> Self {
        Self {
            isa,
            pairs: precision == Precision::Bf16 && isa.multiplies_bf16(),
        }
    }

    /// Whether the tile unit multiplies.
    fn tiles(self) -> bool {
        self.pairs && self.isa == Isa::Amx
    }

    /// Whether operands can be packed sixteen units at a time.
    fn has_lanes(self) -> bool {
        cfg!(simd_x86) && self.isa != Isa::Portable
    }

    /// Columns of a packed panel.
    fn panel(self) -> usize {
        match self.isa {
            Isa::Portable | Isa::Avx2 => NARROW_PANEL,
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => PANEL,
        }
    }

    /// Units of a packed block along `k`, at most.
    fn depth(self) -> usize {
        match self.panel() {
            _ if self.tiles() => TILE_DEPTH,
            NARROW_PANEL => NARROW_DEPTH,
            _ => DEPTH,
        }
    }

    /// Elements in a 4-byte unit.
    fn unit(self) -> usize {
        if self.pairs { 2 } else { 1 }
    }

    /// Units of `length` elements, including the padding that the kernel reads.
    fn units(self, length: usize) -> usize {
        let units = length.div_ceil(self.unit());
        if self.tiles() {
            units.next_multiple_of(16)
        } else {
            units
        }
    }
}

impl Sum<'_> {
    /// Computes into `out`, rows `out_stride` elements apart, on all threads.
    ///
    /// # Panics
    /// If an operand or the output is too short for the shape.
    pub fn compute(&self, out: &mut [f32], out_stride: usize) {
        self.run(out, out_stride, true);
    }

    /// Same as [`Sum::compute`], always by packed panels: a row gets the same bits whatever the number of rows.
    ///
    /// # Panics
    /// Same as [`Sum::compute`].
    pub fn compute_panels(&self, out: &mut [f32], out_stride: usize) {
        if self.begin(out, out_stride) {
            self.panels(out, out_stride, true);
        }
    }

    /// Same as [`Sum::compute_panels`] on the calling thread alone, for use inside a parallel task.
    ///
    /// # Panics
    /// Same as [`Sum::compute`].
    pub fn compute_panels_serial(&self, out: &mut [f32], out_stride: usize) {
        if self.begin(out, out_stride) {
            self.panels(out, out_stride, false);
        }
    }

    /// Same as [`Sum::compute`], always by dot products: a row gets the same bits whatever the number of rows, and
    /// a single row costs no more than reading the weight.
    ///
    /// # Panics
    /// Same as [`Sum::compute`], and if a left operand is transposed or a right one is not.
    pub fn compute_dots(&self, out: &mut [f32], out_stride: usize) {
        assert!(self.can_be_dotted(), "dot products need rows on both sides");
        if self.begin(out, out_stride) {
            gemv::run(&[gemv::Job::new(self, (out, out_stride), true)], true);
        }
    }

    /// Same as [`Sum::compute_dots`] of several sums at once, each into an output `[m, n]` without gaps. Threads
    /// synchronize once for all of them, because the small products of adapters take less time than synchronizing.
    ///
    /// # Panics
    /// Same as [`Sum::compute_dots`].
    pub fn compute_dots_together(sums: &mut [(Sum<'_>, &mut [f32])]) {
        let mut jobs = Vec::with_capacity(sums.len());
        for (sum, out) in sums {
            assert!(sum.can_be_dotted(), "dot products need rows on both sides");
            if sum.begin(out, sum.n) {
                jobs.push(gemv::Job::new(sum, (out, sum.n), true));
            }
        }
        gemv::run(&jobs, true);
    }

    fn can_be_dotted(&self) -> bool {
        let dotted = |term: &Term<'_>| term.right.transposed && !term.left.transposed;
        self.terms.iter().all(dotted)
    }

    fn check(&self, out: &[f32], out_stride: usize) {
        let (m, n) = (self.m, self.n);
        for term in self.terms {
            term.left.check(m, term.k);
            term.right.check(n, term.k);
        }
        assert!(
            m == 0 || n == 0 || out.len() >= (m - 1) * out_stride + n,
            "output too short for [{m}, {n}]"
        );
    }

    fn run(&self, out: &mut [f32], out_stride: usize, parallel: bool) {
        if !self.begin(out, out_stride) {
            return;
        }
        if self.m <= FEW_ROWS && self.can_be_dotted() {
            gemv::run(&[gemv::Job::new(self, (out, out_stride), false)], parallel);
        } else {
            self.panels(out, out_stride, parallel);
        }
    }

    /// Checks the operands; returns false if there is nothing to multiply, and then the output is complete.
    fn begin(&self, out: &mut [f32], out_stride: usize) -> bool {
        let (m, n) = (self.m, self.n);
        self.check(out, out_stride);
        if m == 0 || n == 0 {
            return false;
        }
        let any = self.terms.iter().any(|term| term.k > 0);
        if !any && self.accumulate == Accumulate::Overwrite {
            for row in 0..m {
                out[row * out_stride..row * out_stride + n].fill(0.0);
            }
        }
        any
    }

    fn panels(&self, out: &mut [f32], out_stride: usize, parallel: bool) {
        let (m, n) = (self.m, self.n);
        let format = Format::new(Isa::current(), self.precision);
        let mut buffers = LEFT.take();
        buffers.resize_with(buffers.len().max(self.terms.len()), left::Buffer::default);
        let rows: Vec<left::Rows<'_>> = self
            .terms
            .iter()
            .zip(&mut buffers)
            .map(|(term, buffer)| left::rows(term.left, (m, term.k), format, buffer, parallel))
            .collect();
        let grid = Grid::new(m, n, micro::height(format), if parallel { threads() } else { 1 });
        let target = SharedMut::new(out);
        let task = |index: usize| self.block(&rows, format, grid.block(index), target, out_stride);
        if parallel {
            parallel_for(grid.count(), task);
        } else {
            (0..grid.count()).for_each(task);
        }
        LEFT.set(buffers);
    }

    /// One block of the output: packs the right operands depth by depth and runs the micro-kernel.
    fn block(&self, rows: &[left::Rows<'_>], format: Format, block: Block, out: SharedMut<'_>, out_stride: usize) {
        let mut packed = PACKED.take();
        let mut add = self.accumulate == Accumulate::Add;
        for (term, rows) in self.terms.iter().zip(rows) {
            for (depth, length) in depths(term.k, format) {
                right::panels(&term.right, &block, (depth, length), format, &mut packed);
                let call = micro::Call {
                    packed: &packed,
                    depth,
                    length,
                    scale: term.scale,
                    add,
                    out: out.pointer(),
                    out_stride,
                };
                // SAFETY: blocks of the grid are disjoint and inside the output, whose size `check` proved;
                // `packed` holds whole panels of `length` and the rows reach `depth + length`.
                unsafe { micro::run(rows, format, &block, &call) };
                add = true;
            }
        }
        PACKED.set(packed);
    }
}

/// Grows a scratch buffer to at least `len` elements; its content is kept, so nothing is cleared twice.
pub(crate) fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

/// Splits `k` elements into equal blocks of at most [`Format::depth`] units: first element and length of each.
fn depths(k: usize, format: Format) -> impl Iterator<Item = (usize, usize)> {
    let most = format.unit() * format.depth();
    // whole units of the tile kernel, so that only the last block is padded
    let size = k.div_ceil(k.div_ceil(most).max(1)).next_multiple_of(32).max(32);
    (0..k).step_by(size).map(move |depth| (depth, size.min(k - depth)))
}

#[cfg(test)]
mod tests;
