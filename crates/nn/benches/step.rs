//! Tokens/s and peak memory of forward and backward of one micro-batch, QLoRA on all linears.
//!
//!     cargo bench -p synapse-nn --bench step -- MODEL_DIR [ROWS] [LENGTH] [RANK]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "the figures are the output")]

use std::time::Instant;

use synapse_checkpoint::ModelFolder;
use synapse_nn::{
    LoadOptions, LoraOptions, MicroBatch, Precision, StepContext, TrainableDecoder, TrainableModel, WeightDtype,
};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let Some(folder) = arguments.first() else {
        println!("no model folder given, nothing measured");
        return;
    };
    let number = |index: usize, default: usize| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (rows, length, rank) = (number(1, 2), number(2, 512), number(3, 64));
    let folder = ModelFolder::open(folder.as_ref()).unwrap();
    let load = LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: true },
        precision: Precision::Bf16,
    };
    let targets = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut model = TrainableDecoder::lora(
        &folder,
        &load,
        LoraOptions {
            rank,
            scale: 2.0,
            dropout: 0.05,
            targets,
        },
    )
    .unwrap();
    let parameters = model.initial(42);
    let mut gradients = vec![0.0; parameters.len()];
    let mut batch = MicroBatch::default();
    let vocab = folder.config().vocab_size;
    for row in 0..rows {
        let ids: Vec<u32> = (0..length)
            .map(|i| ((row * 7919 + i * 104_729) % vocab) as u32)
            .collect();
        let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    for recompute in [false, true] {
        let mut times = Vec::new();
        for step in 0..4 {
            let start = Instant::now();
            let pass = StepContext {
                scale: 1.0 / batch.num_targets() as f32,
                key: [0, step, 0],
                recompute,
            };
            model.accumulate(&parameters, &mut gradients, &batch, &pass).unwrap();
            times.push(start.elapsed().as_secs_f64());
        }
        let best = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "recompute {recompute:5}: {:.0} tokens/s (step times {times:.2?})",
            batch.tokens.len() as f64 / best
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or("no VmHWM")
    );
}
