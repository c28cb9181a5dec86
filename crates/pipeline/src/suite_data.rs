//! What evaluation suites read: the held-out rows of prepared data, and the questions of suites that read files.

use std::path::Path;

use synapse_data::PackedDataset;
use synapse_evaluate::datasets::SourceRow;
use synapse_evaluate::rows::{HeldOutDocument, QuestionAnswer, read_rows};
use synapse_evaluate::suites::SuiteData;
use synapse_recipe::SuiteId;

use crate::{FetchedSource, PipelineError};

/// What suites read from a folder of prepared data; nothing without one.
///
/// # Errors
/// The folder's files are missing or malformed.
pub fn suite_data(data: Option<&Path>) -> Result<SuiteData, PipelineError> {
    let Some(data) = data else {
        return Ok(SuiteData {
            domain: "model".into(),
            ..SuiteData::default()
        });
    };
    let held_out = PackedDataset::open(&data.join("held_out.arrow"))?;
    let documents = (0..held_out.len())
        .map(|index| {
            let row = held_out.row(index);
            HeldOutDocument {
                input_ids: row.input_ids,
                labels: row.labels,
            }
        })
        .collect();
    let rows = read_rows(&data.join("held_out.jsonl"))?;
    let labels = synapse_data::routing::LABELS.map(str::to_owned).to_vec();
    Ok(SuiteData {
        domain: "held-out".into(),
        documents,
        rows,
        labels,
        ..SuiteData::default()
    })
}

/// Adds the questions of a suite that reads files.
///
/// # Errors
/// A file that cannot be read; file and place are named.
pub fn add_questions(data: &mut SuiteData, suite: SuiteId, fetched: &FetchedSource) -> Result<(), PipelineError> {
    let files = fetched.files().files;
    if suite == SuiteId::Gsm8k {
        let questions = synapse_data::read_questions(&files)?;
        data.questions = questions
            .into_iter()
            .map(|(question, answer)| QuestionAnswer { question, answer })
            .collect();
        return Ok(());
    }
    let mut rows = Vec::new();
    for file in &files {
        let records = synapse_data::read_records(file)?;
        rows.extend(records.into_iter().map(|(place, fields)| SourceRow::new(place, fields)));
    }
    data.files.insert(suite.id().to_owned(), rows);
    Ok(())
}
