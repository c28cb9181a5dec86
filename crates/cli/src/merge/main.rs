//! The program `synapse-merge`: arguments in, a merged model folder out. The merge itself is in the crate `merge`.

mod adapter_bases;
mod arguments;
#[path = "../console.rs"]
mod console;
mod from_file;
mod messages;
mod model_source;
mod pipeline;
mod prepared;
mod request;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use synapse_merge::{ApplyRequest, DEFAULT_SHARD_BYTES, DeltaFile, MergeError, MergeReport, UpcycleRequest};

use crate::arguments::{Arguments, Command};
use crate::model_source::ModelSource;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            messages::error(&error);
            ExitCode::from(if error.is_request() { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), MergeError> {
    match &arguments.command {
        None => merge(arguments),
        Some(Command::Verify { dir, offline }) => verify(dir, *offline),
        Some(Command::Upcycle {
            adapters,
            base,
            out,
            seed,
            out_shard_size,
            offline,
        }) => {
            let downloads = messages::Downloads::new();
            let source = ModelSource::new(*offline, &downloads);
            let named = match (base, adapters.first()) {
                (Some(base), _) => base.clone(),
                (None, Some(adapter)) => adapter_bases::named_base(adapter)?,
                (None, None) => String::new(),
            };
            let base = source.model(&named, None);
            let base = base.map_err(|problem| MergeError::Request(vec![format!("base: {problem}")]))?;
            downloads.finish();
            let config = synapse_merge::upcycle(&UpcycleRequest {
                base,
                adapters: adapters.clone(),
                out: out.clone(),
                seed: *seed,
                max_shard_bytes: out_shard_size.unwrap_or(DEFAULT_SHARD_BYTES),
            })?;
            messages::upcycled(&config, adapters.len());
            let _ = writeln!(std::io::stdout().lock(), "{}", out.display());
            Ok(())
        }
        Some(Command::Apply {
            delta,
            base,
            out,
            out_shard_size,
            offline,
        }) => {
            let downloads = messages::Downloads::new();
            let source = ModelSource::new(*offline, &downloads);
            let named = match base {
                Some(base) => base.clone(),
                None => DeltaFile::read(delta)?.base,
            };
            let base = source.model(&named, None);
            let base = base.map_err(|problem| MergeError::Request(vec![format!("base: {problem}")]))?;
            downloads.finish();
            synapse_merge::apply_delta(&ApplyRequest {
                delta: delta.clone(),
                base,
                out: out.clone(),
                max_shard_bytes: out_shard_size.unwrap_or(DEFAULT_SHARD_BYTES),
            })?;
            let _ = writeln!(std::io::stdout().lock(), "{}", out.display());
            Ok(())
        }
    }
}

/// Repeats the merge of the folder's merge.yaml and compares.
fn verify(dir: &Path, offline: bool) -> Result<(), MergeError> {
    let downloads = messages::Downloads::new();
    let source = ModelSource::new(offline, &downloads);
    let prepared = request::of_folder(dir, &source)?;
    downloads.finish();
    let bar = messages::merge_bar();
    let report = synapse_merge::verify(&prepared.request, &|progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.bytes);
    });
    bar.finish_and_clear();
    messages::verified(&report?);
    let _ = writeln!(std::io::stdout().lock(), "{}", dir.display());
    Ok(())
}

fn merge(arguments: &Arguments) -> Result<(), MergeError> {
    let downloads = messages::Downloads::new();
    let source = ModelSource::new(arguments.offline, &downloads);
    let prepared = request::prepare(arguments, &source)?;
    downloads.finish();
    messages::describe(&prepared);
    let bar = messages::merge_bar();
    if let Some(rank) = prepared.request.extract_rank {
        let extraction = synapse_merge::extract_lora(&prepared.request, rank, &|progress| {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.bytes);
        });
        bar.finish_and_clear();
        messages::extracted(&extraction?, rank);
        let _ = writeln!(std::io::stdout().lock(), "{}", prepared.request.out.display());
        return Ok(());
    }
    let told = std::cell::Cell::new(false);
    let report = synapse_merge::merge(&prepared.request, &|progress| {
        if progress.resumed > 0 && !told.replace(true) {
            bar.suspend(|| messages::resumed(progress.resumed));
        }
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.bytes);
    });
    bar.finish_and_clear();
    let report = report?;
    messages::summary(&report);
    print(arguments, &prepared, &report);
    Ok(())
}

/// Writes the folder or the report to stdout. A closed stdout does not undo the merge.
fn print(arguments: &Arguments, prepared: &prepared::PreparedMerge, report: &MergeReport) {
    let text = if arguments.json {
        report.to_json()
    } else {
        format!("{}\n", prepared.request.out.display()).into_bytes()
    };
    let _ = std::io::stdout().lock().write_all(&text);
}
