//! Tokenizer, chat template, stop tokens and incremental detokenizer of one model folder.
//!
//! Training and serving share this one copy, so a model is asked in exactly the tokens it was trained on.
//! Three promises hold it together:
//!
//! - rendered text and token ids equal those of `transformers` wherever no message contains a control token;
//! - where one does, it stays text: nothing a user writes becomes `<|im_start|>` and the like;
//! - the trained span of an answer is its content and its end-of-turn token, whatever the template.
//!
//! What it does not do: images, or tokenizers other than a `tokenizer.json`; answers that call tools are parsed where
//! they are served.

mod byte_level;
mod chat;
mod control;
mod cuts;
mod detokenizer;
mod error;
mod folder;
mod message;
mod pieces;
mod python;
mod spans;
mod template;
mod tools;
mod vocabulary;

pub use chat::{Chat, Encoded};
pub use detokenizer::Detokenizer;
pub use error::{ChatError, Result};
pub use message::{Message, ToolCall};
