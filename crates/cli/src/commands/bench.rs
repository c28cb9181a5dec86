//! `bench`: measures throughput and memory of workloads on this machine.

use serde_json::json;
use synapse_bench::{BenchmarkBase, BenchmarkResult, StepBenchmark};
use synapse_checkpoint::ModelFolder;
use synapse_nn::{LoadOptions, LoraOptions, Precision, WeightDtype};
use synapse_pipeline::{ProgressUnit, Reporter};
use synapse_recipe::LINEAR_MODULES;

use crate::{
    Outcome,
    args::{BenchCommand, BenchTrainArguments, Dtype, Storage, Switch},
    commands::{
        answers::{self, Workload},
        print, print_json, tasks,
    },
    failure::Failure,
    terminal::Terminal,
};

/// Measures and prints text or JSON.
pub(crate) fn bench(command: &BenchCommand) -> Outcome {
    match command {
        BenchCommand::Decode(arguments) => answers::bench(Workload::Decode, arguments),
        BenchCommand::Prefill(arguments) => answers::bench(Workload::Prefill, arguments),
        BenchCommand::Serve(arguments) => answers::bench(Workload::Serve, arguments),
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
        config = super::read_config(&arguments.model)?;
        BenchmarkBase::Random(&config)
    } else {
        folder = ModelFolder::open(&arguments.model)?;
        BenchmarkBase::Folder(&folder)
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
    let benchmark = StepBenchmark {
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
    terminal.progress("bench train", ProgressUnit::Items, 0, Some(total));
    let result = benchmark
        .measure(&mut |done| terminal.progress("bench train", ProgressUnit::Items, done as u64, Some(total)))?;
    drop(terminal);
    let memory = benchmark.workload().memory();
    if arguments.json {
        return print_json(&json!({
            "tokens_per_second": result.tokens as f64 / result.median_seconds(),
            "peak_rss_bytes": result.peak_rss,
            "predicted_peak_bytes": result.predicted,
            "predicted": {
                "weights": memory.weights,
                "trainable": memory.trainable,
                "activations": memory.activations,
                "workspace": memory.workspace,
                "logits": memory.logits,
            },
            "gflops": result.flops / result.median_seconds() / 1e9,
            "gemm_peak_gflops": result.peak_flops / 1e9,
            "share_of_gemm_peak": result.flops / result.median_seconds() / result.peak_flops,
            "gflop_per_token": result.flops / result.tokens as f64 / 1e9,
            "isa": result.isa.name(),
            "threads": result.threads,
            "seconds": result.median_seconds(),
            "step_seconds": result.seconds,
        }));
    }
    print(&text(&result))
}

fn text(result: &BenchmarkResult) -> String {
    let seconds = result.median_seconds();
    let rate = result.flops / seconds;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let measured = result.peak_rss.map_or_else(
        || "unknown on this system".to_owned(),
        |bytes| format!("{:.2} GiB", gib(bytes)),
    );
    format!(
        "{:.1} tokens/s, {seconds:.3} s per step of {} tokens (median of {} steps)\n\
         {:.0} GFLOP/s, {:.0} % of the {:.0} of a large matrix product; {:.2} GFLOP per token\n\
         peak memory {measured}, predicted {:.2} GiB\n\
         {}, {} threads",
        result.tokens as f64 / seconds,
        result.tokens,
        result.seconds.len(),
        rate / 1e9,
        100.0 * rate / result.peak_flops,
        result.peak_flops / 1e9,
        result.flops / result.tokens as f64 / 1e9,
        gib(result.predicted),
        result.isa.name(),
        result.threads,
    )
}
