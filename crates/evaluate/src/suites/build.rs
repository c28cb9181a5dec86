//! From a suite's id and a domain's data to the suite.

use std::collections::BTreeMap;

use super::code::CodeSuite;
use super::code_tests::CodeTask;
use super::custom::CustomSuite;
use super::exact_match::ExactMatchSuite;
use super::expression::ExpressionSuite;
use super::gsm8k::Gsm8kSuite;
use super::held_out_loss::HeldOutLossSuite;
use super::multiple_choice::{ChoiceStyle, MultipleChoiceSuite};
use super::prompt::PromptFormat;
use super::routing::RoutingSuite;
use super::suite::Suite;
use crate::datasets::{self, CodeProblem, SourceRow};
use crate::rows::{HeldOutConversation, HeldOutDocument, MultipleChoiceRow, QuestionAnswer};
use crate::sandbox::Sandbox;
use crate::{EvaluateError, Result};

/// The data a domain is measured on; each suite takes the part it needs.
#[derive(Debug, Clone, Default)]
pub struct SuiteData {
    /// The domain, such as `math`.
    pub domain: String,
    /// held_out.arrow, one document each.
    pub documents: Vec<HeldOutDocument>,
    /// held_out.jsonl.
    pub rows: Vec<HeldOutConversation>,
    /// The GSM8K test split.
    pub questions: Vec<QuestionAnswer>,
    /// Rows of suites that read files, by suite.
    pub files: BTreeMap<String, Vec<SourceRow>>,
    /// Labels of router.json.
    pub labels: Vec<String>,
    /// How suites whose rows are not conversations format their questions (gsm8k, code, multiple choice, custom).
    pub prompt_format: PromptFormat,
}

/// The suite with this id over `data`. Programs run in the sandbox that this machine allows.
///
/// # Errors
/// [`EvaluateError::UnknownSuite`]; [`EvaluateError::DatasetRow`] when a file's rows are not the suite's.
pub fn build(id: &str, data: &SuiteData) -> Result<Box<dyn Suite>> {
    let domain = data.domain.clone();
    let rows = || data.files.get(id).map_or(&[][..], Vec::as_slice);
    Ok(match id {
        "held-out-loss" => Box::new(HeldOutLossSuite {
            domain,
            documents: data.documents.clone(),
        }),
        "exact-match" => Box::new(ExactMatchSuite {
            domain,
            rows: data.rows.clone(),
        }),
        "gsm8k" => Box::new(Gsm8kSuite {
            domain,
            questions: data.questions.clone(),
            prompt_format: data.prompt_format.clone(),
        }),
        "expression" => Box::new(ExpressionSuite {
            domain,
            rows: data.rows.clone(),
        }),
        "routing" => Box::new(RoutingSuite {
            domain,
            rows: data.rows.clone(),
            labels: data.labels.clone(),
        }),
        "code-tests" => {
            let tasks = CodeTask::bundled()?.into_iter().map(CodeTask::program).collect();
            // these tasks are instructions, which a base model does not continue
            let prompt_format = PromptFormat::chat(data.prompt_format.system_prompt.as_deref());
            programs("code-tests", domain, tasks, prompt_format)
        }
        "humaneval" => programs(
            "humaneval",
            domain,
            datasets::humaneval(rows())?,
            data.prompt_format.clone(),
        ),
        "mbpp" => programs("mbpp", domain, datasets::mbpp(rows())?, data.prompt_format.clone()),
        "mmlu" => choices("mmlu", data, datasets::mmlu(rows())?, ChoiceStyle::Letters),
        "arc" => choices("arc", data, datasets::arc(rows())?, ChoiceStyle::Texts),
        "hellaswag" => choices("hellaswag", data, datasets::hellaswag(rows())?, ChoiceStyle::Endings),
        "choices" => choices("choices", data, datasets::choices(rows())?, ChoiceStyle::Texts),
        "custom" => Box::new(CustomSuite {
            domain,
            rows: datasets::custom(rows())?,
            prompt_format: data.prompt_format.clone(),
        }),
        _ => return Err(EvaluateError::UnknownSuite { id: id.to_owned() }),
    })
}

fn programs(id: &'static str, domain: String, tasks: Vec<CodeProblem>, prompt_format: PromptFormat) -> Box<dyn Suite> {
    Box::new(CodeSuite {
        id,
        domain,
        tasks,
        prompt_format,
        sandbox: Sandbox::detect(),
    })
}

fn choices(id: &'static str, data: &SuiteData, rows: Vec<MultipleChoiceRow>, style: ChoiceStyle) -> Box<dyn Suite> {
    Box::new(MultipleChoiceSuite {
        id,
        domain: data.domain.clone(),
        rows,
        style,
        prompt_format: data.prompt_format.clone(),
    })
}
