//! A model whose answers are known, so that each score is known beforehand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use synapse_evaluate::Result;
use synapse_evaluate::model::{
    DocumentLoss, EvalModel, Generated, GenerationOptions, LabeledDocument, MultipleChoiceItem, OnGenerated,
};
use synapse_tokenizer::ChatTokenizer;

/// Answers a prompt by the first rule whose words it contains; prefers continuations that contain `liked`.
pub(crate) struct Scripted {
    chat: ChatTokenizer,
    pub(crate) rules: Vec<(&'static str, String)>,
    liked: &'static str,
    pub(crate) positions: Option<usize>,
    pub(crate) largest_batch: usize,
    /// Prompts answered, and questions scored, so far.
    pub(crate) asked: usize,
}

impl Scripted {
    pub(crate) fn new(rules: &[(&'static str, &str)], liked: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat");
        Self {
            chat: ChatTokenizer::open(&folder).unwrap(),
            rules: rules
                .iter()
                .map(|(nonempty_text, answer)| (*nonempty_text, (*answer).to_owned()))
                .collect(),
            liked,
            positions: None,
            largest_batch: 0,
            asked: 0,
        }
    }
}

impl EvalModel for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn chat(&self) -> &ChatTokenizer {
        &self.chat
    }

    fn max_positions(&self) -> Option<usize> {
        self.positions
    }

    fn losses(&mut self, rows: &[LabeledDocument<'_>]) -> Result<Vec<DocumentLoss>> {
        let loss = |row: &LabeledDocument<'_>| {
            let tokens = row.labels.iter().filter(|label| **label >= 0).count() as u64;
            DocumentLoss {
                sum: tokens as f64 * f64::from(row.input_ids[0]),
                tokens,
            }
        };
        Ok(rows.iter().map(loss).collect())
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &GenerationOptions,
        each: &mut OnGenerated<'_>,
    ) -> Result<()> {
        self.largest_batch = self.largest_batch.max(prompts.len());
        for prompt in prompts {
            self.asked += 1;
            let asked = self.chat.decode(prompt, false).unwrap();
            let rule = self
                .rules
                .iter()
                .find(|(nonempty_text, _)| asked.contains(nonempty_text));
            let mut text = rule.map(|(_, answer)| answer.clone()).unwrap_or_default();
            // a rule may have an answer a seed
            if let Some(seeded) = text.split("<seed>").nth(options.seed as usize) {
                text = seeded.to_owned();
            }
            for stop in &options.stop {
                text.truncate(text.find(stop.as_str()).unwrap_or(text.len()));
            }
            let token_ids = self.chat.encode_text(&text).unwrap();
            let finished = token_ids.len() <= options.max_new_tokens;
            each(Generated {
                text,
                token_ids,
                finished,
            })?;
        }
        Ok(())
    }

    fn score(&mut self, items: &[MultipleChoiceItem]) -> Result<Vec<Vec<f64>>> {
        self.asked += items.len();
        let score = |continuation: &Vec<u32>| {
            let text = self.chat.decode(continuation, false).unwrap();
            if text.contains(self.liked) { -1.0 } else { -3.0 }
        };
        Ok(items
            .iter()
            .map(|item| item.continuations.iter().map(score).collect())
            .collect())
    }
}
