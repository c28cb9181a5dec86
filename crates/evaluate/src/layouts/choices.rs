//! Multiple choice: MMLU, ARC and HellaSwag as they lie on the hub, and JSONL of one's own.

use super::{Reading, SourceRow};
use crate::Result;
use crate::row::{Answer, ChoiceRow};

/// cais/mmlu: question, subject, choices, answer (index from 0).
///
/// # Errors
/// [`crate::EvaluateError::Layout`] with the row that is laid out otherwise.
pub fn mmlu(rows: &[SourceRow]) -> Result<Vec<ChoiceRow>> {
    let read = |(index, row): (usize, &SourceRow)| {
        let row = Reading::new("mmlu", row);
        let subject = row.words("subject")?;
        Ok(ChoiceRow {
            id: Some(format!("{subject}-{index}")),
            group: Some(subject.replace('_', " ")),
            question: row.words("question")?.to_owned(),
            choices: row.texts("choices")?,
            answer: answer(&row, "answer")?,
        })
    };
    rows.iter().enumerate().map(read).collect()
}

/// allenai/ai2_arc: id, question, choices {text, label}, answerKey (a label: letters, in some rows digits).
///
/// # Errors
/// [`crate::EvaluateError::Layout`] with the row that is laid out otherwise.
pub fn arc(rows: &[SourceRow]) -> Result<Vec<ChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = Reading::new("arc", row);
        let choices = row.inner("choices")?;
        let (texts, labels) = (choices.texts("text")?, choices.texts("label")?);
        let key = row.words("answerKey")?;
        let right = labels.iter().position(|label| label == key).ok_or_else(|| {
            row.fault(format!(
                "the answer `{key}` is none of the labels {}",
                labels.join(", ")
            ))
        })?;
        Ok(ChoiceRow {
            id: Some(row.id("id")?),
            group: None,
            question: row.words("question")?.to_owned(),
            choices: texts,
            answer: Answer::Index(right),
        })
    };
    rows.iter().map(read).collect()
}

/// Rowan/hellaswag: ind, activity_label, ctx_a, ctx_b, endings, label (index from 0, as text). The context is put
/// together and cleaned as the benchmark's users agreed on (Gao et al., lm-evaluation-harness).
///
/// # Errors
/// [`crate::EvaluateError::Layout`] with the row that is laid out otherwise.
pub fn hellaswag(rows: &[SourceRow]) -> Result<Vec<ChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = Reading::new("hellaswag", row);
        if row.text("label").is_ok_and(str::is_empty) {
            return Err(
                row.fault("the label is empty: this is the test split, whose answers are secret; take validation")
            );
        }
        let context = format!("{} {}", row.text("ctx_a")?, capitalized(row.text("ctx_b")?));
        Ok(ChoiceRow {
            id: Some(format!("hellaswag-{}", row.id("ind")?)),
            group: None,
            question: cleaned(&format!("{}: {context}", row.words("activity_label")?)),
            choices: row.texts("endings")?.iter().map(|ending| cleaned(ending)).collect(),
            answer: answer(&row, "label")?,
        })
    };
    rows.iter().map(read).collect()
}

/// question, choices, answer (index from 0 or letter), and if wanted id and group.
///
/// # Errors
/// [`crate::EvaluateError::Layout`] with the row that is laid out otherwise.
pub fn choices(rows: &[SourceRow]) -> Result<Vec<ChoiceRow>> {
    let read = |row: &SourceRow| {
        let row = Reading::new("choices", row);
        Ok(ChoiceRow {
            id: row.optional_text("id")?.map(str::to_owned),
            group: row.optional_text("group")?.map(str::to_owned),
            question: row.words("question")?.to_owned(),
            choices: row.texts("choices")?,
            answer: answer(&row, "answer")?,
        })
    };
    rows.iter().map(read).collect()
}

fn answer(row: &Reading<'_>, column: &str) -> Result<Answer> {
    serde_json::from_value(row.value(column)?.clone())
        .map_err(|_| row.fault(format!("`{column}` is neither an index from 0 nor a letter")))
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

/// WikiHow's leavings: ` [title]` ends a sentence, other brackets are dropped, double spaces are closed.
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
