//! The cost of a LoRA training step on this machine, measured. Nothing that is trained here is kept.

use std::time::Instant;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::{Isa, Matrix, Shape, gemm, random::Stream, threads};
use synapse_nn::{LoadOptions, LoraOptions, MicroBatch, Precision, TrainableScope, Workload};
use synapse_trainer::{
    AdamWOptions, Model, Optimizer, StepInput, TrainError, TrainingState, backend::cpu, peak_resident_bytes,
};

/// Where the frozen weights come from.
#[derive(Debug, Clone, Copy)]
pub enum BenchmarkBase<'a> {
    /// A model folder.
    Folder(&'a ModelFolder),
    /// Random weights of this shape.
    Random(&'a ModelConfig),
}

impl BenchmarkBase<'_> {
    fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::Random(config) => config,
        }
    }
}

/// A training step to measure: one micro-batch of documents of equal length, made of random tokens that are all targets,
/// and an AdamW update.
#[derive(Debug, Clone)]
pub struct StepBenchmark<'a> {
    /// The frozen weights.
    pub base: BenchmarkBase<'a>,
    /// Their storage and the compute precision.
    pub load: LoadOptions,
    /// LoRA settings.
    pub lora: LoraOptions,
    /// Documents per step.
    pub batch: usize,
    /// Tokens per document.
    pub length: usize,
    /// Whether the backward pass recomputes activations.
    pub recompute: bool,
    /// Measured steps.
    pub steps: usize,
    /// Unmeasured steps before them, which allocate buffers and fill caches.
    pub warmup: usize,
}

/// The measured cost of a step.
#[derive(Debug, Clone)]
pub struct BenchmarkResult {
    /// Seconds of each measured step.
    pub seconds: Vec<f64>,
    /// Tokens of a step.
    pub tokens: usize,
    /// Floating-point operations of a step, as `Workload::flops` counts them.
    pub flops: f64,
    /// Operations per second of a large matrix product at the same precision.
    pub peak_flops: f64,
    /// Peak resident memory of the process after the steps, if the system reports it.
    pub peak_rss: Option<u64>,
    /// Peak memory that the cost model predicts, in bytes.
    pub predicted: u64,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Threads of the kernels.
    pub threads: usize,
}

impl BenchmarkResult {
    /// Median seconds per step.
    pub fn median_seconds(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl StepBenchmark<'_> {
    /// The step as the cost model describes it.
    pub fn workload(&self) -> Workload<'_> {
        Workload {
            config: self.base.config(),
            scope: TrainableScope::Lora {
                rank: self.lora.rank,
                targets: &self.lora.targets,
                weights: self.load.dtype,
            },
            precision: self.load.precision,
            tokens: self.batch * self.length,
            longest: self.length,
            recompute: self.recompute,
        }
    }

    /// Runs the steps and calls `on_step` with the number of steps done after each.
    ///
    /// # Errors
    /// An unreadable folder, a target that the model does not have, or documents longer than its positions.
    pub fn measure(&self, on_step: &mut dyn FnMut(usize)) -> Result<BenchmarkResult, TrainError> {
        let mut model = match self.base {
            BenchmarkBase::Folder(folder) => cpu::lora(folder, &self.load, self.lora.clone())?,
            BenchmarkBase::Random(config) => cpu::lora_random(config, &self.load, self.lora.clone())?,
        };
        let mut optimizer = new_optimizer(model.as_ref());
        let batch = random_batch(self.base.config().vocab_size, self.batch, self.length, 1.0);
        let input = step_input(std::slice::from_ref(&batch), self.recompute);
        let mut seconds = Vec::with_capacity(self.steps);
        for step in 0..self.warmup + self.steps {
            let start = Instant::now();
            optimizer.step(model.as_mut(), &input)?;
            if step >= self.warmup {
                seconds.push(start.elapsed().as_secs_f64());
            }
            on_step(step + 1);
        }
        // every token of a document is a target except its first
        let share = batch.num_targets() as f64 / batch.tokens.len() as f64;
        let peak_rss = peak_resident_bytes();
        drop((model, optimizer));
        Ok(BenchmarkResult {
            seconds,
            tokens: batch.tokens.len(),
            flops: self.workload().flops(share),
            peak_flops: product_rate(self.load.precision),
            peak_rss,
            predicted: self.workload().memory().total(),
            isa: Isa::current(),
            threads: threads(),
        })
    }
}

/// The optimizer of a measured model.
pub(crate) fn new_optimizer(model: &dyn Model) -> Optimizer {
    Optimizer::new(TrainingState::new(model.initial(0)), AdamWOptions::default())
}

/// The input of a measured step.
pub(crate) fn step_input(batches: &[MicroBatch], recompute: bool) -> StepInput<'_> {
    StepInput {
        batches,
        rows: &[],
        seed: 0,
        learning_rate: 2e-4,
        recompute,
    }
}

/// Documents of random tokens, of which the last `target_share` are targets, like the answers in instruction data.
pub(crate) fn random_batch(vocab: usize, documents: usize, length: usize, target_share: f64) -> MicroBatch {
    let stream = Stream::new(&[7]);
    let mut batch = MicroBatch::default();
    for document in 0..documents {
        let element = |i: usize| (document * length + i) as u64;
        let ids: Vec<u32> = (0..length).map(|i| stream.bits(element(i)) % vocab as u32).collect();
        let first_target = ((1.0 - target_share) * length as f64) as usize;
        let labels: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(i, &id)| if i >= first_target { i64::from(id) } else { -100 })
            .collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    batch
}

/// Operations per second of the fastest of five matrix products `[2048, 2048] · [2048, 2048]ᵀ`.
pub fn product_rate(precision: Precision) -> f64 {
    const SIDE: usize = 2048;
    let stream = Stream::new(&[11]);
    let values: Vec<f32> = (0..SIDE * SIDE).map(|i| stream.uniform(i as u64) - 0.5).collect();
    let mut out = vec![0.0; SIDE * SIDE];
    let shape = Shape {
        m: SIDE,
        n: SIDE,
        k: SIDE,
    };
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            gemm::linear(&values, Matrix::F32(&values), &mut out, shape, precision);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    2.0 * (SIDE * SIDE * SIDE) as f64 / best
}
