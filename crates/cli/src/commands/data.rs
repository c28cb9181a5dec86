//! `data fetch`, `data report` and `data inspect`: a recipe's data without training.

use serde_json::json;
use synapse_pipeline::{RecipeOutcome, Run, RunOptions, check_data_limits, check_row_lengths, run_recipe};
use synapse_recipe::{Plan, SpecialistPlan, Stage};

use crate::{
    Outcome,
    args::{DataCommand, RunArguments},
    commands::{
        inspect::inspect,
        print, print_json,
        run::{STOP, load, options},
    },
    failure::Failure,
    terminal::Terminal,
};

/// Runs a data command.
pub(crate) fn data(command: &DataCommand) -> Outcome {
    match command {
        DataCommand::Fetch { run, json } => {
            let done = each(run, Stage::Fetch)?;
            if *json {
                let of = |(plan, outcome): &(SpecialistPlan, RecipeOutcome)| fetched_json(plan, outcome);
                return print_json(&done.iter().map(of).collect::<Vec<_>>());
            }
            done.iter()
                .try_for_each(|(plan, outcome)| print(&fetched(plan, outcome)))
        }
        DataCommand::Report { run, json } => report(run, *json),
        DataCommand::Inspect { run, row, color, json } => {
            let done = each(run, Stage::Prepare)?;
            done.iter().try_for_each(|(plan, outcome)| {
                let text = inspect(plan, &outcome.fetched.base.folder, *row, *color, *json)?;
                print(&text)
            })
        }
    }
}

/// Runs every recipe of the file until a stage.
fn each(arguments: &RunArguments, until: Stage) -> Result<Vec<(SpecialistPlan, RecipeOutcome)>, Failure> {
    let plans = match load(arguments)? {
        Plan::Specialist(plan) => vec![plan],
        Plan::Pipeline(plan) => plan.specialists,
    };
    let terminal = Terminal::new();
    let run = Run::new(
        RunOptions {
            until: Some(until),
            ..options(arguments)
        },
        &terminal,
        &STOP,
    );
    let mut done = Vec::new();
    for plan in plans {
        let outcome = run_recipe(&run, &plan)?;
        done.push((plan, outcome));
    }
    Ok(done)
}

/// Prints every recipe's report, then checks its limits and that the base has positions for its rows.
fn report(arguments: &RunArguments, json: bool) -> Outcome {
    let done = each(arguments, Stage::Prepare)?;
    let manifests = done
        .iter()
        .filter_map(|(plan, outcome)| Some((plan, outcome, outcome.manifest.as_ref()?)));
    let manifests: Vec<_> = manifests.collect();
    if json {
        // a single manifest is printed as it is in its folder, not as a list
        match manifests.as_slice() {
            [(_, _, manifest)] => print_json(manifest)?,
            several => print_json(&several.iter().map(|(_, _, manifest)| manifest).collect::<Vec<_>>())?,
        }
    } else {
        for (plan, _, manifest) in &manifests {
            print(&format!("{}\n\n{manifest}", plan.name))?;
        }
    }
    for (plan, outcome, manifest) in manifests {
        check_data_limits(plan, manifest)?;
        check_row_lengths(plan, &outcome.fetched, manifest)?;
    }
    Ok(())
}

fn fetched(plan: &SpecialistPlan, outcome: &RecipeOutcome) -> String {
    let mut text = format!("base {}\n", outcome.fetched.base.folder.display());
    for (source, fetched) in plan.data.sources.iter().zip(&outcome.fetched.sources) {
        for (name, local, sha256) in fetched.listed() {
            let revision = fetched
                .revision()
                .map_or_else(String::new, |revision| format!(" @ {revision}"));
            text.push_str(&format!(
                "{}{revision} {name} sha256:{sha256} {}\n",
                source.dataset,
                local.display()
            ));
        }
    }
    text
}

fn fetched_json(plan: &SpecialistPlan, outcome: &RecipeOutcome) -> serde_json::Value {
    let sources = plan.data.sources.iter().zip(&outcome.fetched.sources);
    let sources = sources.map(|(source, fetched)| {
        let files = fetched.listed().iter();
        let files = files.map(|(name, local, sha256)| json!({ "name": name, "local": local, "sha256": sha256 }));
        json!({ "dataset": source.dataset, "revision": fetched.revision(), "files": files.collect::<Vec<_>>() })
    });
    json!({
        "name": plan.name,
        "base": outcome.fetched.base.folder,
        "sources": sources.collect::<Vec<_>>(),
    })
}
