//! `check` and `schema`.

use std::path::PathBuf;

use crate::{
    Outcome,
    commands::{print, print_json},
    console,
    failure::Failure,
};

/// Validates files and prints the problems of all of them.
pub(crate) fn check(files: &[PathBuf]) -> Outcome {
    let mut problems = 0;
    for file in files {
        match synapse_recipe::load(file, &[]) {
            Ok(plan) => {
                print(&format!("{}: ok", file.display()))?;
                match synapse_pipeline::row_length_notes(&plan) {
                    Ok(notes) => notes
                        .iter()
                        .for_each(|note| console::print_message(format!("note: {note}"))),
                    // The recipe is right; what an earlier run left is not.
                    Err(error) => console::print_message(format!("note: row lengths are not known: {error}")),
                }
            }
            Err(diagnostics) => {
                problems += diagnostics.problems.len();
                console::print_message(&diagnostics);
            }
        }
    }
    match problems {
        0 => Ok(()),
        1 => Err(Failure::request("1 problem")),
        many => Err(Failure::request(format!("{many} problems"))),
    }
}

/// Prints the JSON Schema.
pub(crate) fn schema() -> Outcome {
    print_json(&synapse_recipe::schema())
}
