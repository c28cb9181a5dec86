//! `plan`: shows what a run of a file would do.

use crate::{
    Outcome,
    args::PlanArguments,
    commands::{print, print_json},
};

/// Prints the estimate as text or JSON.
pub(crate) fn plan(arguments: &PlanArguments) -> Outcome {
    let document = synapse_recipe::load(&arguments.file, &arguments.set)?;
    let forecast = synapse_pipeline::Forecast::new(&document)?;
    if arguments.json {
        print_json(&forecast)
    } else {
        print(&forecast.to_string())
    }
}
