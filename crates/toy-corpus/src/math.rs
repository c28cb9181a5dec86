//! Word problems with one or two steps and small numbers; the stories are in stories.json.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::random::Random;
use crate::template::{Split, fill};
use crate::words::{HOLDERS, NAMES, THINGS};

/// The steps of the solution; each kind draws its numbers from its own ranges.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Sum,
    Difference,
    Product,
    Quotient,
    SumThenDifference,
    DifferenceThenDifference,
    SumThenSum,
    ProductThenSum,
    ProductThenDifference,
}

/// One kind's stories. In a template `n` and `m` are people, `t` things, `p` their container, and `a`, `b`, `c` numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stories {
    kind: Kind,
    train: Vec<String>,
    held_out: Vec<String>,
}

static STORIES: LazyLock<Vec<Stories>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("stories.json")).expect("stories.json is part of the program, and tests read it")
});

/// A calculation of the solution, such as `4 * 6 = 24`.
#[derive(Debug, Clone, Copy)]
struct Step {
    left: i64,
    operator: char,
    right: i64,
    result: i64,
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {} {} = {}", self.left, self.operator, self.right, self.result)
    }
}

/// A question with its solution.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// The story with its question.
    pub(crate) question: String,
    /// The things that are counted.
    thing: &'static str,
    steps: Vec<Step>,
    /// The final number.
    pub(crate) result: i64,
}

fn step(left: i64, operator: char, right: i64) -> Step {
    let result = match operator {
        '+' => left + right,
        '-' => left - right,
        '*' => left * right,
        _ => left / right,
    };
    Step {
        left,
        operator,
        right,
        result,
    }
}

/// The story's numbers and the steps to its answer; every result is positive.
fn numbers(kind: Kind, random: &mut Random) -> (Vec<i64>, Vec<Step>) {
    match kind {
        Kind::Sum => {
            let (a, b) = (random.between(2, 20), random.between(2, 20));
            (vec![a, b], vec![step(a, '+', b)])
        }
        Kind::Difference => {
            let b = random.between(2, 15);
            let a = b + random.between(1, 15);
            (vec![a, b], vec![step(a, '-', b)])
        }
        Kind::Product => {
            let (a, b) = (random.between(2, 9), random.between(2, 9));
            (vec![a, b], vec![step(a, '*', b)])
        }
        Kind::Quotient => {
            let (b, each) = (random.between(2, 9), random.between(2, 9));
            (vec![b * each, b], vec![step(b * each, '/', b)])
        }
        Kind::SumThenDifference => {
            let (a, b) = (random.between(2, 15), random.between(2, 15));
            let c = random.between(1, (a + b - 1).min(15));
            (vec![a, b, c], vec![step(a, '+', b), step(a + b, '-', c)])
        }
        Kind::DifferenceThenDifference => {
            let (b, c, left) = (random.between(2, 9), random.between(2, 9), random.between(1, 12));
            let a = b + c + left;
            (vec![a, b, c], vec![step(a, '-', b), step(a - b, '-', c)])
        }
        Kind::SumThenSum => {
            let (a, b, c) = (random.between(2, 15), random.between(2, 15), random.between(2, 10));
            (vec![a, b, c], vec![step(a, '+', b), step(a + b, '+', c)])
        }
        Kind::ProductThenSum => {
            let (a, b, c) = (random.between(2, 6), random.between(2, 6), random.between(2, 9));
            (vec![a, b, c], vec![step(a, '*', b), step(a * b, '+', c)])
        }
        Kind::ProductThenDifference => {
            let (a, b) = (random.between(2, 6), random.between(2, 6));
            let c = random.between(1, (a * b - 1).min(9));
            (vec![a, b, c], vec![step(a, '*', b), step(a * b, '-', c)])
        }
    }
}

/// A problem with one of the split's stories.
pub(crate) fn problem(random: &mut Random, split: Split) -> Problem {
    let stories = random.pick(&STORIES);
    let template = random.pick(match split {
        Split::Train => &stories.train,
        Split::HeldOut => &stories.held_out,
    });
    let (drawn, steps) = numbers(stories.kind, random);
    let first = random.below(NAMES.len());
    let second = (first + 1 + random.below(NAMES.len() - 1)) % NAMES.len();
    let thing = *random.pick(&THINGS);
    let written: Vec<String> = drawn.iter().map(ToString::to_string).collect();
    let mut values = vec![
        ("n", NAMES[first]),
        ("m", NAMES[second]),
        ("t", thing),
        ("p", *random.pick(&HOLDERS)),
    ];
    values.extend(["a", "b", "c"].into_iter().zip(written.iter().map(String::as_str)));
    let result = steps.last().map_or(0, |step| step.result);
    Problem {
        question: fill(template, &values),
        thing,
        steps,
        result,
    }
}

impl Problem {
    /// The specialist's answer: the calculation, then GSM8K's last line.
    pub(crate) fn worked(&self) -> String {
        let lines: Vec<String> = ["First, ", "Then, "]
            .iter()
            .zip(&self.steps)
            .map(|(word, step)| format!("{word}{step}."))
            .collect();
        format!("{}\n#### {}", lines.join("\n"), self.result)
    }

    /// An answer in one of the varied forms of a general corpus.
    pub(crate) fn loose(&self, random: &mut Random) -> String {
        let Self { thing, result, .. } = self;
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        let steps = steps.join(" and ");
        match random.below(8) {
            0..=3 => format!("The answer is {result}."),
            4 | 5 => format!("{steps}, so {result} {thing}."),
            6 => format!("We get {steps}."),
            _ => self.worked(),
        }
    }
}
