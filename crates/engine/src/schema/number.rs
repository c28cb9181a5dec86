//! Numbers that llguidance would round: it reads bounds and constants as f64 and compares whole numbers as i64.

use serde_json::{Map, Number, Value};

use super::{SchemaResult, at, field, place};

/// 2^53: whole numbers beyond it may have no f64 of their own.
const EXACT: i128 = 1 << 53;
/// The largest f64 below 2^63.
const LARGEST: f64 = 9_223_372_036_854_774_784.0;

/// Whether every number that the schema admits is whole.
pub(super) fn is_whole(fields: &Map<String, Value>) -> bool {
    match field(fields, "type") {
        Some(Value::String(name)) => name == "integer",
        Some(Value::Array(names)) => {
            names.iter().any(|name| name == "integer") && !names.iter().any(|name| name == "number")
        }
        _ => false,
    }
}

/// A bound of whole numbers: the nearest f64 within it, and within 64 bits.
pub(super) fn whole_bound(name: &str, value: &Value, path: &str) -> SchemaResult<Value> {
    let Some(exact) = whole(value) else {
        return Ok(value.clone());
    };
    if exact.abs() <= EXACT {
        return Ok(value.clone());
    }
    let is_lower = matches!(name, "minimum" | "exclusiveMinimum");
    let nearest = exact as f64;
    let inside = match (nearest as i128).cmp(&exact) {
        std::cmp::Ordering::Less if is_lower => nearest.next_up(),
        std::cmp::Ordering::Greater if !is_lower => nearest.next_down(),
        _ => nearest,
    };
    if inside.abs() <= LARGEST {
        return Ok(inside.into());
    }
    if is_lower == (inside < 0.0) {
        // Wider than 64 bits: the bound of 64 bits is kept instead.
        return Ok((inside.signum() * LARGEST).into());
    }
    at(&place(path, name), format!("is {value}, which 64 bits cannot hold"))
}

/// A number without a fraction.
fn whole(value: &Value) -> Option<i128> {
    let without_fraction = |number: &f64| number.fract() == 0.0;
    value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| value.as_f64().filter(without_fraction).map(|number| number as i128))
}

/// Refuses constants that would not be written as they are.
pub(super) fn check_constant(value: &Value, path: &str) -> SchemaResult<()> {
    match inexact(value) {
        None => Ok(()),
        Some((place, number)) => at(
            &format!("{path}{place}"),
            format!("is {number}, which is beyond 2^53 and cannot be kept exactly; use a string"),
        ),
    }
}

/// The first number in a value that would not be kept exactly, with its place in it.
fn inexact(value: &Value) -> Option<(String, &Number)> {
    let below = |key: &str, value| inexact(value).map(|(rest, number)| (place("", key) + &rest, number));
    match value {
        Value::Number(number) if !number.is_f64() => {
            let exact = whole(value).unwrap_or_default();
            let kept = exact.abs() <= EXACT || (exact as f64 as i128 == exact && number.is_i64());
            (!kept).then(|| (String::new(), number))
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| below(&index.to_string(), item))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| below(name, value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_never_admit_more_than_was_written() {
        let bound = |name: &str, value: Value| whole_bound(name, &value, "#").map(|value| value.as_f64());
        assert_eq!(bound("minimum", json!(3)), Ok(Some(3.0)));
        // 2^53 + 1 lies between two f64.
        assert_eq!(
            bound("minimum", json!(9_007_199_254_740_993i64)),
            Ok(Some(9_007_199_254_740_994.0))
        );
        assert_eq!(
            bound("maximum", json!(9_007_199_254_740_993i64)),
            Ok(Some(9_007_199_254_740_992.0))
        );
        assert_eq!(bound("maximum", json!(i64::MAX)), Ok(Some(LARGEST)));
        assert_eq!(bound("maximum", json!(u64::MAX)), Ok(Some(LARGEST)));
        assert_eq!(bound("minimum", json!(i64::MIN)), Ok(Some(-LARGEST)));
        assert_eq!(bound("maximum", json!(1.0e25)), Ok(Some(LARGEST)));
        assert!(bound("minimum", json!(u64::MAX)).is_err());
        assert_eq!(bound("maximum", json!(2.5)), Ok(Some(2.5)));
    }

    #[test]
    fn constants_are_kept_or_refused_with_their_place() {
        for kept in [
            json!(9_007_199_254_740_992i64),
            json!(-7),
            json!(0.1),
            json!(1_i64 << 60),
            json!({ "a": [1] }),
        ] {
            assert_eq!(check_constant(&kept, "#/const"), Ok(()), "{kept}");
        }
        let refused = check_constant(&json!({ "a": [0, 9_007_199_254_740_993i64] }), "#/const");
        assert!(refused.is_err_and(|why| why.starts_with("`#/const/a/1` is 9007199254740993")));
    }
}
