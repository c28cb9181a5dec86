//! `import` and `export`: convert between GGUF files and model folders.

use std::path::Path;

use synapse_checkpoint::ModelFolder;
use synapse_export::{GgufExport, GgufType};

use crate::{
    Outcome,
    args::{ExportArguments, ExportFormat},
    commands::print,
    failure::Failure,
};

/// Converts a GGUF file to a model folder.
pub(crate) fn import(file: &Path, out: &Path) -> Outcome {
    synapse_checkpoint::import_gguf(file, out)?;
    print(&out.display().to_string())
}

/// Converts a model folder to a GGUF file.
pub(crate) fn export(arguments: &ExportArguments) -> Outcome {
    let ExportFormat::Gguf = arguments.format;
    let gguf_type: GgufType = arguments
        .quant
        .parse()
        .map_err(|error| Failure::request(format!("--quant {}: {error}", arguments.quant)))?;
    let model = ModelFolder::open(&arguments.model)?;
    let name = arguments
        .model
        .canonicalize()?
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    synapse_export::export_gguf(
        &GgufExport {
            model: &model,
            config: model.config(),
            gguf_type,
            name: &name,
            license: None,
        },
        &arguments.out,
    )?;
    print(&arguments.out.display().to_string())
}
