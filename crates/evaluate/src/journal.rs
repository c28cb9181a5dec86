//! A journal of answers, so that an interrupted evaluation goes on where it stopped.
//!
//! [`Journaled`] stands between a suite and its model. What the model said is appended to a file under a hash of what
//! it was asked; asked the same again, by the next run of the same evaluation, the file answers. Suites know nothing of
//! it. The same place looks whether the user asked to stop, after every answer and between small batches.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use synapse_tokenizer::ChatTokenizer;

use crate::subject::{Choices, Each, Generated, Generation, PackedLoss, RowLoss, Subject};
use crate::{EvaluateError, Result};

/// Documents or questions of one entry. Entries are always cut at the same places, so that a resumed evaluation gives
/// the model the same batches as one that was never interrupted.
const PIECE: usize = 16;

/// What a line holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Answer(Generated),
    Scores(Vec<Vec<f64>>),
    Losses(Vec<RowLoss>),
}

impl Said {
    /// JSON has no infinities; what it cannot hold is asked again.
    fn is_finite(&self) -> bool {
        match self {
            Self::Answer(_) => true,
            Self::Scores(scores) => scores.iter().flatten().all(|score| score.is_finite()),
            Self::Losses(losses) => losses.iter().all(|loss| loss.sum.is_finite()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    evaluation: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    said: Said,
}

/// The file of one evaluation of one model.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: HashMap<String, Said>,
}

impl Journal {
    /// Opens or begins the journal of `evaluation`: a text that changes whenever the model, or anything else that an
    /// answer depends on besides the prompt, does. A journal of another evaluation is begun anew; a line that a crash
    /// cut short is dropped.
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
                match serde_json::from_slice::<Head>(line) {
                    Ok(head) if head.evaluation == evaluation => {}
                    _ => break,
                }
            } else {
                let Ok(Entry { key, said }) = serde_json::from_slice(line) else {
                    break;
                };
                entries.insert(key, said);
            }
            kept += line.len();
        }
        file.set_len(kept as u64)?;
        file.seek(SeekFrom::End(0))?;
        if kept == 0 {
            let mut head = serde_json::to_vec(&Head {
                evaluation: evaluation.to_owned(),
            })?;
            head.push(b'\n');
            file.write_all(&head)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    /// How many answers, or small batches of scores, it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was answered yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn keep(&mut self, key: String, said: Said) -> Result<()> {
        if !said.is_finite() {
            return Ok(());
        }
        let entry = Entry { key, said };
        let mut write = || -> std::io::Result<()> {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            self.file.write_all(&line)
        };
        write().map_err(|source| EvaluateError::write(&self.path, source))?;
        self.entries.insert(entry.key, entry.said);
        Ok(())
    }
}

/// A model whose answers are kept in a journal, and that stops when asked to.
pub struct Journaled<'a> {
    subject: &'a mut dyn Subject,
    journal: Option<Journal>,
    stop: &'a AtomicBool,
}

impl<'a> Journaled<'a> {
    /// `stop` is looked at after every answer; without a journal nothing is kept, and a stop loses what was answered.
    pub fn new(subject: &'a mut dyn Subject, journal: Option<Journal>, stop: &'a AtomicBool) -> Self {
        Self { subject, journal, stop }
    }

    fn known(&self, key: &str) -> Option<&Said> {
        self.journal.as_ref()?.entries.get(key)
    }

    fn keep(&mut self, key: String, said: Said) -> Result<()> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.keep(key, said))
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            Err(EvaluateError::Stopped)
        } else {
            Ok(())
        }
    }
}

impl Subject for Journaled<'_> {
    fn name(&self) -> &str {
        self.subject.name()
    }

    fn chat(&self) -> &ChatTokenizer {
        self.subject.chat()
    }

    fn max_positions(&self) -> Option<usize> {
        self.subject.max_positions()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn losses(&mut self, rows: &[PackedLoss<'_>]) -> Result<Vec<RowLoss>> {
        let mut found = Vec::with_capacity(rows.len());
        for piece in rows.chunks(PIECE) {
            let mut key = Key::new("losses");
            for row in piece {
                key.numbers(row.input_ids.iter().map(|id| i64::from(*id)));
                key.numbers(row.labels.iter().copied());
            }
            let key = key.hex();
            if let Some(Said::Losses(losses)) = self.known(&key) {
                found.extend_from_slice(losses);
                continue;
            }
            self.check_stop()?;
            let losses = self.subject.losses(piece)?;
            found.extend_from_slice(&losses);
            self.keep(key, Said::Losses(losses))?;
        }
        Ok(found)
    }

    fn generate(&mut self, prompts: &[Vec<u32>], options: &Generation, each: &mut Each<'_>) -> Result<()> {
        let keys: Vec<String> = prompts.iter().map(|prompt| answer_key(prompt, options)).collect();
        let known: Vec<Option<Generated>> = keys
            .iter()
            .map(|key| match self.known(key) {
                Some(Said::Answer(answer)) => Some(answer.clone()),
                _ => None,
            })
            .collect();
        let missing: Vec<usize> = (0..prompts.len()).filter(|index| known[*index].is_none()).collect();
        let asked: Vec<Vec<u32>> = missing.iter().map(|index| prompts[*index].clone()).collect();
        if !asked.is_empty() {
            self.check_stop()?;
        }
        // Answers come in order; those that the journal knows are handed on between them.
        let mut known = known.into_iter();
        let mut arrived = missing.into_iter();
        let (journal, stop) = (&mut self.journal, self.stop);
        self.subject.generate(&asked, options, &mut |answer| {
            for earlier in known.by_ref().map_while(|answer| answer) {
                each(earlier)?;
            }
            if let (Some(journal), Some(index)) = (journal.as_mut(), arrived.next()) {
                journal.keep(keys[index].clone(), Said::Answer(answer.clone()))?;
            }
            each(answer)?;
            if stop.load(Ordering::Relaxed) {
                return Err(EvaluateError::Stopped);
            }
            Ok(())
        })?;
        for last in known.flatten() {
            each(last)?;
        }
        Ok(())
    }

    fn score(&mut self, items: &[Choices]) -> Result<Vec<Vec<f64>>> {
        let mut found = Vec::with_capacity(items.len());
        for piece in items.chunks(PIECE) {
            let mut key = Key::new("scores");
            for item in piece {
                key.numbers(item.prompt.iter().map(|id| i64::from(*id)));
                for continuation in &item.continuations {
                    key.numbers(continuation.iter().map(|id| i64::from(*id)));
                }
            }
            let key = key.hex();
            if let Some(Said::Scores(scores)) = self.known(&key) {
                found.extend_from_slice(scores);
                continue;
            }
            self.check_stop()?;
            let scores = self.subject.score(piece)?;
            found.extend_from_slice(&scores);
            self.keep(key, Said::Scores(scores))?;
        }
        Ok(found)
    }
}

fn answer_key(prompt: &[u32], options: &Generation) -> String {
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
