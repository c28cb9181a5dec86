//! What a training step costs on this machine, measured: the benchmark's figures, and the rates that a forecast
//! of a run is made of. It trains nothing that is kept.

use std::time::Instant;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::{
    Isa, Matrix, Shape,
    adamw::{AdamW, State},
    gemm,
    random::Stream,
    threads,
};
use synapse_nn::{LoadOptions, LoraOptions, MicroBatch, Pass, Precision, Trained, Workload};

use crate::{
    TrainError,
    budget::{flops, memory},
    kernels,
    model::Model,
};

/// Where the frozen weights come from.
#[derive(Debug, Clone, Copy)]
pub enum ProbeBase<'a> {
    /// A model folder.
    Folder(&'a ModelFolder),
    /// Random weights of this shape, made tensor by tensor.
    Random(&'a ModelConfig),
}

impl ProbeBase<'_> {
    fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::Random(config) => config,
        }
    }
}

/// A step to be measured: one micro-batch of equal documents of random tokens, all trained, and an AdamW update.
#[derive(Debug, Clone)]
pub struct Probe<'a> {
    /// The frozen weights.
    pub base: ProbeBase<'a>,
    /// Their storage and the rounding of products.
    pub load: LoadOptions,
    /// LoRA's shape.
    pub lora: LoraOptions,
    /// Documents.
    pub batch: usize,
    /// Tokens of each.
    pub length: usize,
    /// Whether layers are computed again in the backward pass.
    pub recompute: bool,
    /// Steps that count.
    pub steps: usize,
    /// Steps before those: buffers are made, caches fill.
    pub warmup: usize,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Seconds of each step that counts.
    pub seconds: Vec<f64>,
    /// Tokens of a step.
    pub tokens: usize,
    /// Floating-point operations of a step, by [`Workload::flops`] or its like for a Synapse model.
    pub flops: f64,
    /// Operations a second of a large product at the same precision.
    pub peak_flops: f64,
    /// The process's peak resident memory after the steps, where the system says.
    pub peak_rss: Option<u64>,
    /// What the cost model predicts for the peak.
    pub predicted: u64,
    /// The instruction set in use.
    pub isa: Isa,
    /// Threads in use.
    pub threads: usize,
}

impl Measurement {
    /// The median step.
    pub fn median_seconds(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Probe<'_> {
    /// The workload that the cost model knows it as.
    pub fn workload(&self) -> Workload<'_> {
        Workload {
            config: self.base.config(),
            trained: Trained::Lora {
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

    /// Runs the steps; `done` is told how many are over.
    ///
    /// # Errors
    /// An unreadable folder, a target that the model does not have, or documents longer than its positions.
    pub fn measure(&self, done: &mut dyn FnMut(usize)) -> Result<Measurement, TrainError> {
        let mut model = match self.base {
            ProbeBase::Folder(folder) => kernels::lora(folder, &self.load, self.lora.clone())?,
            ProbeBase::Random(config) => kernels::lora_random(config, &self.load, self.lora.clone())?,
        };
        let mut bench = Bench::new(model.as_ref());
        let batch = random_batch(self.base.config().vocab_size, self.batch, self.length, 1.0);
        let mut seconds = Vec::with_capacity(self.steps);
        for step in 0..self.warmup + self.steps {
            let start = Instant::now();
            bench.step(model.as_mut(), &batch, self.recompute)?;
            if step >= self.warmup {
                seconds.push(start.elapsed().as_secs_f64());
            }
            done(step + 1);
        }
        // the predicted documents predict every token but their first
        let share = batch.trained() as f64 / batch.tokens.len() as f64;
        let peak_rss = peak_resident_bytes();
        drop((model, bench));
        Ok(Measurement {
            seconds,
            tokens: batch.tokens.len(),
            flops: flops(&self.workload(), share),
            peak_flops: product_rate(self.load.precision),
            peak_rss,
            predicted: memory(&self.workload()).total(),
            isa: Isa::current(),
            threads: threads(),
        })
    }
}

/// Rounds of a forecast's probe: at least, and at most, and how long it goes on between.
const FEWEST_ROUNDS: usize = 2;
const MOST_ROUNDS: usize = 7;
const ENOUGH_SECONDS: f64 = 3.0;

/// Seconds that parts of a step take, for models too large to be tried whole.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// A layer, forward and backward, a token.
    pub layer: f64,
    /// Embedding, head and loss, a token.
    pub rest: f64,
    /// The update, a parameter.
    pub update: f64,
}

impl Rates {
    /// Measures one and three layers of a model's shape with random weights, on `tokens` tokens of which
    /// `trained_share` are trained.
    ///
    /// A layer is the difference, so a disturbance of either would count double: the two are timed in turn, and the
    /// best of several rounds is taken of each.
    ///
    /// # Errors
    /// A target that the model does not have.
    pub fn measure(workload: &Workload<'_>, load: &LoadOptions, trained_share: f64) -> Result<Self, TrainError> {
        const DEPTHS: [usize; 2] = [1, 3];
        let length = workload.longest.clamp(2, workload.tokens.max(2));
        let documents = (workload.tokens / length).max(1);
        let batch = random_batch(workload.config.vocab_size, documents, length, trained_share);
        let mut tries = Vec::with_capacity(DEPTHS.len());
        for depth in DEPTHS {
            let mut model = Self::model(workload, load, depth)?;
            let mut bench = Bench::new(model.as_ref());
            // buffers are made
            bench.accumulate(model.as_mut(), &batch, workload.recompute)?;
            tries.push(Try {
                model,
                bench,
                pass: f64::INFINITY,
                update: f64::INFINITY,
            });
        }
        let begun = Instant::now();
        for round in 0..MOST_ROUNDS {
            if round >= FEWEST_ROUNDS && begun.elapsed().as_secs_f64() > ENOUGH_SECONDS {
                break;
            }
            for one in &mut tries {
                let start = Instant::now();
                one.bench.accumulate(one.model.as_mut(), &batch, workload.recompute)?;
                one.pass = one.pass.min(start.elapsed().as_secs_f64());
                let start = Instant::now();
                one.bench.update();
                one.update = one.update.min(start.elapsed().as_secs_f64());
            }
        }
        let [shallow, deep] = [0, 1].map(|at: usize| tries[at].pass / batch.tokens.len() as f64);
        let layer = ((deep - shallow) / (DEPTHS[1] - DEPTHS[0]) as f64).max(0.0);
        Ok(Self {
            layer,
            rest: (shallow - layer).max(0.0),
            update: tries[1].update / tries[1].model.parameters().max(1) as f64,
        })
    }

    /// The workload's model cut to `depth` layers.
    fn model(workload: &Workload<'_>, load: &LoadOptions, depth: usize) -> Result<Box<dyn Model>, TrainError> {
        let config = ModelConfig {
            num_hidden_layers: depth,
            ..workload.config.clone()
        };
        match workload.trained {
            Trained::Full => kernels::full(&config, workload.precision),
            Trained::Lora { rank, targets, .. } => {
                let options = LoraOptions {
                    rank,
                    scale: 1.0,
                    dropout: 0.05,
                    targets: targets.to_vec(),
                };
                kernels::lora_random(&config, load, options)
            }
        }
    }
}

/// A model that a forecast tries, and the best of its rounds, in seconds.
struct Try {
    model: Box<dyn Model>,
    bench: Bench,
    pass: f64,
    update: f64,
}

/// The buffers of a measured model.
struct Bench {
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    step: u64,
}

impl Bench {
    fn new(model: &dyn Model) -> Self {
        let zeros = || vec![0.0; model.parameters()];
        Self {
            parameters: model.initial(0),
            gradients: zeros(),
            first: zeros(),
            second: zeros(),
            step: 0,
        }
    }

    fn accumulate(&mut self, model: &mut dyn Model, batch: &MicroBatch, recompute: bool) -> Result<(), TrainError> {
        let pass = Pass {
            scale: 1.0 / batch.trained().max(1) as f32,
            key: [0, self.step, 0],
            recompute,
        };
        model.accumulate(&self.parameters, &mut self.gradients, batch, &pass)?;
        Ok(())
    }

    fn update(&mut self) {
        self.step += 1;
        AdamW {
            learning_rate: 2e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: self.step,
            gradient_scale: 1.0,
        }
        .update(State {
            parameters: &mut self.parameters,
            first: &mut self.first,
            second: &mut self.second,
            gradients: &self.gradients,
        });
    }

    fn step(&mut self, model: &mut dyn Model, batch: &MicroBatch, recompute: bool) -> Result<(), TrainError> {
        self.gradients.fill(0.0);
        self.accumulate(model, batch, recompute)?;
        self.update();
        Ok(())
    }
}

fn random_batch(vocab: usize, documents: usize, length: usize, trained_share: f64) -> MicroBatch {
    let stream = Stream::new(&[7]);
    let mut batch = MicroBatch::default();
    for document in 0..documents {
        let element = |i: usize| (document * length + i) as u64;
        let ids: Vec<u32> = (0..length).map(|i| stream.bits(element(i)) % vocab as u32).collect();
        // the end of a document is what is trained, as answers are
        let from = ((1.0 - trained_share) * length as f64) as usize;
        let labels: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(i, &id)| if i >= from { i64::from(id) } else { -100 })
            .collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    batch
}

/// Operations a second of the best of five products `[2048, 2048] · [2048, 2048]ᵀ`.
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

/// VmHWM of this process; `None` where the system does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// VmRSS of this process; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// Memory that programs may still take; `None` where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// A line of the form `name   1234 kB`.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
