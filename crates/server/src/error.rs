//! The error response that all routes share, and the errors of starting and stopping the server.

use std::path::PathBuf;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use synapse_engine::EngineError;
use synapse_tokenizer::TokenizerError;

/// Seconds after which a refused client may try again.
const RETRY_AFTER: u32 = 1;

/// Why the server did not start or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The key file could not be read.
    #[error("cannot read the key file {path}: {source}", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file contains no keys, so no request would be accepted.
    #[error("the key file {path} contains no keys; write one per line", path = path.display())]
    NoKeys {
        /// The file.
        path: PathBuf,
    },
    /// An adapter has the name of the base model.
    #[error("an adapter and the base model are both called `{name}`; rename one of them")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The swarm has the name of the base model or of an adapter.
    #[error("`{name}` is the name of the swarm and of a model; rename one of them")]
    SwarmNameTaken {
        /// The name.
        name: String,
    },
    /// A label or the coordinator of the swarm names an adapter that is not served.
    #[error("the swarm needs the adapter `{name}`, which is not served")]
    NoSuchMember {
        /// The adapter.
        name: String,
    },
    /// The socket failed.
    #[error("the server's socket failed: {0}")]
    Socket(#[from] std::io::Error),
    /// The time to finish accepted requests ran out.
    #[error("{unfinished} requests were still running after {seconds} s of draining and were cut off")]
    DrainDeadline {
        /// Requests cut off.
        unfinished: usize,
        /// The time they had.
        seconds: u64,
    },
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// OpenAI's class of errors, for example `invalid_request_error`.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    /// The field at fault, for example `messages[0].content`.
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400 for one field; `problem` continues the sentence that the field's name begins.
    pub(crate) fn field(name: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let name = name.into();
        Self {
            param: Some(name.clone()),
            ..Self::invalid(format!("`{name}` {problem}"))
        }
    }

    /// 404 for a model name.
    pub(crate) fn unknown_model(name: &str, known: &[String]) -> Self {
        let message = format!("the model `{name}` does not exist; there are: {}", known.join(", "));
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
            .code("model_not_found")
            .param("model")
    }

    /// 409.
    pub(crate) fn conflict(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "invalid_request_error", message).code(code)
    }

    /// 503.
    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message).code(code)
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(crate) fn param(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    /// What a template or tokenizer said about the input in `param`.
    pub(crate) fn from_chat(error: &TokenizerError, param: &str) -> Self {
        match error {
            TokenizerError::Tools(_) => Self::invalid(error.to_string())
                .param("tools")
                .code("unsupported_parameter"),
            TokenizerError::TemplateArgument { .. } => {
                Self::invalid(error.to_string()).param(crate::prompts::TEMPLATE_ARGUMENTS)
            }
            _ => Self::invalid(error.to_string()).param(param),
        }
    }

    /// What the engine said about a request whose prompt came in `prompt_param`.
    pub(crate) fn from_engine(error: &EngineError, prompt_param: &str) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).code("rate_limit_exceeded")
            }
            EngineError::Stopped => Self::unavailable(message, "stopped"),
            EngineError::UnknownAdapter { .. } => Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
                .code("model_not_found")
                .param("model"),
            EngineError::ContextOverflow { .. } => Self::invalid(message)
                .code("context_length_exceeded")
                .param(prompt_param),
            EngineError::EmptyPrompt | EngineError::TokenOutOfRange { .. } | EngineError::InvalidGrammar { .. } => {
                Self::invalid(message).param(prompt_param)
            }
            EngineError::AdapterLoadBusy => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).code("adapter_load_busy")
            }
            EngineError::AdapterRefused { .. } => Self::invalid(message).param("path").code("adapter_refused"),
            EngineError::AdapterConflict { .. } => Self::conflict(message, "adapter_conflict"),
            EngineError::TooManyAdapters { .. } => Self::conflict(message, "too_many_adapters"),
            EngineError::InvalidOption { option, message } => Self::field(*option, message),
            _ => Self::internal(message),
        }
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!("the path cannot be read: {}", rejection.body_text())).code("invalid_path")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        if self.status == StatusCode::CONFLICT {
            // OpenAI's clients otherwise send the same again by themselves.
            response.headers_mut().insert(
                HeaderName::from_static("x-should-retry"),
                HeaderValue::from_static("false"),
            );
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
