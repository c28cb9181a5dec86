//! A course in one synthetic task: a model is trained on it from nothing, and asked in documents of several lengths.
//!
//! Models of any architecture take the same course: the same documents in the same order, as many steps, the same
//! optimizer. What is compared is theirs alone.

use std::{path::Path, time::Instant};

use serde::Serialize;
use synapse_checkpoint::{DType, ModelConfig, ModelFolder};
use synapse_nn::models::load_to_generate;
use synapse_nn::{LanguageModel, LoadOptions, LogitsFor, Pass, Precision, Role, Sequence};

use crate::{
    TrainError,
    artifact::write_full,
    kernels,
    state::{Optimizer, TrainingState},
    synapse::RouterReport,
    tasks::Task,
};

/// Documents are numbered; those from here on are never trained on.
const HELD_OUT: u64 = 1 << 40;

/// How a course goes.
#[derive(Debug, Clone)]
pub struct Course {
    /// The task.
    pub task: Task,
    /// Optimizer steps.
    pub steps: u64,
    /// Documents of a step.
    pub batch: usize,
    /// Tokens of the longest document that is trained on.
    pub length: usize,
    /// Peak of the learning rate: a tenth of the steps to reach it, then half a cosine down to zero.
    pub learning_rate: f64,
    /// Seeds weights and documents.
    pub seed: u64,
    /// Lengths of the documents that are asked in afterwards.
    pub asked: Vec<usize>,
    /// Documents of each of them.
    pub documents: usize,
}

/// How a model did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CourseResult {
    /// Its architecture's class name.
    pub architecture: String,
    /// Trained values.
    pub parameters: usize,
    /// Step and mean loss in nats, about a hundred of them.
    pub losses: Vec<(u64, f64)>,
    /// Document length and share of right answers.
    pub accuracy: Vec<(usize, f64)>,
    /// Seconds of training.
    pub seconds: f64,
    /// How the last step's tokens were sent to modules, in a model that sends them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterReport>,
}

impl Course {
    /// Trains a model of this configuration, writes it to the existing folder `out`, and asks it.
    ///
    /// # Errors
    /// A configuration that cannot be trained, a loss that is not finite, or a folder that cannot be written.
    pub fn take(
        &self,
        config: &ModelConfig,
        out: &Path,
        told: &mut dyn FnMut(u64, f64),
    ) -> Result<CourseResult, TrainError> {
        let mut model = kernels::full(config, Precision::F32)?;
        let mut state = TrainingState::new(model.initial(self.seed));
        let mut gradients = vec![0.0; model.parameters()];
        let optimizer = Optimizer {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
        };
        let begun = Instant::now();
        let (mut losses, mut router) = (Vec::new(), None);
        let every = (self.steps / 100).max(1);
        let mut recent = (0.0, 0usize);
        for step in 0..self.steps {
            let batch = self
                .task
                .batch(self.seed, step * self.batch as u64, self.batch, self.length);
            let trained = batch.trained();
            let pass = Pass {
                scale: 1.0 / trained.max(1) as f32,
                key: [self.seed, step, 0],
                recompute: false,
            };
            gradients.fill(0.0);
            let sum = model.accumulate(&state.parameters, &mut gradients, &batch, &pass)?;
            let loss = sum / trained.max(1) as f64;
            let norm = TrainingState::gradient_norm(model.layout(), &gradients);
            if !loss.is_finite() || !norm.is_finite() {
                return Err(TrainError::NotFinite {
                    step: step + 1,
                    what: "loss",
                    value: loss,
                    rows: Vec::new(),
                });
            }
            state.update(model.layout(), &gradients, norm, self.learning_rate(step), &optimizer);
            model.adjust(&mut state.parameters);
            router = model.router_report();
            recent = (recent.0 + loss, recent.1 + 1);
            if (step + 1) % every == 0 || step + 1 == self.steps {
                let mean = recent.0 / recent.1 as f64;
                losses.push((step + 1, mean));
                told(step + 1, mean);
                recent = (0.0, 0);
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        write_full(out, model.as_ref(), &state.parameters, DType::F32)?;
        let parameters = model.parameters();
        drop((model, state, gradients));
        let trained = load_to_generate(&ModelFolder::open(out)?, &LoadOptions::EXACT)?;
        let accuracy = self
            .asked
            .iter()
            .map(|&length| Ok((length, self.ask(trained.as_ref(), length)?)))
            .collect::<Result<_, TrainError>>()?;
        Ok(CourseResult {
            architecture: config.architecture.class_name().to_owned(),
            parameters,
            losses,
            accuracy,
            seconds,
            router,
        })
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let warmup = (self.steps / 10).max(1);
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / (self.steps - warmup).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }

    /// The share of right answers in held-out documents of this length.
    fn ask(&self, model: &dyn LanguageModel, length: usize) -> Result<f64, TrainError> {
        let vocabulary = self.task.vocabulary();
        let (mut right, mut asked) = (0usize, 0usize);
        for index in 0..self.documents as u64 {
            let (tokens, targets) = self.task.document(self.seed, HELD_OUT + index, length);
            let mut cache = model.new_cache();
            let sequence = Sequence {
                tokens: &tokens,
                cache: &mut cache,
                role: Role::Prompt,
                adapter: None,
                logits: LogitsFor::All,
            };
            let logits = model.forward(&mut [sequence])?.remove(0); // [length, vocabulary]
            for (row, target) in logits.chunks_exact(vocabulary).zip(&targets) {
                let Some(target) = target else { continue };
                let best = (0..vocabulary).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                right += usize::from(best == Some(*target as usize));
                asked += 1;
            }
        }
        Ok(right as f64 / asked.max(1) as f64)
    }
}

/// A Synapse model for the tasks: two layers, the second with an sLSTM, three of four modules a token. With two, a key and
/// its value reach the memory together too seldom for it to learn from.
///
/// # Errors
/// Never for the tasks there are; the configuration is read as any other.
pub fn synapse_config(task: Task) -> Result<ModelConfig, TrainError> {
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

/// A decoder with attention (Llama) of as many layers, the same width and about as many parameters as a Synapse model.
///
/// # Errors
/// As [`synapse_config`].
pub fn transformer_config(like: &ModelConfig) -> Result<ModelConfig, TrainError> {
    let (hidden, layers) = (like.hidden_size, like.num_hidden_layers);
    let of = |mlp: usize| {
        let text = format!(
            r#"{{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {hidden},
            "intermediate_size": {mlp}, "num_hidden_layers": {layers}, "num_attention_heads": {}, "vocab_size": {},
            "max_position_embeddings": 65536, "tie_word_embeddings": false, "rms_norm_eps": 1e-6 }}"#,
            hidden / 16,
            like.vocab_size
        );
        ModelConfig::from_json(&text, "config.json".as_ref())
    };
    // a unit of the MLP's width is three values a row of it
    let missing = like.parameters().saturating_sub(of(8)?.parameters()) as usize;
    Ok(of(8 + missing.div_ceil(3 * hidden * layers))?)
}
