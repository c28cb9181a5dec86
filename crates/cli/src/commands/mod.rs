//! One file per command, and what several of them share.

mod answers;
mod bench;
mod compare;
mod completions;
mod data;
mod eval;
mod export;
mod generate;
mod hub;
mod inspect;
mod plan;
mod recipes;
mod run;
mod search;
mod serve;
mod status;
mod swarm;
mod tasks;

use std::io::Write;
use std::path::Path;

use synapse_checkpoint::gguf::{TensorType, gguf_at};
use synapse_checkpoint::{ModelConfig, ModelFiles};
use synapse_kernels::Isa;
use synapse_nn::{LoadOptions, Precision, WeightDtype};

use crate::{
    Outcome,
    args::{Arguments, Command, Dtype, Quant, WeightArguments},
    console::print_message,
    failure::Failure,
};

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Outcome {
    Isa::from_environment().map_err(Failure::request)?;
    synapse_kernels::threads_from_environment().map_err(Failure::request)?;
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Search(arguments) => search::search(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Check { files } => recipes::check(&files),
        Command::Schema => recipes::schema(),
        Command::Data(command) => data::data(&command),
        Command::Pull { id, revision, out } => hub::pull(&id, revision.as_deref(), out.as_deref()),
        Command::Import { file, out } => export::import(&file, &out),
        Command::Export(arguments) => export::export(&arguments),
        Command::Eval(arguments) => eval::eval(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Up(arguments) => serve::up(&arguments),
        Command::Bench(command) => bench::bench(&command),
        Command::Report { run } => report(&run),
        Command::Status { outputs, json } => status::status(&outputs, json),
        Command::Completions { shell } => completions::completions(shell),
    }
}

/// Writes a run's report and prints its path.
fn report(run: &Path) -> Outcome {
    if !run.join("plan.json").is_file() {
        return Err(Failure::request(format!(
            "{} is not a run folder; runs are in outputs/runs/NAME, and `synapse-train status` lists them",
            run.display()
        )));
    }
    print(&synapse_pipeline::report(run)?.display().to_string())
}

/// Prints data to stdout.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints a value as JSON to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Outcome {
    print(&serde_json::to_string_pretty(value)?)
}

/// Storage and precision of a model that generates text.
pub(crate) fn weight_options(model: &Path, weights: WeightArguments) -> Result<LoadOptions, Failure> {
    let options = load_options(weights.dtype);
    if weights.quant != Quant::None && gguf_at(model)?.is_some() {
        return Err(Failure::request(format!(
            "--quant does not apply to {}: a .gguf file determines the storage of its weights itself",
            model.display()
        )));
    }
    let dtype = match weights.quant {
        Quant::None => options.dtype,
        Quant::Nf4 => WeightDtype::Nf4 { double_quant: false },
        Quant::Q8_0 => WeightDtype::Q8_0,
        Quant::Q4_0 => WeightDtype::Q4_0,
    };
    Ok(LoadOptions { dtype, ..options })
}

/// Reads a config.json, named directly or by its folder.
fn read_config(path: &Path) -> Result<ModelConfig, Failure> {
    if path.is_dir() {
        return Ok(ModelConfig::read(path)?);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::request(format!("cannot read {}: {error}", path.display())))?;
    Ok(ModelConfig::from_json(&text, path)?)
}

/// Opens a folder or .gguf file and reports which of a file's matrices are converted at load.
pub(crate) fn open_model(path: &Path, options: &LoadOptions) -> Result<ModelFiles, Failure> {
    let files = ModelFiles::open(path)?;
    let ModelFiles::Gguf(model) = &files else {
        return Ok(files);
    };
    let compute = match options.precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    for (tensor_type, count) in model.matrix_types() {
        let as_stored = matches!(tensor_type, TensorType::Q4_0 | TensorType::Q8_0);
        if !as_stored && !tensor_type.name().eq_ignore_ascii_case(compute) {
            print_message(format!(
                "{}: {count} {} matrices are converted to {compute}",
                model.path().display(),
                tensor_type.name()
            ));
        }
    }
    Ok(files)
}

/// Storage and precision of a served or evaluated model.
pub(crate) fn load_options(dtype: Dtype) -> LoadOptions {
    match dtype {
        Dtype::F32 => LoadOptions {
            dtype: WeightDtype::F32,
            precision: Precision::F32,
        },
        Dtype::Bf16 => LoadOptions::BF16,
    }
}
