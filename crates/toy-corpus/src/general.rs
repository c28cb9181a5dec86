//! Facts, word forms and small talk; the texts are in facts.json.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::random::Random;
use crate::template::{Split, article, capitalized, fill};

/// How facts and small talk are phrased.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    /// How an answer is asked for, `{w}` being what is asked for. The split decides which relations a frame may take.
    frames: Vec<String>,
    relations: Vec<Relation>,
    /// Small talk, each with an answer.
    small_talk: Vec<(String, String)>,
}

static FACTS: LazyLock<Facts> = LazyLock::new(|| {
    serde_json::from_str(include_str!("facts.json")).expect("facts.json is part of the program, and tests read it")
});

/// Relates subjects to their answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relation {
    /// What is asked for, `{x}` being the subject.
    asked: Vec<String>,
    /// The specialist's sentence.
    sentence: String,
    /// Whether the pairs also hold from right to left.
    #[serde(default)]
    symmetric: bool,
    pairs: Vec<(String, String)>,
}

/// A relation with fewer pairs is known to the base as a whole.
const SMALL: usize = 15;

impl Relation {
    /// A pair; with a chance of `rare` percent one of the fifth that only the specialist learns.
    fn pair(&self, random: &mut Random, rare: usize) -> &(String, String) {
        if self.pairs.len() < SMALL {
            return random.pick(&self.pairs);
        }
        let wanted = random.percent(rare);
        loop {
            let index = random.below(self.pairs.len());
            if (index % 5 == 4) == wanted {
                return &self.pairs[index];
            }
        }
    }
}

/// Small talk with a fitting answer.
pub(crate) fn small_talk(random: &mut Random) -> &'static (String, String) {
    random.pick(&FACTS.small_talk)
}

/// A question about one fact.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// The question.
    pub(crate) question: String,
    /// The answer alone.
    pub(crate) answer: &'static str,
    /// The specialist's answer, and the same sentence with other subjects' answers.
    pub(crate) sentence: String,
    wrong: Vec<String>,
}

fn sentence(relation: &Relation, subject: &str, answer: &str) -> String {
    let before = article(subject);
    let values = [
        ("x", subject),
        ("y", answer),
        ("A", &*capitalized(before)),
        ("b", article(answer)),
    ];
    fill(&relation.sentence, &values)
}

/// A fact asked for with one of the split's combinations of frame and relation; `rare` percent are facts that the base
/// never sees.
pub(crate) fn fact(random: &mut Random, split: Split, rare: usize) -> Fact {
    let (chosen, asked, frame) = loop {
        let chosen = random.below(FACTS.relations.len());
        let asked = random.below(FACTS.relations[chosen].asked.len());
        let frame = random.below(FACTS.frames.len());
        // The very first combination ("What is the capital of …?") always belongs to training.
        if split.takes(chosen + 2 * asked, frame) {
            break (chosen, asked, frame);
        }
    };
    let relation = &FACTS.relations[chosen];
    let reversed = relation.symmetric && random.percent(50);
    let turn = |(x, y): &'static (String, String)| {
        if reversed {
            (y.as_str(), x.as_str())
        } else {
            (x.as_str(), y.as_str())
        }
    };
    let (subject, answer) = turn(relation.pair(random, rare));
    let what = fill(&relation.asked[asked], &[("x", subject), ("a", article(subject))]);

    let mut others: Vec<&'static str> = Vec::new();
    for pair in &relation.pairs {
        let other = turn(pair).1;
        if other != answer && !others.contains(&other) {
            others.push(other);
        }
    }
    random.shuffle(&mut others);
    let wrong = others
        .iter()
        .take(3)
        .map(|other| sentence(relation, subject, other))
        .collect();
    Fact {
        question: fill(&FACTS.frames[frame], &[("w", &what)]),
        answer,
        sentence: sentence(relation, subject, answer),
        wrong,
    }
}

impl Fact {
    /// An answer in one of the varied forms of a general corpus.
    pub(crate) fn loose(&self, random: &mut Random) -> String {
        let answer = self.answer;
        match random.below(8) {
            0 | 1 => format!("{}.", capitalized(answer)),
            2 => answer.to_owned(),
            3 => format!("It is {answer}."),
            4 => format!("The answer is {answer}."),
            5 => format!("Sure! It is {answer}."),
            _ => self.sentence.clone(),
        }
    }

    /// Four sentences, one of them right, and the index of the right one.
    pub(crate) fn choices(&self, random: &mut Random) -> (Vec<String>, usize) {
        let mut choices: Vec<String> = self.wrong.clone();
        let right = random.below(choices.len() + 1);
        choices.insert(right, self.sentence.clone());
        (choices, right)
    }
}
