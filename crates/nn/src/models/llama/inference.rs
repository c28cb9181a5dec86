//! The forward pass with caches, for serving and evaluation: a ragged batch of sequences, each with its own
//! cache and adapter. The base's products run over all rows at once, the adapters' over the rows that use them.

use std::ops::Range;

use synapse_checkpoint::DType;
use synapse_kernels::{
    Accumulate, Precision,
    attention::{CachedSpan, Phase, forward_cached},
    elementwise,
    gemm::{Left, Right, Term},
    norm,
    packed::{PackedProduct, PackedWeight, QuantizedActivations, products},
};

use crate::{
    Adapter, CausalLm, KvCache, LanguageModel, LogitsFor, MicroBatch, NnError, Sequence,
    linear::{self, BranchRows, ReductionOrder, Rows},
    loss::LmHead,
    pool::{Buffer, Pool},
};

use super::decoder::{Decoder, slot};

/// Rows of consecutive sequences with the same adapter.
struct Group<'a> {
    rows: Range<usize>,
    adapter: &'a Adapter,
}

/// One forward pass over sequences of the same phase.
struct Step<'a> {
    decoder: &'a Decoder,
    phase: Phase,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    groups: Vec<Group<'a>>,
    /// Rows of each sequence.
    spans: Vec<Range<usize>>,
    pool: Pool,
    activations: QuantizedActivations,
}

impl CausalLm for Decoder {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn new_cache(&self) -> KvCache {
        KvCache::new(
            self.config.num_hidden_layers,
            self.config.num_key_value_heads * self.config.head_dim,
        )
    }

    fn forward(&self, batch: &mut [Sequence<'_>]) -> Result<Vec<Vec<f32>>, NnError> {
        let mut parts = Vec::with_capacity(2);
        // every sequence is checked before any cache changes
        for phase in [Phase::Prefill, Phase::Decode] {
            let (places, sequences): (Vec<usize>, Vec<&Sequence<'_>>) = batch
                .iter()
                .enumerate()
                .filter(|(_, sequence)| sequence.phase == phase)
                .unzip();
            if !places.is_empty() {
                parts.push((Step::new(self, phase, &sequences)?, places));
            }
        }
        let mut logits = vec![Vec::new(); batch.len()];
        for (mut step, places) in parts {
            let mut sequences: Vec<&mut Sequence<'_>> = batch
                .iter_mut()
                .filter(|sequence| sequence.phase == step.phase)
                .collect();
            let x = step.layers(&mut sequences);
            for (sequence, rows) in sequences.iter_mut().zip(&step.spans) {
                sequence.cache.len += rows.len();
            }
            for (place, outputs) in places.into_iter().zip(step.outputs(&sequences, &x)) {
                logits[place] = outputs;
            }
        }
        Ok(logits)
    }
}

/// Elements of logits held at once when losses are taken.
const CHUNK_ELEMENTS: usize = 128 * 49_152;

impl LanguageModel for Decoder {
    fn document_losses(&self, batch: &MicroBatch, adapter: Option<&Adapter>) -> Result<Vec<(f64, usize)>, NnError> {
        let mut caches: Vec<KvCache> = batch.lengths.iter().map(|_| self.new_cache()).collect();
        let mut rest = batch.tokens.as_slice();
        let mut sequences: Vec<Sequence<'_>> = caches
            .iter_mut()
            .zip(&batch.lengths)
            .map(|(cache, &length)| {
                let (tokens, others) = rest.split_at(length);
                rest = others;
                Sequence {
                    tokens,
                    cache,
                    phase: Phase::Prefill,
                    adapter,
                    logits: LogitsFor::None,
                }
            })
            .collect();
        let mut step = Step::new(self, Phase::Prefill, &sequences.iter().collect::<Vec<_>>())?;
        let x = step.layers(&mut sequences.iter_mut().collect::<Vec<_>>());
        let chunk_rows = (CHUNK_ELEMENTS / self.config.vocab_size).max(16);
        let head = LmHead {
            storage: Precision::F32,
            ..self.lm_head(&[], ReductionOrder::Panels, chunk_rows)
        };
        Ok(head.document_losses(batch, &x, &mut step.pool))
    }

    fn set_tensor(&mut self, name: &str, dtype: DType, bytes: &[u8]) -> Result<(), NnError> {
        Decoder::set_tensor(self, name, dtype, bytes)
    }
}

impl<'a> Step<'a> {
    fn new(decoder: &'a Decoder, phase: Phase, batch: &[&Sequence<'a>]) -> Result<Self, NnError> {
        let limit = decoder.config.max_position_embeddings;
        let mut step = Self {
            decoder,
            phase,
            tokens: Vec::new(),
            positions: Vec::new(),
            groups: Vec::new(),
            spans: Vec::new(),
            pool: Pool::default(),
            activations: QuantizedActivations::default(),
        };
        for sequence in batch {
            decoder.check_tokens(sequence.tokens)?;
            if sequence.tokens.is_empty() {
                let hint = "give every sequence at least one token".into();
                return Err(NnError::Unsupported {
                    what: "a forward pass without tokens".into(),
                    hint,
                });
            }
            let (past, first) = (sequence.cache.len(), step.tokens.len());
            if past + sequence.tokens.len() > limit {
                return Err(NnError::ContextOverflow {
                    positions: past + sequence.tokens.len(),
                    limit,
                });
            }
            step.tokens.extend_from_slice(sequence.tokens);
            step.positions
                .extend((past..past + sequence.tokens.len()).map(|position| position as u32));
            let rows = first..step.tokens.len();
            step.spans.push(rows.clone());
            if let Some(adapter) = sequence.adapter {
                match step.groups.last_mut() {
                    Some(group) if group.rows.end == rows.start && std::ptr::eq(group.adapter, adapter) => {
                        group.rows.end = rows.end;
                    }
                    _ => step.groups.push(Group { rows, adapter }),
                }
            }
        }
        Ok(step)
    }

    fn rows(&self, count: usize) -> Rows {
        Rows {
            count,
            precision: self.decoder.precision,
            order: match self.phase {
                Phase::Prefill => ReductionOrder::Panels,
                Phase::Decode => ReductionOrder::DotProducts,
            },
        }
    }

    /// Whether products use packed tiles where there are some. Prefill is compute-bound and does not.
    fn uses_tiles(&self) -> bool {
        self.phase == Phase::Decode && self.decoder.precision == Precision::Bf16
    }

    /// The packed tiles of a linear, if its products use them.
    fn tile(&self, layer: usize, slot: usize) -> Option<&'a PackedWeight> {
        let decoder = self.decoder;
        let own = match &decoder.decode_weights {
            Some(weights) => Some(&weights.layers[layer][slot]),
            None => decoder.layers[layer].linears[slot].weight.tiles(),
        };
        own.filter(|_| self.uses_tiles())
    }

    /// The packed tiles of the output head, if its products use them.
    fn head_tile(&self) -> Option<&'a PackedWeight> {
        let decoder = self.decoder;
        let own = match &decoder.decode_weights {
            Some(weights) => Some(&weights.head),
            None => decoder.head().tiles(),
        };
        own.filter(|_| self.uses_tiles())
    }

    /// Linears of one layer that share their input `x [t, input]`.
    fn linears<const N: usize>(&mut self, layer: usize, slots: [usize; N], x: &[f32], mut ys: [&mut [f32]; N]) {
        let decoder = self.decoder;
        let linears = slots.map(|slot| &decoder.layers[layer].linears[slot]);
        let rows = self.rows(self.tokens.len());
        let tiles = slots.map(|slot| self.tile(layer, slot));
        tiled(&mut self.activations, x, &tiles, &mut ys);
        for ((linear, tile), y) in linears.iter().zip(tiles).zip(&mut ys) {
            match tile {
                Some(_) => linear.add_bias(rows, &[], y),
                None => linear.forward(rows, &[], x.into(), y, Accumulate::Overwrite),
            }
        }
        self.adapters(layer, slots, x, ys);
    }

    /// Adds the adapters' branches to linears of one layer that share their input.
    fn adapters<const N: usize>(&mut self, layer: usize, slots: [usize; N], x: &[f32], ys: [&mut [f32]; N]) {
        let mut branches = Vec::new();
        for (slot, mut y) in slots.into_iter().zip(ys) {
            let linear = &self.decoder.layers[layer].linears[slot];
            let mut passed = 0;
            for group in &self.groups {
                let Some(lora) = group.adapter.branch(&linear.module) else {
                    continue;
                };
                let (_, rest) = y.split_at_mut((group.rows.start - passed) * linear.output);
                let (own, rest) = rest.split_at_mut(group.rows.len() * linear.output);
                (y, passed) = (rest, group.rows.end);
                branches.push(BranchRows {
                    linear,
                    lora,
                    rows: self.rows(group.rows.len()),
                    x: x[group.rows.start * linear.input..group.rows.end * linear.input].into(),
                    y: own,
                });
            }
        }
        linear::add_loras(branches, &mut self.pool);
    }

    /// All layers; returns the last hidden states `[t, hidden]` and appends keys and values to the caches.
    fn layers(&mut self, batch: &mut [&mut Sequence<'_>]) -> Buffer<f32> {
        let mut x = self.pool.take(self.tokens.len() * self.decoder.config.hidden_size);
        self.decoder.embed(&[], &self.tokens, &mut x);
        for index in 0..self.decoder.layers.len() {
            self.attend(index, &mut x, batch);
            self.feed_forward(index, &mut x);
        }
        x
    }

    fn norm(&mut self, x: &[f32], weight: &[f32]) -> Buffer<f32> {
        let rows = x.len() / weight.len();
        let (mut normed, mut inverse) = (self.pool.take(x.len()), self.pool.take(rows));
        norm::forward(
            x,
            weight,
            self.decoder.config.rms_norm_eps as f32,
            &mut normed,
            &mut inverse,
        );
        self.pool.give(inverse);
        normed
    }

    fn attend(&mut self, index: usize, x: &mut [f32], batch: &mut [&mut Sequence<'_>]) {
        let (decoder, heads, t) = (self.decoder, self.decoder.heads(), self.tokens.len());
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let normed = self.norm(x, decoder.layers[index].input_norm.vector(&[]));
        let (mut q, mut k, mut v) = (
            self.pool.take(t * query),
            self.pool.take(t * key),
            self.pool.take(t * key),
        );
        let slots = [slot::QUERY, slot::KEY, slot::VALUE];
        self.linears(index, slots, &normed, [&mut q, &mut k, &mut v]);
        let layer = &decoder.layers[index];
        if let Some(norms) = &layer.head_norms {
            for (heads, weight) in [(&mut q, &norms.query), (&mut k, &norms.key)] {
                let normed = self.norm(heads, weight.vector(&[]));
                self.pool.give(std::mem::replace(heads, normed));
            }
        }
        if layer.is_rotated {
            decoder.rope.rotate(&mut q, query, &self.positions);
            decoder.rope.rotate(&mut k, key, &self.positions);
        }
        for (sequence, rows) in batch.iter_mut().zip(&self.spans) {
            let cache = &mut sequence.cache.layers[index];
            cache.keys.extend_from_slice(&k[rows.start * key..rows.end * key]);
            cache.values.extend_from_slice(&v[rows.start * key..rows.end * key]);
        }
        let spans: Vec<CachedSpan<'_>> = batch
            .iter()
            .zip(&self.spans)
            .map(|(sequence, rows)| {
                let cache = &sequence.cache.layers[index];
                CachedSpan {
                    q: &q[rows.start * query..rows.end * query],
                    k: &cache.keys,
                    v: &cache.values,
                    count: rows.len(),
                    past: sequence.cache.len,
                }
            })
            .collect();
        let mut attended = self.pool.take(t * query);
        forward_cached(heads, self.phase, &spans, &mut attended);
        let mut y = self.pool.take(x.len());
        self.linears(index, [slot::OUTPUT], &attended, [&mut y]);
        elementwise::add(x, &y);
        for buffer in [normed, q, k, v, attended, y] {
            self.pool.give(buffer);
        }
    }

    fn feed_forward(&mut self, index: usize, x: &mut [f32]) {
        let decoder = self.decoder;
        let wide = self.tokens.len() * decoder.config.intermediate_size;
        let normed = self.norm(x, decoder.layers[index].post_norm.vector(&[]));
        let (mut gate, mut up, mut activated) = (self.pool.take(wide), self.pool.take(wide), self.pool.take(wide));
        self.linears(index, [slot::GATE, slot::UP], &normed, [&mut gate, &mut up]);
        elementwise::swiglu(&gate, &up, &mut activated);
        let mut y = self.pool.take(x.len());
        self.linears(index, [slot::DOWN], &activated, [&mut y]);
        elementwise::add(x, &y);
        for buffer in [normed, gate, up, activated, y] {
            self.pool.give(buffer);
        }
    }

    /// Final norm and head: `[n, hidden]` to `[n, vocab]`.
    fn head(&mut self, rows: &[f32]) -> Vec<f32> {
        let decoder = self.decoder;
        let (hidden, vocab) = (decoder.config.hidden_size, decoder.config.vocab_size);
        let normed = self.norm(rows, decoder.norm.vector(&[]));
        let count = rows.len() / hidden;
        let mut logits = vec![0.0; count * vocab];
        if let Some(tile) = self.head_tile() {
            tiled(&mut self.activations, &normed, &[Some(tile)], &mut [&mut logits]);
        } else {
            let term = Term {
                left: Left::rows(&normed[..], hidden),
                right: Right::transposed(decoder.head().matrix(&[]), hidden),
                k: hidden,
                scale: 1.0,
            };
            self.rows(count)
                .forward(vocab, &[term], Accumulate::Overwrite, &mut logits);
        }
        logits
    }

    /// The requested output of each sequence.
    fn outputs(&mut self, batch: &[&mut Sequence<'_>], x: &[f32]) -> Vec<Vec<f32>> {
        let mut outputs = self.logits(batch, x);
        for (index, sequence) in batch.iter().enumerate() {
            if sequence.logits == LogitsFor::HiddenSum {
                outputs[index] = self.hidden_sum(self.spans[index].clone(), x);
            }
        }
        outputs
    }

    /// The sum over rows of the normed hidden states, first to last in f64, so that it depends on these rows alone.
    fn hidden_sum(&mut self, rows: Range<usize>, x: &[f32]) -> Vec<f32> {
        let decoder = self.decoder;
        let hidden = decoder.config.hidden_size;
        let normed = self.norm(&x[rows.start * hidden..rows.end * hidden], decoder.norm.vector(&[]));
        let mut sum = vec![0.0f64; hidden];
        for row in normed.chunks_exact(hidden) {
            for (total, &value) in sum.iter_mut().zip(row) {
                *total += f64::from(value);
            }
        }
        self.pool.give(normed);
        sum.into_iter().map(|total| total as f32).collect()
    }

    /// Logits of the requested positions of each sequence.
    fn logits(&mut self, batch: &[&mut Sequence<'_>], x: &[f32]) -> Vec<Vec<f32>> {
        let decoder = self.decoder;
        let (hidden, vocab) = (decoder.config.hidden_size, decoder.config.vocab_size);
        let wanted: Vec<Range<usize>> = batch
            .iter()
            .zip(&self.spans)
            .map(|(sequence, rows)| match sequence.logits {
                LogitsFor::None | LogitsFor::HiddenSum => rows.end..rows.end,
                LogitsFor::Last => rows.end - 1..rows.end,
                LogitsFor::All => rows.clone(),
            })
            .collect();
        let gathered: Vec<f32> = wanted
            .iter()
            .flat_map(|rows| &x[rows.start * hidden..rows.end * hidden])
            .copied()
            .collect();
        let logits = self.head(&gathered);
        let mut rest = logits.as_slice();
        wanted
            .into_iter()
            .map(|rows| {
                let (own, others) = rest.split_at(rows.len() * vocab);
                rest = others;
                own.to_vec()
            })
            .collect()
    }
}

/// Products of generated tokens with the weights that are packed tiles; all of a group have one block format.
fn tiled(activations: &mut QuantizedActivations, x: &[f32], tiles: &[Option<&PackedWeight>], ys: &mut [&mut [f32]]) {
    let Some(first) = tiles.iter().flatten().next() else {
        return;
    };
    activations.quantize(first.kind(), x, first.shape().1);
    let mut outputs: Vec<PackedProduct<'_>> = tiles
        .iter()
        .zip(ys)
        .filter_map(|(tile, out)| Some(PackedProduct { weight: (*tile)?, out }))
        .collect();
    products(activations, &mut outputs);
}
