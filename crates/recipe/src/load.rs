//! The way in: a file and the command line's overrides become a document or all their problems.

use std::path::Path;

use crate::diagnostics::{Diagnostics, Problem};
use crate::kind::Kind;
use crate::parsed_file::ParsedFile;
use crate::plan::Plan;
use crate::registry_file::read_registry;
use crate::resolve::{parse_overrides, pipeline, specialist, stage_list};

/// Reads, checks and resolves a recipe or a pipeline.
///
/// `overrides` are `a.b=c`, as given to `--set`: applied before anything is checked. On a pipeline,
/// keys of its own apply to it, `NAME.key` to the recipe of that name, and every other key to all
/// its recipes. Relative paths in overrides start from the working directory, those in files from
/// the file's folder; `output` always starts from the working directory.
///
/// # Errors
/// Every problem of the file, its overrides and the files it names.
pub fn load(path: &Path, overrides: &[String]) -> Result<Plan, Diagnostics> {
    let changes = parse_overrides(overrides).map_err(Diagnostics::new)?;
    let mut source = ParsedFile::read(path)?;
    match source.kind() {
        Kind::Pipeline => pipeline(&mut source, changes).map(Plan::Pipeline),
        Kind::Recipe => {
            let problems = source.apply(changes);
            specialist(&mut source, problems).map(Plan::Specialist)
        }
        Kind::StageList => Err(refuse(
            path,
            "this file only lists stages",
            "run a recipe that names it as its `pipeline:`",
        )),
        Kind::Registry => Err(refuse(
            path,
            "this file only describes datasets",
            "run a recipe that uses them",
        )),
    }
}

/// Checks any of the project's YAML files: recipes, pipelines, stage lists and the dataset registry.
///
/// # Errors
/// Every problem of the file and of the files it names.
pub fn check(path: &Path, overrides: &[String]) -> Result<(), Diagnostics> {
    match ParsedFile::read(path)?.kind() {
        Kind::StageList => stage_list(path).map(drop),
        Kind::Registry => read_registry(path).map(drop),
        Kind::Recipe | Kind::Pipeline => load(path, overrides).map(drop),
    }
}

fn refuse(path: &Path, message: &str, hint: &str) -> Diagnostics {
    Diagnostics::new(vec![Problem {
        file: path.to_owned(),
        line: 0,
        column: 0,
        key: String::new(),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }])
}
