//! Python's built-in functions over integers, strings, booleans and lists.

use std::cmp::Ordering;

use super::Value;
use super::interpreter::{Evaluated, integer};

/// Elements `range` may have.
const LONGEST_RANGE: i128 = 100_000;

pub(super) fn call(function: &str, arguments: &[Value], keywords: &[(String, Value)]) -> Evaluated {
    if let Some((keyword, _)) = keywords
        .iter()
        .find(|(keyword, _)| (function, keyword.as_str()) != ("sorted", "reverse"))
    {
        return Err(format!(
            "keyword `{keyword}` of function `{function}` is not understood"
        ));
    }
    match (function, arguments) {
        ("len", [value @ (Value::Str(_) | Value::List(_) | Value::Tuple(_))]) => {
            Ok(Value::Int(value.elements()?.len() as i128))
        }
        ("abs", [value]) => {
            let value = integer(value, "take the absolute value of")?;
            value
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| "the number is too large".into())
        }
        ("max", [values]) => extreme(&values.elements()?, Ordering::Greater),
        ("min", [values]) => extreme(&values.elements()?, Ordering::Less),
        ("max", [_, _, ..]) => extreme(arguments, Ordering::Greater),
        ("min", [_, _, ..]) => extreme(arguments, Ordering::Less),
        ("sum", [values]) => values
            .elements()?
            .iter()
            .try_fold(0i128, |sum, value| {
                sum.checked_add(integer(value, "sum up")?)
                    .ok_or_else(|| "the number is too large".to_owned())
            })
            .map(Value::Int),
        ("sorted", [values]) => sorted(
            values.elements()?,
            keywords.first().is_some_and(|(_, reverse)| reverse.is_true()),
        ),
        ("reversed", [values]) => Ok(Value::List(values.elements()?.into_iter().rev().collect())),
        ("list", [values]) => Ok(Value::List(values.elements()?)),
        ("tuple", [values]) => Ok(Value::Tuple(values.elements()?)),
        ("list", []) => Ok(Value::List(Vec::new())),
        ("str", []) => Ok(Value::Str(String::new())),
        ("str", [value]) => Ok(Value::Str(value.text())),
        ("int", [Value::Str(text)]) => {
            let digits = text.trim();
            digits
                .parse()
                .map(Value::Int)
                .map_err(|_| format!("invalid literal for int(): {value}", value = arguments[0]))
        }
        ("int", [value]) => integer(value, "turn into int:").map(Value::Int),
        ("bool", [value]) => Ok(Value::Bool(value.is_true())),
        ("any", [values]) => Ok(Value::Bool(values.elements()?.iter().any(Value::is_true))),
        ("all", [values]) => Ok(Value::Bool(values.elements()?.iter().all(Value::is_true))),
        ("range", [_] | [_, _] | [_, _, _]) => range(arguments),
        ("enumerate", [values]) => {
            let numbered = values.elements()?.into_iter().enumerate();
            Ok(Value::List(
                numbered
                    .map(|(index, value)| Value::Tuple(vec![Value::Int(index as i128), value]))
                    .collect(),
            ))
        }
        ("zip", [left, right]) => {
            let pairs = left.elements()?.into_iter().zip(right.elements()?);
            Ok(Value::List(
                pairs.map(|(left, right)| Value::Tuple(vec![left, right])).collect(),
            ))
        }
        ("ord", [Value::Str(text)]) if text.chars().count() == 1 => {
            Ok(Value::Int(text.chars().next().map_or(0, u32::from).into()))
        }
        ("chr", [Value::Int(code)]) => {
            let character = u32::try_from(*code).ok().and_then(char::from_u32);
            character
                .map(|c| Value::Str(c.into()))
                .ok_or_else(|| format!("chr({code}) is no character"))
        }
        (
            "len" | "abs" | "max" | "min" | "sum" | "sorted" | "reversed" | "list" | "tuple" | "str" | "int" | "bool"
            | "any" | "all" | "range" | "enumerate" | "zip" | "ord" | "chr",
            _,
        ) => {
            let kinds: Vec<&str> = arguments.iter().map(Value::kind).collect();
            Err(format!("function `{function}` does not take ({})", kinds.join(", ")))
        }
        _ => Err(format!("unknown function `{function}`")),
    }
}

/// The first element that no other beats.
fn extreme(values: &[Value], wanted: Ordering) -> Evaluated {
    let (mut best, rest) = values.split_first().ok_or("the sequence is empty")?;
    for value in rest {
        if value.compare(best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

fn sorted(mut values: Vec<Value>, reverse: bool) -> Evaluated {
    // A sort needs an order that always answers; whether Python has one for these values is asked afterwards.
    values.sort_by(|a, b| if reverse { b.total_order(a) } else { a.total_order(b) });
    for pair in values.windows(2) {
        pair[0].compare(&pair[1])?;
    }
    Ok(Value::List(values))
}

fn range(arguments: &[Value]) -> Evaluated {
    let numbers = arguments
        .iter()
        .map(|value| integer(value, "count to"))
        .collect::<Result<Vec<_>, _>>()?;
    let (start, stop, step) = match numbers.as_slice() {
        [stop] => (0, *stop, 1),
        [start, stop] => (*start, *stop, 1),
        [start, stop, step, ..] => (*start, *stop, *step),
        [] => return Err("range needs a number".into()),
    };
    if step == 0 {
        return Err("range step cannot be zero".into());
    }
    let mut values = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        if values.len() as i128 == LONGEST_RANGE {
            return Err(format!("the range is too large (more than {LONGEST_RANGE} elements)"));
        }
        values.push(Value::Int(at));
        let Some(next) = at.checked_add(step) else {
            break;
        };
        at = next;
    }
    Ok(Value::List(values))
}
