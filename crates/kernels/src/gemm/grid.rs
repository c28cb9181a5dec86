//! Divides the output of a product into tasks.

use crate::micro_tile::PANEL;

/// Rows and columns of one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_column: usize,
    pub(super) columns: usize,
}

/// The blocks of an output.
pub(super) struct Grid {
    m: usize,
    n: usize,
    rows: usize,
    columns: usize,
}

impl Grid {
    /// `height` is the micro-kernel's number of rows.
    pub(super) fn new(m: usize, n: usize, height: usize, threads: usize) -> Self {
        let wanted = 4 * threads;
        let panels = n.div_ceil(PANEL);
        // few wide blocks read the left operand less often; many narrow ones balance better
        let columns = (panels / wanted).clamp(1, 8) * PANEL;
        let copy_columns = n.div_ceil(columns);
        let down = if threads == 1 {
            1
        } else {
            wanted.div_ceil(copy_columns).min(m.div_ceil(height)).max(1)
        };
        let rows = m.div_ceil(down).next_multiple_of(height);
        Self { m, n, rows, columns }
    }

    fn copy_columns(&self) -> usize {
        self.n.div_ceil(self.columns)
    }

    pub(super) fn count(&self) -> usize {
        self.copy_columns() * self.m.div_ceil(self.rows)
    }

    pub(super) fn block(&self, index: usize) -> Block {
        let (down, copy_columns) = (index / self.copy_columns(), index % self.copy_columns());
        let (first_row, first_column) = (down * self.rows, copy_columns * self.columns);
        Block {
            first_row,
            rows: self.rows.min(self.m - first_row),
            first_column,
            columns: self.columns.min(self.n - first_column),
        }
    }
}
