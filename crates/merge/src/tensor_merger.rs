//! One tensor, from its inputs' rows to its stored values: statistics first, then one sweep that merges, describes and
//! stores. The crate's module `merge` decides which tensors there are and what happens to the output folder.

use crate::aligned::Aligned;
use crate::combine::{Accumulators, Change, Chunk, ChunkStatistics, CombineRule};
use crate::fusion::Fusion;
use crate::geometry::{Blend, SphereMethod};
use crate::global::GlobalStatistics;
use crate::inputs::Inputs;
use crate::mask_cache::MaskCache;
use crate::plan::TensorPlan;
use crate::report::{TensorReport, describe_tensor};
use crate::select::TopKMask;
use crate::sink::{Sink, StoreResult};
use crate::sparsify::{InputMask, TileMask, sparsify};
use crate::tensor_source::{TensorMerge, TensorSource};
use crate::tiles::{TensorTiles, Tile, Workspace};
use crate::{MergeError, MergeRequest, Method, Result};

/// The outcome of merging one tensor.
#[derive(Clone, Debug)]
pub(crate) struct TensorResult {
    pub(crate) checksum: u32,
    /// Its sums and its report; `None` for a copy.
    pub(crate) merged: Option<(Accumulators, TensorReport)>,
}

/// How the merged values of a tile are made.
enum TensorOp {
    /// Sparsify, elect, combine.
    Combine(CombineRule, Vec<InputMask>),
    Blend(Blend),
    Fuse(Fusion),
    Scale(f32),
}

/// The stored chunks of a tensor, and buffers that are used for one tile after another.
#[derive(Default)]
struct StoredChunks {
    chunks: Vec<(ChunkStatistics, StoreResult)>,
    merged: Aligned,
    bytes: Vec<u8>,
}

impl StoredChunks {
    fn join(mut self, mut later: Self) -> Self {
        self.chunks.append(&mut later.chunks);
        self
    }
}

/// Merges tensors of one request. Any number of threads may use it, each with a workspace of its own.
pub(crate) struct TensorMerger<'a> {
    pub(crate) source: TensorSource<'a>,
    global: GlobalStatistics,
    /// The masks found in an earlier merge of the same inputs by the same trim.
    mask_cache: Option<&'a MaskCache>,
}

impl<'a> TensorMerger<'a> {
    /// A merger for a request. Where thresholds or signs depend on the whole model, it reads all of it first.
    pub(crate) fn new(request: &'a MergeRequest, inputs: &'a Inputs, plans: &'a [TensorPlan]) -> Result<Self> {
        let source = TensorSource::new(request, inputs, plans);
        Ok(Self {
            global: GlobalStatistics::of(&source)?,
            source,
            mask_cache: None,
        })
    }

    /// The same merger with the masks of earlier merges.
    pub(crate) fn with_mask_cache(self, cache: &'a MaskCache) -> Self {
        Self {
            mask_cache: Some(cache),
            ..self
        }
    }

    /// Merges one tensor into a sink.
    pub(crate) fn merge(&self, index: usize, sink: &dyn Sink, workspace: &mut Workspace) -> Result<TensorResult> {
        let tensor = &self.source.tensors[index];
        if tensor.inputs.is_empty() {
            return self.copy(tensor, sink, workspace);
        }
        let stored = self.source.with_tiles(workspace, tensor, |tiles| {
            let op = self.choose_op(index, tensor, tiles)?;
            tiles.sweep(
                true,
                StoredChunks::default,
                |stored, tile| self.store(tensor, &op, &tile, stored, sink),
                StoredChunks::join,
            )
        })?;
        let names: Vec<String> = if self.source.merges_factors(tensor) {
            vec!["merged factors".to_owned()]
        } else {
            let name = |input: usize| self.source.inputs.name(input).to_owned();
            tensor.inputs.iter().map(|input| name(input.input)).collect()
        };
        let mut statistics = ChunkStatistics::new(names.len());
        let mut checksum = crc32fast::Hasher::new();
        for (chunk, part) in &stored.chunks {
            statistics.add(chunk);
            statistics.accumulators.rounding += part.error;
            checksum.combine(&part.checksum);
        }
        if !statistics.accumulators.rounding.is_finite() {
            return Err(self.overflow(tensor));
        }
        let report = describe_tensor(tensor.plan, names, &statistics);
        Ok(TensorResult {
            checksum: checksum.finalize(),
            merged: Some((statistics.accumulators, report)),
        })
    }

    fn overflow(&self, tensor: &TensorMerge<'_>) -> MergeError {
        let stored = || self.source.inputs.base_rows(tensor.plan).dtype();
        MergeError::Overflow {
            tensor: tensor.plan.name.clone(),
            dtype: self.source.request.dtype.unwrap_or_else(stored),
        }
    }

    /// Copies a tensor that no input changes.
    fn copy(&self, tensor: &TensorMerge<'_>, sink: &dyn Sink, workspace: &mut Workspace) -> Result<TensorResult> {
        let (parts, _) = self.source.with_tiles(workspace, tensor, |tiles| {
            tiles.sweep(
                true,
                || (Vec::new(), Vec::new()),
                |(parts, bytes), tile| {
                    parts.push(sink.store(&tensor.plan.name, tile.start(), tile.base, bytes)?);
                    Ok(())
                },
                |(mut parts, bytes), (mut later, _)| {
                    parts.append(&mut later);
                    (parts, bytes)
                },
            )
        })?;
        let mut checksum = crc32fast::Hasher::new();
        for part in &parts {
            if !part.error.is_finite() {
                return Err(self.overflow(tensor));
            }
            checksum.combine(&part.checksum);
        }
        Ok(TensorResult {
            checksum: checksum.finalize(),
            merged: None,
        })
    }

    /// Takes the statistics that the method needs of a tensor.
    fn choose_op(&self, index: usize, tensor: &TensorMerge<'a>, tiles: &mut TensorTiles<'_>) -> Result<TensorOp> {
        let parameters = self.source.parameters(tensor);
        let on_weights = self.source.on_weights;
        let named = |error| self.source.rank_error(tensor, error);
        Ok(match self.source.request.method {
            Method::Passthrough => TensorOp::Scale(parameters.scale(tensor.inputs[0]).unwrap_or(1.0) as f32),
            Method::NearSwap => TensorOp::Fuse(Fusion::Near(parameters.t() as f32)),
            Method::ArceeFusion => TensorOp::Fuse(Fusion::arcee(tiles).map_err(named)?),
            Method::Sce => TensorOp::Fuse(Fusion::sce(tiles, parameters.select_topk()).map_err(named)?),
            Method::NuSlerp if tensor.inputs.len() == 1 => {
                TensorOp::Combine(parameters.combine_rule(0.0, on_weights, true), vec![InputMask::ALL])
            }
            Method::Slerp => self.blend(SphereMethod::Slerp, tensor, tiles)?,
            Method::NuSlerp => self.blend(SphereMethod::NuSlerp, tensor, tiles)?,
            Method::MultiSlerp => self.blend(SphereMethod::MultiSlerp, tensor, tiles)?,
            Method::Karcher => self.blend(SphereMethod::Karcher, tensor, tiles)?,
            Method::ModelStock => self.blend(SphereMethod::ModelStock, tensor, tiles)?,
            _ if self.source.merges_factors(tensor) => {
                TensorOp::Combine(parameters.combine_rule(0.0, false, true), vec![InputMask::ALL])
            }
            Method::Linear
            | Method::TaskArithmetic
            | Method::Ties
            | Method::DareLinear
            | Method::DareTies
            | Method::Breadcrumbs
            | Method::BreadcrumbsTies
            | Method::Della
            | Method::DellaLinear => TensorOp::Combine(
                parameters.combine_rule(self.global.majority, on_weights, false),
                self.masks(index, tensor, tiles)?,
            ),
        })
    }

    /// The coefficients of a method on spheres.
    fn blend(&self, method: SphereMethod, tensor: &TensorMerge<'a>, tiles: &mut TensorTiles<'_>) -> Result<TensorOp> {
        let options = self.source.parameters(tensor).sphere_options(method, &tensor.inputs);
        let blend = options.blend(tiles)?.map_err(|problem| MergeError::NoMean {
            tensor: tensor.plan.name.clone(),
            problem,
        })?;
        Ok(TensorOp::Blend(blend))
    }

    /// The mask of every input of a tensor, from the cache or found.
    fn masks(&self, index: usize, tensor: &TensorMerge<'a>, tiles: &mut TensorTiles<'_>) -> Result<Vec<InputMask>> {
        if let Some(known) = self.mask_cache.and_then(|cache| cache.get(index)) {
            return Ok(known);
        }
        let parameters = self.source.parameters(tensor);
        let sparsifications: Vec<_> = tensor
            .inputs
            .iter()
            .map(|input| parameters.sparsification(input, self.global.threshold(index, input.input)))
            .collect();
        let masks = sparsify(tiles, self.source.request.method.sparsity(), &sparsifications)
            .map_err(|error| self.source.rank_error(tensor, error))?;
        if let Some(cache) = self.mask_cache {
            cache.put(index, &masks);
        }
        Ok(masks)
    }

    /// Merges, describes and stores one tile.
    fn store(
        &self,
        tensor: &TensorMerge<'a>,
        op: &TensorOp,
        tile: &Tile<'_>,
        stored: &mut StoredChunks,
        sink: &dyn Sink,
    ) -> Result<()> {
        let StoredChunks { chunks, merged, bytes } = stored;
        merged.resize(tile.entries());
        let statistics = match op {
            TensorOp::Combine(rule, masks) => self.combine(tensor, rule, masks, tile, merged),
            TensorOp::Blend(blend) => {
                blend.apply(tile, merged);
                self.describe(tile, merged)
            }
            TensorOp::Fuse(fusion) => {
                fusion.apply(tile, merged);
                self.describe(tile, merged)
            }
            TensorOp::Scale(scale) => {
                for (slot, &value) in merged.iter_mut().zip(tile.inputs[0]) {
                    *slot = value * scale;
                }
                self.describe(tile, merged)
            }
        };
        let part = sink.store(&tensor.plan.name, tile.start(), merged, bytes)?;
        chunks.push((statistics, part));
        Ok(())
    }

    /// Writes the combined values of a tile.
    fn combine(
        &self,
        tensor: &TensorMerge<'a>,
        rule: &CombineRule,
        masks: &[InputMask],
        tile: &Tile<'_>,
        merged: &mut [f32],
    ) -> ChunkStatistics {
        let parameters = self.source.parameters(tensor);
        let weighted = !self.source.merges_factors(tensor);
        let mut factors: Vec<Vec<f32>> = vec![Vec::new(); tile.inputs.len()];
        let changes: Vec<Change<'_>> = factors
            .iter_mut()
            .enumerate()
            .map(|(input, factors)| Change {
                delta: tile.inputs[input],
                weight: if weighted {
                    parameters.weight(tensor.inputs[input]) as f32
                } else {
                    1.0
                },
                mask: masks[input].in_tile(tile, input, factors),
            })
            .collect();
        Chunk {
            changes: &changes,
            start: tile.start(),
            base: tile.base,
        }
        .combine(rule, merged)
    }

    /// The statistics of values that another kind of method has merged. Methods on whole weights are described by their
    /// changes to the base, as the others are.
    fn describe(&self, tile: &Tile<'_>, merged: &[f32]) -> ChunkStatistics {
        let deltas: Option<Vec<Vec<f32>>> = self.source.on_weights.then(|| {
            let delta = |values: &&[f32]| values.iter().zip(tile.base).map(|(value, base)| value - base).collect();
            tile.inputs.iter().map(delta).collect()
        });
        let changes: Vec<Change<'_>> = (0..tile.inputs.len())
            .map(|input| Change {
                delta: deltas.as_ref().map_or(tile.inputs[input], |deltas| &deltas[input]),
                weight: 1.0,
                mask: TileMask::Above(TopKMask::ALL, 1.0),
            })
            .collect();
        Chunk {
            changes: &changes,
            start: tile.start(),
            base: tile.base,
        }
        .describe(merged)
    }
}
