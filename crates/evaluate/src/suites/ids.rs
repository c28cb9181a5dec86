//! The ids of the suites, as recipes and `eval --suite` name them.

/// Every suite that a recipe may name.
pub const SUITE_IDS: [&str; 13] = [
    "held-out-loss",
    "exact-match",
    "gsm8k",
    "code-tests",
    "expression",
    "routing",
    "choices",
    "humaneval",
    "mbpp",
    "mmlu",
    "arc",
    "hellaswag",
    "custom",
];

/// Suites whose questions come from files: a dataset of the hub, or the user's own rows.
pub const FILE_SUITES: [&str; 8] = [
    "gsm8k",
    "humaneval",
    "mbpp",
    "mmlu",
    "arc",
    "hellaswag",
    "choices",
    "custom",
];

/// Suites that can sample several answers to each task.
pub const SAMPLED_SUITES: [&str; 3] = ["code-tests", "humaneval", "mbpp"];
