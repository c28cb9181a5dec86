//! The words of an `evaluate:` section: suites and how they ask.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a benchmark's questions go through the chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prompting {
    /// Through the template, as training and serving do.
    #[default]
    Chat,
    /// As plain text that a base model continues.
    Raw,
}

/// Name of an evaluation suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteId {
    /// Loss on the held-out rows, in nats per token.
    HeldOutLoss,
    /// Answers that equal the held-out row's.
    ExactMatch,
    /// Grade-school word problems.
    Gsm8k,
    /// Held-out programming tasks, judged by their tests.
    CodeTests,
    /// Held-out Python expressions, judged by their values.
    Expression,
    /// A coordinator's label for each held-out request.
    Routing,
    /// Multiple-choice questions from a file.
    Choices,
    /// HumanEval programming tasks.
    Humaneval,
    /// Mostly basic Python programming tasks.
    Mbpp,
    /// Multiple-choice questions over 57 subjects.
    Mmlu,
    /// Multiple-choice science questions.
    Arc,
    /// Choosing the ending of a text.
    Hellaswag,
    /// Questions from a file.
    Custom,
}

words!(SuiteId, "suite" {
    HeldOutLoss = "held-out-loss",
    ExactMatch = "exact-match",
    Gsm8k = "gsm8k",
    CodeTests = "code-tests",
    Expression = "expression",
    Routing = "routing",
    Choices = "choices",
    Humaneval = "humaneval",
    Mbpp = "mbpp",
    Mmlu = "mmlu",
    Arc = "arc",
    Hellaswag = "hellaswag",
    Custom = "custom",
});

impl SuiteId {
    /// The hub dataset with the suite's questions, if it is a public benchmark.
    #[must_use]
    pub const fn hub_dataset(self) -> Option<&'static str> {
        match self {
            Self::Gsm8k => Some("openai/gsm8k"),
            Self::Humaneval => Some("openai/openai_humaneval"),
            Self::Mbpp => Some("google-research-datasets/mbpp"),
            Self::Mmlu => Some("cais/mmlu"),
            Self::Arc => Some("allenai/ai2_arc"),
            Self::Hellaswag => Some("Rowan/hellaswag"),
            Self::HeldOutLoss
            | Self::ExactMatch
            | Self::CodeTests
            | Self::Expression
            | Self::Routing
            | Self::Choices
            | Self::Custom => None,
        }
    }

    /// Whether the suite's questions always come from a file that the recipe names.
    #[must_use]
    pub const fn needs_file(self) -> bool {
        matches!(self, Self::Choices | Self::Custom)
    }

    /// Whether the suite reads questions from files: a benchmark's or the recipe's.
    #[must_use]
    pub const fn reads_file(self) -> bool {
        self.needs_file() || self.hub_dataset().is_some()
    }

    /// Whether the suite can sample several answers to each task, for pass@k.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        matches!(self, Self::CodeTests | Self::Humaneval | Self::Mbpp)
    }
}

/// In the order of the words: maps by suite are written in that order.
impl Ord for SuiteId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id().cmp(other.id())
    }
}

impl PartialOrd for SuiteId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
