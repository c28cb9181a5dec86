//! The forward pass with caches, for serving and evaluation: a ragged batch of sequences, each with its own
//! cache and adapter. The base's products run over all rows at once, the adapters' over the rows that use them.

use std::ops::Range;

use synapse_kernels::{
    Accumulate, Shape,
    attention::{self, Heads, Span},
    cross_entropy, elementwise, norm,
};

use crate::{
    Adapter, CausalLm, Decoder, KvCache, LogitsFor, MicroBatch, NnError, Sequence,
    decoder::slot,
    linear::{Lora, Rows},
    pool::{Buffer, Pool},
};

/// Rows of neighbouring sequences that run under one adapter.
struct Group<'a> {
    rows: Range<usize>,
    adapter: &'a Adapter,
}

/// One forward pass over a batch.
struct Step<'a> {
    decoder: &'a Decoder,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    groups: Vec<Group<'a>>,
    /// Rows of each sequence.
    spans: Vec<Range<usize>>,
    pool: Pool,
}

impl CausalLm for Decoder {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
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
        let mut step = Step::new(self, batch)?;
        let x = step.layers(batch);
        for (sequence, rows) in batch.iter_mut().zip(&step.spans) {
            sequence.cache.len += rows.len();
        }
        Ok(step.logits(batch, &x))
    }
}

/// Elements of logits held at once when losses are taken.
const CHUNK_ELEMENTS: usize = 128 * 49_152;

impl Decoder {
    /// Summed negative log-likelihood (nats) and trained positions of each document of a batch, under an adapter.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn document_losses(&self, batch: &MicroBatch, adapter: Option<&Adapter>) -> Result<Vec<(f64, usize)>, NnError> {
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
                    adapter,
                    logits: LogitsFor::None,
                }
            })
            .collect();
        let mut step = Step::new(self, &sequences)?;
        let x = step.layers(&mut sequences);
        Ok(step.losses(batch, &x))
    }
}

impl<'a> Step<'a> {
    fn new(decoder: &'a Decoder, batch: &[Sequence<'a>]) -> Result<Self, NnError> {
        let limit = decoder.config.max_position_embeddings;
        let mut step = Self {
            decoder,
            tokens: Vec::new(),
            positions: Vec::new(),
            groups: Vec::new(),
            spans: Vec::new(),
            pool: Pool::default(),
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

    fn heads(&self) -> Heads {
        let config = &self.decoder.config;
        Heads {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            dim: config.head_dim,
            precision: self.decoder.precision,
        }
    }

    fn linear(&mut self, layer: usize, slot: usize, x: &[f32], y: &mut [f32]) {
        let linear = &self.decoder.layers[layer].linears[slot];
        let rows = |count| Rows {
            count,
            precision: self.decoder.precision,
        };
        linear.forward(rows(self.tokens.len()), &[], x.into(), y, Accumulate::Overwrite);
        for group in &self.groups {
            let Some(module) = group.adapter.linear(layer, slot) else {
                continue;
            };
            let lora = Lora {
                a: &module.a,
                b: &module.b,
                rank: module.rank,
                scale: module.scale,
                dropout: None,
            };
            let (x, y) = (
                &x[group.rows.start * linear.input..group.rows.end * linear.input],
                &mut y[group.rows.start * linear.output..group.rows.end * linear.output],
            );
            linear.add_lora(rows(group.rows.len()), lora, x.into(), y, &mut self.pool);
        }
    }

    /// All layers; returns the last hidden states `[t, hidden]` and appends keys and values to the caches.
    fn layers(&mut self, batch: &mut [Sequence<'_>]) -> Buffer<f32> {
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

    fn attend(&mut self, index: usize, x: &mut [f32], batch: &mut [Sequence<'_>]) {
        let (decoder, heads, t) = (self.decoder, self.heads(), self.tokens.len());
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let normed = self.norm(x, decoder.layers[index].input_norm.vector(&[]));
        let (mut q, mut k, mut v) = (
            self.pool.take(t * query),
            self.pool.take(t * key),
            self.pool.take(t * key),
        );
        self.linear(index, slot::QUERY, &normed, &mut q);
        self.linear(index, slot::KEY, &normed, &mut k);
        self.linear(index, slot::VALUE, &normed, &mut v);
        decoder.rope.rotate(&mut q, query, &self.positions);
        decoder.rope.rotate(&mut k, key, &self.positions);
        for (sequence, rows) in batch.iter_mut().zip(&self.spans) {
            let cache = &mut sequence.cache.layers[index];
            cache.keys.extend_from_slice(&k[rows.start * key..rows.end * key]);
            cache.values.extend_from_slice(&v[rows.start * key..rows.end * key]);
        }
        let spans: Vec<Span<'_>> = batch
            .iter()
            .zip(&self.spans)
            .map(|(sequence, rows)| {
                let cache = &sequence.cache.layers[index];
                let q = &q[rows.start * query..rows.end * query];
                Span {
                    q: q.into(),
                    k: (&cache.keys).into(),
                    v: (&cache.values).into(),
                    count: rows.len(),
                    past: sequence.cache.len,
                }
            })
            .collect();
        let (mut attended, mut log_sums) = (self.pool.take(t * query), self.pool.take(t * heads.queries));
        attention::forward(heads, &spans, &mut attended, &mut log_sums);
        let mut y = self.pool.take(x.len());
        self.linear(index, slot::OUTPUT, &attended, &mut y);
        elementwise::add(x, &y);
        for buffer in [normed, q, k, v, attended, log_sums, y] {
            self.pool.give(buffer);
        }
    }

    fn feed_forward(&mut self, index: usize, x: &mut [f32]) {
        let decoder = self.decoder;
        let wide = self.tokens.len() * decoder.config.intermediate_size;
        let normed = self.norm(x, decoder.layers[index].post_norm.vector(&[]));
        let (mut gate, mut up, mut activated) = (self.pool.take(wide), self.pool.take(wide), self.pool.take(wide));
        self.linear(index, slot::GATE, &normed, &mut gate);
        self.linear(index, slot::UP, &normed, &mut up);
        elementwise::swiglu(&gate, &up, &mut activated);
        let mut y = self.pool.take(x.len());
        self.linear(index, slot::DOWN, &activated, &mut y);
        elementwise::add(x, &y);
        for buffer in [normed, gate, up, activated, y] {
            self.pool.give(buffer);
        }
    }

    /// Loss of every trained position, summed by document, in chunks of logits.
    fn losses(&mut self, batch: &MicroBatch, x: &[f32]) -> Vec<(f64, usize)> {
        let (hidden, vocab) = (self.decoder.config.hidden_size, self.decoder.config.vocab_size);
        let document = |position: usize| self.spans.partition_point(|rows| rows.end <= position);
        let trained: Vec<(usize, usize, u32)> = batch
            .targets
            .iter()
            .enumerate()
            .filter_map(|(position, target)| target.map(|target| (document(position), position, target)))
            .collect();
        let mut sums = vec![(0.0, 0); batch.lengths.len()];
        for chunk in trained.chunks((CHUNK_ELEMENTS / vocab).max(16)) {
            let rows: Vec<f32> = chunk
                .iter()
                .flat_map(|(_, position, _)| &x[position * hidden..(position + 1) * hidden])
                .copied()
                .collect();
            let targets: Vec<u32> = chunk.iter().map(|(_, _, target)| *target).collect();
            let mut logits = self.head(&rows);
            let mut losses = vec![0.0; chunk.len()];
            cross_entropy::loss(&mut logits, vocab, &targets, &mut losses);
            for ((document, _, _), loss) in chunk.iter().zip(&losses) {
                sums[*document].0 += f64::from(*loss);
                sums[*document].1 += 1;
            }
        }
        sums
    }

    /// Final norm and head: `[n, hidden]` to `[n, vocab]`.
    fn head(&mut self, rows: &[f32]) -> Vec<f32> {
        let decoder = self.decoder;
        let (hidden, vocab) = (decoder.config.hidden_size, decoder.config.vocab_size);
        let normed = self.norm(rows, decoder.norm.vector(&[]));
        let shape = Shape {
            m: rows.len() / hidden,
            n: vocab,
            k: hidden,
        };
        let mut logits = vec![0.0; shape.m * vocab];
        synapse_kernels::gemm::linear(
            &normed,
            decoder.head().matrix(&[]),
            &mut logits,
            shape,
            decoder.precision,
        );
        logits
    }

    /// Logits of the positions asked for, per sequence.
    fn logits(&mut self, batch: &[Sequence<'_>], x: &[f32]) -> Vec<Vec<f32>> {
        let decoder = self.decoder;
        let (hidden, vocab) = (decoder.config.hidden_size, decoder.config.vocab_size);
        let wanted: Vec<Range<usize>> = batch
            .iter()
            .zip(&self.spans)
            .map(|(sequence, rows)| match sequence.logits {
                LogitsFor::None => rows.end..rows.end,
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
