//! `bench decode`: what answering costs, measured through the engine that serves.

use std::path::Path;

use serde_json::json;
use synapse_engine::{Completion, Request, SamplingOptions};
use synapse_kernels::{Isa, random::Stream};
use synapse_pipeline::Lab;

use crate::{
    Outcome,
    args::BenchDecodeArguments,
    commands::{print, print_json, weight_options},
    failure::Failure,
    terminal::Terminal,
};

/// One round: seconds until every prompt is read, and seconds of generating after that.
struct Round {
    prefill: f64,
    decode: f64,
}

/// Measures and prints text or JSON.
pub(crate) fn decode(arguments: &BenchDecodeArguments) -> Outcome {
    for (name, value, least) in [
        ("--batch", arguments.batch, 1),
        ("--prompt", arguments.prompt, 1),
        ("--tokens", arguments.tokens, 2),
        ("--rounds", arguments.rounds, 1),
    ] {
        if value < least {
            return Err(Failure::request(format!(
                "{name} is {value}; it must be at least {least}"
            )));
        }
    }
    let names: Vec<String> = (0..arguments.adapters.len())
        .map(|index| format!("adapter{index}"))
        .collect();
    let adapters: Vec<(&str, &Path)> = names
        .iter()
        .map(String::as_str)
        .zip(arguments.adapters.iter().map(std::path::PathBuf::as_path))
        .collect();
    let lab = Lab::open(&arguments.model, &adapters, &weight_options(arguments.weights))?;
    let context = lab.engine().context();
    if arguments.prompt + arguments.tokens > context {
        return Err(Failure::request(format!(
            "--prompt {} and --tokens {} are more than the model's {context} positions",
            arguments.prompt, arguments.tokens
        )));
    }
    let terminal = Terminal::new();
    let total = Some(arguments.rounds as u64);
    let mut rounds = Vec::with_capacity(arguments.rounds);
    // the first round warms caches and is not counted
    for round in 0..=arguments.rounds {
        let requests = (0..arguments.batch)
            .map(|index| request(arguments, &names, &lab, round, index))
            .collect();
        let found = measure(&lab.engine().generate(requests)?);
        if round > 0 {
            rounds.push(found);
        }
        synapse_pipeline::Reporter::progress(&terminal, "bench decode", round as u64, total);
    }
    drop(terminal);
    let rate = |tokens: usize, seconds: fn(&Round) -> f64| {
        let mut rates: Vec<f64> = rounds.iter().map(|round| tokens as f64 / seconds(round)).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let prefill = rate(arguments.batch * arguments.prompt, |round| round.prefill);
    // a prompt's last position gives the first token
    let decode = rate(arguments.batch * (arguments.tokens - 1), |round| round.decode);
    let (isa, threads) = (Isa::current().name(), synapse_kernels::threads());
    if arguments.json {
        return print_json(&json!({
            "prefill_tokens_per_second": prefill,
            "decode_tokens_per_second": decode,
            "batch": arguments.batch,
            "prompt_tokens": arguments.prompt,
            "generated_tokens": arguments.tokens,
            "adapters": arguments.adapters,
            "isa": isa,
            "threads": threads,
        }));
    }
    print(&format!(
        "prefill {prefill:.1} tokens/s, decode {decode:.1} tokens/s ({} together, {} + {} tokens, median of {})\n\
         {isa}, {threads} threads",
        arguments.batch, arguments.prompt, arguments.tokens, arguments.rounds
    ))
}

/// A prompt of random tokens, other ones in every round, and an answer of a fixed length.
fn request(arguments: &BenchDecodeArguments, names: &[String], lab: &Lab, round: usize, index: usize) -> Request {
    let stream = Stream::new(&[13, round as u64, index as u64]);
    let vocab = lab.vocab_size() as u32;
    Request {
        prompt: (0..arguments.prompt as u64).map(|i| stream.bits(i) % vocab).collect(),
        sampling: SamplingOptions {
            max_tokens: arguments.tokens,
            ignore_eos: true,
            ..SamplingOptions::default()
        },
        adapter: (!names.is_empty()).then(|| names[index % names.len()].clone()),
        constraint: None,
    }
}

/// Requests that began together: the last to have read its prompt ends the prefill.
fn measure(completions: &[Completion]) -> Round {
    let longest = |seconds: fn(&Completion) -> f64| completions.iter().map(seconds).fold(0.0, f64::max);
    let prefill = longest(|completion| completion.timings.prefill_seconds);
    let whole = longest(|completion| completion.timings.prefill_seconds + completion.timings.decode_seconds);
    Round {
        prefill,
        decode: whole - prefill,
    }
}
