//! A model in memory with its engine and adapters; suites run on the base or on one of the adapters.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use synapse_checkpoint::ModelFiles;
use synapse_engine::{Engine, EngineOptions, EventReceiver, FinishReason, Request, SamplingOptions, ScoreReceiver};
use synapse_evaluate::EvaluateError;
use synapse_evaluate::model::{
    DocumentLoss, EvalModel, Generated, GenerationOptions, LabeledDocument, MultipleChoiceItem, OnGenerated,
};
use synapse_nn::{Adapter, CausalLm, LanguageModel, LoadOptions, ModuleTrace};
use synapse_tokenizer::ChatTokenizer;

use crate::{PipelineError, document_losses::document_losses};

/// Prompts that decode together.
const BATCH: usize = 32;
/// Prompts handed to the engine before the first of them is finished.
const UNDER_WAY: usize = 8 * BATCH;

/// A model in memory with its engine and adapters.
pub struct LoadedModel {
    model: Arc<dyn LanguageModel>,
    engine: Engine,
    chat: ChatTokenizer,
    adapters: Vec<(String, Arc<Adapter>)>,
}

impl LoadedModel {
    /// Loads a model folder or GGUF file and adapters over it.
    ///
    /// # Errors
    /// An unreadable model or an adapter that does not fit.
    pub fn open(folder: &Path, adapters: &[(&str, &Path)], load: &LoadOptions) -> Result<Self, PipelineError> {
        Self::of_files(&ModelFiles::open(folder)?, adapters, load)
    }

    /// As [`LoadedModel::open`], for a model whose files are already open.
    ///
    /// # Errors
    /// As [`LoadedModel::open`].
    pub fn of_files(files: &ModelFiles, adapters: &[(&str, &Path)], load: &LoadOptions) -> Result<Self, PipelineError> {
        Self::with_batch(files, adapters, load, BATCH)
    }

    /// As [`LoadedModel::open`], with `batch` prompts decoding together.
    ///
    /// # Errors
    /// As [`LoadedModel::open`].
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
                let adapter = Adapter::load_for_inference(path, files, load.precision)?;
                Ok(((*name).to_owned(), Arc::new(adapter)))
            })
            .collect::<Result<Vec<_>, PipelineError>>()?;
        Ok(Self::over(model, ChatTokenizer::of_model(files)?, adapters, batch))
    }

    /// The model with further variables of its chat template.
    ///
    /// # Errors
    /// The template does not read one of them.
    pub fn with_template_arguments(mut self, arguments: &Map<String, Value>) -> Result<Self, PipelineError> {
        self.chat = self.chat.with_template_arguments(arguments)?;
        Ok(self)
    }

    /// A model that is in memory already. Other holders of the model can change it again once this is dropped.
    pub(crate) fn of_model(model: Arc<dyn LanguageModel>, chat: ChatTokenizer) -> Self {
        Self::over(model, chat, Vec::new(), BATCH)
    }

    fn over(
        model: Arc<dyn LanguageModel>,
        chat: ChatTokenizer,
        adapters: Vec<(String, Arc<Adapter>)>,
        batch: usize,
    ) -> Self {
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

    /// The gate activations of each layer for these tokens, under an adapter or the base; `None` for a model without
    /// modules.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn trace(&self, tokens: &[u32], adapter: Option<&str>) -> Result<Option<ModuleTrace>, PipelineError> {
        let adapter = adapter.and_then(|wanted| self.adapters.iter().find(|(name, _)| name == wanted));
        Ok(self.model.trace(tokens, adapter.map(|(_, adapter)| adapter.as_ref()))?)
    }

    /// Tokenizer and template.
    pub fn chat(&self) -> &ChatTokenizer {
        &self.chat
    }

    /// The base (`None`) or one adapter over it, under the name that tables show.
    pub fn under_test<'a>(&'a self, name: &str, adapter: Option<&str>) -> ModelUnderTest<'a> {
        let adapter = adapter.and_then(|wanted| self.adapters.iter().find(|(name, _)| name == wanted));
        ModelUnderTest {
            loaded: self,
            name: name.to_owned(),
            adapter,
        }
    }
}

/// The base of a [`LoadedModel`] or one of its adapters, as suites see it.
pub struct ModelUnderTest<'a> {
    loaded: &'a LoadedModel,
    name: String,
    adapter: Option<&'a (String, Arc<Adapter>)>,
}

impl ModelUnderTest<'_> {
    fn request(&self, prompt: &[u32], options: &GenerationOptions) -> Request {
        let free = self.loaded.model.max_positions().saturating_sub(prompt.len());
        Request {
            prompt: prompt.to_vec(),
            sampling: SamplingOptions {
                temperature: options.temperature,
                seed: options.seed,
                max_tokens: options.max_new_tokens.min(free),
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
        EvaluateError::Model {
            model: self.name.clone(),
            doing,
            source: why.into(),
        }
    }
}

impl EvalModel for ModelUnderTest<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self) -> &ChatTokenizer {
        &self.loaded.chat
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.loaded.model.max_positions())
    }

    fn losses(&mut self, rows: &[LabeledDocument<'_>]) -> Result<Vec<DocumentLoss>, EvaluateError> {
        let documents = rows.iter().map(|row| (row.input_ids, row.labels));
        let adapter = self.adapter.map(|(_, adapter)| adapter.as_ref());
        let losses = document_losses(self.loaded.model.as_ref(), documents, adapter)
            .map_err(|error| self.failed("losses", error))?;
        Ok(losses
            .into_iter()
            .map(|(sum, tokens)| DocumentLoss {
                sum,
                tokens: tokens as u64,
            })
            .collect())
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &GenerationOptions,
        each: &mut OnGenerated<'_>,
    ) -> Result<(), EvaluateError> {
        // Far more prompts are submitted than decode together, so that the batch stays full.
        let mut under_way: VecDeque<EventReceiver> = VecDeque::with_capacity(UNDER_WAY);
        let mut waiting = prompts.iter();
        loop {
            while under_way.len() < UNDER_WAY
                && let Some(prompt) = waiting.next()
            {
                let receiver = self.loaded.engine.submit(self.request(prompt, options));
                under_way.push_back(receiver.map_err(|error| self.failed("answers", error))?);
            }
            // Dropping the receivers on an error cancels their requests.
            let Some(receiver) = under_way.pop_front() else {
                return Ok(());
            };
            each(self.received(receiver)?)?;
        }
    }

    fn score(&mut self, items: &[MultipleChoiceItem]) -> Result<Vec<Vec<f64>>, EvaluateError> {
        // A prompt is prefilled once for all its continuations.
        let engine = &self.loaded.engine;
        let adapter = self.adapter.map(|(name, _)| name.as_str());
        let start = |item: &MultipleChoiceItem| {
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
