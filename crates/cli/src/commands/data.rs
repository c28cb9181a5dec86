//! `data fetch|report|inspect`: a recipe's data without training.

use synapse_chat::Chat;
use synapse_data::PackedDataset;
use synapse_pipeline::{Run, RunOptions, run_specialist};
use synapse_recipe::{Document, SpecialistPlan, Stage};

use crate::{
    Outcome,
    args::{DataCommand, RunArguments},
    commands::{
        print, print_json,
        run::{STOP, load, options},
    },
    failure::Failure,
    terminal::Terminal,
};

/// Runs a data command.
pub(crate) fn data(command: &DataCommand) -> Outcome {
    match command {
        DataCommand::Fetch(arguments) => each(arguments, Stage::Fetch, |_, outcome| {
            print(&format!("base {}", outcome.fetched.base.folder.display()))
        }),
        DataCommand::Report(arguments) => each(arguments, Stage::Prepare, |_, outcome| match &outcome.manifest {
            Some(manifest) => print_json(manifest),
            None => Ok(()),
        }),
        DataCommand::Inspect { run, row } => each(run, Stage::Prepare, |plan, outcome| {
            inspect(plan, &outcome.fetched.base.folder, *row)
        }),
    }
}

fn each(
    arguments: &RunArguments,
    until: Stage,
    show: impl Fn(&SpecialistPlan, &synapse_pipeline::SpecialistOutcome) -> Outcome,
) -> Outcome {
    let plans = match load(arguments)? {
        Document::Specialist(plan) => vec![plan],
        Document::Pipeline(plan) => plan.specialists,
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
    for plan in &plans {
        let outcome = run_specialist(&run, plan)?;
        show(plan, &outcome)?;
    }
    Ok(())
}

/// One row as the step sees it: trained tokens stand in 【brackets】.
fn inspect(plan: &SpecialistPlan, base: &std::path::Path, index: usize) -> Outcome {
    let rows = PackedDataset::open(&plan.run_dir.join("data/train.arrow"))?;
    if index >= rows.len() {
        return Err(Failure::request(format!(
            "--row {index}: {} has {} rows",
            plan.name,
            rows.len()
        )));
    }
    let chat = Chat::open(base)?;
    let row = rows.row(index);
    let mut text = format!(
        "{} row {index}: {} tokens in {} documents\n",
        plan.name,
        row.input_ids.len(),
        row.seq_lengths.len()
    );
    let mut start = 0;
    for &length in &row.seq_lengths {
        let end = start + length as usize;
        let mut run: Vec<u32> = Vec::new();
        let mut trained = false;
        let mut flush = |run: &mut Vec<u32>, trained: bool| -> Result<(), Failure> {
            if !run.is_empty() {
                let piece = chat.decode(run, false)?;
                text.push_str(&if trained { format!("【{piece}】") } else { piece });
                run.clear();
            }
            Ok(())
        };
        for position in start..end {
            let now = row.labels[position] != -100;
            if now != trained {
                flush(&mut run, trained)?;
                trained = now;
            }
            run.push(row.input_ids[position]);
        }
        flush(&mut run, trained)?;
        text.push('\n');
        start = end;
    }
    print(&text)
}
