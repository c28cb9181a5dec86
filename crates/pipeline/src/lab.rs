//! Models under test: one base in memory, several adapters over it, seen by suites as [`Subject`]s.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use synapse_checkpoint::ModelFiles;
use synapse_engine::{Engine, EngineOptions, EventReceiver, FinishReason, Request, SamplingOptions, ScoreReceiver};
use synapse_evaluate::{Choices, Each, EvaluateError, Generated, Generation, PackedLoss, RowLoss, Subject};
use synapse_nn::{Adapter, CausalLm, Decoder, LanguageModel, LoadOptions, MicroBatch, ModuleTrace};
use synapse_tokenizer::Chat;

use crate::PipelineError;

/// Tokens of one forward pass when losses are taken.
const LOSS_TOKENS: usize = 2048;

/// Prompts that decode together.
const BATCH: usize = 32;
/// Prompts handed to the engine before the first of them is done.
const UNDER_WAY: usize = 8 * BATCH;

/// A model in memory with its engine and adapters.
pub struct Lab {
    model: Arc<dyn LanguageModel>,
    engine: Engine,
    chat: Chat,
    adapters: Vec<(String, Arc<Adapter>)>,
}

impl Lab {
    /// Loads a model folder or GGUF file and adapters over it.
    ///
    /// # Errors
    /// An unreadable model or an adapter that does not fit.
    pub fn open(folder: &Path, adapters: &[(&str, &Path)], load: &LoadOptions) -> Result<Self, PipelineError> {
        Self::of_files(&ModelFiles::open(folder)?, adapters, load)
    }

    /// As [`Lab::open`], of a model that was opened before.
    ///
    /// # Errors
    /// As [`Lab::open`].
    pub fn of_files(files: &ModelFiles, adapters: &[(&str, &Path)], load: &LoadOptions) -> Result<Self, PipelineError> {
        Self::with_batch(files, adapters, load, BATCH)
    }

    /// The same, with so many prompts decoding together.
    ///
    /// # Errors
    /// As [`Lab::open`].
    pub fn with_batch(
        files: &ModelFiles,
        adapters: &[(&str, &Path)],
        load: &LoadOptions,
        batch: usize,
    ) -> Result<Self, PipelineError> {
        let model = synapse_nn::models::load(files, load)?;
        let adapters = adapters
            .iter()
            .map(|(name, path)| {
                let adapter = Adapter::load_for_inference(path, files.config(), load.precision)?;
                Ok(((*name).to_owned(), Arc::new(adapter)))
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        Ok(Self::over(model, Chat::of_model(files)?, adapters, batch))
    }

    /// A model that is in memory already. What holds the decoder too gets it back for itself when the lab is dropped.
    pub(crate) fn of_decoder(decoder: Arc<Decoder>, chat: Chat) -> Self {
        Self::over(decoder, chat, Vec::new(), BATCH)
    }

    fn over(model: Arc<dyn LanguageModel>, chat: Chat, adapters: Vec<(String, Arc<Adapter>)>, batch: usize) -> Self {
        let served: Arc<dyn CausalLm> = model.clone();
        let options = EngineOptions {
            max_batch: batch,
            max_waiting: UNDER_WAY,
            ..EngineOptions::default()
        };
        let engine = Engine::start(served, chat.clone(), adapters.clone(), options);
        Self {
            model,
            engine,
            chat,
            adapters,
        }
    }

    /// The engine, for serving and single generations.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Token ids that the model knows.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    /// What each layer's modules do with each of these tokens under an adapter or the base; `None` of a model without
    /// modules.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn trace(&self, tokens: &[u32], adapter: Option<&str>) -> Result<Option<ModuleTrace>, PipelineError> {
        let adapter = adapter.and_then(|wanted| self.adapters.iter().find(|(name, _)| name == wanted));
        Ok(self.model.trace(tokens, adapter.map(|(_, adapter)| adapter.as_ref()))?)
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
    fn request(&self, prompt: &[u32], options: &Generation) -> Request {
        let room = self.lab.model.max_positions().saturating_sub(prompt.len());
        Request {
            prompt: prompt.to_vec(),
            sampling: SamplingOptions {
                temperature: options.temperature,
                seed: options.seed,
                max_tokens: options.max_new_tokens.min(room),
                stop: options.stop.clone(),
                ..SamplingOptions::default()
            },
            adapter: self.adapter.map(|(name, _)| name.clone()),
            constraint: None,
        }
    }

    /// Waits for one whole answer.
    fn received(&self, events: EventReceiver) -> Result<Generated, EvaluateError> {
        let completion = events
            .blocking_collect()
            .map_err(|error| self.failed("answers", error))?;
        Ok(Generated {
            token_ids: completion.token_ids(),
            finished: completion.finish_reason == FinishReason::Stop,
            text: completion.text,
        })
    }

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
                    .model
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
        Some(self.lab.model.max_positions())
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

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &Generation,
        each: &mut Each<'_>,
    ) -> Result<(), EvaluateError> {
        // Far more are under way than decode together, so that no place in the batch waits for a slow neighbor.
        let mut under_way: VecDeque<EventReceiver> = VecDeque::with_capacity(UNDER_WAY);
        let mut waiting = prompts.iter();
        loop {
            while under_way.len() < UNDER_WAY
                && let Some(prompt) = waiting.next()
            {
                let receiver = self.lab.engine.submit(self.request(prompt, options));
                under_way.push_back(receiver.map_err(|error| self.failed("answers", error))?);
            }
            // Dropping the receivers on an error cancels what they wait for.
            let Some(receiver) = under_way.pop_front() else {
                return Ok(());
            };
            each(self.received(receiver)?)?;
        }
    }

    fn score(&mut self, items: &[Choices]) -> Result<Vec<Vec<f64>>, EvaluateError> {
        // A prompt is read once, however many continuations are scored after it.
        let engine = &self.lab.engine;
        let adapter = self.adapter.map(|(name, _)| name.as_str());
        let start = |item: &Choices| {
            let mut place = engine.admit(1)?;
            engine.score(item.prompt.clone(), item.continuations.clone(), adapter, &mut place)
        };
        let mut under_way: VecDeque<ScoreReceiver> = VecDeque::with_capacity(UNDER_WAY);
        let mut waiting = items.iter();
        let mut scores = Vec::with_capacity(items.len());
        loop {
            while under_way.len() < UNDER_WAY
                && let Some(item) = waiting.next()
            {
                under_way.push_back(start(item).map_err(|error| self.failed("scores", error))?);
            }
            let Some(receiver) = under_way.pop_front() else {
                return Ok(scores);
            };
            let received = receiver
                .blocking_recv()
                .map_err(|_| self.failed("scores", "the engine stopped"))?;
            scores.push(received.map_err(|error| self.failed("scores", error))?);
        }
    }
}
