//! Real requests for the routing data: which of a recipe's prompts plainly belong to its label, and what can be made of
//! them that is no request at all.
//!
//! A data set's name is no label: instruction sets made for conversation hold programming tasks and sums, and those made
//! for programming hold shopping lists. What looks like another domain is left out and counted. Where the rows come from,
//! and which of them are held out, is not decided here.

use std::collections::BTreeMap;

use super::Split;
use crate::random::Random;
use crate::row::fingerprint_of;

/// Characters of a request: shorter ones ask nothing, longer ones would make rows of many hundred tokens.
const CHARACTERS: std::ops::RangeInclusive<usize> = 12..=1200;
/// Characters of a request that is joined to another.
const SHORT: usize = 400;

/// Real requests by label, in two halves that share none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    train: Half,
    held_out: Half,
}

/// The requests of one half.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Half {
    by_label: BTreeMap<String, Vec<String>>,
    /// Sums told without their question.
    untold: Vec<String>,
}

/// What became of one recipe's prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// Different requests for training.
    pub(crate) held_in: u64,
    /// Different requests that training never sees.
    pub(crate) held_out: u64,
    /// Prompts left out, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Requests {
    /// Takes a label's prompts: those that the label's specialist is trained on, and those it never sees.
    pub(crate) fn add(&mut self, label: &str, held_in: Vec<String>, held_out: Vec<String>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut seen = std::collections::HashSet::new();
        // Held-out ones first: what is asked in both halves is not trained on.
        let mut usable = |prompts: Vec<String>| -> Vec<String> {
            let mut usable = Vec::new();
            for prompt in prompts {
                let reason = if !CHARACTERS.contains(&prompt.trim().chars().count()) {
                    "length"
                } else if !is_plainly(label, &prompt) {
                    "other_domain"
                } else if !seen.insert(fingerprint_of(&prompt)) {
                    "twice"
                } else {
                    usable.push(prompt.trim().to_owned());
                    continue;
                };
                *sorted.dropped.entry(reason.to_owned()).or_default() += 1;
            }
            usable
        };
        let (held_out, held_in) = (usable(held_out), usable(held_in));
        (sorted.held_in, sorted.held_out) = (held_in.len() as u64, held_out.len() as u64);
        self.train.add(label, held_in);
        self.held_out.add(label, held_out);
        sorted
    }

    pub(super) fn half(&self, split: Split) -> &Half {
        match split {
            Split::Train => &self.train,
            Split::HeldOut => &self.held_out,
        }
    }
}

impl Half {
    fn add(&mut self, label: &str, requests: Vec<String>) {
        if label == "math" {
            self.untold
                .extend(requests.iter().filter_map(|request| without_question(request)));
        }
        self.by_label.entry(label.to_owned()).or_default().extend(requests);
    }

    /// One request of a label; none without any.
    pub(super) fn pick(&self, label: &str, random: &mut Random) -> Option<&str> {
        let requests = self.by_label.get(label).filter(|requests| !requests.is_empty())?;
        Some(&requests[random.below(requests.len())])
    }

    /// One that can be joined to another.
    pub(super) fn pick_short(&self, label: &str, random: &mut Random) -> Option<&str> {
        // Most are short.
        (0..20).find_map(|_| {
            self.pick(label, random)
                .filter(|request| request.chars().count() <= SHORT)
        })
    }

    /// A text in a specialist's words that asks for nothing: a sum without its question, or words in no order.
    pub(super) fn no_request(&self, random: &mut Random) -> Option<String> {
        if !self.untold.is_empty() && random.once_in(2) {
            return Some(self.untold[random.below(self.untold.len())].clone());
        }
        let labels: Vec<&str> = self.by_label.keys().map(String::as_str).collect();
        let label = *labels.get(random.below(labels.len().max(1)))?;
        let request = self.pick_short(label, random)?;
        let mut words: Vec<&str> = request.split_whitespace().collect();
        if words.len() < 6 {
            return None;
        }
        // Neighbors may stay neighbors in a few words, not in a whole request.
        random.shuffle(&mut words);
        words.truncate(5 + random.below(20));
        Some(words.join(" "))
    }
}

/// A sum as it is told, up to its question; none where the question is all there is.
fn without_question(request: &str) -> Option<String> {
    let told = request.trim().strip_suffix('?')?;
    let end = told.rfind(". ")? + 1;
    let told = told[..end].trim();
    let asks = told.contains('?') || words(told).any(|word| ORDERS.contains(&word.as_str()));
    (!asks && told.chars().count() >= *CHARACTERS.start()).then(|| told.to_owned())
}

/// Words by which something is asked for without a question mark.
const ORDERS: [&str; 10] = [
    "find",
    "calculate",
    "determine",
    "compute",
    "what",
    "how",
    "solve",
    "write",
    "give",
    "express",
];
/// Words that make a request one about programs.
const CODE: [&str; 44] = [
    "python",
    "javascript",
    "java",
    "typescript",
    "sql",
    "mysql",
    "html",
    "css",
    "php",
    "ruby",
    "kotlin",
    "swift",
    "rust",
    "golang",
    "bash",
    "code",
    "coding",
    "function",
    "functions",
    "program",
    "programs",
    "programming",
    "algorithm",
    "algorithms",
    "script",
    "regex",
    "api",
    "json",
    "array",
    "arrays",
    "class",
    "method",
    "loop",
    "compiler",
    "database",
    "query",
    "queries",
    "react",
    "git",
    "linux",
    "variable",
    "string",
    "software",
    "jquery",
];
/// Words that make a request a calculation.
const MATH: [&str; 36] = [
    "calculate",
    "compute",
    "equation",
    "equations",
    "solve",
    "probability",
    "percent",
    "percentage",
    "sum",
    "multiply",
    "divide",
    "divided",
    "subtract",
    "area",
    "perimeter",
    "triangle",
    "triangles",
    "integer",
    "integers",
    "average",
    "median",
    "derivative",
    "integral",
    "fraction",
    "fractions",
    "polynomial",
    "circumference",
    "radius",
    "square",
    "root",
    "prime",
    "factor",
    "factors",
    "mathematical",
    "arithmetic",
    "geometry",
];

fn words(text: &str) -> impl Iterator<Item = String> {
    crate::shingles::words(text).map(str::to_lowercase)
}

/// Whether a prompt from a label's data plainly is of that label.
fn is_plainly(label: &str, prompt: &str) -> bool {
    let lower = prompt.to_lowercase();
    let has = |listed: &[&str]| words(prompt).any(|word| listed.contains(&word.as_str()));
    let code_marks = ["```", "();", "()", "==", "{\n", "def ", "</", "#include"];
    let looks_like_code = has(&CODE) || code_marks.iter().any(|mark| lower.contains(mark));
    let sums = ["how many", "how much", "how long will", " = ", " x ", " + "];
    let looks_like_math = has(&MATH) || sums.iter().any(|mark| lower.contains(mark));
    match label {
        "math" => !["```", "def ", "#include"].iter().any(|mark| lower.contains(mark)),
        "code" => looks_like_code,
        _ => !looks_like_code && !looks_like_math,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    fn texts(prompts: &[&str]) -> Vec<String> {
        prompts.iter().map(|&prompt| prompt.to_owned()).collect()
    }

    #[test]
    fn what_belongs_elsewhere_is_left_out_and_counted() {
        let mut requests = Requests::default();
        let sorted = requests.add(
            "general",
            texts(&[
                "Describe the water cycle to a child.",
                "Write a Python function that adds two numbers.",
                "How many apples are left if Anna eats three of seven?",
                "Describe  the water cycle to a CHILD.",
                "Hm?",
                "Name three painters of the Renaissance.",
            ]),
            texts(&["Name three painters of the Renaissance."]),
        );
        assert_eq!((sorted.held_in, sorted.held_out), (1, 1), "{sorted:?}");
        assert_eq!(sorted.dropped["other_domain"], 2);
        assert_eq!(sorted.dropped["twice"], 2);
        assert_eq!(sorted.dropped["length"], 1);
        let code = requests.add(
            "code",
            texts(&["Plan a camping trip for me.", "Sort an array in Java."]),
            Vec::new(),
        );
        assert_eq!((code.held_in, code.dropped["other_domain"]), (1, 1));
        let mut random = Random::new(1, "test");
        assert_eq!(
            requests.half(Split::HeldOut).pick("general", &mut random).unwrap(),
            "Name three painters of the Renaissance."
        );
        assert!(requests.half(Split::HeldOut).pick("code", &mut random).is_none());
    }

    #[test]
    fn a_sum_without_its_question_asks_nothing() {
        let told = "Natalia sold clips to 48 friends in April. She sold half as many in May.";
        assert_eq!(
            without_question(&format!("{told} How many did she sell?")).unwrap(),
            told
        );
        assert!(without_question("How many clips did Natalia sell in May?").is_none());
        assert!(without_question("Is 7 prime? Find the next one. What is it?").is_none());
    }
}
