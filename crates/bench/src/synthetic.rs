//! A run on one synthetic task: a model is trained from scratch and then evaluated on documents of several lengths.
//!
//! Every architecture sees the same documents in the same order, with the same optimizer and the same number of steps,
//! so that only the architectures differ.

use std::{path::Path, time::Instant};

use serde::Serialize;
use synapse_checkpoint::{DType, ModelConfig, ModelFolder};
use synapse_nn::models::family;
use synapse_nn::{LanguageModel, LoadOptions, LogitsFor, Phase, Precision, Sequence};
use synapse_trainer::{
    AdamWOptions, Optimizer, RouterReport, Schedule, StepInput, TrainError, TrainingState, WarmupStart, backend::cpu,
    write_full,
};

use crate::SyntheticTask;

/// Number of the first held-out document; no run trains on this one or a later one.
const FIRST_HELD_OUT: u64 = 1 << 40;

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct SyntheticTaskRun {
    /// The task.
    pub task: SyntheticTask,
    /// Optimizer steps.
    pub steps: u64,
    /// Documents per step.
    pub batch: usize,
    /// Tokens of the longest training document.
    pub length: usize,
    /// Peak learning rate, reached after a tenth of the steps; half a cosine down to zero follows.
    pub learning_rate: f64,
    /// Seeds weights and documents.
    pub seed: u64,
    /// Lengths of the evaluation documents, in tokens.
    pub eval_lengths: Vec<usize>,
    /// Evaluation documents per length.
    pub eval_documents: usize,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyntheticTaskResult {
    /// Class name of the architecture.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: usize,
    /// About a hundred pairs of a step and the mean loss since the previous pair, in nats.
    pub losses: Vec<(u64, f64)>,
    /// Pairs of a document length and the accuracy on documents of that length.
    pub accuracy: Vec<(usize, f64)>,
    /// Seconds of training.
    pub seconds: f64,
    /// Router statistics of the last step, for mixture-of-experts models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterReport>,
}

impl SyntheticTaskRun {
    /// Trains a model of this configuration, writes it to the existing folder `out` and evaluates it. `on_progress`
    /// receives the step and the recent mean loss.
    ///
    /// # Errors
    /// A configuration that cannot be trained, a loss that is not finite, or a folder that cannot be written.
    pub fn run(
        &self,
        config: &ModelConfig,
        out: &Path,
        on_progress: &mut dyn FnMut(u64, f64),
    ) -> Result<SyntheticTaskResult, TrainError> {
        let mut model = cpu::full(config, Precision::F32)?;
        let options = AdamWOptions {
            beta2: 0.98,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
            ..AdamWOptions::default()
        };
        let mut optimizer = Optimizer::new(TrainingState::new(model.initial(self.seed)), options);
        let warmup = (self.steps / 10).max(1);
        let schedule =
            Schedule::cosine(self.learning_rate, warmup, self.steps).warmup_start(WarmupStart::FirstFraction);
        let started = Instant::now();
        let (mut losses, mut router) = (Vec::new(), None);
        let log_every = (self.steps / 100).max(1);
        let mut recent = (0.0, 0usize);
        for step in 0..self.steps {
            let batch = self
                .task
                .batch(self.seed, step * self.batch as u64, self.batch, self.length);
            let result = optimizer.step(
                model.as_mut(),
                &StepInput {
                    batches: std::slice::from_ref(&batch),
                    rows: &[],
                    seed: self.seed,
                    learning_rate: schedule.learning_rate(step),
                    recompute: false,
                },
            )?;
            router = model.router_report();
            recent = (recent.0 + result.loss, recent.1 + 1);
            if (step + 1) % log_every == 0 || step + 1 == self.steps {
                let mean = recent.0 / recent.1 as f64;
                losses.push((step + 1, mean));
                on_progress(step + 1, mean);
                recent = (0.0, 0);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        write_full(out, model.as_ref(), &optimizer.state().parameters, DType::F32)?;
        let parameters = model.parameters();
        drop((model, optimizer));
        let folder = ModelFolder::open(out)?;
        let model = family(folder.config().architecture).load(&folder, &LoadOptions::EXACT)?;
        let accuracy = self
            .eval_lengths
            .iter()
            .map(|&length| Ok((length, self.accuracy(model.as_ref(), length)?)))
            .collect::<Result<_, TrainError>>()?;
        Ok(SyntheticTaskResult {
            architecture: config.architecture.class_name().to_owned(),
            parameters,
            losses,
            accuracy,
            seconds,
            router,
        })
    }

    /// The accuracy on held-out documents of this length.
    fn accuracy(&self, model: &dyn LanguageModel, length: usize) -> Result<f64, TrainError> {
        let vocabulary = self.task.vocabulary();
        let (mut correct, mut total) = (0usize, 0usize);
        for index in 0..self.eval_documents as u64 {
            let (tokens, targets) = self.task.document(self.seed, FIRST_HELD_OUT + index, length);
            let mut cache = model.new_cache();
            let sequence = Sequence {
                tokens: &tokens,
                cache: &mut cache,
                phase: Phase::Prefill,
                adapter: None,
                logits: LogitsFor::All,
            };
            let logits = model.forward(&mut [sequence])?.remove(0); // [length, vocabulary]
            for (row, target) in logits.chunks_exact(vocabulary).zip(&targets) {
                let Some(target) = target else { continue };
                let best = (0..vocabulary).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                correct += usize::from(best == Some(*target as usize));
                total += 1;
            }
        }
        Ok(correct as f64 / total.max(1) as f64)
    }
}

/// A Synapse model for the tasks: two layers, the second with an sLSTM; each token uses three of four modules. With two
/// modules per token, a key and its value reach the memory module together too rarely for it to learn.
///
/// # Errors
/// Never for the named tasks; the configuration is parsed like any other.
pub fn synapse_config(task: SyntheticTask) -> Result<ModelConfig, TrainError> {
    let text = format!(
        r#"{{ "architectures": ["SynapseForCausalLM"], "model_type": "synapse", "hidden_size": 64, "num_hidden_layers": 2,
        "vocab_size": {}, "max_position_embeddings": 65536, "tie_word_embeddings": false, "routing": "dispatch",
        "modules_per_token": 3, "num_experts": 2, "expert_intermediate_size": 64, "router_inner_size": 64,
        "router_state_size": 16, "language_inner_size": 64, "language_num_heads": 2, "slstm_every": 2,
        "memory_num_heads": 2, "memory_key_size": 32, "memory_value_size": 32 }}"#,
        task.vocabulary()
    );
    Ok(ModelConfig::from_json(&text, "config.json".as_ref())?)
}

/// A Llama decoder with the same number of layers, the same width and about as many parameters as a Synapse model.
///
/// # Errors
/// Same as [`synapse_config`].
pub fn transformer_config(like: &ModelConfig) -> Result<ModelConfig, TrainError> {
    let (hidden, layers) = (like.hidden_size, like.num_hidden_layers);
    let with_mlp = |mlp: usize| {
        let text = format!(
            r#"{{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {hidden},
            "intermediate_size": {mlp}, "num_hidden_layers": {layers}, "num_attention_heads": {}, "vocab_size": {},
            "max_position_embeddings": 65536, "tie_word_embeddings": false, "rms_norm_eps": 1e-6 }}"#,
            hidden / 16,
            like.vocab_size
        );
        ModelConfig::from_json(&text, "config.json".as_ref())
    };
    // each unit of MLP width adds three values per hidden dimension and layer
    let missing = like.parameters().saturating_sub(with_mlp(8)?.parameters()) as usize;
    Ok(with_mlp(8 + missing.div_ceil(3 * hidden * layers))?)
}
