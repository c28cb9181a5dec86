//! Evaluates a tree, within bounds on steps and on the size of values.

use super::Value;
use super::builtins;
use super::methods;
use super::syntax::{Arguments, Binary, Clause, Comparison, Expression};

/// Nodes evaluated and elements visited before the answer counts as endless.
const MOST_STEPS: u64 = 100_000;
/// Characters and elements one value may hold.
const LARGEST: usize = 100_000;

pub(super) type Evaluated = Result<Value, String>;

/// The value of `expression` with these names bound.
pub(super) fn evaluate(expression: &Expression, names: Vec<(String, Value)>) -> Evaluated {
    Interpreter { names, steps: 0 }.value(expression)
}

/// Positional and keyword arguments of a call.
type Given = (Vec<Value>, Vec<(String, Value)>);

struct Interpreter {
    /// Innermost binding last.
    names: Vec<(String, Value)>,
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
            Expression::List(elements) => Value::List(self.values(elements)?),
            Expression::Tuple(elements) => Value::Tuple(self.values(elements)?),
            Expression::Comprehension { element, clauses } => {
                let mut found = Vec::new();
                self.comprehend(element, clauses, &mut found)?;
                Value::List(found)
            }
            Expression::Not(operand) => Value::Bool(!self.value(operand)?.is_true()),
            Expression::Negate(operand) => {
                let value = integer(&self.value(operand)?, "negate")?;
                Value::Int(value.checked_neg().ok_or("the number is too large")?)
            }
            Expression::Positive(operand) => Value::Int(integer(&self.value(operand)?, "take the sign of")?),
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
                        None | Some(Value::None) => None,
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
        // Building a value costs its size, so that copying cannot outrun the bound on steps.
        self.step(size / 16)?;
        Ok(value)
    }

    fn lookup(&self, name: &str) -> Evaluated {
        let found = self.names.iter().rev().find(|(bound, _)| bound == name);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| format!("name `{name}` is not defined"))
    }

    fn values(&mut self, expressions: &[Expression]) -> Result<Vec<Value>, String> {
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

    fn comprehend(&mut self, element: &Expression, clauses: &[Clause], found: &mut Vec<Value>) -> Result<(), String> {
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
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }
}

fn too_large() -> String {
    format!("the value is too large (more than {LARGEST} elements)")
}

pub(super) fn integer(value: &Value, doing: &str) -> Result<i128, String> {
    value.as_int().ok_or_else(|| format!("cannot {doing} {}", value.kind()))
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, String> {
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

fn contains(whole: &Value, part: &Value) -> Result<bool, String> {
    match (whole, part) {
        (Value::Str(whole), Value::Str(part)) => Ok(whole.contains(part.as_str())),
        (Value::List(elements) | Value::Tuple(elements), part) => {
            Ok(elements.iter().any(|element| element.equals(part)))
        }
        _ => Err(format!("cannot look for {} in {}", part.kind(), whole.kind())),
    }
}

fn binary(operator: Binary, left: Value, right: &Value) -> Evaluated {
    match (operator, left, right) {
        (Binary::Add, Value::Str(a), Value::Str(b)) => Ok(Value::Str(a + b)),
        (Binary::Add, Value::List(mut a), Value::List(b)) => {
            a.extend_from_slice(b);
            Ok(Value::List(a))
        }
        (Binary::Add, Value::Tuple(mut a), Value::Tuple(b)) => {
            a.extend_from_slice(b);
            Ok(Value::Tuple(a))
        }
        (Binary::Multiply, left @ (Value::Str(_) | Value::List(_) | Value::Tuple(_)), count) => repeat(&left, count),
        (Binary::Multiply, count, sequence @ (Value::Str(_) | Value::List(_) | Value::Tuple(_))) => {
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
            arithmetic(operator, a, b).map(Value::Int)
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

fn repeat(sequence: &Value, count: &Value) -> Evaluated {
    let count = usize::try_from(integer(count, "repeat a sequence by")?.max(0)).map_err(|_| too_large())?;
    if sequence.size().max(1).saturating_mul(count) > LARGEST {
        return Err(too_large());
    }
    Ok(match sequence {
        Value::Str(text) => Value::Str(text.repeat(count)),
        Value::Tuple(elements) => Value::Tuple(vec![elements.as_slice(); count].concat()),
        Value::List(elements) => Value::List(vec![elements.as_slice(); count].concat()),
        _ => return Err(format!("cannot repeat {}", sequence.kind())),
    })
}

fn element(object: &Value, index: i128) -> Evaluated {
    let elements = object
        .elements()
        .map_err(|_| format!("cannot index {}", object.kind()))?;
    let length = elements.len() as i128;
    let at = if index < 0 { index.saturating_add(length) } else { index };
    let found = usize::try_from(at).ok().and_then(|at| elements.into_iter().nth(at));
    found.ok_or_else(|| format!("index {index} out of range of {length}"))
}

/// `object[start:stop:step]`: bounds count from the end when negative and are clamped, never out of range.
fn slice(object: &Value, [start, stop, step]: [Option<i128>; 3]) -> Evaluated {
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
        Value::Str(_) => Value::Str(taken.iter().map(Value::text).collect()),
        Value::Tuple(_) => Value::Tuple(taken),
        _ => Value::List(taken),
    })
}
