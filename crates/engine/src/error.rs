//! Why the engine refused a request or could not complete it.

/// This crate's result.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Why the engine refused a request or could not complete it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine is at capacity.
    #[error("{limit} requests are already running or waiting; try again shortly")]
    Full {
        /// Requests that may run and wait together.
        limit: usize,
    },
    /// The engine's thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The request names an adapter that is not loaded.
    #[error("no adapter named `{name}` is loaded; loaded: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    UnknownAdapter {
        /// The requested name.
        name: String,
        /// The loaded names.
        known: Vec<String>,
    },
    /// The prompt holds no token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A prompt token outside the vocabulary.
    #[error("prompt token {index} is {id}, outside the model's vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// Position in the prompt, from 0.
        index: usize,
        /// The offending id.
        id: u32,
        /// Width of a row of logits.
        vocab_size: usize,
    },
    /// Prompt and completion together exceed the context. Clients recognize the error by OpenAI's wording.
    #[error(
        "This model's maximum context length is {limit} tokens. However, you requested {} tokens ({prompt_tokens} in the \
         prompt, {max_tokens} in the completion); shorten the prompt or lower max_tokens",
        prompt_tokens.saturating_add(*max_tokens)
    )]
    ContextOverflow {
        /// Tokens in the prompt.
        prompt_tokens: usize,
        /// Tokens to generate.
        max_tokens: usize,
        /// Positions a sequence may have.
        limit: usize,
    },
    /// A sampling option outside its range.
    #[error("{option} {message}")]
    InvalidOption {
        /// The option, by its OpenAI name.
        option: &'static str,
        /// What is wrong, with the value and the range.
        message: String,
    },
    /// A grammar that cannot be followed.
    #[error("the grammar cannot be followed: {message}")]
    InvalidGrammar {
        /// What is wrong with it.
        message: String,
    },
    /// The engine has no adapter source.
    #[error("this engine cannot load adapters while it runs")]
    NoAdapterSource,
    /// Adapters are read one at a time.
    #[error("another adapter is being loaded; try again shortly")]
    AdapterLoadBusy,
    /// A folder that does not hold an adapter of this model.
    #[error("the adapter `{name}` cannot be loaded: {message}")]
    AdapterRefused {
        /// The name in the request.
        name: String,
        /// What is wrong with the folder.
        message: String,
    },
    /// The name does not have the content that the caller expected.
    #[error("`{name}` is not what was expected: {}", found.as_ref().map_or("no adapter of known content has this name".to_owned(), |hash| format!("its content is {hash}")))]
    AdapterConflict {
        /// The adapter's name.
        name: String,
        /// Its current content hash, if it is loaded and has one.
        found: Option<String>,
    },
    /// The maximum number of adapters is loaded.
    #[error("{limit} adapters are loaded already; remove one first")]
    TooManyAdapters {
        /// The maximum number.
        limit: usize,
    },
    /// The model failed while the request ran.
    #[error("generation failed: {0}")]
    Failed(String),
}
