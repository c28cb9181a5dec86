//! One tensor's base and inputs as tiles of whole rows, for any number of sweeps.
//!
//! A method is a few sweeps: statistics first (histograms, norms), then the merged values. Where all inputs of a
//! tensor fit into the memory budget, they are computed once, in the first sweep; otherwise every sweep
//! computes its tiles again, so memory stays at threads × tile whatever the tensor. Tiles depend on the tensor's shape
//! alone, never on threads or memory, and sweeps join their results in tile order: sums are the same everywhere.
//! The [`Workspace`] decides whether all threads share a sweep or one thread makes it alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;
use crate::aligned::Aligned;

/// Entries of a tile, rounded to whole rows: a tile of a few inputs fits into a core's own caches.
const TILE: usize = 1 << 16;

/// What an input's rows hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation {
    /// δ, the change to the base.
    Change,
    /// θᵢ, the weights themselves.
    Whole,
}

/// A source of one tensor's rows in f32, shared between threads.
pub(crate) trait RowSource: Sync {
    /// What its rows hold.
    fn representation(&self) -> Representation;

    /// Whether `read` uses the base's values.
    fn needs_base(&self) -> bool {
        false
    }

    /// Writes rows, row-major, into `out`. `base` holds the same rows of the base, or is empty if no input needs it.
    fn read(&self, rows: Range<usize>, base: &[f32], out: &mut [f32]) -> Result<()>;
}

/// Some whole rows of the base and of every input.
#[derive(Debug)]
pub(crate) struct Tile<'t> {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: usize,
    /// θ; empty in sweeps that do not ask for it.
    pub(crate) base: &'t [f32],
    /// The rows of every input, in the tensor's representation.
    pub(crate) inputs: Vec<&'t [f32]>,
}

impl Tile<'_> {
    /// Index of the first entry within the tensor.
    pub(crate) fn start(&self) -> usize {
        self.rows.start * self.columns
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> usize {
        self.rows.len() * self.columns
    }
}

/// Buffers for a tensor's inputs between its sweeps, and whether all threads sweep. It is reused for one tensor after
/// another.
#[derive(Debug)]
pub(crate) struct Workspace {
    kept: Vec<Aligned>,
    /// Most bytes of inputs that are kept.
    budget: usize,
    /// Only the calling thread sweeps.
    single_threaded: bool,
}

impl Workspace {
    /// A workspace of `budget` bytes, for sweeps by all threads.
    pub(crate) fn shared(budget: usize) -> Self {
        Self {
            kept: Vec::new(),
            budget,
            single_threaded: false,
        }
    }

    /// A workspace of `budget` bytes, for sweeps by one thread.
    pub(crate) fn single_threaded(budget: usize) -> Self {
        Self {
            single_threaded: true,
            ..Self::shared(budget)
        }
    }

    /// Buffers for the inputs of a tensor, if they fit into the budget. They never shrink, so that a large tensor after a
    /// small one does not have to clear them again.
    fn buffers(&mut self, entries: usize, inputs: usize) -> Option<&mut [Aligned]> {
        (4 * entries * inputs <= self.budget).then(|| {
            self.kept.resize_with(self.kept.len().max(inputs), Aligned::default);
            for buffer in &mut self.kept[..inputs] {
                buffer.resize(entries);
            }
            &mut self.kept[..inputs]
        })
    }
}

/// One tensor, with its base and inputs.
pub(crate) struct TensorTiles<'a> {
    rows: usize,
    columns: usize,
    tile_rows: usize,
    representation: Representation,
    base: &'a dyn RowSource,
    inputs: Vec<Box<dyn RowSource + 'a>>,
    /// Every input's rows, where they are kept.
    kept: Option<&'a mut [Aligned]>,
    filled: bool,
    single_threaded: bool,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    base: Aligned,
    inputs: Vec<Aligned>,
}

impl<'a> TensorTiles<'a> {
    /// A tensor of this shape.
    pub(crate) fn new(
        shape: &[usize],
        representation: Representation,
        base: &'a dyn RowSource,
        inputs: Vec<Box<dyn RowSource + 'a>>,
        workspace: &'a mut Workspace,
    ) -> Self {
        let (rows, columns) = rows_and_columns(shape);
        Self {
            rows,
            columns,
            tile_rows: tile_rows(columns),
            representation,
            base,
            single_threaded: workspace.single_threaded,
            kept: workspace.buffers(rows * columns, inputs.len()),
            inputs,
            filled: false,
        }
    }

    pub(crate) fn entries(&self) -> usize {
        self.rows * self.columns
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows)
    }

    fn tile(&self, index: usize) -> Range<usize> {
        let start = index * self.tile_rows;
        start..self.rows.min(start + self.tile_rows)
    }

    /// Visits every tile and collects what the visits return, in tile order.
    pub(crate) fn collect<R: Send>(
        &mut self,
        with_base: bool,
        visit: impl Fn(Tile<'_>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.sweep_in(
            1,
            with_base,
            Vec::new,
            |results, tile| {
                results.push(visit(tile)?);
                Ok(())
            },
            |mut left, mut right| {
                left.append(&mut right);
                left
            },
        )
    }

    /// Visits every tile, each thread with an accumulator of its own, which may be large; accumulators are joined in
    /// tile order.
    pub(crate) fn sweep<A: Send>(
        &mut self,
        with_base: bool,
        empty: impl Fn() -> A + Sync + Send,
        visit: impl Fn(&mut A, Tile<'_>) -> Result<()> + Sync,
        join: impl Fn(A, A) -> A + Sync + Send,
    ) -> Result<A> {
        let run = self.tiles().div_ceil(rayon::current_num_threads());
        self.sweep_in(run, with_base, empty, visit, join)
    }

    /// The same with at least `run` tiles an accumulator.
    fn sweep_in<A: Send>(
        &mut self,
        run: usize,
        with_base: bool,
        empty: impl Fn() -> A + Sync + Send,
        visit: impl Fn(&mut A, Tile<'_>) -> Result<()> + Sync,
        join: impl Fn(A, A) -> A + Sync + Send,
    ) -> Result<A> {
        if self.kept.is_some() && !self.filled {
            let swept = self.fill(run, with_base, &empty, &visit, &join)?;
            self.filled = true;
            return Ok(swept);
        }
        let tensor = &*self;
        if tensor.single_threaded {
            let mut scratch = Scratch::default();
            return (0..tensor.tiles()).try_fold(empty(), |mut results, index| {
                tensor.visit(index, with_base, &mut scratch, |tile| visit(&mut results, tile))?;
                Ok(results)
            });
        }
        (0..tensor.tiles())
            .into_par_iter()
            .with_min_len(run)
            .try_fold(
                || (empty(), Scratch::default()),
                |(mut results, mut scratch), index| {
                    tensor.visit(index, with_base, &mut scratch, |tile| visit(&mut results, tile))?;
                    Ok((results, scratch))
                },
            )
            .map(|swept| swept.map(|(results, _)| results))
            .try_reduce(&empty, |left, right| Ok(join(left, right)))
    }

    /// Visits one tile.
    pub(crate) fn one<R>(&self, index: usize, with_base: bool, visit: impl FnOnce(Tile<'_>) -> Result<R>) -> Result<R> {
        self.visit(index, with_base, &mut Scratch::default(), visit)
    }

    /// Visits some rows by themselves, whatever tile they are of.
    pub(crate) fn some<R>(
        &self,
        rows: Range<usize>,
        with_base: bool,
        visit: impl FnOnce(Tile<'_>) -> Result<R>,
    ) -> Result<R> {
        self.visit_rows(rows, with_base, &mut Scratch::default(), visit)
    }

    fn visit<R>(
        &self,
        index: usize,
        with_base: bool,
        scratch: &mut Scratch,
        visit: impl FnOnce(Tile<'_>) -> Result<R>,
    ) -> Result<R> {
        self.visit_rows(self.tile(index), with_base, scratch, visit)
    }

    fn visit_rows<R>(
        &self,
        rows: Range<usize>,
        with_base: bool,
        scratch: &mut Scratch,
        visit: impl FnOnce(Tile<'_>) -> Result<R>,
    ) -> Result<R> {
        let entries = rows.start * self.columns..rows.end * self.columns;
        let kept = self.kept.as_ref().filter(|_| self.filled);
        self.read_base(
            with_base || kept.is_none() && self.needs_base(),
            &rows,
            &mut scratch.base,
        )?;
        let inputs: Vec<&[f32]> = match kept {
            Some(kept) => kept.iter().map(|values| &values[entries.clone()]).collect(),
            None => {
                scratch.inputs.resize_with(self.inputs.len(), Aligned::default);
                for (input, values) in self.inputs.iter().zip(&mut scratch.inputs) {
                    values.resize(entries.len());
                    self.read_input(input.as_ref(), &rows, &scratch.base, values)?;
                }
                scratch.inputs.iter().map(|values| &**values).collect()
            }
        };
        visit(Tile {
            rows,
            columns: self.columns,
            base: &scratch.base,
            inputs,
        })
    }

    /// The first sweep where inputs are kept: fills the buffers while it visits.
    fn fill<A: Send>(
        &mut self,
        run: usize,
        with_base: bool,
        empty: &(impl Fn() -> A + Sync + Send),
        visit: &(impl Fn(&mut A, Tile<'_>) -> Result<()> + Sync),
        join: &(impl Fn(A, A) -> A + Sync + Send),
    ) -> Result<A> {
        let Some(kept) = self.kept.take() else {
            return Ok(empty());
        };
        let tensor = &*self;
        let length = (tensor.tile_rows * tensor.columns).max(1);
        let mut tiles: Vec<Vec<&mut [f32]>> = (0..tensor.tiles()).map(|_| Vec::new()).collect();
        for buffer in kept.iter_mut() {
            for (tile, values) in tiles
                .iter_mut()
                .zip(buffer[..tensor.rows * tensor.columns].chunks_mut(length))
            {
                tile.push(values);
            }
        }
        let step = |(mut results, mut base): (A, Aligned),
                    (index, mut inputs): (usize, Vec<&mut [f32]>)|
         -> Result<(A, Aligned)> {
            let rows = tensor.tile(index);
            tensor.read_base(with_base || tensor.needs_base(), &rows, &mut base)?;
            for (input, values) in tensor.inputs.iter().zip(&mut inputs) {
                tensor.read_input(input.as_ref(), &rows, &base, values)?;
            }
            let tile = Tile {
                rows,
                columns: tensor.columns,
                base: &base,
                inputs: inputs.iter().map(|values| &**values).collect(),
            };
            visit(&mut results, tile)?;
            Ok((results, base))
        };
        let nothing = || (empty(), Aligned::default());
        let swept = if tensor.single_threaded {
            let mut tiles = tiles.into_iter().enumerate();
            tiles.try_fold(nothing(), step).map(|(results, _)| results)
        } else {
            tiles
                .into_par_iter()
                .with_min_len(run)
                .enumerate()
                .try_fold(nothing, step)
                .map(|swept| swept.map(|(results, _)| results))
                .try_reduce(empty, |left, right| Ok(join(left, right)))
        };
        self.kept = Some(kept);
        swept
    }

    fn needs_base(&self) -> bool {
        self.inputs
            .iter()
            .any(|input| input.needs_base() || input.representation() != self.representation)
    }

    fn read_base(&self, wanted: bool, rows: &Range<usize>, base: &mut Aligned) -> Result<()> {
        base.resize(if wanted { rows.len() * self.columns } else { 0 });
        if wanted {
            self.base.read(rows.clone(), &[], base)?;
        }
        Ok(())
    }

    /// One input's rows, converted to the tensor's representation.
    fn read_input(&self, input: &dyn RowSource, rows: &Range<usize>, base: &[f32], out: &mut [f32]) -> Result<()> {
        input.read(rows.clone(), base, out)?;
        match (input.representation(), self.representation) {
            (Representation::Whole, Representation::Change) => {
                out.iter_mut().zip(base).for_each(|(value, base)| *value -= base);
            }
            (Representation::Change, Representation::Whole) => {
                out.iter_mut().zip(base).for_each(|(value, base)| *value += base);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A tensor as a matrix: the first dimension are its rows; a vector is one row.
pub(crate) fn rows_and_columns(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [entries] => (1, *entries),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    }
}

/// Whole rows of a tile.
pub(crate) fn tile_rows(columns: usize) -> usize {
    (TILE / columns.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;

    /// Rows whose entries are their index times a factor.
    struct Counting {
        columns: usize,
        factor: f32,
        representation: Representation,
    }

    impl RowSource for Counting {
        fn representation(&self) -> Representation {
            self.representation
        }

        fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
            for (at, value) in out.iter_mut().enumerate() {
                *value = self.factor * (rows.start * self.columns + at) as f32;
            }
            Ok(())
        }
    }

    /// Whether inputs are kept or computed again, by one thread or all, every sweep sees the same tiles in the same order.
    #[test]
    fn memory_and_threads_change_nothing() {
        let shape = [1000, 700];
        let counting = |factor, representation| Counting {
            columns: 700,
            factor,
            representation,
        };
        let base = counting(1.0, Representation::Whole);
        let mut seen = Vec::new();
        let workspaces = [0, usize::MAX].map(|budget| [Workspace::shared(budget), Workspace::single_threaded(budget)]);
        for mut workspace in workspaces.into_iter().flatten() {
            let inputs: Vec<Box<dyn RowSource>> = vec![
                Box::new(counting(2.0, Representation::Change)),
                Box::new(counting(3.0, Representation::Whole)),
            ];
            let mut tensor = TensorTiles::new(&shape, Representation::Change, &base, inputs, &mut workspace);
            for with_base in [false, true, false] {
                let tiles = tensor
                    .collect(with_base, |tile| {
                        assert_eq!(tile.base.is_empty(), !with_base && tile.base.is_empty());
                        let (start, last) = (tile.start(), tile.entries() - 1);
                        Ok((start, tile.inputs[0][last], tile.inputs[1][last]))
                    })
                    .unwrap();
                seen.push(tiles);
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
        let (start, adapter, model) = seen[0][1];
        assert_eq!(start, 93 * 700);
        // The model counts by its change: 3x − x.
        assert_eq!(
            (adapter, model),
            (2.0 * (2.0 * 65_100.0 - 1.0), 2.0 * (2.0 * 65_100.0 - 1.0))
        );
    }
}
