//! The corpus as files, in the formats real datasets come in.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value as Json, json};
use synapse_checkpoint::write_atomic;

use crate::corpus::{Conversation, DOMAINS, Row, SYSTEM};
use crate::{Corpus, Error, Result, model};

impl Corpus {
    /// Writes every bundled file under `folder` (data/nano in the repository), each whole or not at all.
    ///
    /// # Errors
    /// When a folder or file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for name in ["pretrain", "train", "held-out", "fresh", "fresh-synapse"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).map_err(|source| Error::Write { path, source })?;
        }
        for (name, rows) in ["math", "code", "general", "routing"].iter().zip(&self.base) {
            write_atomic(
                &folder.join(format!("pretrain/{name}.parquet")),
                &messages_parquet(rows)?,
            )?;
        }
        let [math, code, general, coordinator] = &self.train;
        write_atomic(&folder.join("train/math.parquet"), &question_answer_parquet(math)?)?;
        write_atomic(&folder.join("train/code.json"), &json_array(code, alpaca)?)?;
        write_atomic(&folder.join("train/general.jsonl"), &json_lines(general, sharegpt)?)?;
        write_atomic(
            &folder.join("train/coordinator.jsonl"),
            &json_lines(coordinator, messages)?,
        )?;
        write_atomic(
            &folder.join("train/everyday.jsonl"),
            &json_lines(&self.everyday_train, messages)?,
        )?;
        write_atomic(
            &folder.join("held-out/everyday.jsonl"),
            &json_lines(&self.everyday_held_out, messages)?,
        )?;
        for ((name, rows), shape) in
            DOMAINS
                .iter()
                .zip(&self.held_out)
                .zip([question_answer, alpaca, sharegpt, messages])
        {
            write_atomic(
                &folder.join(format!("held-out/{name}.jsonl")),
                &json_lines(rows, shape)?,
            )?;
        }
        let general = &self.held_out[2];
        write_atomic(
            &folder.join("held-out/general-choices.jsonl"),
            &json_lines(general, choices)?,
        )?;
        let tokenizer = model::train_tokenizer(self)?;
        model::write(&folder.join("fresh"), &tokenizer, &model::decoder_config())?;
        model::write(&folder.join("fresh-synapse"), &tokenizer, &model::synapse_config())
    }
}

fn question_answer(row: &Row) -> Json {
    json!({ "question": row.question, "answer": row.answer })
}

fn alpaca(row: &Row) -> Json {
    let mut value = json!({ "instruction": row.question, "input": "", "output": row.answer });
    if !row.tests.is_empty() {
        value["tests"] = Json::Array(row.tests.clone());
    }
    value
}

fn sharegpt(row: &Row) -> Json {
    json!({ "conversations": [
        { "from": "human", "value": row.question },
        { "from": "gpt", "value": row.answer },
    ] })
}

fn messages(row: &Row) -> Json {
    json!({ "messages": [
        { "role": "system", "content": SYSTEM[3] },
        { "role": "user", "content": row.question },
        { "role": "assistant", "content": row.answer },
    ] })
}

/// A question with sentences to choose from, for multiple choice.
fn choices(row: &Row) -> Json {
    let (sentences, right) = row.choices.clone().unwrap_or_default();
    json!({ "question": row.question, "choices": sentences, "answer": right })
}

fn json_lines(rows: &[Row], shape: fn(&Row) -> Json) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, &shape(row))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn json_array(rows: &[Row], shape: fn(&Row) -> Json) -> Result<Vec<u8>> {
    let values: Vec<Json> = rows.iter().map(shape).collect();
    let mut bytes = serde_json::to_vec_pretty(&values)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn question_answer_parquet(rows: &[Row]) -> Result<Vec<u8>> {
    let questions: StringArray = rows.iter().map(|row| Some(&row.question)).collect();
    let answers: StringArray = rows.iter().map(|row| Some(&row.answer)).collect();
    parquet([
        ("question", Arc::new(questions) as ArrayRef),
        ("answer", Arc::new(answers) as ArrayRef),
    ])
}

/// One column `messages` of `list<struct<role, content>>`, as chat datasets on the hub have it.
fn messages_parquet(rows: &[Conversation]) -> Result<Vec<u8>> {
    let fields = Fields::from(vec![
        Field::new("role", DataType::Utf8, true),
        Field::new("content", DataType::Utf8, true),
    ]);
    let text = || Box::new(StringBuilder::new()) as Box<dyn arrow_array::builder::ArrayBuilder>;
    let mut list = ListBuilder::new(StructBuilder::new(fields, vec![text(), text()]));
    for conversation in rows {
        for (role, content) in conversation {
            let turn = list.values();
            for (column, value) in [*role, content.as_str()].into_iter().enumerate() {
                if let Some(builder) = turn.field_builder::<StringBuilder>(column) {
                    builder.append_value(value);
                }
            }
            turn.append(true);
        }
        list.append(true);
    }
    parquet([("messages", Arc::new(list.finish()) as ArrayRef)])
}

fn parquet<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Vec<u8>> {
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(19)?))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}
