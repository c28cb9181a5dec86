//! Multiple choice: MMLU, ARC and HellaSwag in the hub's format, and the user's own JSONL.

use super::source_row::{RowReader, SourceRow};
use crate::Result;
use crate::rows::{CorrectChoice, MultipleChoiceRow};

/// cais/mmlu: question, subject, choices, answer (index from 0).
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn mmlu(rows: &[SourceRow]) -> Result<Vec<MultipleChoiceRow>> {
    let read = |(index, row): (usize, &SourceRow)| {
        let row = RowReader::new("mmlu", row);
        let subject = row.nonempty_text("subject")?;
        Ok(MultipleChoiceRow {
            id: Some(format!("{subject}-{index}")),
            group: Some(subject.replace('_', " ")),
            question: row.nonempty_text("question")?.to_owned(),
            choices: row.texts("choices")?,
            answer: answer(&row, "answer")?,
        })
    };
    rows.iter().enumerate().map(read).collect()
}

/// allenai/ai2_arc: id, question, choices {text, label}, answerKey (a label: letters, in some rows digits).
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn arc(rows: &[SourceRow]) -> Result<Vec<MultipleChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = RowReader::new("arc", row);
        let choices = row.inner("choices")?;
        let (texts, labels) = (choices.texts("text")?, choices.texts("label")?);
        let key = row.nonempty_text("answerKey")?;
        let right = labels.iter().position(|label| label == key).ok_or_else(|| {
            row.invalid(format!(
                "the answer `{key}` is not one of the labels {}",
                labels.join(", ")
            ))
        })?;
        Ok(MultipleChoiceRow {
            id: Some(row.id("id")?),
            group: None,
            question: row.nonempty_text("question")?.to_owned(),
            choices: texts,
            answer: CorrectChoice::Index(right),
        })
    };
    rows.iter().map(read).collect()
}

/// Rowan/hellaswag: ind, activity_label, ctx_a, ctx_b, endings, label (index from 0, as text). The context is joined
/// and cleaned as in lm-evaluation-harness (Gao et al.).
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn hellaswag(rows: &[SourceRow]) -> Result<Vec<MultipleChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = RowReader::new("hellaswag", row);
        if row.text("label").is_ok_and(str::is_empty) {
            return Err(
                row.invalid("the label is empty: this is the test split, whose answers are secret; take validation")
            );
        }
        let context = format!("{} {}", row.text("ctx_a")?, capitalized(row.text("ctx_b")?));
        Ok(MultipleChoiceRow {
            id: Some(format!("hellaswag-{}", row.id("ind")?)),
            group: None,
            question: cleaned(&format!("{}: {context}", row.nonempty_text("activity_label")?)),
            choices: row.texts("endings")?.iter().map(|ending| cleaned(ending)).collect(),
            answer: answer(&row, "label")?,
        })
    };
    rows.iter().map(read).collect()
}

/// question, choices, answer (index from 0 or letter), optionally id and group.
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn choices(rows: &[SourceRow]) -> Result<Vec<MultipleChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = RowReader::new("choices", row);
        Ok(MultipleChoiceRow {
            id: row.optional_text("id")?.map(str::to_owned),
            group: row.optional_text("group")?.map(str::to_owned),
            question: row.nonempty_text("question")?.to_owned(),
            choices: row.texts("choices")?,
            answer: answer(&row, "answer")?,
        })
    };
    rows.iter().map(read).collect()
}

fn answer(row: &RowReader<'_>, column: &str) -> Result<CorrectChoice> {
    serde_json::from_value(row.value(column)?.clone())
        .map_err(|_| row.invalid(format!("`{column}` is neither an index from 0 nor a letter")))
}

/// Python's `str.capitalize`: the first letter in upper case, the others in lower case.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first
            .to_uppercase()
            .chain(letters.as_str().to_lowercase().chars())
            .collect()
    })
}

/// Markup of WikiHow: ` [title]` ends a sentence, other brackets are dropped, double spaces are closed.
fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        kept.push_str(&rest[..open]);
        match rest[open..].find(']') {
            Some(close) => rest = &rest[open + close + 1..],
            None => {
                kept.push_str(&rest[open..]);
                rest = "";
            }
        }
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}
