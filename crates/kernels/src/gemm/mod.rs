//! Matrix products `y (+)= scale * left · right` for f32 activations and f32, bf16 or NF4 weights.
//!
//! The right operand is packed panel by panel into a small buffer, and decoded on the way: NF4 is
//! never expanded as a whole. Each output element is summed by one thread in one order that depends
//! on the shape alone, so the number of threads does not change a bit of the result.

mod micro;
mod pack;
mod vector;

use std::cell::RefCell;

use half::bf16;

use crate::{
    Isa, Nf4Matrix,
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

/// What happens to what the output held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// It is overwritten.
    Overwrite,
    /// The product is added to it.
    Add,
}

/// How factors are rounded before they are multiplied; sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Not at all.
    F32,
    /// To bf16 where the machine multiplies bf16 faster ([`Isa::Avx512Bf16`]); else not at all.
    Bf16,
}

/// A row-major matrix in one of the storage formats.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// f32
    F32(&'a [f32]),
    /// bf16
    Bf16(&'a [bf16]),
    /// 4-bit NormalFloat
    Nf4(&'a Nf4Matrix),
}

impl Matrix<'_> {
    /// Elements stored.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Nf4(matrix) => matrix.shape().0 * matrix.shape().1,
        }
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Widens `out.len()` elements of the flat array from `start` on to f32.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Self::Bf16(values) => {
                for (target, value) in out.iter_mut().zip(&values[start..]) {
                    *target = value.to_f32();
                }
            }
            Self::Nf4(matrix) => matrix.decode(start, out),
        }
    }
}

/// The left operand, f32 activations.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    data: &'a [f32],
    stride: usize,
    transposed: bool,
}

impl<'a> Left<'a> {
    /// `[m, k]`, rows `stride` elements apart.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            transposed: false,
        }
    }

    /// Stored as `[k, m]`, rows `stride` elements apart.
    pub fn transposed(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            transposed: true,
        }
    }
}

/// The right operand, a weight or another activation.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    matrix: Matrix<'a>,
    stride: usize,
    transposed: bool,
}

impl<'a> Right<'a> {
    /// `[k, n]`, rows `stride` elements apart.
    pub fn rows(matrix: Matrix<'a>, stride: usize) -> Self {
        Self {
            matrix,
            stride,
            transposed: false,
        }
    }

    /// Stored as `[n, k]`, rows `stride` elements apart: a linear layer's weight in its forward pass.
    pub fn transposed(matrix: Matrix<'a>, stride: usize) -> Self {
        Self {
            matrix,
            stride,
            transposed: true,
        }
    }
}

/// One product to be computed.
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

/// Columns that one micro-kernel call covers: the width of a packed panel.
const PANEL: usize = 32;
/// Depth of a packed block: a panel of it fits the first-level cache.
const DEPTH: usize = 256;
/// Columns below which a product stays in f32.
const THIN: usize = 96;
/// Rows up to which the weight is read once and dotted with every row, without packing.
const VECTOR_ROWS: usize = 4;

thread_local! {
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static DECODED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The plain linear layer `y[m, n] = x[m, k] · w[n, k]ᵀ`.
pub fn linear(x: &[f32], w: Matrix<'_>, y: &mut [f32], shape: Shape, precision: Precision) {
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
    /// As [`Product::compute`].
    pub fn compute_serial(&self, out: &mut [f32], out_stride: usize) {
        self.run(out, out_stride, false);
    }

    fn check(&self, out: &[f32], out_stride: usize) {
        let Shape { m, n, k } = self.shape;
        let needed = |rows: usize, cols: usize, stride: usize| {
            if rows == 0 || cols == 0 {
                0
            } else {
                (rows - 1) * stride + cols
            }
        };
        let (rows, cols) = if self.left.transposed { (k, m) } else { (m, k) };
        assert!(
            self.left.data.len() >= needed(rows, cols, self.left.stride),
            "left operand too short for {:?}",
            self.shape
        );
        let (rows, cols) = if self.right.transposed { (n, k) } else { (k, n) };
        assert!(
            self.right.matrix.len() >= needed(rows, cols, self.right.stride),
            "right operand too short for {:?}",
            self.shape
        );
        assert!(
            out.len() >= needed(m, n, out_stride),
            "output too short for {:?}",
            self.shape
        );
    }

    fn run(&self, out: &mut [f32], out_stride: usize, parallel: bool) {
        let Shape { m, n, k } = self.shape;
        self.check(out, out_stride);
        if m == 0 || n == 0 {
            return;
        }
        if k == 0 {
            if self.accumulate == Accumulate::Overwrite {
                for row in 0..m {
                    out[row * out_stride..row * out_stride + n].fill(0.0);
                }
            }
            return;
        }
        if m <= VECTOR_ROWS && self.right.transposed && !self.left.transposed {
            return vector::run(self, out, out_stride, parallel);
        }
        let straightened;
        let left = if self.left.transposed {
            straightened = pack::transpose(self.left.data, self.left.stride, self.shape, parallel);
            Left::rows(&straightened, k)
        } else {
            self.left
        };
        let isa = Isa::current();
        // rounding the left operand costs a pass over it, which thin products do not earn back
        let halves = self.precision == Precision::Bf16 && isa == Isa::Avx512Bf16 && n >= THIN;
        let pairs;
        let rows = if halves {
            pairs = pack::round_to_pairs(left, self.shape, parallel);
            micro::Rows::Pairs {
                data: &pairs,
                stride: k.div_ceil(2),
            }
        } else {
            micro::Rows::F32 {
                data: left.data,
                stride: left.stride,
            }
        };
        let grid = Grid::new(self.shape, if parallel { threads() } else { 1 });
        let target = SharedMut::new(out);
        let task = |index: usize| self.block(&rows, grid.block(index), target, out_stride);
        if parallel {
            parallel_for(grid.count(), task);
        } else {
            (0..grid.count()).for_each(task);
        }
    }

    /// One block of the output: packs the right operand depth by depth and runs the micro-kernel.
    fn block(&self, rows: &micro::Rows<'_>, block: Block, out: SharedMut, out_stride: usize) {
        let halves = matches!(rows, micro::Rows::Pairs { .. });
        PACKED.with_borrow_mut(|packed| {
            DECODED.with_borrow_mut(|decoded| {
                for depth in (0..self.shape.k).step_by(DEPTH) {
                    let length = DEPTH.min(self.shape.k - depth);
                    let source = pack::Source {
                        right: self.right,
                        depth,
                        length,
                        first: block.first_column,
                        columns: block.columns,
                    };
                    pack::panels(&source, halves, packed, decoded);
                    let add = depth > 0 || self.accumulate == Accumulate::Add;
                    let call = micro::Call {
                        packed,
                        depth,
                        length,
                        scale: self.scale,
                        add,
                        out: out.pointer(),
                        out_stride,
                    };
                    // SAFETY: blocks of the grid are disjoint and inside the output, whose size `check` proved;
                    // `packed` holds whole panels of `length` and the rows reach `depth + length`.
                    unsafe { micro::run(rows, &block, &call) };
                }
            });
        });
    }
}

/// Rows and columns of one task.
#[derive(Debug, Clone, Copy)]
struct Block {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
}

/// How the output is cut into tasks.
struct Grid {
    shape: Shape,
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new(shape: Shape, threads: usize) -> Self {
        let wanted = 4 * threads;
        let panels = shape.n.div_ceil(PANEL);
        // few wide blocks read the left operand less often; many narrow ones balance better
        let columns = (panels / wanted).clamp(1, 8) * PANEL;
        let across = shape.n.div_ceil(columns);
        let down = if threads == 1 {
            1
        } else {
            wanted.div_ceil(across).min(shape.m.div_ceil(micro::ROWS)).max(1)
        };
        let rows = shape.m.div_ceil(down).next_multiple_of(micro::ROWS);
        Self { shape, rows, columns }
    }

    fn across(&self) -> usize {
        self.shape.n.div_ceil(self.columns)
    }

    fn count(&self) -> usize {
        self.across() * self.shape.m.div_ceil(self.rows)
    }

    fn block(&self, index: usize) -> Block {
        let (down, across) = (index / self.across(), index % self.across());
        let (first_row, first_column) = (down * self.rows, across * self.columns);
        Block {
            first_row,
            rows: self.rows.min(self.shape.m - first_row),
            first_column,
            columns: self.columns.min(self.shape.n - first_column),
        }
    }
}

#[cfg(test)]
mod tests;
