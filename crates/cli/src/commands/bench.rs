//! `bench`: what a workload costs on this machine, measured over whole steps.

use std::path::Path;

use serde_json::json;
use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{LoadOptions, LoraOptions, Precision, WeightDtype};
use synapse_pipeline::Reporter;
use synapse_recipe::LINEAR_MODULES;
use synapse_trainer::{Measurement, Probe, ProbeBase};

use crate::{
    Outcome,
    args::{BenchCommand, BenchTrainArguments, Dtype, Storage, Switch},
    commands::{
        answers::{self, What},
        print, print_json, tasks,
    },
    failure::Failure,
    terminal::Terminal,
};

/// Measures and prints text or JSON.
pub(crate) fn bench(command: &BenchCommand) -> Outcome {
    match command {
        BenchCommand::Decode(arguments) => answers::bench(What::Decode, arguments),
        BenchCommand::Prefill(arguments) => answers::bench(What::Prefill, arguments),
        BenchCommand::Serve(arguments) => answers::bench(What::Serve, arguments),
        BenchCommand::Train(arguments) => train(arguments),
        BenchCommand::Tasks(arguments) => tasks::tasks(arguments),
    }
}

fn train(arguments: &BenchTrainArguments) -> Outcome {
    for (name, value) in [
        ("--batch", arguments.batch),
        ("--seq", arguments.seq),
        ("--rank", arguments.rank),
        ("--steps", arguments.steps),
    ] {
        if value == 0 {
            return Err(Failure::request(format!("{name} is 0; it must be at least 1")));
        }
    }
    if !(0.0..1.0).contains(&arguments.dropout) {
        return Err(Failure::request(format!(
            "--dropout is {}; it must be at least 0 and below 1",
            arguments.dropout
        )));
    }
    let (folder, config);
    let base = if arguments.random_weights {
        config = read_config(&arguments.model)?;
        ProbeBase::Random(&config)
    } else {
        folder = ModelFolder::open(&arguments.model)?;
        ProbeBase::Folder(&folder)
    };
    let precision = match arguments.dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16,
    };
    let dtype = match (arguments.quantization, arguments.dtype) {
        (Storage::Nf4, _) => WeightDtype::Nf4 { double_quant: true },
        (Storage::None, Dtype::F32) => WeightDtype::F32,
        (Storage::None, Dtype::Bf16) => WeightDtype::Bf16,
    };
    let probe = Probe {
        base,
        load: LoadOptions { dtype, precision },
        lora: LoraOptions {
            rank: arguments.rank,
            scale: 2.0,
            dropout: arguments.dropout,
            targets: LINEAR_MODULES.map(str::to_owned).to_vec(),
        },
        batch: arguments.batch,
        length: arguments.seq,
        recompute: arguments.recompute == Switch::On,
        steps: arguments.steps,
        warmup: arguments.warmup,
    };
    let terminal = Terminal::new();
    let total = (arguments.steps + arguments.warmup) as u64;
    terminal.progress("bench train", 0, Some(total));
    let found = probe.measure(&mut |done| terminal.progress("bench train", done as u64, Some(total)))?;
    drop(terminal);
    let memory = synapse_trainer::memory(&probe.workload());
    if arguments.json {
        return print_json(&json!({
            "tokens_per_second": found.tokens as f64 / found.median_seconds(),
            "peak_rss_bytes": found.peak_rss,
            "predicted_peak_bytes": found.predicted,
            "predicted": {
                "weights": memory.weights,
                "trainable": memory.trainable,
                "activations": memory.activations,
                "workspace": memory.workspace,
                "logits": memory.logits,
            },
            "gflops": found.flops / found.median_seconds() / 1e9,
            "gemm_peak_gflops": found.peak_flops / 1e9,
            "share_of_gemm_peak": found.flops / found.median_seconds() / found.peak_flops,
            "gflop_per_token": found.flops / found.tokens as f64 / 1e9,
            "isa": found.isa.name(),
            "threads": found.threads,
            "seconds": found.median_seconds(),
            "step_seconds": found.seconds,
        }));
    }
    print(&text(&found))
}

fn text(found: &Measurement) -> String {
    let seconds = found.median_seconds();
    let rate = found.flops / seconds;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let measured = found
        .peak_rss
        .map_or_else(|| "not known here".to_owned(), |bytes| format!("{:.2} GiB", gib(bytes)));
    format!(
        "{:.1} tokens/s, {seconds:.3} s a step of {} tokens ({} steps, median)\n\
         {:.0} GFLOP/s, {:.0} % of a large product's {:.0}; {:.2} GFLOP a token\n\
         peak memory {measured}, predicted {:.2} GiB\n\
         {}, {} threads",
        found.tokens as f64 / seconds,
        found.tokens,
        found.seconds.len(),
        rate / 1e9,
        100.0 * rate / found.peak_flops,
        found.peak_flops / 1e9,
        found.flops / found.tokens as f64 / 1e9,
        gib(found.predicted),
        found.isa.name(),
        found.threads,
    )
}

/// A config.json, or the folder it lies in.
pub(super) fn read_config(path: &Path) -> Result<ModelConfig, Failure> {
    if path.is_dir() {
        return Ok(ModelConfig::read(path)?);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::request(format!("cannot read {}: {error}", path.display())))?;
    Ok(ModelConfig::from_json(&text, path)?)
}
