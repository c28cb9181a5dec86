//! Everyday requests for the coordinator: what a person types first, unlike the templates of the other rows.
//!
//! Training rows fill the templates of `everyday_phrases.json`. The held-out ones are written by hand
//! (`everyday_questions.json`); no training row equals one of them, whatever its case and final punctuation.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::Result;
use crate::random::Random;
use crate::routing::{LABELS, Query};

/// Templates by label and what their blanks are filled with.
#[derive(Debug, Deserialize)]
pub(crate) struct Phrases {
    templates: BTreeMap<String, Vec<String>>,
    slots: BTreeMap<String, Vec<String>>,
    syllables: Vec<String>,
}

impl Phrases {
    /// The bundled ones.
    ///
    /// # Errors
    /// When the bundled file is not what this type says.
    pub(crate) fn bundled() -> Result<Self> {
        Ok(serde_json::from_str(include_str!("everyday_phrases.json"))?)
    }

    /// A request of the label at this index of [`LABELS`].
    pub(crate) fn query(&self, random: &mut Random, label: usize) -> Query {
        let text = if LABELS[label] == "several" {
            self.two(random)
        } else {
            self.typed(random, label)
        };
        Query::new(text, label)
    }

    /// A single request as people type: at times without final punctuation or without a capital letter.
    fn typed(&self, random: &mut Random, label: usize) -> String {
        let mut text = self.single(random, label);
        if random.percent(20) {
            text.truncate(text.trim_end_matches(['.', '?', '!']).len());
        }
        if random.percent(25) {
            text = uncapitalized(&text);
        }
        text
    }

    fn single(&self, random: &mut Random, label: usize) -> String {
        let template = random.pick(&self.templates[LABELS[label]]).clone();
        self.fill(random, &template)
    }

    /// Requests of two different domains in one.
    fn two(&self, random: &mut Random) -> String {
        let first_domain = random.below(3);
        let second_domain = (first_domain + 1 + random.below(2)) % 3;
        let first = closed(self.single(random, first_domain));
        let second = closed(self.single(random, second_domain));
        let template = random.pick(&self.templates["several"]);
        crate::template::fill(
            template,
            &[
                ("first_open", first.trim_end_matches(['.', '?', '!'])),
                ("second_lower", &uncapitalized(&second)),
                ("first", &first),
                ("second", &second),
            ],
        )
    }

    /// Fills the blanks one after another; what is filled in may have blanks itself.
    fn fill(&self, random: &mut Random, template: &str) -> String {
        let mut text = template.to_owned();
        while let Some((before, rest)) = text.split_once('{') {
            let Some((name, after)) = rest.split_once('}') else {
                break;
            };
            let value = match name {
                "a" => random.between(2, 99).to_string(),
                "b" | "c" => random.between(2, 60).to_string(),
                "noise" => (0..=random.below(3))
                    .map(|_| random.pick(&self.syllables).as_str())
                    .collect(),
                "keys" => (0..random.between(3, 6))
                    .map(|_| char::from(b'a' + random.below(26) as u8))
                    .collect(),
                slot => random.pick(&self.slots[slot]).clone(),
            };
            text = format!("{before}{value}{after}");
        }
        text
    }
}

/// The hand-written requests with their labels.
///
/// # Errors
/// When the bundled file is not what this function reads.
pub(crate) fn questions() -> Result<Vec<Query>> {
    let by_label: BTreeMap<String, Vec<String>> = serde_json::from_str(include_str!("everyday_questions.json"))?;
    let of_label = |label: usize| {
        let texts = by_label.get(LABELS[label]).into_iter().flatten();
        texts.map(move |text| Query::new(text.clone(), label))
    };
    Ok((0..LABELS.len()).flat_map(of_label).collect())
}

/// What two requests have in common that differ in case and final punctuation only.
pub(crate) fn normalized(text: &str) -> String {
    text.to_lowercase().trim_end_matches(['.', '?', '!', ' ']).to_owned()
}

/// Training rows, every label equally often, none of them a held-out question.
pub(crate) fn training(random: &mut Random, rows: usize, held_out: &[Query]) -> Result<Vec<Query>> {
    let phrases = Phrases::bundled()?;
    let refused: BTreeSet<String> = held_out.iter().map(|query| normalized(&query.text)).collect();
    let mut queries = Vec::with_capacity(rows);
    while queries.len() < rows {
        let query = phrases.query(random, queries.len() % LABELS.len());
        if !refused.contains(&normalized(&query.text)) {
            queries.push(query);
        }
    }
    random.shuffle(&mut queries);
    Ok(queries)
}

fn closed(text: String) -> String {
    if text.ends_with(['.', '?', '!']) {
        text
    } else {
        text + "."
    }
}

/// The text with its first letter in lower case, unless it begins with `I` or a name.
fn uncapitalized(text: &str) -> String {
    let (first, second) = {
        let mut words = text.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    };
    if matches!(first, "I" | "Python" | "Java") || matches!(second, "is" | "runs") && first != "What" && first != "Who"
    {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_blank_has_a_list() {
        let phrases = Phrases::bundled().unwrap();
        let mut random = Random::new(3, "blanks");
        for label in 0..LABELS.len() {
            for _ in 0..2_000 {
                let text = phrases.query(&mut random, label).text;
                assert!(!text.contains(['{', '}']), "{text}");
            }
        }
    }
}
