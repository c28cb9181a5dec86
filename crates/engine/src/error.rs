//! Why the engine does not take a request, or could not end it.

/// This crate's result.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Why the engine does not take a request, or could not end it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// As many requests as allowed are running and waiting.
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
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The prompt holds no token, so there is nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A prompt token that the model has no embedding for.
    #[error("prompt token {index} is {id}, outside the model's vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// Position in the prompt, from 0.
        index: usize,
        /// The offending id.
        id: u32,
        /// Width of a row of logits.
        vocab_size: usize,
    },
    /// Prompt and answer together do not fit.
    #[error(
        "the context holds {limit} tokens, but {prompt_tokens} in the prompt and up to {max_tokens} in the answer were asked for; \
         shorten the prompt or lower max_tokens"
    )]
    ContextOverflow {
        /// Tokens in the prompt.
        prompt_tokens: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// Positions a sequence may have.
        limit: usize,
    },
    /// A sampling option outside its range.
    #[error("{option} {message}")]
    InvalidOption {
        /// The option, by its OpenAI name.
        option: &'static str,
        /// What is wrong, with the value found and the range.
        message: String,
    },
    /// A grammar that cannot be kept.
    #[error("the grammar cannot be followed: {message}")]
    InvalidGrammar {
        /// What is wrong with it.
        message: String,
    },
    /// The engine was given nothing that reads adapters.
    #[error("this engine loads no adapters while it runs")]
    NoAdapterSource,
    /// Adapters are read one at a time.
    #[error("another adapter is being loaded; try again shortly")]
    AdapterLoadBusy,
    /// A folder that is no adapter of this model.
    #[error("the adapter `{name}` cannot be loaded: {message}")]
    AdapterRefused {
        /// The name it was to have.
        name: String,
        /// What is wrong with the folder.
        message: String,
    },
    /// The name does not mean what the caller expected.
    #[error("`{name}` is not what was expected: {}", found.as_ref().map_or("no adapter of known content has this name".to_owned(), |hash| format!("its content is {hash}")))]
    AdapterConflict {
        /// The adapter's name.
        name: String,
        /// The content hash it has, if it is there and has one.
        found: Option<String>,
    },
    /// As many adapters as allowed are loaded.
    #[error("{limit} adapters are loaded already; remove one first")]
    TooManyAdapters {
        /// Adapters there may be.
        limit: usize,
    },
    /// The model failed while the request ran.
    #[error("generation failed: {0}")]
    Failed(String),
}
