//! Dataset adapters: rows as the hub's datasets have them, turned into this crate's rows.
//!
//! A row comes in as column → value, independent of the file format. A column that is missing or of another type is an
//! error that names the row. Nothing is guessed: a file with another layout is refused.

mod code_problems;
mod custom;
mod multiple_choice;
mod source_row;

pub use code_problems::{CodeProblem, Preamble, humaneval, mbpp};
pub use custom::{CustomRow, Scorer, custom};
pub use multiple_choice::{arc, choices, hellaswag, mmlu};
pub use source_row::SourceRow;
