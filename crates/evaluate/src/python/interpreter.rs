//! Evaluates a tree, within bounds on steps and on the size of values.

use super::builtins;
use super::methods;
use super::syntax::{Arguments, Binary, Clause, Comparison, Expression};
use super::value::{Evaluated, PyValue, integer};

/// Maximum number of evaluated nodes and visited elements.
const MOST_STEPS: u64 = 100_000;
/// Maximum number of characters and elements of a value.
const LARGEST: usize = 100_000;

/// The value of `expression` with these names bound.
pub(super) fn evaluate(expression: &Expression, names: Vec<(String, PyValue)>) -> Evaluated {
    Interpreter { names, steps: 0 }.value(expression)
}

/// Positional and keyword arguments of a call.
type Given = (Vec<PyValue>, Vec<(String, PyValue)>);

struct Interpreter {
    /// Innermost binding last.
    names: Vec<(String, PyValue)>,
    steps: u64,
}

impl Interpreter {
    fn step(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > MOST_STEPS {
            Err(format!("too many steps (more than {MOST_STEPS})"))
        } else {
            Ok(())
        }
    }

    fn value(&mut self, expression: &Expression) -> Evaluated {
        self.step(1)?;
        let value = match expression {
            Expression::Literal(value) => value.clone(),
            Expression::Name(name) => self.lookup(name)?,
            Expression::List(elements) => PyValue::List(self.values(elements)?),
            Expression::Tuple(elements) => PyValue::Tuple(self.values(elements)?),
            Expression::Comprehension { element, clauses } => {
                let mut found = Vec::new();
                self.comprehend(element, clauses, &mut found)?;
                PyValue::List(found)
            }
            Expression::Not(operand) => PyValue::Bool(!self.value(operand)?.is_true()),
            Expression::Negate(operand) => {
                let value = integer(&self.value(operand)?, "negate")?;
                PyValue::Int(value.checked_neg().ok_or("the number is too large")?)
            }
            Expression::Positive(operand) => PyValue::Int(integer(&self.value(operand)?, "take the sign of")?),
            Expression::Binary { operator, left, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                binary(*operator, left, &right)?
            }
            Expression::And(left, right) => {
                let left = self.value(left)?;
                if left.is_true() { self.value(right)? } else { left }
            }
            Expression::Or(left, right) => {
                let left = self.value(left)?;
                if left.is_true() { left } else { self.value(right)? }
            }
            Expression::Compare { first, rest } => self.comparison(first, rest)?,
            Expression::Conditional {
                then,
                condition,
                otherwise,
            } => {
                if self.value(condition)?.is_true() {
                    self.value(then)?
                } else {
                    self.value(otherwise)?
                }
            }
            Expression::Call { function, arguments } => {
                let (positional, keywords) = self.arguments(arguments)?;
                builtins::call(function, &positional, &keywords)?
            }
            Expression::Method {
                object,
                name,
                arguments,
            } => {
                let object = self.value(object)?;
                let (positional, keywords) = self.arguments(arguments)?;
                if let Some((keyword, _)) = keywords.first() {
                    return Err(format!("keyword `{keyword}` of method `{name}` is not understood"));
                }
                methods::call(&object, name, &positional)?
            }
            Expression::Index { object, index } => {
                let object = self.value(object)?;
                let index = integer(&self.value(index)?, "index with")?;
                element(&object, index)?
            }
            Expression::Slice { object, bounds } => {
                let object = self.value(object)?;
                let mut limits = [None; 3];
                for (limit, bound) in limits.iter_mut().zip(bounds.iter()) {
                    *limit = match bound.as_ref().map(|bound| self.value(bound)).transpose()? {
                        None | Some(PyValue::None) => None,
                        Some(value) => Some(integer(&value, "slice with")?),
                    };
                }
                slice(&object, limits)?
            }
        };
        let size = value.size();
        if size > LARGEST {
            return Err(too_large());
        }
        // a new value counts as many steps as its size, so that copying is bounded, too
        self.step(size / 16)?;
        Ok(value)
    }

    fn lookup(&self, name: &str) -> Evaluated {
        let found = self.names.iter().rev().find(|(bound, _)| bound == name);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| format!("name `{name}` is not defined"))
    }

    fn values(&mut self, expressions: &[Expression]) -> Result<Vec<PyValue>, String> {
        expressions.iter().map(|expression| self.value(expression)).collect()
    }

    fn arguments(&mut self, arguments: &Arguments) -> Result<Given, String> {
        let positional = self.values(&arguments.positional)?;
        let keywords = arguments
            .keywords
            .iter()
            .map(|(name, value)| Ok((name.clone(), self.value(value)?)));
        Ok((positional, keywords.collect::<Result<_, String>>()?))
    }

    fn comprehend(&mut self, element: &Expression, clauses: &[Clause], found: &mut Vec<PyValue>) -> Result<(), String> {
        let Some((clause, inner)) = clauses.split_first() else {
            found.push(self.value(element)?);
            return if found.len() > LARGEST {
                Err(too_large())
            } else {
                Ok(())
            };
        };
        for value in self.value(&clause.source)?.elements()? {
            self.step(1)?;
            let outer = self.names.len();
            if let [target] = clause.targets.as_slice() {
                self.names.push((target.clone(), value));
            } else {
                let values = value.elements()?;
                if values.len() != clause.targets.len() {
                    return Err(format!(
                        "cannot unpack {} values into {} names",
                        values.len(),
                        clause.targets.len()
                    ));
                }
                self.names.extend(clause.targets.iter().cloned().zip(values));
            }
            let mut wanted = true;
            for condition in &clause.conditions {
                wanted = wanted && self.value(condition)?.is_true();
            }
            if wanted {
                self.comprehend(element, inner, found)?;
            }
            self.names.truncate(outer);
        }
        Ok(())
    }

    fn comparison(&mut self, first: &Expression, rest: &[(Comparison, Expression)]) -> Evaluated {
        let mut left = self.value(first)?;
        for (comparison, expression) in rest {
            let right = self.value(expression)?;
            self.step(left.size().min(right.size()) / 16)?;
            if !compare(*comparison, &left, &right)? {
                return Ok(PyValue::Bool(false));
            }
            left = right;
        }
        Ok(PyValue::Bool(true))
    }
}

fn too_large() -> String {
    format!("the value is too large (more than {LARGEST} elements)")
}

fn compare(comparison: Comparison, left: &PyValue, right: &PyValue) -> Result<bool, String> {
    Ok(match comparison {
        Comparison::Equal => left.equals(right),
        Comparison::NotEqual => !left.equals(right),
        Comparison::Less => left.compare(right)?.is_lt(),
        Comparison::LessOrEqual => left.compare(right)?.is_le(),
        Comparison::Greater => left.compare(right)?.is_gt(),
        Comparison::GreaterOrEqual => left.compare(right)?.is_ge(),
        Comparison::In => contains(right, left)?,
        Comparison::NotIn => !contains(right, left)?,
    })
}

fn contains(whole: &PyValue, part: &PyValue) -> Result<bool, String> {
    match (whole, part) {
        (PyValue::Str(whole), PyValue::Str(part)) => Ok(whole.contains(part.as_str())),
        (PyValue::List(elements) | PyValue::Tuple(elements), part) => {
            Ok(elements.iter().any(|element| element.equals(part)))
        }
        _ => Err(format!("cannot look for {} in {}", part.kind(), whole.kind())),
    }
}

fn binary(operator: Binary, left: PyValue, right: &PyValue) -> Evaluated {
    match (operator, left, right) {
        (Binary::Add, PyValue::Str(a), PyValue::Str(b)) => Ok(PyValue::Str(a + b)),
        (Binary::Add, PyValue::List(mut a), PyValue::List(b)) => {
            a.extend_from_slice(b);
            Ok(PyValue::List(a))
        }
        (Binary::Add, PyValue::Tuple(mut a), PyValue::Tuple(b)) => {
            a.extend_from_slice(b);
            Ok(PyValue::Tuple(a))
        }
        (Binary::Multiply, left @ (PyValue::Str(_) | PyValue::List(_) | PyValue::Tuple(_)), count) => {
            repeat(&left, count)
        }
        (Binary::Multiply, count, sequence @ (PyValue::Str(_) | PyValue::List(_) | PyValue::Tuple(_))) => {
            repeat(sequence, &count)
        }
        (operator, left, right) => {
            let (Some(a), Some(b)) = (left.as_int(), right.as_int()) else {
                let verb = match operator {
                    Binary::Add => "add",
                    Binary::Subtract => "subtract",
                    Binary::Multiply => "multiply",
                    Binary::FloorDivide | Binary::Remainder => "divide",
                    Binary::Power => "raise",
                };
                return Err(format!("cannot {verb} {} and {}", left.kind(), right.kind()));
            };
            arithmetic(operator, a, b).map(PyValue::Int)
        }
    }
}

fn arithmetic(operator: Binary, a: i128, b: i128) -> Result<i128, String> {
    if b == 0 && matches!(operator, Binary::FloorDivide | Binary::Remainder) {
        return Err("division by zero".into());
    }
    let result = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        // Python rounds down, Rust towards zero.
        Binary::FloorDivide => a
            .checked_div(b)
            .map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
        Binary::Remainder => a
            .checked_rem(b)
            .map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        Binary::Power if b < 0 => {
            return Err("a negative power gives a fraction, which is not understood".into());
        }
        Binary::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).or(match a {
            0 | 1 => Some(a),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => None,
        }),
    };
    result.ok_or_else(|| "the number is too large".into())
}

fn repeat(sequence: &PyValue, count: &PyValue) -> Evaluated {
    let count = usize::try_from(integer(count, "repeat a sequence by")?.max(0)).map_err(|_| too_large())?;
    if sequence.size().max(1).saturating_mul(count) > LARGEST {
        return Err(too_large());
    }
    Ok(match sequence {
        PyValue::Str(text) => PyValue::Str(text.repeat(count)),
        PyValue::Tuple(elements) => PyValue::Tuple(vec![elements.as_slice(); count].concat()),
        PyValue::List(elements) => PyValue::List(vec![elements.as_slice(); count].concat()),
        _ => return Err(format!("cannot repeat {}", sequence.kind())),
    })
}

fn element(object: &PyValue, index: i128) -> Evaluated {
    let elements = object
        .elements()
        .map_err(|_| format!("cannot index {}", object.kind()))?;
    let length = elements.len() as i128;
    let at = if index < 0 { index.saturating_add(length) } else { index };
    let found = usize::try_from(at).ok().and_then(|at| elements.into_iter().nth(at));
    found.ok_or_else(|| format!("index {index} out of range of {length}"))
}

/// `object[start:stop:step]`: bounds count from the end when negative and are clamped, never out of range.
fn slice(object: &PyValue, [start, stop, step]: [Option<i128>; 3]) -> Evaluated {
    let elements = object
        .elements()
        .map_err(|_| format!("cannot slice {}", object.kind()))?;
    let length = elements.len() as i128;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err("slice step cannot be zero".into());
    }
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i128| (if bound < 0 { bound.saturating_add(length) } else { bound }).clamp(lowest, highest);
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (mut at, stop) = (start.map_or(first, clamp), stop.map_or(last, clamp));
    let mut taken = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        taken.extend(usize::try_from(at).ok().and_then(|at| elements.get(at)).cloned());
        at = at.saturating_add(step);
    }
    Ok(match object {
        PyValue::Str(_) => PyValue::Str(taken.iter().map(PyValue::text).collect()),
        PyValue::Tuple(_) => PyValue::Tuple(taken),
        _ => PyValue::List(taken),
    })
}
