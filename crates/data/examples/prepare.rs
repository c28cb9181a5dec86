//! Prepares local files as one recipe would: `prepare MODEL_DIR OUT_DIR HELD_OUT FILE[=SAMPLES]...`.
//!
//! For trying a data file and for the parity scripts; `routing` as a file is the coordinator's generator. Several
//! files of one source are joined by commas. Prints the manifest.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use synapse_data::{PrepareEvent, PrepareRequest, SourceFiles, prepare};
use synapse_recipe::{ComputeDtype, DataPlan, Location, LossOn, Overlong, Samples, Scheduler, SourcePlan, TrainPlan};
use synapse_tokenizer::ChatTokenizer;

type AnyError = Box<dyn std::error::Error>;

fn source(argument: &str) -> Result<(SourcePlan, SourceFiles), AnyError> {
    let (paths, samples) = argument.split_once('=').unwrap_or((argument, "all"));
    let mut files = SourceFiles::default();
    for path in paths.split(',').filter(|&path| path != "routing") {
        files.files.extend(SourceFiles::local(Path::new(path))?.files);
    }
    let plan = SourcePlan {
        dataset: Path::new(paths)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        location: if paths == "routing" {
            Location::Routing
        } else {
            Location::File(PathBuf::from(paths))
        },
        samples: if samples == "all" {
            Samples::All
        } else {
            Samples::Count(samples.parse()?)
        },
        split: "train".to_owned(),
        format: None,
        map: BTreeMap::new(),
        system_prompt: None,
        held_out_file: None,
        license: None,
        requests: Vec::new(),
    };
    Ok((plan, files))
}

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, held_out, sources @ ..] = arguments.as_slice() else {
        return Err("usage: prepare MODEL_DIR OUT_DIR HELD_OUT FILE[=SAMPLES]...".into());
    };
    let sources: Vec<_> = sources
        .iter()
        .map(|argument| source(argument))
        .collect::<Result<_, _>>()?;
    let (sources, files): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
    let plan = DataPlan {
        sources,
        total: None,
        strict: false,
        seed: 42,
        held_out: held_out.parse()?,
        min_chars: 0,
        max_chars: None,
        dedupe: true,
        near_duplicates: None,
        decontaminate: false,
        benchmarks: Vec::new(),
    };
    let train = TrainPlan {
        epochs: 1.0,
        max_steps: None,
        batch_size: 2,
        gradient_accumulation: 8,
        max_seq_len: 2048,
        learning_rate: 2e-4,
        scheduler: Scheduler::Cosine,
        warmup_ratio: 0.03,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        loss_on: LossOn::Assistant,
        packing: true,
        overlong: Overlong::Truncate,
        recompute: synapse_recipe::Recompute::Auto,
        compute_dtype: ComputeDtype::Bf16,
        seed: 42,
        checkpoint_every: 0,
    };
    let chat = ChatTokenizer::open(Path::new(model))?;
    std::fs::create_dir_all(out)?;
    let request = PrepareRequest {
        plan: &plan,
        train: &train,
        system_prompt: None,
        files,
        request_files: Vec::new(),
        benchmarks: &[],
        chat: &chat,
        out: Path::new(out),
    };
    let manifest = prepare(&request, &|event| {
        if let PrepareEvent::Warning(warning) = event {
            let _ = writeln!(std::io::stderr(), "warning: {warning}");
        }
    })?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&manifest)?)?;
    Ok(())
}
