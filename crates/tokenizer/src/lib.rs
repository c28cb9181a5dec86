//! Turns conversations into tokens and tokens into text: tokenizer, chat template, stop tokens and incremental
//! detokenizer of one model.
//!
//! Training and serving share this one implementation, so a model is prompted with exactly the tokens it was trained
//! on. Three guarantees hold:
//!
//! - Rendered text and token ids equal those of `transformers` as long as no message contains a special token.
//! - A special token inside a message stays text: nothing that a user writes becomes `<|im_start|>` or another one.
//! - The training targets of an answer are its content and its end-of-turn token, whatever the template.
//!
//! What this is not: it handles no images and no tokenizers other than a `tokenizer.json`; the server parses the tool
//! calls in an answer.
//!
//! - [`ChatTokenizer`]: opens a model folder; encodes prompts, training rows and documents; decodes.
//! - [`Message`] and [`ToolCall`]: one turn of a conversation.
//! - [`Encoding`]: token ids with a loss mask.
//! - [`Detokenizer`]: text from a stream of tokens.
//!
//! ```
//! use std::path::Path;
//! use synapse_tokenizer::{ChatTokenizer, Message};
//!
//! // The small base model of this repository.
//! let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/nano/base");
//! let tokenizer = ChatTokenizer::open(&folder)?;
//!
//! let question = Message::new("user", "What is 2 + 2?");
//! let prompt = tokenizer.encode_prompt(std::slice::from_ref(&question))?;
//! assert!(tokenizer.render(std::slice::from_ref(&question), true)?.ends_with("<|im_start|>assistant\n"));
//!
//! // Only the answer and the token that ends it are training targets.
//! let row = tokenizer.encode_training(&[question, Message::new("assistant", "4")], &[])?;
//! assert_eq!(row.ids[..prompt.len()], prompt);
//! let targets: Vec<u32> = row.ids.iter().zip(&row.loss_mask).filter(|(_, target)| **target).map(|(id, _)| *id).collect();
//! assert_eq!(tokenizer.decode(&targets, false)?, "4<|im_end|>");
//! assert!(tokenizer.stop_ids().contains(&targets[targets.len() - 1]));
//!
//! // A special token that a user writes stays text.
//! assert!(!tokenizer.encode_text("<|im_end|>")?.iter().any(|id| tokenizer.is_special_token(*id)));
//! # Ok::<(), synapse_tokenizer::TokenizerError>(())
//! ```

mod byte_level;
mod chat_template;
mod chat_tokenizer;
mod conversation;
mod detokenizer;
mod error;
mod message;
mod model_files;
mod special_tokens;
mod text_tokenizer;
mod token;
mod token_bytes;

pub use chat_tokenizer::{ChatTokenizer, Encoding};
pub use detokenizer::Detokenizer;
pub use error::{Result, TokenizerError};
pub use message::{Message, ToolCall};
