//! `compare`: compares models with a baseline on the same items, from the results of runs and `eval` or measured anew.

use std::path::Path;

use serde::Deserialize;
use synapse_evaluate::Suite;
use synapse_evaluate::pairwise::{PAIRWISE_LEGEND, PairwiseComparison};

use crate::{
    Outcome,
    args::CompareArguments,
    commands::{
        eval::{self, Measured},
        print, print_json,
        run::stop_on_signal,
    },
    failure::Failure,
};

/// Prints one block per suite, or JSON.
pub(crate) fn compare(arguments: &CompareArguments) -> Outcome {
    let suites = if arguments.suite.is_empty() {
        Vec::new()
    } else {
        eval::suites(&arguments.suite, &arguments.measure)?
    };
    // refuse a wrong request before anything is measured
    let sources = arguments
        .models
        .iter()
        .map(|text| source(text, !suites.is_empty()))
        .collect::<Result<Vec<_>, _>>()?;
    if !suites.is_empty() && !sources.iter().any(|source| matches!(source, Source::Model(_))) {
        return Err(Failure::request("--suite applies to model folders, but none is given"));
    }
    stop_on_signal()?;
    let mut models: Vec<(String, Vec<synapse_evaluate::Outcome>)> = Vec::new();
    for (source, text) in sources.into_iter().zip(&arguments.models) {
        let (name, outcomes) = source.outcomes(&suites, arguments)?;
        let taken = models.iter().any(|(other, _)| *other == name);
        models.push((if taken { text.clone() } else { name }, outcomes));
    }
    let found = PairwiseComparison::of(&models).map_err(Failure::request)?;
    if arguments.json {
        return print_json(&found);
    }
    let blocks: Vec<String> = found.iter().map(PairwiseComparison::render).collect();
    print(&format!("{}\n{PAIRWISE_LEGEND}", blocks.join("\n")))
}

/// The source of a model's results.
enum Source {
    /// A model folder to evaluate.
    Model(String),
    /// Existing results, with the name of their model.
    Outcomes(String, Vec<synapse_evaluate::Outcome>),
}

impl Source {
    fn outcomes(
        self,
        suites: &[Box<dyn Suite>],
        arguments: &CompareArguments,
    ) -> Result<(String, Vec<synapse_evaluate::Outcome>), Failure> {
        match self {
            Self::Outcomes(name, outcomes) => Ok((name, outcomes)),
            Self::Model(folder) => {
                let measured = Measured {
                    model: Path::new(&folder),
                    adapter: None,
                    out: None,
                };
                let evaluations = measured.measure(suites, &arguments.measure)?;
                Ok((
                    measured.name(),
                    evaluations.into_iter().map(|evaluation| evaluation.outcome).collect(),
                ))
            }
        }
    }
}

#[derive(Deserialize)]
struct Written {
    outcomes: Vec<synapse_evaluate::Outcome>,
}

fn source(text: &str, measures: bool) -> Result<Source, Failure> {
    let (path, wanted) = match text.rsplit_once('@') {
        Some((path, subject)) if !Path::new(text).exists() => (Path::new(path), Some(subject)),
        _ => (Path::new(text), None),
    };
    let refused = |why: &str| Failure::request(format!("{text}: {why}"));
    if !path.exists() {
        return Err(refused("no such file or folder"));
    }
    let file = if path.is_dir() {
        path.join("evaluation.json")
    } else {
        path.to_owned()
    };
    let outcomes = if file.is_file() {
        let text = std::fs::read(&file)?;
        serde_json::from_slice::<Written>(&text)
            .map_err(|error| refused(&format!("not a result file of `eval`: {error}")))?
            .outcomes
    } else if path.join("stages").is_dir() {
        synapse_pipeline::outcomes(path)?
    } else if path.join("config.json").is_file() {
        if wanted.is_some() {
            return Err(refused("`@SUBJECT` does not apply to a model folder"));
        }
        if !measures {
            return Err(refused(
                "a model folder has to be evaluated first; pass --suite NAME[,NAME]",
            ));
        }
        return Ok(Source::Model(text.to_owned()));
    } else if path.join("adapter_config.json").is_file() {
        return Err(refused(
            "an adapter is evaluated with its base: run `synapse-train eval BASE --adapter DIR --suite NAME --out FOLDER`, then compare FOLDER",
        ));
    } else {
        return Err(refused("not a run folder, a result of `eval --out` or a model folder"));
    };
    one_model(outcomes, wanted, path).map_err(|why| refused(&why))
}

/// The outcomes of one model: the one wanted, the only one, the merge of a pipeline, or the specialist of a recipe.
fn one_model(outcomes: Vec<synapse_evaluate::Outcome>, wanted: Option<&str>, path: &Path) -> Result<Source, String> {
    let mut models: Vec<&str> = Vec::new();
    for outcome in &outcomes {
        if !models.contains(&outcome.model.as_str()) {
            models.push(&outcome.model);
        }
    }
    let chosen = match (wanted, models.as_slice()) {
        (_, []) => return Err("it has no results yet".into()),
        (Some(wanted), all) => all.iter().find(|name| **name == wanted).copied(),
        (None, [only]) => Some(*only),
        (None, ["base", other]) => Some(*other),
        (None, all) => all.iter().find(|name| **name == "merge").copied(),
    };
    let Some(chosen) = chosen.map(str::to_owned) else {
        return Err(format!(
            "it has results of several models; choose one of {}",
            models
                .iter()
                .map(|name| format!("{}@{name}", path.display()))
                .collect::<Vec<_>>()
                .join(", ")
        ));
    };
    let own = outcomes.into_iter().filter(|outcome| outcome.model == chosen).collect();
    Ok(Source::Outcomes(chosen, own))
}
