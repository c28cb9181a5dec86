//! The gate activations of a Synapse model for each token of a text, as JSON: the file of `generate --trace`, and the
//! sample that an evaluation writes for the run's page. Models without modules have neither.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_data::{PackedDataset, PackedRow};
use synapse_engine::{Request, SamplingOptions};
use synapse_recipe::SpecialistPlan;

use crate::{LoadedModel, PipelineError, record::write_json, run_dir::RunDir};

/// A text with the gate activations of its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedText {
    /// The modules that a router chooses among, in the order of the weights.
    pub modules: Vec<String>,
    /// The text, token by token.
    pub tokens: Vec<TracedToken>,
    /// The first token of the answer; the prompt is before it.
    pub answer_from: usize,
    /// Layer by layer.
    pub layers: Vec<TracedLayer>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

/// The activations of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TracedLayer {
    /// `[tokens][modules]`: the gate weight of a module, 0 where it is inactive.
    pub weights: Vec<Vec<f32>>,
    /// Mean write strength of the memory's heads, 0 where the memory is inactive.
    pub memory_write: Vec<f32>,
    /// Norm of the memory's output, 0 where the memory is inactive.
    pub memory_read: Vec<f32>,
}

impl TracedText {
    /// Reads `tokens`, whose answer begins at `answer_from`, once more under an adapter or the base; `None` of a model
    /// without modules.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn of(
        model: &LoadedModel,
        adapter: Option<&str>,
        tokens: &[u32],
        answer_from: usize,
    ) -> Result<Option<Self>, PipelineError> {
        let Some(trace) = model.trace(tokens, adapter)? else {
            return Ok(None);
        };
        let texts = tokens.iter().map(|&id| {
            Ok(TracedToken {
                id,
                text: model.chat().decode(&[id], false)?,
            })
        });
        let layers = trace.layers.into_iter().map(|layer| TracedLayer {
            weights: layer.weights,
            memory_write: layer.writes,
            memory_read: layer.reads,
        });
        Ok(Some(Self {
            modules: trace.modules,
            tokens: texts.collect::<Result<_, PipelineError>>()?,
            answer_from,
            layers: layers.collect(),
        }))
    }

    /// What is wrong with a text that was read: a layer that does not say what every token has.
    fn misfit(&self) -> Option<String> {
        let (tokens, modules) = (self.tokens.len(), self.modules.len());
        if self.answer_from > tokens {
            return Some(format!("answer_from is {} of {tokens} tokens", self.answer_from));
        }
        let fits = |layer: &TracedLayer| {
            layer.weights.len() == tokens
                && layer.weights.iter().all(|weights| weights.len() == modules)
                && layer.memory_write.len() == tokens
                && layer.memory_read.len() == tokens
        };
        let layer = self.layers.iter().position(|layer| !fits(layer))?;
        Some(format!(
            "layers[{layer}] does not have {modules} weights, a write and a read for each of {tokens} tokens"
        ))
    }
}

/// Where an evaluation leaves the sample of one model on one domain.
fn sample_path(logs: &Path, domain: &str, subject: &str) -> PathBuf {
    logs.join(format!("{domain}.trace.{subject}.json"))
}

/// A domain's sample that an evaluation left, if it did.
///
/// # Errors
/// A file that cannot be read, is of another version, or whose parts do not belong together.
pub(crate) fn read_sample(logs: &Path, domain: &str, subject: &str) -> Result<Option<TracedText>, PipelineError> {
    let path = sample_path(logs, domain, subject);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PipelineError::io(&path)(error)),
    };
    let unusable = |why: String| PipelineError::Unusable {
        what: format!("{}: {why}", path.display()),
        hint: "evaluate again with this version: --from evaluate".into(),
    };
    let sample: TracedText =
        serde_json::from_slice(&text).map_err(|error| unusable(format!("was written by another version: {error}")))?;
    match sample.misfit() {
        Some(why) => Err(unusable(why)),
        None => Ok(Some(sample)),
    }
}

/// A model's greedy answer to the first held-out row of a domain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TracedSample<'a> {
    /// Whose held-out rows they are.
    domain: &'a SpecialistPlan,
    /// The model's name in tables.
    subject: &'a str,
    /// The adapter that is asked; the base where there is none.
    adapter: Option<&'a str>,
}

impl<'a> TracedSample<'a> {
    /// Of the base, called `subject`.
    pub(crate) fn of(domain: &'a SpecialistPlan, subject: &'a str) -> Self {
        Self {
            domain,
            subject,
            adapter: None,
        }
    }

    /// Of an adapter over it.
    pub(crate) fn under(self, adapter: &'a str) -> Self {
        Self {
            adapter: Some(adapter),
            ..self
        }
    }

    /// Asks, looks inside, and leaves what was seen in the folder `logs`; what an earlier model with modules left there is
    /// taken away where this one has none.
    ///
    /// # Errors
    /// Data that cannot be read, a generation that fails, or a folder that cannot be written.
    pub(crate) fn leave(&self, model: &LoadedModel, logs: &Path) -> Result<(), PipelineError> {
        let path = sample_path(logs, &self.domain.name, self.subject);
        if model.engine().modules().is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PipelineError::io(&path)(error)),
                _ => Ok(()),
            };
        }
        let held_out = PackedDataset::open(&RunDir::new(&self.domain.run_dir).held_out_rows())?;
        if held_out.is_empty() {
            return Ok(());
        }
        let mut tokens = question(&held_out.row(0));
        let answer_from = tokens.len();
        let request = Request {
            prompt: tokens.clone(),
            sampling: SamplingOptions {
                temperature: 0.0,
                max_tokens: self.domain.evaluate.max_new_tokens,
                ..SamplingOptions::default()
            },
            adapter: self.adapter.map(str::to_owned),
            constraint: None,
        };
        let completions = model.engine().generate(vec![request])?;
        tokens.extend(completions.into_iter().flat_map(|completion| completion.token_ids()));
        match TracedText::of(model, self.adapter, &tokens, answer_from)? {
            Some(traced) => write_json(&path, &traced),
            None => Ok(()),
        }
    }
}

/// What a row's first document asks: all before its first trained token, or the first half where all of it is trained.
fn question(row: &PackedRow) -> Vec<u32> {
    let document = row
        .seq_lengths
        .first()
        .map_or(row.input_ids.len(), |&length| length as usize);
    let trained = row.labels[..document].iter().position(|&label| label >= 0);
    // of a document of plain text no token predicts the first
    let asked = trained.filter(|&first| first > 1).unwrap_or(document.div_ceil(2));
    row.input_ids[..asked].to_vec()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use super::*;

    #[test]
    fn a_sample_whose_parts_do_not_fit_is_refused_by_name() {
        let logs = tempfile::tempdir().unwrap();
        assert_eq!(read_sample(logs.path(), "math", "base").unwrap(), None);
        let layer = |weights: Vec<Vec<f32>>| TracedLayer {
            weights,
            memory_write: vec![0.0; 2],
            memory_read: vec![0.0; 2],
        };
        let token = |id| TracedToken { id, text: "a".into() };
        let mut sample = TracedText {
            modules: vec!["language".into(), "memory".into()],
            tokens: vec![token(1), token(2)],
            answer_from: 1,
            layers: vec![layer(vec![vec![0.5; 2]; 2]); 2],
        };
        let path = sample_path(logs.path(), "math", "base");
        write_json(&path, &sample).unwrap();
        assert_eq!(
            read_sample(logs.path(), "math", "base").unwrap().as_ref(),
            Some(&sample)
        );
        let refused = |sample: &TracedText| {
            write_json(&path, sample).unwrap();
            read_sample(logs.path(), "math", "base").unwrap_err().to_string()
        };
        sample.layers[1] = layer(vec![vec![0.5; 2], vec![0.5]]);
        assert!(refused(&sample).contains("math.trace.base.json: layers[1]"));
        sample.answer_from = 3;
        assert!(refused(&sample).contains("answer_from is 3 of 2 tokens"));
    }

    #[test]
    fn a_question_ends_where_the_answer_begins() {
        let row = |labels: &[i64], seq_lengths: &[u32]| PackedRow {
            input_ids: (0..labels.len() as u32).collect(),
            labels: labels.to_vec(),
            seq_lengths: seq_lengths.to_vec(),
        };
        assert_eq!(question(&row(&[-100, -100, -100, 3, 4, -100], &[5, 1])), [0, 1, 2]);
        assert_eq!(question(&row(&[0, 1, 2, 3, 4], &[5])), [0, 1, 2]);
        assert_eq!(question(&row(&[-100, 1, 2, 3, 4, 5, 6], &[4, 3])), [0, 1]);
    }
}
