//! LoRA's forward and backward over one micro-batch, one layer on the tape at a time.

use candle_core::{Tensor, Var, backprop::GradStore};
use synapse_checkpoint::ModelFolder;
use synapse_nn::{LoraLayout, LoraModule, LoraOptions, MicroBatch, Parameter, StepContext, initial_lora};

use crate::{
    CandleDecoder, CandleError, DType, Device, WeightStorage,
    decoder::check_architecture,
    frozen,
    lora::{BARE, Branch, Branches, Mask},
    sequences::Sequences,
};

/// LoRA over the frozen weights of a decoder on a device, by candle. Parameters and gradients are the caller's, flat f32 buffers
/// on the host in the order of [`CandleTrainer::layout`]; they cross to the device and back once a micro-batch.
#[derive(Debug)]
pub struct CandleTrainer {
    decoder: CandleDecoder,
    lora: LoraLayout,
}

/// One micro-batch on its way through the layers.
struct Work {
    sequences: Sequences,
    /// Rows.
    count: usize,
    /// All parameters, flat, on the device.
    parameters: Tensor,
    /// Seed, step and micro-batch of the dropout masks; `None` outside training.
    key: Option<[u64; 3]>,
}

/// One layer under autograd: the leaves, and the output they lead to.
struct Tape {
    x: Var,
    /// The layer's parameters in the order of the layout.
    trainables: Vec<Var>,
    y: Tensor,
}

impl Tape {
    /// Gradients of the leaves, and of nothing else.
    fn gradients(&self, dy: &Tensor) -> Result<GradStore, CandleError> {
        Ok(frozen::seeded(&self.y, dy)?.backward()?)
    }
}

impl CandleTrainer {
    /// LoRA over the weights of a model folder.
    ///
    /// # Errors
    /// An unreadable folder, a target that the model does not have, another dtype than f32 and bf16, or no memory
    /// on the device.
    pub fn lora(
        folder: &ModelFolder,
        device: &Device,
        dtype: DType,
        quantization: WeightStorage,
        options: LoraOptions,
    ) -> Result<Self, CandleError> {
        check_architecture(folder.config())?;
        let lora = LoraLayout::new(folder.config(), options)?;
        Ok(Self {
            decoder: CandleDecoder::load(folder, device, dtype, quantization)?,
            lora,
        })
    }

    /// The trainable tensors in the order they lie in the flat buffer.
    #[must_use]
    pub fn layout(&self) -> &[Parameter] {
        self.lora.parameters()
    }

    /// Length of the flat buffers.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.lora.num_values()
    }

    /// The decoder.
    #[must_use]
    pub fn decoder(&self) -> &CandleDecoder {
        &self.decoder
    }

    /// Values to start from, as PEFT draws them.
    #[must_use]
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        initial_lora(self.layout(), seed)
    }

    /// One micro-batch: adds `context.scale ·` the gradient of the summed loss to `gradients` and returns the summed
    /// negative log-likelihood in nats (not scaled). With `context.recompute` only the layers' inputs are saved;
    /// without, every layer's tape is. A batch without targets adds nothing.
    ///
    /// # Errors
    /// A buffer of the wrong length, a token outside the vocabulary, a document longer than the model's positions,
    /// or no memory on the device; `gradients` may then hold part of the micro-batch.
    pub fn accumulate(
        &self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, CandleError> {
        let found = gradients.len();
        if found != self.parameters() {
            return Err(CandleError::Length {
                what: "gradients",
                expected: self.parameters(),
                found,
            });
        }
        let work = self.work(parameters, batch, Some(context.key))?;
        if batch.num_targets() == 0 {
            return Ok(0.0);
        }
        let mut x = self.decoder.embed(&batch.tokens)?;
        let (mut inputs, mut tapes) = (Vec::new(), Vec::new());
        for layer in 0..self.decoder.layers.len() {
            x = if context.recompute {
                let y = self.forward(&work, layer, &x, &self.views(&work, layer)?)?;
                inputs.push(x);
                y
            } else {
                let tape = self.tape(&work, layer, &x)?;
                let y = tape.y.detach();
                tapes.push(tape);
                y
            };
        }
        let (sum, mut dx) = self.decoder.loss_gradient(batch, &x, f64::from(context.scale))?;
        for layer in (0..self.decoder.layers.len()).rev() {
            let tape = match (tapes.pop(), inputs.pop()) {
                (Some(tape), _) => tape,
                (None, Some(input)) => self.tape(&work, layer, &input)?,
                (None, None) => unreachable!("every layer saved its tape or its input"),
            };
            dx = self.backward(layer, &tape, &dx, gradients)?;
        }
        Ok(sum)
    }

    /// Summed negative log-likelihood and number of targets of each document, without gradients or dropout.
    ///
    /// # Errors
    /// As [`CandleTrainer::accumulate`].
    pub fn losses(&self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, CandleError> {
        let work = self.work(parameters, batch, None)?;
        if batch.num_targets() == 0 {
            return Ok(vec![(0.0, 0); batch.lengths.len()]);
        }
        let mut x = self.decoder.embed(&batch.tokens)?;
        for layer in 0..self.decoder.layers.len() {
            x = self.forward(&work, layer, &x, &self.views(&work, layer)?)?;
        }
        self.decoder.losses_by_document(batch, &x)
    }

    fn work(&self, parameters: &[f32], batch: &MicroBatch, key: Option<[u64; 3]>) -> Result<Work, CandleError> {
        let (expected, found) = (self.parameters(), parameters.len());
        if found != expected {
            return Err(CandleError::Length {
                what: "parameters",
                expected,
                found,
            });
        }
        self.decoder.check_batch(batch)?;
        Ok(Work {
            sequences: self.decoder.documents(&batch.lengths)?,
            count: batch.tokens.len(),
            parameters: Tensor::from_slice(parameters, found, self.decoder.device())?,
            key,
        })
    }

    /// The adapted modules of a layer, each with its slot.
    fn layer_modules(&self, layer: usize) -> impl Iterator<Item = (usize, LoraModule)> {
        let modules = self.decoder.config().linear_modules().into_iter().enumerate();
        modules.filter_map(move |(slot, (module, ..))| {
            let found = self.lora.module(&format!("model.layers.{layer}.{module}"))?;
            Some((slot, found))
        })
    }

    /// A layer's tensors in the layout; they lie side by side.
    fn layer_layout(&self, layer: usize) -> &[Parameter] {
        let mut modules = self.layer_modules(layer).map(|(_, module)| module.parameter);
        let Some(first) = modules.next() else {
            return &[];
        };
        let last = modules.last().unwrap_or(first);
        &self.layout()[first..last + 2]
    }

    /// A layer's parameters, in the order of the layout, off the tape.
    fn views(&self, work: &Work, layer: usize) -> Result<Vec<Tensor>, CandleError> {
        let view = |parameter: &Parameter| {
            Ok(work
                .parameters
                .narrow(0, parameter.range.start, parameter.range.len())?
                .reshape(&*parameter.shape)?)
        };
        self.layer_layout(layer).iter().map(view).collect()
    }

    /// A layer's output; `tensors` are its parameters in the order of the layout.
    fn forward(&self, work: &Work, layer: usize, x: &Tensor, tensors: &[Tensor]) -> Result<Tensor, CandleError> {
        let branches = self.branches(work, layer, tensors)?;
        Ok(self.decoder.layers[layer].forward(x, &work.sequences, &branches, None)?)
    }

    fn branches(&self, work: &Work, layer: usize, tensors: &[Tensor]) -> Result<Branches, CandleError> {
        let mut branches = BARE;
        for ((slot, module), pair) in self.layer_modules(layer).zip(tensors.chunks_exact(2)) {
            let mask = match work.key.and_then(|key| self.lora.dropout(module, key)) {
                None => None,
                Some(dropout) => {
                    let shape = (work.count, pair[0].dim(1)?);
                    let decoder = &self.decoder;
                    Some(Mask::draw(dropout, shape, decoder.dtype(), decoder.device())?)
                }
            };
            branches[slot] = Some(Branch {
                a: pair[0].clone(),
                b: pair[1].clone(),
                scale: f64::from(self.lora.options().scale),
                mask,
            });
        }
        Ok(branches)
    }

    fn tape(&self, work: &Work, layer: usize, x: &Tensor) -> Result<Tape, CandleError> {
        let x = Var::from_tensor(x)?;
        let trainables = self
            .views(work, layer)?
            .iter()
            .map(Var::from_tensor)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = trainables.iter().map(|var| var.as_tensor().clone()).collect();
        let y = self.forward(work, layer, &x, &tensors)?;
        Ok(Tape { x, trainables, y })
    }

    /// Adds a layer's gradients to the flat buffer, in one transfer, and returns that of its input.
    fn backward(&self, layer: usize, tape: &Tape, dy: &Tensor, gradients: &mut [f32]) -> Result<Tensor, CandleError> {
        let mut store = tape.gradients(dy)?;
        let mut take = |var: &Var, name: &str| {
            store.remove(var).ok_or_else(|| CandleError::GradientCut {
                parameter: name.to_owned(),
            })
        };
        let layout = self.layer_layout(layer);
        if let (Some(first), Some(last)) = (layout.first(), layout.last()) {
            let flat = layout
                .iter()
                .zip(&tape.trainables)
                .map(|(parameter, var)| Ok(take(var, &parameter.name)?.flatten_all()?));
            let flat: Vec<f32> = Tensor::cat(&flat.collect::<Result<Vec<_>, CandleError>>()?, 0)?.to_vec1()?;
            for (sum, gradient) in gradients[first.range.start..last.range.end].iter_mut().zip(flat) {
                *sum += gradient;
            }
        }
        take(&tape.x, "a layer's input")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use std::{collections::HashSet, path::Path};

    use super::*;

    #[test]
    fn the_tape_gives_gradients_to_the_trainables_and_the_input_alone() {
        // biases, a tied head, NF4, dropout and two documents: every kind of frozen operand takes part
        let folder =
            ModelFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../nn/tests/fixtures/tiny-qwen2")).unwrap();
        let targets = ["q_proj", "v_proj", "down_proj"].map(str::to_owned).to_vec();
        let options = LoraOptions {
            rank: 4,
            scale: 2.0,
            dropout: 0.3,
            targets,
        };
        let trainer = CandleTrainer::lora(
            &folder,
            &Device::Cpu,
            DType::F32,
            WeightStorage::Nf4 { double_quant: true },
            options,
        )
        .unwrap();
        let mut batch = MicroBatch::default();
        batch.push(&[3, 17, 99, 4, 120, 63], &[-100, 17, 99, -100, 120, 63], &[4, 2]);
        let work = trainer.work(&trainer.initial(1), &batch, Some([1, 2, 3])).unwrap();
        let tape = trainer
            .tape(&work, 1, &trainer.decoder.embed(&batch.tokens).unwrap())
            .unwrap();
        let store = tape.gradients(&tape.y.ones_like().unwrap()).unwrap();
        let expected: HashSet<_> = tape.trainables.iter().chain([&tape.x]).map(|var| var.id()).collect();
        assert_eq!(expected.len(), 7);
        assert_eq!(store.get_ids().copied().collect::<HashSet<_>>(), expected);
    }
}
