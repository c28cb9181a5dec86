//! `eval`: suites on one model folder, with or without an adapter.

use serde_json::json;
use synapse_evaluate::{RunOptions, Subject};
use synapse_pipeline::{Lab, Reporter, suite_data};

use crate::{
    Outcome,
    args::EvalArguments,
    commands::{load_options, print, print_json},
    failure::Failure,
    terminal::Terminal,
};

/// Measures and prints a table or JSON.
pub(crate) fn eval(arguments: &EvalArguments) -> Outcome {
    for suite in &arguments.suite {
        if !synapse_evaluate::SUITE_IDS.contains(&suite.as_str()) {
            return Err(Failure::request(format!(
                "unknown suite `{suite}`; there are {}",
                synapse_evaluate::SUITE_IDS.join(", ")
            )));
        }
        if suite != "code-tests" && arguments.data.is_none() {
            return Err(Failure::request(format!(
                "suite `{suite}` needs the rows of a prepared recipe: --data outputs/runs/NAME/data"
            )));
        }
    }
    let source = suite_data(arguments.data.as_deref())?;
    let suites = arguments
        .suite
        .iter()
        .map(|id| synapse_evaluate::build(id, &source))
        .collect::<Result<Vec<_>, _>>()?;
    let adapters: Vec<_> = arguments
        .adapter
        .iter()
        .map(|path| ("adapter", path.as_path()))
        .collect();
    let lab = Lab::open(&arguments.model, &adapters, &load_options(arguments.dtype))?;
    let name = if adapters.is_empty() { "model" } else { "adapter" };
    let mut subject = lab.subject(name, adapters.first().map(|(name, _)| *name));
    let terminal = Terminal::new();
    let options = RunOptions {
        limit: arguments.limit,
        max_new_tokens: arguments.max_tokens,
    };
    let name = subject.name().to_owned();
    let evaluations = synapse_evaluate::evaluate(&mut subject, &suites, &options, &|suite, done, total| {
        terminal.progress(&format!("{name}: {}", suite.id()), done as u64, Some(total as u64));
    })?;
    drop(terminal);
    let outcomes: Vec<_> = evaluations.into_iter().map(|evaluation| evaluation.outcome).collect();
    if arguments.json {
        return print_json(&json!({ "model": arguments.model, "adapter": arguments.adapter, "outcomes": outcomes }));
    }
    print(&synapse_pipeline::table(&outcomes))
}
