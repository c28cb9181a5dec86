//! `plan`: shows what a run of a file would do.

use crate::{
    Outcome,
    args::PlanArguments,
    commands::{print, print_json},
};

/// Prints the estimate as text or JSON.
pub(crate) fn plan(arguments: &PlanArguments) -> Outcome {
    let document = synapse_recipe::load(&arguments.file, &arguments.set)?;
    let estimate = synapse_pipeline::Estimate::new(&document)?;
    if arguments.json {
        print_json(&estimate)
    } else {
        print(&estimate.to_string())
    }
}
