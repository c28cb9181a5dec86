//! Python's built-in functions over integers, strings, booleans and lists.

use std::cmp::Ordering;

use super::value::{Evaluated, PyValue, integer};

/// Maximum number of elements of `range`.
const LONGEST_RANGE: i128 = 100_000;

pub(super) fn call(function: &str, arguments: &[PyValue], keywords: &[(String, PyValue)]) -> Evaluated {
    if let Some((keyword, _)) = keywords
        .iter()
        .find(|(keyword, _)| (function, keyword.as_str()) != ("sorted", "reverse"))
    {
        return Err(format!(
            "keyword `{keyword}` of function `{function}` is not understood"
        ));
    }
    match (function, arguments) {
        ("len", [value @ (PyValue::Str(_) | PyValue::List(_) | PyValue::Tuple(_))]) => {
            Ok(PyValue::Int(value.elements()?.len() as i128))
        }
        ("abs", [value]) => {
            let value = integer(value, "take the absolute value of")?;
            value
                .checked_abs()
                .map(PyValue::Int)
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
            .map(PyValue::Int),
        ("sorted", [values]) => sorted(
            values.elements()?,
            keywords.first().is_some_and(|(_, reverse)| reverse.is_true()),
        ),
        ("reversed", [values]) => Ok(PyValue::List(values.elements()?.into_iter().rev().collect())),
        ("list", [values]) => Ok(PyValue::List(values.elements()?)),
        ("tuple", [values]) => Ok(PyValue::Tuple(values.elements()?)),
        ("list", []) => Ok(PyValue::List(Vec::new())),
        ("str", []) => Ok(PyValue::Str(String::new())),
        ("str", [value]) => Ok(PyValue::Str(value.text())),
        ("int", [PyValue::Str(text)]) => {
            let digits = text.trim();
            digits
                .parse()
                .map(PyValue::Int)
                .map_err(|_| format!("invalid literal for int(): {value}", value = arguments[0]))
        }
        ("int", [value]) => integer(value, "turn into int:").map(PyValue::Int),
        ("bool", [value]) => Ok(PyValue::Bool(value.is_true())),
        ("any", [values]) => Ok(PyValue::Bool(values.elements()?.iter().any(PyValue::is_true))),
        ("all", [values]) => Ok(PyValue::Bool(values.elements()?.iter().all(PyValue::is_true))),
        ("range", [_] | [_, _] | [_, _, _]) => range(arguments),
        ("enumerate", [values]) => {
            let numbered = values.elements()?.into_iter().enumerate();
            Ok(PyValue::List(
                numbered
                    .map(|(index, value)| PyValue::Tuple(vec![PyValue::Int(index as i128), value]))
                    .collect(),
            ))
        }
        ("zip", [left, right]) => {
            let pairs = left.elements()?.into_iter().zip(right.elements()?);
            Ok(PyValue::List(
                pairs.map(|(left, right)| PyValue::Tuple(vec![left, right])).collect(),
            ))
        }
        ("ord", [PyValue::Str(text)]) if text.chars().count() == 1 => {
            Ok(PyValue::Int(text.chars().next().map_or(0, u32::from).into()))
        }
        ("chr", [PyValue::Int(code)]) => {
            let character = u32::try_from(*code).ok().and_then(char::from_u32);
            character
                .map(|c| PyValue::Str(c.into()))
                .ok_or_else(|| format!("chr({code}) is not a character"))
        }
        (
            "len" | "abs" | "max" | "min" | "sum" | "sorted" | "reversed" | "list" | "tuple" | "str" | "int" | "bool"
            | "any" | "all" | "range" | "enumerate" | "zip" | "ord" | "chr",
            _,
        ) => {
            let kinds: Vec<&str> = arguments.iter().map(PyValue::kind).collect();
            Err(format!("function `{function}` does not take ({})", kinds.join(", ")))
        }
        _ => Err(format!("unknown function `{function}`")),
    }
}

/// The first smallest or largest element.
fn extreme(values: &[PyValue], wanted: Ordering) -> Evaluated {
    let (mut best, rest) = values.split_first().ok_or("the sequence is empty")?;
    for value in rest {
        if value.compare(best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

fn sorted(mut values: Vec<PyValue>, reverse: bool) -> Evaluated {
    // a sort needs a total order; whether Python defines an order of these values is checked afterwards
    values.sort_by(|a, b| if reverse { b.total_order(a) } else { a.total_order(b) });
    for pair in values.windows(2) {
        pair[0].compare(&pair[1])?;
    }
    Ok(PyValue::List(values))
}

fn range(arguments: &[PyValue]) -> Evaluated {
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
        values.push(PyValue::Int(at));
        let Some(next) = at.checked_add(step) else {
            break;
        };
        at = next;
    }
    Ok(PyValue::List(values))
}
