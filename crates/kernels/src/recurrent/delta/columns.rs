//! Work on blocks of columns that stay in registers: each column of a memory's transpose is a recurrence of its own.

/// Work that can be done on any few neighboring columns at a time.
pub(super) trait Columns {
    /// Does it for the columns `first..first + W`; implementations are `#[inline(always)]`.
    fn block<const W: usize>(&mut self, first: usize);
}

crate::isa::multiversion! {
    /// Does `work` for the columns `0..width`. A column's arithmetic is the same in a block of any width.
    pub(super) fn for_columns<T: Columns>(work: &mut T, width: usize) = for_columns_body
}

#[inline(always)]
fn for_columns_body<T: Columns>(work: &mut T, width: usize) {
    let mut first = 0;
    // wide blocks first: they keep enough sums under way to hide how long one addition takes
    while first + 64 <= width {
        work.block::<64>(first);
        first += 64;
    }
    while first + 32 <= width {
        work.block::<32>(first);
        first += 32;
    }
    while first + 8 <= width {
        work.block::<8>(first);
        first += 8;
    }
    while first < width {
        work.block::<1>(first);
        first += 1;
    }
}

/// `W` elements from `first` on. What is computed from such arrays and stored as a whole becomes vectors; between
/// single stores through several borrowed slices the compiler fears that one is another's element.
#[inline(always)]
pub(super) fn load<const W: usize>(from: &[f32], first: usize) -> [f32; W] {
    let mut values = [0.0; W];
    values.copy_from_slice(&from[first..first + W]);
    values
}
