//! Models under test: one base in memory, several adapters over it, seen by suites as [`Subject`]s.

use std::path::Path;
use std::sync::Arc;

use synapse_chat::Chat;
use synapse_checkpoint::ModelFolder;
use synapse_engine::{Engine, EngineOptions, FinishReason, Request, SamplingOptions};
use synapse_evaluate::{Choices, EvaluateError, Generated, Generation, PackedLoss, RowLoss, Subject};
use synapse_nn::{Adapter, CausalLm, Decoder, LoadOptions, MicroBatch, Precision};

use crate::PipelineError;

/// Tokens of one forward pass when losses are taken.
const LOSS_TOKENS: usize = 2048;

/// A model in memory with its engine and adapters.
pub struct Lab {
    decoder: Arc<Decoder>,
    engine: Engine,
    chat: Chat,
    adapters: Vec<(String, Arc<Adapter>)>,
}

impl Lab {
    /// Loads a model folder and adapters over it.
    ///
    /// # Errors
    /// An unreadable folder or an adapter that does not fit.
    pub fn open(folder: &Path, adapters: &[(&str, &Path)], load: &LoadOptions) -> Result<Self, PipelineError> {
        let files = ModelFolder::open(folder)?;
        let decoder = Arc::new(Decoder::load_to_generate(&files, load)?);
        let chat = Chat::open(folder)?;
        let adapters = adapters
            .iter()
            .map(|(name, path)| {
                let adapter = Adapter::load(path, files.config())?;
                // products round the factors anyway
                let adapter = if load.precision == Precision::Bf16 {
                    adapter.rounded()
                } else {
                    adapter
                };
                Ok(((*name).to_owned(), Arc::new(adapter)))
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        let model: Arc<dyn CausalLm> = decoder.clone();
        let options = EngineOptions {
            max_batch: 32,
            max_waiting: 4096,
            ..EngineOptions::default()
        };
        let engine = Engine::start(model, chat.clone(), adapters.clone(), options);
        Ok(Self {
            decoder,
            engine,
            chat,
            adapters,
        })
    }

    /// The engine, for serving and single generations.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Token ids that the model knows.
    pub fn vocab_size(&self) -> usize {
        self.decoder.vocab_size()
    }

    /// Tokenizer and template.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The base (`None`) or one adapter over it, under the name that tables show.
    pub fn subject<'a>(&'a self, name: &str, adapter: Option<&str>) -> LabSubject<'a> {
        let adapter = adapter.and_then(|wanted| self.adapters.iter().find(|(name, _)| name == wanted));
        LabSubject {
            lab: self,
            name: name.to_owned(),
            adapter,
        }
    }
}

/// One model of a lab.
pub struct LabSubject<'a> {
    lab: &'a Lab,
    name: String,
    adapter: Option<&'a (String, Arc<Adapter>)>,
}

impl LabSubject<'_> {
    fn failed(&self, doing: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EvaluateError {
        EvaluateError::Subject {
            subject: self.name.clone(),
            doing,
            source: why.into(),
        }
    }

    /// Losses of documents in order, several to a forward pass.
    fn document_losses(&self, documents: &[(&[u32], &[i64])]) -> Result<Vec<(f64, usize)>, EvaluateError> {
        let adapter = self.adapter.map(|(_, adapter)| adapter.as_ref());
        let mut losses = Vec::with_capacity(documents.len());
        let mut batch = MicroBatch::default();
        for (index, (ids, labels)) in documents.iter().enumerate() {
            batch.push(ids, labels, &[ids.len() as u32]);
            if batch.tokens.len() >= LOSS_TOKENS || index + 1 == documents.len() {
                let done = self
                    .lab
                    .decoder
                    .document_losses(&batch, adapter)
                    .map_err(|error| self.failed("losses", error))?;
                losses.extend(done);
                batch = MicroBatch::default();
            }
        }
        Ok(losses)
    }
}

impl Subject for LabSubject<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self) -> &Chat {
        &self.lab.chat
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.lab.decoder.max_positions())
    }

    fn losses(&mut self, rows: &[PackedLoss<'_>]) -> Result<Vec<RowLoss>, EvaluateError> {
        let documents: Vec<_> = rows.iter().map(|row| (row.input_ids, row.labels)).collect();
        let losses = self.document_losses(&documents)?;
        Ok(losses
            .into_iter()
            .map(|(sum, tokens)| RowLoss {
                sum,
                tokens: tokens as u64,
            })
            .collect())
    }

    fn generate(&mut self, prompts: &[Vec<u32>], options: &Generation) -> Result<Vec<Generated>, EvaluateError> {
        let limit = self.lab.decoder.max_positions();
        let request = |prompt: &Vec<u32>| {
            let room = limit.saturating_sub(prompt.len());
            let sampling = SamplingOptions {
                temperature: 0.0,
                max_tokens: options.max_new_tokens.min(room),
                stop: options.stop.clone(),
                ..SamplingOptions::default()
            };
            Request {
                prompt: prompt.clone(),
                sampling,
                adapter: self.adapter.map(|(name, _)| name.clone()),
            }
        };
        let completions = self
            .lab
            .engine
            .generate(prompts.iter().map(request).collect())
            .map_err(|error| self.failed("answers", error))?;
        let generated = completions.into_iter().map(|completion| Generated {
            text: completion.text,
            token_ids: completion.token_ids,
            finished: completion.finish_reason == FinishReason::Stop,
        });
        Ok(generated.collect())
    }

    fn score(&mut self, items: &[Choices]) -> Result<Vec<Vec<f64>>, EvaluateError> {
        let mut rows: Vec<(Vec<u32>, Vec<i64>)> = Vec::new();
        for item in items {
            for continuation in &item.continuations {
                let ids: Vec<u32> = item.prompt.iter().chain(continuation).copied().collect();
                let labels = item
                    .prompt
                    .iter()
                    .map(|_| -100)
                    .chain(continuation.iter().map(|&id| i64::from(id)))
                    .collect();
                rows.push((ids, labels));
            }
        }
        let documents: Vec<_> = rows
            .iter()
            .map(|(ids, labels)| (ids.as_slice(), labels.as_slice()))
            .collect();
        let mut losses = self.document_losses(&documents)?.into_iter();
        Ok(items
            .iter()
            .map(|item| {
                losses
                    .by_ref()
                    .take(item.continuations.len())
                    .map(|(sum, _)| -sum)
                    .collect()
            })
            .collect())
    }
}
