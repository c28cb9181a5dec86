//! Word problems with one or two steps and small numbers.

use crate::random::Random;
use crate::template::{Split, fill};
use crate::words::{HOLDERS, NAMES, THINGS};

/// How the solution starts, and in what ranges its numbers are drawn.
#[derive(Debug, Clone, Copy)]
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

/// One kind's stories: `n` and `m` are people, `t` things, `p` what holds them, `a`, `b`, `c` numbers.
struct Stories {
    kind: Kind,
    train: &'static [&'static str],
    held_out: &'static [&'static str],
}

const STORIES: [Stories; 9] = [
    Stories {
        kind: Kind::Sum,
        train: &[
            "{n} has {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have now?",
            "There are {a} {t} in one {p} and {b} {t} in another. How many {t} are there in all?",
            "{n} finds {a} {t} in the morning and {b} {t} in the evening. How many {t} does {n} find?",
            "{n} has {a} {t} and {m} has {b} {t}. How many {t} do they have together?",
            "A {p} holds {a} {t}. {n} puts in {b} more. How many {t} are in the {p} now?",
            "{n} buys {a} {t} on Monday and {b} {t} on Friday. How many {t} does {n} have in all?",
        ],
        held_out: &[
            "{n} has {a} {t} in one {p} and {b} {t} in another. How many {t} does {n} have in all?",
            "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?",
        ],
    },
    Stories {
        kind: Kind::Difference,
        train: &[
            "{n} has {a} {t}. {n} gives {b} {t} to {m}. How many {t} does {n} have left?",
            "There are {a} {t} in a {p}. {n} takes {b} of them. How many {t} are left?",
            "{n} had {a} {t} and lost {b} of them. How many {t} are left?",
            "{n} buys {a} {t} and sells {b} of them. How many {t} does {n} have left?",
            "A {p} holds {a} {t}. {n} takes out {b} of them. How many {t} are left in the {p}?",
        ],
        held_out: &[
            "{n} has {a} {t} in a {p} and sells {b} of them. How many {t} are left?",
            "{n} had {a} {t}. {m} takes {b} of them. How many {t} does {n} have left?",
        ],
    },
    Stories {
        kind: Kind::Product,
        train: &[
            "There are {a} {p}s with {b} {t} in each. How many {t} are there in all?",
            "{n} has {a} {p}s. Each {p} holds {b} {t}. How many {t} does {n} have?",
            "{n} buys {b} {t} every day. How many {t} does {n} buy in {a} days?",
            "Each of {a} children has {b} {t}. How many {t} do they have together?",
        ],
        held_out: &[
            "{n} has {a} {p}s with {b} {t} in each. How many {t} does {n} have in all?",
            "Each {p} holds {b} {t}. How many {t} are there in {a} {p}s?",
        ],
    },
    Stories {
        kind: Kind::Quotient,
        train: &[
            "{n} shares {a} {t} among {b} children. How many {t} does each child get?",
            "{n} puts {a} {t} into {b} {p}s, the same number in each. How many {t} are in each {p}?",
            "{a} {t} are shared among {b} people. How many {t} does each get?",
            "{n} has {a} {t} and {b} {p}s. How many {t} go into each {p}?",
        ],
        held_out: &[
            "{a} {t} are put into {b} {p}s, the same number in each. How many {t} go into each {p}?",
            "{n} shares {a} {t} among {b} people. How many {t} does each get?",
        ],
    },
    Stories {
        kind: Kind::SumThenDifference,
        train: &[
            "{n} has {a} {t}. {m} gives {n} {b} more. Then {n} sells {c} of them. How many {t} are left?",
            "There are {a} {t} in a {p}. {n} puts in {b} more and takes out {c}. How many {t} are in the {p} now?",
            "{n} buys {a} {t} on Monday and {b} {t} on Friday, then gives {c} to {m}. How many {t} are left?",
        ],
        held_out: &[
            "{n} finds {a} {t} and buys {b} more. Then {n} gives {c} of them to {m}. How many {t} are left?",
            "A {p} holds {a} {t}. {n} puts in {b} more and {m} takes out {c}. How many {t} are left in the {p}?",
        ],
    },
    Stories {
        kind: Kind::DifferenceThenDifference,
        train: &[
            "{n} has {a} {t}. {n} gives {b} to {m} and sells {c}. How many {t} does {n} have left?",
            "There are {a} {t} in a {p}. {n} takes {b} of them, then {m} takes {c}. How many {t} are left?",
            "{n} had {a} {t}, lost {b} of them and sold {c}. How many {t} are left?",
        ],
        held_out: &["{n} had {a} {t}. {n} sold {b} of them, then {m} takes {c}. How many {t} does {n} have left?"],
    },
    Stories {
        kind: Kind::SumThenSum,
        train: &[
            "{n} buys {a} {t} on Monday, {b} on Tuesday and {c} on Friday. How many {t} does {n} have in all?",
            "There are {a} {t} in one {p}, {b} in another and {c} on the table. How many {t} are there in all?",
            "{n} has {a} {t}. {m} gives {n} {b} more, then {n} finds {c}. How many {t} does {n} have now?",
        ],
        held_out: &["{n} finds {a} {t} on Monday, {b} on Tuesday and {c} on Friday. How many {t} does {n} find?"],
    },
    Stories {
        kind: Kind::ProductThenSum,
        train: &[
            "{n} has {a} {p}s with {b} {t} in each and {c} more on the table. How many {t} does {n} have in all?",
            "There are {a} {p}s. Each {p} holds {b} {t}. {n} finds {c} more {t}. How many {t} are there now?",
            "{n} buys {b} {t} every day for {a} days. {m} gives {n} {c} more. How many {t} does {n} have now?",
        ],
        held_out: &[
            "There are {a} {p}s with {b} {t} in each. {n} puts in {c} more. How many {t} are there in all?",
            "{n} has {a} {p}s. Each {p} holds {b} {t}. {m} gives {n} {c} more. How many {t} does {n} have now?",
        ],
    },
    Stories {
        kind: Kind::ProductThenDifference,
        train: &[
            "{n} has {a} {p}s with {b} {t} in each and sells {c} of them. How many {t} are left?",
            "There are {a} {p}s. Each {p} holds {b} {t}. {n} takes {c} of them. How many {t} are left?",
            "{n} buys {b} {t} every day for {a} days, then gives {c} to {m}. How many {t} does {n} have left?",
        ],
        held_out: &["There are {a} {p}s with {b} {t} in each. {n} gives {c} of them to {m}. How many {t} are left?"],
    },
];

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
    /// The story and what is asked.
    pub(crate) question: String,
    /// What is counted.
    thing: &'static str,
    steps: Vec<Step>,
    /// The number asked for.
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

/// A problem told with one of the split's stories.
pub(crate) fn problem(random: &mut Random, split: Split) -> Problem {
    let stories = random.pick(&STORIES);
    let template = random.pick(match split {
        Split::Train => stories.train,
        Split::HeldOut => stories.held_out,
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

    /// An answer in one of the many ways a general corpus has it.
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
