//! Programming tasks: HumanEval and MBPP in the hub's format.

use super::source_row::{RowReader, SourceRow};
use crate::Result;
use crate::python_source::python_source;
use crate::sandbox::SandboxJob;

/// One programming task: its prompts, and how an answer is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeProblem {
    /// Stable id.
    pub id: String,
    /// The user turn for a chat model.
    pub question: String,
    /// The prompt for a base model.
    pub prompt: String,
    /// Stop strings of a base model's continuation.
    pub stop: &'static [&'static str],
    /// Code before the answer when it is run.
    pub preamble: Preamble,
    /// The function the tests call.
    pub entry_point: String,
    /// Statements that call it.
    pub tests: Vec<String>,
    /// A complete program that passes every test.
    pub canonical: String,
}

/// Code before an answer when it is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preamble {
    /// Imports and helpers, before an answer that defines the function itself.
    pub helpers: String,
    /// All of the prompt, before an answer that only continues the function.
    pub beginning: String,
}

impl CodeProblem {
    /// The program of a chat model's answer, with this task's tests.
    #[must_use]
    pub fn job(&self, answer: &str) -> SandboxJob {
        let code = python_source(answer, &self.entry_point);
        let before = if code.contains(&format!("def {}", self.entry_point)) {
            &self.preamble.helpers
        } else {
            &self.preamble.beginning
        };
        self.run(format!("{before}{code}"))
    }

    /// The program of a continuation of the prompt.
    #[must_use]
    pub fn continued(&self, continuation: &str) -> SandboxJob {
        self.run(format!("{}{continuation}\n", self.preamble.beginning))
    }

    /// A complete program with this task's tests.
    #[must_use]
    pub fn run(&self, code: String) -> SandboxJob {
        SandboxJob {
            code,
            entry_point: self.entry_point.clone(),
            tests: self.tests.clone(),
        }
    }
}

/// Where a continuation of HumanEval's prompt has ended the function (Chen et al. 2021, §2.1).
const LEFT_THE_FUNCTION: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// openai/openai_humaneval: task_id, prompt, canonical_solution, test (defines `check`), entry_point.
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn humaneval(rows: &[SourceRow]) -> Result<Vec<CodeProblem>> {
    let read = |row: &SourceRow| {
        let row = RowReader::new("humaneval", row);
        let (prompt, entry_point) = (row.nonempty_text("prompt")?, row.nonempty_text("entry_point")?);
        let start = prompt
            .rfind(&format!("def {entry_point}("))
            .ok_or_else(|| row.invalid(format!("the prompt does not begin the function `{entry_point}`")))?;
        let test = row.nonempty_text("test")?;
        if !test.contains("def check(") {
            return Err(row.invalid("`test` does not define `check`"));
        }
        Ok(CodeProblem {
            id: row.id("task_id")?,
            question: format!(
                "Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{}\n```",
                prompt.trim()
            ),
            prompt: prompt.to_owned(),
            stop: &LEFT_THE_FUNCTION,
            preamble: Preamble {
                helpers: prompt[..start].to_owned(),
                beginning: prompt.to_owned(),
            },
            entry_point: entry_point.to_owned(),
            // `check` has to be called; its definition alone tests nothing
            tests: vec![format!("{test}\n\ncheck({entry_point})\n")],
            canonical: format!("{prompt}{}", row.nonempty_text("canonical_solution")?),
        })
    };
    rows.iter().map(read).collect()
}

/// google-research-datasets/mbpp: `full` has task_id, text, code, test_list and test_setup_code, `sanitized` has prompt
/// and test_imports instead.
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] for a row in another format.
pub fn mbpp(rows: &[SourceRow]) -> Result<Vec<CodeProblem>> {
    let read = |row: &SourceRow| {
        let row = RowReader::new("mbpp", row);
        let task = match row.optional_text("text")? {
            Some(text) => text,
            None => row.nonempty_text("prompt")?,
        };
        let (code, tests) = (row.nonempty_text("code")?, row.texts("test_list")?);
        let setup = match row.optional_text("test_setup_code")? {
            Some(setup) => setup.to_owned(),
            None if row.fields.contains_key("test_imports") => row.texts("test_imports")?.join("\n"),
            None => String::new(),
        };
        let entry_point = tested_function(code, tests.first().map_or("", String::as_str))
            .ok_or_else(|| row.invalid("the first of `test_list` calls no function that `code` defines"))?;
        let listed = tests.join("\n");
        let helpers = if setup.is_empty() { setup } else { format!("{setup}\n") };
        let asked = format!(
            "You are an expert Python programmer, and here is your task: {} Your code should pass these tests:\n\n{listed}\n",
            task.trim()
        );
        Ok(CodeProblem {
            id: format!("mbpp/{}", row.id("task_id")?),
            question: format!("{asked}\nAnswer with the code in one code block."),
            prompt: format!("{asked}[BEGIN]\n"),
            stop: &["[DONE]"],
            preamble: Preamble {
                beginning: helpers.clone(),
                helpers: helpers.clone(),
            },
            entry_point,
            tests,
            canonical: format!("{helpers}{code}\n"),
        })
    };
    rows.iter().map(read).collect()
}

/// The function that `code` defines and `test` calls, the last defined one if there are several.
fn tested_function(code: &str, test: &str) -> Option<String> {
    let mut defined = code.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix("def ")?.split('(').next()?.trim();
        (!name.is_empty()).then_some(name)
    });
    let calls = |name: &&str| {
        test.match_indices(&format!("{name}(")).any(|(at, _)| {
            let before = test[..at].chars().next_back();
            before.is_none_or(|letter| !letter.is_alphanumeric() && !"_.".contains(letter))
        })
    };
    defined.rfind(calls).map(str::to_owned)
}
