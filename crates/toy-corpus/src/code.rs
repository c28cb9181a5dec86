//! One-line Python functions with the tests that their answers must pass.

use serde_json::{Value as Json, json};

use crate::expression::build::{call, call2, index, int, method, name, negative, not, op, reversed, slice, text};
use crate::expression::{Expression, Value};
use crate::random::Random;
use crate::template::{Split, fill};
use crate::words::TEXTS;

/// How the function is asked for. With which phrase a frame may stand is the split's business.
const FRAMES: [&str; 8] = [
    "Write a function f({p}) that returns {w}.",
    "Define f({p}) to return {w}.",
    "Write Python code for f({p}). It returns {w}.",
    "f({p}) should return {w}. Write it.",
    "I need a Python function f({p}) that returns {w}.",
    "Define a function f({p}). It should return {w}.",
    "Please write f({p}). It must return {w}.",
    "Return {w} from a function f({p}).",
];

/// What a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Number,
    TwoNumbers,
    Text,
    List,
}

impl Takes {
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Number => &["x"],
            Self::TwoNumbers => &["x", "y"],
            Self::Text => &["s"],
            Self::List => &["xs"],
        }
    }

    fn named(self, arguments: &[Value]) -> Vec<(&'static str, Value)> {
        self.parameters()
            .iter()
            .copied()
            .zip(arguments.iter().cloned())
            .collect()
    }

    /// Arguments for one call; `k` and `word` are the task's own, so that comparisons come out both ways.
    fn arguments(self, random: &mut Random, k: i64, word: &str) -> Vec<Value> {
        let number = |random: &mut Random| {
            Value::Int(if random.percent(30) {
                random.between(k - 1, k + 1)
            } else {
                random.between(-9, 30)
            })
        };
        match self {
            Self::Number => vec![number(random)],
            Self::TwoNumbers => {
                let first = number(random);
                let second = if random.percent(20) {
                    first.clone()
                } else {
                    number(random)
                };
                vec![first, second]
            }
            Self::Text if random.percent(20) => vec![Value::Text(word.to_owned())],
            Self::Text => vec![Value::Text((*random.pick(&TEXTS)).to_owned())],
            Self::List => {
                let length = random.between(3, 6);
                vec![Value::List((0..length).map(|_| random.between(-9, 20)).collect())]
            }
        }
    }
}

struct Operation {
    takes: Takes,
    phrases: Vec<String>,
    body: Expression,
}

/// Every operation the domain knows, with this constant and word in it.
fn operations(k: i64, word: &str) -> Vec<Operation> {
    let mut all = Vec::new();
    // Slices and copies take a constant that the short arguments of tests can tell from another.
    let few = 2 + k % 3;
    let mut add = |takes, phrases: &[&str], body| {
        let (k, few) = (k.to_string(), few.to_string());
        let values = [("k", k.as_str()), ("f", few.as_str()), ("word", word)];
        let phrases = phrases.iter().map(|phrase| fill(phrase, &values)).collect();
        all.push(Operation { takes, phrases, body });
    };
    let (x, y, s, xs) = (|| name("x"), || name("y"), || name("s"), || name("xs"));

    let n = Takes::Number;
    add(
        n,
        &["x plus {k}", "the sum of x and {k}", "x increased by {k}"],
        op(x(), "+", int(k)),
    );
    add(
        n,
        &["x minus {k}", "x decreased by {k}", "x less {k}"],
        op(x(), "-", int(k)),
    );
    add(
        n,
        &["x times {k}", "the product of x and {k}", "x multiplied by {k}"],
        op(x(), "*", int(k)),
    );
    add(
        n,
        &["the remainder of x divided by {k}", "x modulo {k}"],
        op(x(), "%", int(k)),
    );
    add(
        n,
        &[
            "x divided by {k} and rounded down",
            "the whole part of x divided by {k}",
        ],
        op(x(), "//", int(k)),
    );
    add(
        n,
        &["x squared", "the square of x", "x times itself"],
        op(x(), "*", x()),
    );
    add(
        n,
        &["the square of x plus {k}", "x squared plus {k}"],
        op(op(x(), "*", x()), "+", int(k)),
    );
    add(n, &["x negated", "the negative of x", "minus x"], negative(x()));
    add(n, &["the absolute value of x", "x without its sign"], call("abs", x()));
    add(
        n,
        &["the absolute value of x plus {k}", "{k} plus the absolute value of x"],
        op(call("abs", x()), "+", int(k)),
    );
    add(
        n,
        &["whether x is even", "True if x is even"],
        op(op(x(), "%", int(2)), "==", int(0)),
    );
    add(
        n,
        &["whether x is odd", "True if x is odd"],
        op(op(x(), "%", int(2)), "==", int(1)),
    );
    add(
        n,
        &["whether x is divisible by {k}", "True if {k} divides x"],
        op(op(x(), "%", int(k)), "==", int(0)),
    );
    add(
        n,
        &["whether x is greater than {k}", "True if x is above {k}"],
        op(x(), ">", int(k)),
    );
    add(
        n,
        &["whether x is less than {k}", "True if x is below {k}"],
        op(x(), "<", int(k)),
    );
    add(n, &["whether x equals {k}", "True if x is {k}"], op(x(), "==", int(k)));
    add(
        n,
        &["whether x differs from {k}", "True if x is not {k}"],
        op(x(), "!=", int(k)),
    );
    add(
        n,
        &["whether x lies between 0 and {k}", "True if x is above 0 and below {k}"],
        op(op(x(), ">", int(0)), "and", op(x(), "<", int(k))),
    );
    add(
        n,
        &["the larger of x and {k}", "the maximum of x and {k}"],
        call2("max", x(), int(k)),
    );
    add(
        n,
        &["the smaller of x and {k}", "the minimum of x and {k}"],
        call2("min", x(), int(k)),
    );

    let two = Takes::TwoNumbers;
    add(two, &["x plus y", "the sum of x and y"], op(x(), "+", y()));
    add(two, &["x minus y", "the difference of x and y"], op(x(), "-", y()));
    add(two, &["x times y", "the product of x and y"], op(x(), "*", y()));
    add(
        two,
        &["the larger of x and y", "the maximum of x and y"],
        call2("max", x(), y()),
    );
    add(
        two,
        &["the smaller of x and y", "the minimum of x and y"],
        call2("min", x(), y()),
    );
    add(two, &["whether x equals y", "True if x is y"], op(x(), "==", y()));
    add(
        two,
        &["whether x is greater than y", "True if x is above y"],
        op(x(), ">", y()),
    );
    add(
        two,
        &["the distance between x and y", "the absolute difference of x and y"],
        call("abs", op(x(), "-", y())),
    );
    add(
        two,
        &["the sum of x and y times {k}", "{k} times the sum of x and y"],
        op(op(x(), "+", y()), "*", int(k)),
    );
    add(
        two,
        &["x plus {k} times y", "the sum of x and {k} times y"],
        op(x(), "+", op(int(k), "*", y())),
    );
    add(
        two,
        &["whether x or y equals {k}", "True if x is {k} or y is {k}"],
        op(op(x(), "==", int(k)), "or", op(y(), "==", int(k))),
    );

    let t = Takes::Text;
    add(t, &["the length of s", "the number of letters in s"], call("len", s()));
    add(
        t,
        &["the length of s plus {k}", "{k} plus the length of s"],
        op(call("len", s()), "+", int(k)),
    );
    add(t, &["s in upper case", "s with capital letters"], method(s(), "upper"));
    add(t, &["s in lower case", "s with small letters"], method(s(), "lower"));
    add(t, &["s reversed", "s read backwards"], reversed(s()));
    add(
        t,
        &["s reversed in upper case", "s read backwards with capital letters"],
        method(reversed(s()), "upper"),
    );
    add(
        t,
        &["the first letter of s", "the letter that s starts with"],
        index(s(), 0),
    );
    add(
        t,
        &["the last letter of s", "the letter that s ends with"],
        index(s(), -1),
    );
    add(
        t,
        &[
            "the first letter of s in upper case",
            "the first letter of s as a capital letter",
        ],
        method(index(s(), 0), "upper"),
    );
    add(
        t,
        &["the first {f} letters of s", "only the first {f} letters of s"],
        slice(s(), None, Some(few)),
    );
    add(
        t,
        &["the last {f} letters of s", "only the last {f} letters of s"],
        slice(s(), Some(-few), None),
    );
    add(
        t,
        &["s without its first letter", "all but the first letter of s"],
        slice(s(), Some(1), None),
    );
    add(
        t,
        &["s without its last letter", "all but the last letter of s"],
        slice(s(), None, Some(-1)),
    );
    add(t, &["s repeated {f} times", "{f} copies of s"], op(s(), "*", int(few)));
    add(
        t,
        &["s followed by {word}", "s with {word} at the end"],
        op(s(), "+", text(word)),
    );
    add(
        t,
        &["{word} followed by s", "s with {word} at the start"],
        op(text(word), "+", s()),
    );
    add(
        t,
        &["whether s equals {word}", "True if s is {word}"],
        op(s(), "==", text(word)),
    );
    add(
        t,
        &["whether s is not {word}", "True if s differs from {word}"],
        not(op(s(), "==", text(word))),
    );
    add(
        t,
        &["whether s is longer than {k}", "True if s has more than {k} letters"],
        op(call("len", s()), ">", int(k)),
    );
    add(
        t,
        &["whether s reads the same backwards", "True if s equals s reversed"],
        op(s(), "==", reversed(s())),
    );

    let l = Takes::List;
    add(l, &["the sum of xs", "all numbers in xs added up"], call("sum", xs()));
    add(
        l,
        &["the sum of xs plus {k}", "{k} plus the sum of xs"],
        op(call("sum", xs()), "+", int(k)),
    );
    add(
        l,
        &["the sum of xs times {k}", "{k} times the sum of xs"],
        op(call("sum", xs()), "*", int(k)),
    );
    add(l, &["the largest number in xs", "the maximum of xs"], call("max", xs()));
    add(
        l,
        &["the smallest number in xs", "the minimum of xs"],
        call("min", xs()),
    );
    add(
        l,
        &["the largest number in xs plus {k}", "the maximum of xs plus {k}"],
        op(call("max", xs()), "+", int(k)),
    );
    add(
        l,
        &["the largest minus the smallest number in xs", "the range of xs"],
        op(call("max", xs()), "-", call("min", xs())),
    );
    add(l, &["the length of xs", "how many numbers xs has"], call("len", xs()));
    add(l, &["xs sorted", "xs in rising order"], call("sorted", xs()));
    add(
        l,
        &["xs sorted and reversed", "xs in falling order"],
        reversed(call("sorted", xs())),
    );
    add(l, &["xs reversed", "xs read backwards"], reversed(xs()));
    add(
        l,
        &["the first number in xs", "the number that xs starts with"],
        index(xs(), 0),
    );
    add(
        l,
        &["the last number in xs", "the number that xs ends with"],
        index(xs(), -1),
    );
    add(
        l,
        &[
            "the first plus the last number in xs",
            "the sum of the first and last number in xs",
        ],
        op(index(xs(), 0), "+", index(xs(), -1)),
    );
    add(
        l,
        &["the first {f} numbers in xs", "only the first {f} numbers in xs"],
        slice(xs(), None, Some(few)),
    );
    add(
        l,
        &["the last {f} numbers in xs", "only the last {f} numbers in xs"],
        slice(xs(), Some(-few), None),
    );
    add(
        l,
        &["xs without its first number", "all but the first number in xs"],
        slice(xs(), Some(1), None),
    );
    add(
        l,
        &["xs without its last number", "all but the last number in xs"],
        slice(xs(), None, Some(-1)),
    );
    add(
        l,
        &["xs repeated {f} times", "{f} copies of xs"],
        op(xs(), "*", int(few)),
    );
    add(
        l,
        &["whether xs has more than {k} numbers", "True if xs is longer than {k}"],
        op(call("len", xs()), ">", int(k)),
    );
    add(
        l,
        &[
            "whether the sum of xs is greater than {k}",
            "True if the sum of xs is above {k}",
        ],
        op(call("sum", xs()), ">", int(k)),
    );
    all
}

/// What may be done to a result before it is returned: the words after the phrase, and what becomes of the expression.
fn continuations(value: &Value, inner: &Expression, k: i64, word: &str) -> Vec<(String, Expression)> {
    let few = 2 + k % 3;
    let it = || inner.clone();
    let own = |phrase: &str, body| (phrase.to_owned(), body);
    match value {
        Value::Int(_) => vec![
            (format!(", plus {k}"), op(it(), "+", int(k))),
            (format!(", minus {k}"), op(it(), "-", int(k))),
            (format!(", times {k}"), op(it(), "*", int(k))),
            own(", then whether it is even", op(op(it(), "%", int(2)), "==", int(0))),
            (format!(", then whether it is above {k}"), op(it(), ">", int(k))),
            (format!(", then its remainder by {k}"), op(it(), "%", int(k))),
        ],
        Value::Text(_) => vec![
            own(", then its length", call("len", it())),
            own(", then its first letter", index(it(), 0)),
            own(", then its last letter", index(it(), -1)),
            own(", then in upper case", method(it(), "upper")),
            (format!(", then repeated {few} times"), op(it(), "*", int(few))),
            (format!(", then followed by {word}"), op(it(), "+", text(word))),
        ],
        Value::List(_) => vec![
            own(", then its sum", call("sum", it())),
            own(", then its length", call("len", it())),
            own(", then its largest number", call("max", it())),
            own(", then its first number", index(it(), 0)),
            own(", then in rising order", call("sorted", it())),
        ],
        Value::Bool(_) => Vec::new(),
    }
}

/// A function that is asked for, and its body.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// What is asked.
    pub(crate) description: String,
    takes: Takes,
    body: Expression,
    /// The first operation's constant and word: arguments are drawn around them.
    k: i64,
    word: &'static str,
    /// Index into [`FRAMES`].
    frame: usize,
}

/// A task worded with one of the split's combinations; in `composed` of 100 the result goes through a second operation.
pub(crate) fn task(random: &mut Random, split: Split, composed: usize) -> Task {
    let (k, constant, word) = (random.between(2, 9), random.between(2, 9), *random.pick(&TEXTS));
    let operations = operations(k, word);
    loop {
        let (chosen, frame) = (random.below(operations.len()), random.below(FRAMES.len()));
        let operation = &operations[chosen];
        let phrase = random.below(operation.phrases.len());
        let (mut what, mut body) = (operation.phrases[phrase].clone(), operation.body.clone());
        let mut combination = chosen + phrase;
        if random.percent(composed) {
            let arguments = operation.takes.named(&operation.takes.arguments(random, k, word));
            let Some(value) = body.evaluate(&arguments) else {
                continue;
            };
            let continuations = continuations(&value, &body, constant, word);
            if continuations.is_empty() {
                continue;
            }
            let next = random.below(continuations.len());
            what.push_str(&continuations[next].0);
            body = continuations[next].1.clone();
            combination += next;
        }
        if split.takes(combination, frame) {
            let values = [("p", &*operation.takes.parameters().join(", ")), ("w", what.as_str())];
            return Task {
                description: fill(FRAMES[frame], &values),
                takes: operation.takes,
                body,
                k,
                word,
                frame,
            };
        }
    }
}

impl Task {
    /// The specialist's answer: the plain definition.
    pub(crate) fn definition(&self) -> String {
        format!(
            "def f({}):\n    return {}",
            self.takes.parameters().join(", "),
            self.body
        )
    }

    /// An answer in one of the ways a general corpus has it: half the frames are mostly answered with a function that
    /// can be run, the others with a lambda or in words.
    pub(crate) fn loose(&self, random: &mut Random) -> String {
        let (parameters, body) = (self.takes.parameters().join(", "), &self.body);
        match (random.below(8), self.frame % 4) {
            (0, _) => self.definition(),
            (1, _) => format!("def f({parameters}): return {body}"),
            (_, 0 | 1) => format!("```python\n{}\n```", self.definition()),
            (_, 2) => format!("f = lambda {parameters}: {body}"),
            _ => format!("It is {body}."),
        }
    }

    /// Calls with the values that a right answer returns. Nothing when too few of them differ to tell a right answer
    /// from a constant, as with twice a number that is asked to be even.
    pub(crate) fn tests(&self, random: &mut Random, count: usize) -> Option<Vec<Json>> {
        for _ in 0..50 {
            let tests: Option<Vec<(Vec<Value>, Value)>> = (0..count).map(|_| self.test(random)).collect();
            let tests = tests?;
            if tests.iter().any(|(_, expected)| *expected != tests[0].1) {
                return Some(
                    tests
                        .iter()
                        .map(|(arguments, expected)| call_test(arguments, expected))
                        .collect(),
                );
            }
        }
        None
    }

    fn test(&self, random: &mut Random) -> Option<(Vec<Value>, Value)> {
        let arguments = self.takes.arguments(random, self.k, self.word);
        let expected = self.body.evaluate(&self.takes.named(&arguments))?;
        Some((arguments, expected))
    }
}

fn call_test(arguments: &[Value], expected: &Value) -> Json {
    let arguments: Vec<Json> = arguments.iter().map(Value::to_json).collect();
    json!({ "args": arguments, "expected": expected.to_json() })
}
