//! A journal of a model's responses, so that an interrupted evaluation resumes.
//!
//! [`JournaledModel`] wraps a model. It appends each response to a file, under a hash of the request; when the same
//! evaluation runs again, it answers the same requests from the file. Suites do not notice it. It also checks whether the
//! user asked to stop, after every answer and between small batches.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use synapse_tokenizer::ChatTokenizer;

use crate::model::{
    DocumentLoss, EvalModel, Generated, GenerationOptions, LabeledDocument, MultipleChoiceItem, OnGenerated,
};
use crate::{EvaluateError, Result};

/// Documents or questions of one entry. Entries always have the same boundaries, so that a resumed evaluation gives the
/// model the same batches as an uninterrupted one.
const BATCH: usize = 16;

/// The response of one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    Answer(Generated),
    Scores(Vec<Vec<f64>>),
    Losses(Vec<DocumentLoss>),
}

impl Response {
    /// JSON has no infinities; such a response is not stored and the request is repeated.
    fn is_finite(&self) -> bool {
        match self {
            Self::Answer(_) => true,
            Self::Scores(scores) => scores.iter().flatten().all(|score| score.is_finite()),
            Self::Losses(losses) => losses.iter().all(|loss| loss.sum.is_finite()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    evaluation: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(rename = "said")]
    response: Response,
}

/// The file of one evaluation of one model.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: HashMap<String, Response>,
}

impl Journal {
    /// Opens or creates the journal of `evaluation`: a text that identifies the model and everything else that a
    /// response depends on, besides the request. The journal of another evaluation is overwritten; an incomplete last
    /// line is dropped.
    ///
    /// # Errors
    /// [`EvaluateError::File`].
    pub fn open(path: &Path, evaluation: &str) -> Result<Self> {
        Self::read(path, evaluation).map_err(|source| EvaluateError::write(path, source))
    }

    fn read(path: &Path, evaluation: &str) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mut entries = HashMap::new();
        let mut kept = 0;
        for line in text
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            if kept == 0 {
                match serde_json::from_slice::<Header>(line) {
                    Ok(header) if header.evaluation == evaluation => {}
                    _ => break,
                }
            } else {
                let Ok(Entry { key, response }) = serde_json::from_slice(line) else {
                    break;
                };
                entries.insert(key, response);
            }
            kept += line.len();
        }
        file.set_len(kept as u64)?;
        file.seek(SeekFrom::End(0))?;
        if kept == 0 {
            let mut header = serde_json::to_vec(&Header {
                evaluation: evaluation.to_owned(),
            })?;
            header.push(b'\n');
            file.write_all(&header)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    /// Number of stored answers and small batches of scores.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no responses yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn store(&mut self, key: String, response: Response) -> Result<()> {
        if !response.is_finite() {
            return Ok(());
        }
        let entry = Entry { key, response };
        let mut write = || -> std::io::Result<()> {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            self.file.write_all(&line)
        };
        write().map_err(|source| EvaluateError::write(&self.path, source))?;
        self.entries.insert(entry.key, entry.response);
        Ok(())
    }
}

/// A model whose responses are stored in a journal, and that stops on request.
pub struct JournaledModel<'a> {
    model: &'a mut dyn EvalModel,
    journal: Option<Journal>,
    stop: &'a AtomicBool,
}

impl<'a> JournaledModel<'a> {
    /// `stop` is checked after every answer. Without a journal, stopping discards the answers.
    pub fn new(model: &'a mut dyn EvalModel, journal: Option<Journal>, stop: &'a AtomicBool) -> Self {
        Self { model, journal, stop }
    }

    fn stored(&self, key: &str) -> Option<&Response> {
        self.journal.as_ref()?.entries.get(key)
    }

    fn store(&mut self, key: String, response: Response) -> Result<()> {
        self.journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.store(key, response))
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            Err(EvaluateError::Stopped)
        } else {
            Ok(())
        }
    }
}

impl EvalModel for JournaledModel<'_> {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn chat(&self) -> &ChatTokenizer {
        self.model.chat()
    }

    fn max_positions(&self) -> Option<usize> {
        self.model.max_positions()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn losses(&mut self, rows: &[LabeledDocument<'_>]) -> Result<Vec<DocumentLoss>> {
        let mut found = Vec::with_capacity(rows.len());
        for batch in rows.chunks(BATCH) {
            let mut key = Key::new("losses");
            for row in batch {
                key.numbers(row.input_ids.iter().map(|id| i64::from(*id)));
                key.numbers(row.labels.iter().copied());
            }
            let key = key.hex();
            if let Some(Response::Losses(losses)) = self.stored(&key) {
                found.extend_from_slice(losses);
                continue;
            }
            self.check_stop()?;
            let losses = self.model.losses(batch)?;
            found.extend_from_slice(&losses);
            self.store(key, Response::Losses(losses))?;
        }
        Ok(found)
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &GenerationOptions,
        each: &mut OnGenerated<'_>,
    ) -> Result<()> {
        let keys: Vec<String> = prompts.iter().map(|prompt| answer_key(prompt, options)).collect();
        let stored: Vec<Option<Generated>> = keys
            .iter()
            .map(|key| match self.stored(key) {
                Some(Response::Answer(answer)) => Some(answer.clone()),
                _ => None,
            })
            .collect();
        let missing: Vec<usize> = (0..prompts.len()).filter(|index| stored[*index].is_none()).collect();
        let asked: Vec<Vec<u32>> = missing.iter().map(|index| prompts[*index].clone()).collect();
        if !asked.is_empty() {
            self.check_stop()?;
        }
        // new answers arrive in order, and stored ones are delivered between them
        let mut stored = stored.into_iter();
        let mut arrived = missing.into_iter();
        let (journal, stop) = (&mut self.journal, self.stop);
        self.model.generate(&asked, options, &mut |answer| {
            for earlier in stored.by_ref().map_while(|answer| answer) {
                each(earlier)?;
            }
            if let (Some(journal), Some(index)) = (journal.as_mut(), arrived.next()) {
                journal.store(keys[index].clone(), Response::Answer(answer.clone()))?;
            }
            each(answer)?;
            if stop.load(Ordering::Relaxed) {
                return Err(EvaluateError::Stopped);
            }
            Ok(())
        })?;
        for last in stored.flatten() {
            each(last)?;
        }
        Ok(())
    }

    fn score(&mut self, items: &[MultipleChoiceItem]) -> Result<Vec<Vec<f64>>> {
        let mut found = Vec::with_capacity(items.len());
        for batch in items.chunks(BATCH) {
            let mut key = Key::new("scores");
            for item in batch {
                key.numbers(item.prompt.iter().map(|id| i64::from(*id)));
                for continuation in &item.continuations {
                    key.numbers(continuation.iter().map(|id| i64::from(*id)));
                }
            }
            let key = key.hex();
            if let Some(Response::Scores(scores)) = self.stored(&key) {
                found.extend_from_slice(scores);
                continue;
            }
            self.check_stop()?;
            let scores = self.model.score(batch)?;
            found.extend_from_slice(&scores);
            self.store(key, Response::Scores(scores))?;
        }
        Ok(found)
    }
}

fn answer_key(prompt: &[u32], options: &GenerationOptions) -> String {
    let mut key = Key::new("answer");
    key.numbers(prompt.iter().map(|id| i64::from(*id)));
    key.numbers([
        options.max_new_tokens as i64,
        i64::from(options.temperature.to_bits()),
        options.seed.cast_signed(),
    ]);
    for stop in &options.stop {
        key.numbers(stop.bytes().map(i64::from));
    }
    key.hex()
}

/// A hash over lists of numbers, each with its length.
struct Key(Sha256);

impl Key {
    fn new(kind: &str) -> Self {
        Self(Sha256::new_with_prefix(kind))
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = i64>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(i64::to_le_bytes).collect();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// 128 bits are enough for any evaluation.
    fn hex(self) -> String {
        self.0.finalize()[..16].iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Journals of earlier versions have to be readable.
    #[test]
    fn the_lines_of_a_journal_keep_their_format() {
        let generated = Generated {
            text: "4".into(),
            token_ids: vec![19],
            finished: true,
        };
        for (response, said) in [
            (
                Response::Answer(generated),
                r#"{"answer":{"text":"4","token_ids":[19],"finished":true}}"#,
            ),
            (Response::Scores(vec![vec![-1.5]]), r#"{"scores":[[-1.5]]}"#),
            (
                Response::Losses(vec![DocumentLoss { sum: 2.5, tokens: 3 }]),
                r#"{"losses":[{"sum":2.5,"tokens":3}]}"#,
            ),
        ] {
            let line = serde_json::to_string(&Entry {
                key: "k".into(),
                response,
            });
            assert_eq!(line.unwrap(), format!(r#"{{"key":"k","said":{said}}}"#));
        }
    }
}
