//! One-line Python expressions: written as Python, and evaluated here, so that every bundled test's expected
//! value follows from the very expression the row teaches.
//!
//! Only what the code domain uses: no parser, no names but the parameters.

use std::fmt;

use serde_json::{Value as Json, json};

/// What an expression gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Int(i64),
    Bool(bool),
    Text(String),
    List(Vec<i64>),
}

impl Value {
    /// As a test writes it.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Int(value) => json!(value),
            Self::Bool(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::List(values) => json!(values),
        }
    }
}

/// An expression over the parameters.
#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Name(&'static str),
    Int(i64),
    Text(String),
    /// Operator as Python spells it: `+ - * // % == != < > <= >= and or`.
    Binary(Box<Expression>, &'static str, Box<Expression>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    /// A built-in function of one or two arguments.
    Call(&'static str, Vec<Expression>),
    /// A method without arguments.
    Method(Box<Expression>, &'static str),
    Index(Box<Expression>, i64),
    /// `[start:stop]`.
    Slice(Box<Expression>, Option<i64>, Option<i64>),
    /// `[::-1]`.
    Reversed(Box<Expression>),
}

use Expression::{Binary, Call, Index, Int, Method, Name, Negative, Not, Reversed, Slice, Text};

/// Binding strength of Python's operators; anything that is not an operator binds strongest.
fn strength(expression: &Expression) -> u8 {
    match expression {
        Binary(_, "or", _) => 1,
        Binary(_, "and", _) => 2,
        Not(_) => 3,
        Binary(_, "==" | "!=" | "<" | ">" | "<=" | ">=", _) => 4,
        Binary(_, "+" | "-", _) => 5,
        Binary(..) => 6,
        Negative(_) => 7,
        _ => 8,
    }
}

struct AtLeast<'a>(u8, &'a Expression);

impl fmt::Display for AtLeast<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if strength(self.1) < self.0 {
            write!(out, "({})", self.1)
        } else {
            write!(out, "{}", self.1)
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name(name) => out.write_str(name),
            Int(value) => write!(out, "{value}"),
            Text(text) => write!(out, "\"{text}\""),
            Binary(left, operator, right) => {
                let own = strength(self);
                // Chained comparisons mean something else in Python, so their operands bind tighter on both sides.
                let left_at_least = if own == 4 { own + 1 } else { own };
                write!(
                    out,
                    "{} {operator} {}",
                    AtLeast(left_at_least, left),
                    AtLeast(own + 1, right)
                )
            }
            Not(inner) => write!(out, "not {}", AtLeast(3, inner)),
            Negative(inner) => write!(out, "-{}", AtLeast(7, inner)),
            Call(function, arguments) => {
                let written: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                write!(out, "{function}({})", written.join(", "))
            }
            Method(inner, name) => write!(out, "{}.{name}()", AtLeast(8, inner)),
            Index(inner, at) => write!(out, "{}[{at}]", AtLeast(8, inner)),
            Slice(inner, start, stop) => {
                let bound = |at: &Option<i64>| at.map_or_else(String::new, |at| at.to_string());
                write!(out, "{}[{}:{}]", AtLeast(8, inner), bound(start), bound(stop))
            }
            Reversed(inner) => write!(out, "{}[::-1]", AtLeast(8, inner)),
        }
    }
}

impl Expression {
    /// The value for these arguments, or nothing where Python would raise.
    pub(crate) fn evaluate(&self, arguments: &[(&str, Value)]) -> Option<Value> {
        match self {
            Name(name) => arguments
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone()),
            Int(value) => Some(Value::Int(*value)),
            Text(text) => Some(Value::Text(text.clone())),
            Binary(left, operator, right) => binary(left.evaluate(arguments)?, operator, right.evaluate(arguments)?),
            Not(inner) => match inner.evaluate(arguments)? {
                Value::Bool(value) => Some(Value::Bool(!value)),
                _ => None,
            },
            Negative(inner) => match inner.evaluate(arguments)? {
                Value::Int(value) => Some(Value::Int(-value)),
                _ => None,
            },
            Call(function, inner) => {
                let values: Option<Vec<Value>> = inner.iter().map(|each| each.evaluate(arguments)).collect();
                call(function, &values?)
            }
            Method(inner, name) => match (inner.evaluate(arguments)?, *name) {
                (Value::Text(text), "upper") => Some(Value::Text(text.to_uppercase())),
                (Value::Text(text), "lower") => Some(Value::Text(text.to_lowercase())),
                _ => None,
            },
            Index(inner, at) => match inner.evaluate(arguments)? {
                Value::Text(text) => {
                    let letters: Vec<char> = text.chars().collect();
                    let at = position(*at, letters.len())?;
                    letters.get(at).map(|letter| Value::Text(letter.to_string()))
                }
                Value::List(values) => values.get(position(*at, values.len())?).copied().map(Value::Int),
                _ => None,
            },
            Slice(inner, start, stop) => match inner.evaluate(arguments)? {
                Value::Text(text) => {
                    let letters: Vec<char> = text.chars().collect();
                    Some(Value::Text(slice(&letters, *start, *stop).iter().collect()))
                }
                Value::List(values) => Some(Value::List(slice(&values, *start, *stop).to_vec())),
                _ => None,
            },
            Reversed(inner) => match inner.evaluate(arguments)? {
                Value::Text(text) => Some(Value::Text(text.chars().rev().collect())),
                Value::List(values) => Some(Value::List(values.into_iter().rev().collect())),
                _ => None,
            },
        }
    }
}

fn position(at: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if at < 0 { at + length } else { at }).ok()
}

/// Python's slice: bounds beyond the ends are cut, a start after the stop gives nothing.
fn slice<T>(items: &[T], start: Option<i64>, stop: Option<i64>) -> &[T] {
    let bound = |at: i64| position(at, items.len()).unwrap_or(0).min(items.len());
    let (start, stop) = (start.map_or(0, bound), stop.map_or(items.len(), bound));
    items.get(start..stop).unwrap_or(&[])
}

fn binary(left: Value, operator: &str, right: Value) -> Option<Value> {
    use Value::{Bool, Int, List, Text};
    Some(match (left, operator, right) {
        (left, "==", right) => Bool(left == right),
        (left, "!=", right) => Bool(left != right),
        (Bool(left), "and", Bool(right)) => Bool(left && right),
        (Bool(left), "or", Bool(right)) => Bool(left || right),
        (Int(left), "+", Int(right)) => Int(left + right),
        (Int(left), "-", Int(right)) => Int(left - right),
        (Int(left), "*", Int(right)) => Int(left * right),
        // Python rounds down; Euclid's division does too while the divisor is positive.
        (Int(left), "//", Int(right)) if right > 0 => Int(left.div_euclid(right)),
        (Int(left), "%", Int(right)) if right > 0 => Int(left.rem_euclid(right)),
        (Int(left), "<", Int(right)) => Bool(left < right),
        (Int(left), ">", Int(right)) => Bool(left > right),
        (Int(left), "<=", Int(right)) => Bool(left <= right),
        (Int(left), ">=", Int(right)) => Bool(left >= right),
        (Text(left), "+", Text(right)) => Text(left + &right),
        (List(left), "+", List(right)) => List([left, right].concat()),
        (Text(text), "*", Int(times)) => Text(text.repeat(usize::try_from(times).unwrap_or(0))),
        (List(values), "*", Int(times)) => List(values.repeat(usize::try_from(times).unwrap_or(0))),
        _ => return None,
    })
}

fn call(function: &str, arguments: &[Value]) -> Option<Value> {
    use Value::{Int, List, Text};
    Some(match (function, arguments) {
        ("abs", [Int(value)]) => Int(value.abs()),
        ("max", [Int(left), Int(right)]) => Int(*left.max(right)),
        ("min", [Int(left), Int(right)]) => Int(*left.min(right)),
        ("max", [List(values)]) => Int(*values.iter().max()?),
        ("min", [List(values)]) => Int(*values.iter().min()?),
        ("sum", [List(values)]) => Int(values.iter().sum()),
        ("len", [List(values)]) => Int(i64::try_from(values.len()).ok()?),
        ("len", [Text(text)]) => Int(i64::try_from(text.chars().count()).ok()?),
        ("sorted", [List(values)]) => {
            let mut values = values.clone();
            values.sort_unstable();
            List(values)
        }
        _ => return None,
    })
}

/// Short spellings for the code domain's table.
pub(crate) mod build {
    use super::Expression;

    pub(crate) fn name(name: &'static str) -> Expression {
        Expression::Name(name)
    }
    pub(crate) fn int(value: i64) -> Expression {
        Expression::Int(value)
    }
    pub(crate) fn text(value: &str) -> Expression {
        Expression::Text(value.to_owned())
    }
    pub(crate) fn op(left: Expression, operator: &'static str, right: Expression) -> Expression {
        Expression::Binary(Box::new(left), operator, Box::new(right))
    }
    pub(crate) fn negative(inner: Expression) -> Expression {
        Expression::Negative(Box::new(inner))
    }
    pub(crate) fn not(inner: Expression) -> Expression {
        Expression::Not(Box::new(inner))
    }
    pub(crate) fn call(function: &'static str, argument: Expression) -> Expression {
        Expression::Call(function, vec![argument])
    }
    pub(crate) fn call2(function: &'static str, left: Expression, right: Expression) -> Expression {
        Expression::Call(function, vec![left, right])
    }
    pub(crate) fn method(inner: Expression, name: &'static str) -> Expression {
        Expression::Method(Box::new(inner), name)
    }
    pub(crate) fn index(inner: Expression, at: i64) -> Expression {
        Expression::Index(Box::new(inner), at)
    }
    pub(crate) fn slice(inner: Expression, start: Option<i64>, stop: Option<i64>) -> Expression {
        Expression::Slice(Box::new(inner), start, stop)
    }
    pub(crate) fn reversed(inner: Expression) -> Expression {
        Expression::Reversed(Box::new(inner))
    }
}
