//! A small safe interpreter of one-expression Python functions.
//!
//! It scores the code answers of the tiny bundled model inside this process, so that the quickstart needs no Python:
//! `def f(x): return <expression>` over integers, strings, booleans and lists. Unsupported syntax is refused by name. The
//! interpreter never loops forever, never allocates without bound, and never panics.
//!
//! What this is not: a general Python. `python3` in the sandbox runs the answers of real models.

mod builtins;
mod interpreter;
mod methods;
mod parser;
mod syntax;
mod token;
mod value;

use serde_json::Value as Json;

pub use value::PyValue;

/// One parsed function.
#[derive(Debug, Clone)]
pub struct Function {
    name: String,
    parameters: Vec<String>,
    body: syntax::Expression,
}

impl Function {
    /// Parses `def NAME(PARAMETERS):` with a body of `return EXPRESSION`; annotations and a docstring are allowed.
    ///
    /// # Errors
    /// The unsupported syntax, in words.
    pub fn parse(source: &str) -> Result<Self, String> {
        let (name, parameters, body) = parser::parse_function(source)?;
        Ok(Self { name, parameters, body })
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls the function with arguments given as JSON.
    ///
    /// # Errors
    /// The exception Python would raise, or the bound that was met.
    pub fn call(&self, arguments: &[Json]) -> Result<PyValue, String> {
        if arguments.len() != self.parameters.len() {
            return Err(format!(
                "{} takes {} arguments, {} given",
                self.name,
                self.parameters.len(),
                arguments.len()
            ));
        }
        let values = arguments
            .iter()
            .map(PyValue::from_json)
            .collect::<Result<Vec<_>, _>>()?;
        interpreter::evaluate(&self.body, self.parameters.iter().cloned().zip(values).collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn run(body: &str, argument: Json) -> Result<PyValue, String> {
        Function::parse(&format!("def f(x):\n    return {body}"))?.call(&[argument])
    }

    /// Every expected value was printed by CPython 3.11 for the same expression.
    #[test]
    fn expressions_give_what_cpython_gives() {
        for (body, argument, expected) in [
            ("x * 2 + 1", json!(20), json!(41)),
            ("-7 // 2 + x", json!(0), json!(-4)),
            ("-7 % 3 + x", json!(0), json!(2)),
            ("7 % -3 + x", json!(0), json!(-2)),
            ("-2 ** 2 + x", json!(0), json!(-4)),
            ("2 ** 3 ** 2 + x", json!(0), json!(512)),
            ("not x == 3", json!(4), json!(true)),
            ("1 < x <= 5 != 6", json!(5), json!(true)),
            ("x or 7", json!(0), json!(7)),
            ("x and x[0]", json!([]), json!([])),
            ("'even' if x % 2 == 0 else 'odd'", json!(3), json!("odd")),
            ("x[::-1]", json!("abc"), json!("cba")),
            ("x[-2:]", json!([1, 2, 3]), json!([2, 3])),
            ("x[1:10:2]", json!("abcdef"), json!("bdf")),
            ("x[3:0:-1]", json!([0, 1, 2, 3]), json!([3, 2, 1])),
            ("x[-1] + x[0]", json!("héé"), json!("éh")),
            ("len(x) + max(x) - min(x)", json!([3, 9, 4]), json!(9)),
            ("sum(x) // len(x)", json!([1, 2, 6]), json!(3)),
            ("sorted(x, reverse=True)", json!([2, 3, 1]), json!([3, 2, 1])),
            ("sorted(x)", json!("hello"), json!(["e", "h", "l", "l", "o"])),
            ("''.join(sorted(x))", json!("bca"), json!("abc")),
            ("[n * n for n in x if n > 1]", json!([1, 2, 3]), json!([4, 9])),
            ("sum(n for n in x if n % 2 == 0)", json!([1, 2, 4]), json!(6)),
            ("sum(1 for c in x if c in 'aeiou')", json!("banana"), json!(3)),
            ("x.upper() + '!' * 2", json!("hi"), json!("HI!!")),
            (
                "x.replace('a', 'o').title()",
                json!("banana split"),
                json!("Bonono Split"),
            ),
            ("x.split()[0].capitalize()", json!("  two words "), json!("Two")),
            ("x.count('an') + x.find('z')", json!("banana"), json!(1)),
            ("str(x) + str([1, 'a', True])", json!(5), json!("5[1, 'a', True]")),
            ("int(x) + int('-3')", json!("12"), json!(9)),
            ("x + True", json!(1), json!(2)),
            ("True == x", json!(1), json!(true)),
            ("x == '1'", json!(1), json!(false)),
            ("[a for b in x for a in b]", json!([[1], [2, 3]]), json!([1, 2, 3])),
            ("[i * v for i, v in enumerate(x)]", json!([5, 6]), json!([0, 6])),
            ("abs(min(x, -4))", json!(2), json!(4)),
            ("x not in [1, 2]", json!(3), json!(true)),
            ("all(c.isdigit() for c in x)", json!("123"), json!(true)),
            ("list(range(x))", json!(3), json!([0, 1, 2])),
            ("(x + 1) * [0]", json!(1), json!([0, 0])),
        ] {
            let found = run(body, argument.clone()).unwrap_or_else(|error| panic!("{body}: {error}"));
            assert!(
                found.equals_json(&expected),
                "{body} of {argument}: {found} instead of {expected}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (body, words) in [
            ("x / 2", "`/`"),
            ("open('/etc/passwd')", "unknown function `open`"),
            ("x.__class__", "attribute"),
            ("x.format(1)", "unknown method `format`"),
            ("y", "name `y` is not defined"),
            ("lambda: 1", "`lambda`"),
            ("1 // x", "division by zero"),
            ("'a' + x", "cannot add"),
            ("[1][x + 9]", "index 9 out of range"),
            ("'a' < x", "cannot compare"),
            ("f'{x}'", "prefix"),
            ("2 ** 200 + x", "too large"),
            ("'a' * 10 ** 12 + x", "too large"),
            ("[1 for a in range(9999) for b in range(9999)]", "too many steps"),
            ("int('q')", "invalid literal"),
            ("x +", "end of the answer"),
            ("'abc", "unterminated"),
        ] {
            let error = run(body, json!(0)).expect_err(body);
            assert!(error.contains(words), "{body}: {error}");
        }
        assert!(run(&"(".repeat(5000), json!(0)).is_err());
        assert!(run(&"not ".repeat(500), json!(0)).is_err());
        assert!(run(&"1+".repeat(5000), json!(0)).is_err());
    }

    #[test]
    fn functions_as_models_write_them() {
        for source in [
            "def f(x): return x + 1",
            "def f(x: int) -> int:\n    return x + 1\n",
            "\ndef f(x):\n    \"\"\"Adds one.\"\"\"\n    # easy\n    return (x +\n        1)  # done\n\n",
        ] {
            let function = Function::parse(source).unwrap();
            assert_eq!(
                (function.name(), function.call(&[json!(1)])),
                ("f", Ok(PyValue::Int(2))),
                "{source}"
            );
        }
        for (source, words) in [
            ("x + 1", "`def`"),
            ("def f(x):\n    y = 1\n    return y", "`return`"),
            ("def f(x):\n    return x\nprint(1)", "after the function"),
            ("def f(x, x):\n    return x", "twice"),
            ("", "`def`"),
        ] {
            let error = Function::parse(source).expect_err(source);
            assert!(error.contains(words), "{source}: {error}");
        }
        let two = Function::parse("def add(a, b):\n\treturn a + b").unwrap();
        assert!(
            two.call(&[json!(1)])
                .unwrap_err()
                .contains("takes 2 arguments, 1 given")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_and_run_without_panic(body in "([a-z0-9 +*/%<>=!.,:()\\[\\]'\"-]|not |and |if | else | for | in |x|len\\(|é){0,60}") {
            let _ = run(&body, json!("añb"));
            let _ = run(&body, json!([3, 1, 2]));
        }

        #[test]
        fn slices_agree_with_the_definition(start in -8i64..8, end in -8i64..8, step in -3i64..4) {
            prop_assume!(step != 0);
            let x = json!([0, 1, 2, 3, 4]);
            let found = run(&format!("x[({start}):({end}):({step})]"), x).unwrap();
            // Python's own rule, written out: clamp, then walk.
            let clamp = |v: i64| {
                let v = if v < 0 { v + 5 } else { v };
                if step > 0 { v.clamp(0, 5) } else { v.clamp(-1, 4) }
            };
            let (mut at, stop, mut expected) = (clamp(start), clamp(end), Vec::new());
            while if step > 0 { at < stop } else { at > stop } {
                expected.push(PyValue::Int(at.into()));
                at += step;
            }
            prop_assert_eq!(found, PyValue::List(expected));
        }
    }
}
