//! Prepares local files as one recipe would: `prepare MODEL_DIR OUT_DIR HELD_OUT FILE[=SAMPLES]...`.
//!
//! For trying a data file and for the parity scripts; `routing` as a file is the coordinator's generator. Several
//! files of one source are joined by commas. Prints the manifest.

use std::io::Write;
use std::path::{Path, PathBuf};

use synapse_data::{PrepareEvent, PrepareRequest, SourceFiles, prepare};
use synapse_recipe::{DataPlan, Location, Overlong, Samples, SourcePlan, TrainPlan};
use synapse_tokenizer::ChatTokenizer;

type AnyError = Box<dyn std::error::Error>;

fn source(argument: &str) -> Result<(SourcePlan, SourceFiles), AnyError> {
    let (paths, samples) = argument.split_once('=').unwrap_or((argument, "all"));
    let mut files = SourceFiles::default();
    for path in paths.split(',').filter(|&path| path != "routing") {
        files.files.extend(SourceFiles::local(Path::new(path))?.files);
    }
    let dataset = Path::new(paths).file_stem().unwrap_or_default().to_string_lossy();
    let location = if paths == "routing" {
        Location::Routing
    } else {
        Location::File(PathBuf::from(paths))
    };
    let mut plan = SourcePlan::new(dataset, location);
    if samples != "all" {
        plan.samples = Samples::Count(samples.parse()?);
    }
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
        held_out: held_out.parse()?,
        min_chars: 0,
        ..DataPlan::default()
    };
    let train = TrainPlan {
        overlong: Overlong::Truncate,
        ..TrainPlan::default()
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
