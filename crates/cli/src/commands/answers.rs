//! `bench decode`, `bench prefill` and `bench serve`: the speed of the serving engine.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use synapse_checkpoint::ModelConfig;
use synapse_engine::{Completion, Request, SamplingOptions};
use synapse_kernels::{Isa, random::Stream};
use synapse_pipeline::{LoadedModel, ProgressUnit, Reporter};
use synapse_trainer::peak_resident_bytes;

use crate::{
    Outcome,
    args::BenchDecodeArguments,
    commands::{open_model, print, print_json, weight_options},
    failure::Failure,
    terminal::Terminal,
};

/// The measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Generated tokens after prefill.
    Decode,
    /// Prompt tokens.
    Prefill,
    /// Generated tokens from the first request to the last answer, batched and one by one.
    Serve,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Decode => "bench decode",
            Self::Prefill => "bench prefill",
            Self::Serve => "bench serve",
        }
    }
}

/// One round's seconds.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Prefill of all prompts.
    prefill: f64,
    /// Decoding after that.
    decode: f64,
    /// From the first request to the last answer.
    together: f64,
    /// As many requests one by one; 0 if not measured.
    in_turn: f64,
}

/// Default number of tokens to generate per request.
const GENERATED: usize = 128;

/// Measures and prints text or JSON.
pub(crate) fn bench(workload: Workload, arguments: &BenchDecodeArguments) -> Outcome {
    if workload == Workload::Prefill && arguments.tokens.is_some() {
        return Err(Failure::request(
            "--tokens does not apply to `bench prefill`, which generates nothing; use `bench decode`",
        ));
    }
    for (name, value, least) in [
        ("--batch", arguments.batch, 1),
        ("--prompt", arguments.prompt, 1),
        ("--tokens", arguments.tokens.unwrap_or(GENERATED), 2),
        ("--rounds", arguments.rounds, 1),
    ] {
        if value < least {
            return Err(Failure::request(format!(
                "{name} is {value}; it must be at least {least}"
            )));
        }
    }
    let bench = Bench::open(workload, arguments)?;
    let terminal = Terminal::new();
    let total = Some(arguments.rounds as u64);
    let mut rounds = Vec::with_capacity(arguments.rounds);
    // the first round warms the caches and is not counted
    for round in 0..=arguments.rounds {
        let found = bench.round(round)?;
        if round > 0 {
            rounds.push(found);
        }
        Reporter::progress(&terminal, workload.name(), ProgressUnit::Items, round as u64, total);
    }
    drop(terminal);
    bench.report(&rounds)
}

struct Bench<'a> {
    workload: Workload,
    arguments: &'a BenchDecodeArguments,
    config: ModelConfig,
    model: LoadedModel,
    adapters: Vec<String>,
}

impl<'a> Bench<'a> {
    fn open(workload: Workload, arguments: &'a BenchDecodeArguments) -> Result<Self, Failure> {
        let names: Vec<String> = (0..arguments.adapters.len())
            .map(|index| format!("adapter{index}"))
            .collect();
        let folders = arguments.adapters.iter().map(std::path::PathBuf::as_path);
        let adapters: Vec<(&str, &Path)> = names.iter().map(String::as_str).zip(folders).collect();
        let load = weight_options(&arguments.model, arguments.weights)?;
        let files = open_model(&arguments.model, &load)?;
        let model = LoadedModel::of_files(&files, &adapters, &load)?;
        let bench = Self {
            workload,
            arguments,
            config: files.config().clone(),
            model,
            adapters: names,
        };
        let (prompt, tokens, context) = (arguments.prompt, bench.answer_tokens(), bench.model.engine().context());
        if prompt + tokens > context {
            return Err(Failure::request(format!(
                "--prompt {prompt} and --tokens {tokens} exceed the model's {context} positions"
            )));
        }
        Ok(bench)
    }

    fn round(&self, round: usize) -> Result<Round, Failure> {
        let engine = self.model.engine();
        let requests = |round: usize| (0..self.arguments.batch).map(move |index| self.request(round, index));
        let start = Instant::now();
        let completions = engine.generate(requests(2 * round).collect())?;
        let together = start.elapsed().as_secs_f64();
        let mut in_turn = 0.0;
        if self.workload == Workload::Serve {
            // other prompts, because the prefix cache holds the first ones
            let start = Instant::now();
            for request in requests(2 * round + 1) {
                engine.generate(vec![request])?;
            }
            in_turn = start.elapsed().as_secs_f64();
        }
        // the batch's prefill ends with that of its slowest request
        let longest = |seconds: fn(&Completion) -> f64| completions.iter().map(seconds).fold(0.0, f64::max);
        let prefill = longest(|completion| completion.timings.prefill_seconds);
        let whole = longest(|completion| completion.timings.prefill_seconds + completion.timings.decode_seconds);
        Ok(Round {
            prefill,
            decode: whole - prefill,
            together,
            in_turn,
        })
    }

    /// A prompt of random tokens, different in every round, and an answer of a fixed length.
    fn request(&self, round: usize, index: usize) -> Request {
        let stream = Stream::new(&[13, round as u64, index as u64]);
        let vocab = self.model.vocab_size() as u32;
        let names = &self.adapters;
        Request {
            prompt: (0..self.arguments.prompt as u64)
                .map(|i| stream.bits(i) % vocab)
                .collect(),
            sampling: SamplingOptions {
                max_tokens: self.answer_tokens(),
                ignore_eos: true,
                ..SamplingOptions::default()
            },
            adapter: (!names.is_empty()).then(|| names[index % names.len()].clone()),
            constraint: None,
        }
    }

    fn answer_tokens(&self) -> usize {
        match self.workload {
            Workload::Prefill => 1,
            Workload::Decode | Workload::Serve => self.arguments.tokens.unwrap_or(GENERATED),
        }
    }

    fn report(&self, rounds: &[Round]) -> Outcome {
        let seconds = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        let batch = self.arguments.batch;
        let (prompts, answers) = (batch * self.arguments.prompt, batch * self.answer_tokens());
        // the first token of an answer comes from prefill
        let generated = answers - batch;
        let (tokens, spent, flops) = match self.workload {
            Workload::Decode => (
                generated,
                seconds(|round| round.decode),
                generated as f64 * self.flops(true),
            ),
            Workload::Prefill => (
                prompts,
                seconds(|round| round.prefill),
                prompts as f64 * self.flops(false),
            ),
            Workload::Serve => {
                let flops = prompts as f64 * self.flops(false) + generated as f64 * self.flops(true);
                (answers, seconds(|round| round.together), flops)
            }
        };
        let rate = tokens as f64 / spent;
        let (isa, threads) = (Isa::current().name(), synapse_kernels::threads());
        let mut figures = json!({
            "tokens_per_second": rate,
            "seconds": spent,
            "gflops": flops / spent / 1e9,
            "peak_rss_bytes": peak_resident_bytes(),
            "batch": batch,
            "prompt_tokens": self.arguments.prompt,
            "generated_tokens": self.answer_tokens(),
            "adapters": self.arguments.adapters,
            "isa": isa,
            "threads": threads,
        });
        let prefill = prompts as f64 / seconds(|round| round.prefill);
        let summary = match self.workload {
            Workload::Decode => {
                figures["prefill_tokens_per_second"] = prefill.into();
                figures["decode_tokens_per_second"] = rate.into();
                format!("prefill {prefill:.1} tokens/s, decode {rate:.1} tokens/s")
            }
            Workload::Prefill => format!("prefill {rate:.1} tokens/s"),
            Workload::Serve => {
                let in_turn = tokens as f64 / seconds(|round| round.in_turn);
                figures["in_turn_tokens_per_second"] = in_turn.into();
                figures["speedup"] = Value::from(rate / in_turn);
                format!(
                    "{rate:.1} tokens/s batched, {in_turn:.1} one by one: {:.2}x",
                    rate / in_turn
                )
            }
        };
        if self.arguments.json {
            return print_json(&figures);
        }
        print(&format!(
            "{summary} (batch {batch}, {} + {} tokens, median of {} rounds)\n{isa}, {threads} threads",
            self.arguments.prompt,
            self.answer_tokens(),
            rounds.len()
        ))
    }

    /// Floating-point operations per token of the products with the weights. In a prompt, only the last token uses the LM head.
    fn flops(&self, with_head: bool) -> f64 {
        let config = &self.config;
        let head = if with_head {
            config.vocab_size * config.hidden_size
        } else {
            0
        };
        2.0 * (config.weights_per_token() + head) as f64
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
