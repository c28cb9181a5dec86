//! The bundled data of the quickstart and the tokenizer and config of its tiny base, made from a seed.
//!
//! Four domains (math, code, general, routing) are written from templates in our own words, in the
//! formats real datasets come in. The same seed gives the same bytes, on every machine. What it is not:
//! a reader of datasets (that is `synapse-data`) or a trainer.

mod code;
mod corpus;
mod error;
mod everyday;
mod expression;
mod files;
mod general;
mod math;
mod model;
mod random;
mod routing;
mod template;
mod words;

pub use corpus::{Corpus, HELD_OUT_ROWS, SEED, SPECIALIST_ROWS};
pub use error::{Error, Result};
pub use model::{VOCABULARY, train_tokenizer};
pub use template::Split;
