//! Reads a request body: a JSON object whose fields the route knows, or an error that says what is wrong.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use synapse_engine::Engine;

use crate::content_encoding;
use crate::cors::is_foreign;
use crate::error::ApiError;
use crate::fields::{self, Field};
use crate::read_timeout::too_slow;
use crate::{ServerOptions, ServerState};

/// How to treat a body whose content type is not JSON: `curl -d` sends none or that of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyPolicy {
    /// Read it as JSON, on the completion routes. A web page can send such a request without a preflight, so requests from
    /// origins that are not allowed are refused.
    AssumeJson,
    /// Refuse it.
    RequireJson,
}

/// A body as it arrived, before it is checked.
pub(crate) struct RawBody {
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
}

impl FromRequest<ServerState> for RawBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, Infallible> {
        let headers = request.headers().clone();
        let bytes = Bytes::from_request(request, state).await;
        Ok(Self { headers, bytes })
    }
}

impl RawBody {
    /// The engine and the fields of the body, all of which are in `table`.
    pub(crate) fn read(
        self,
        state: &ServerState,
        policy: BodyPolicy,
        table: &[Field],
    ) -> Result<(Arc<Engine>, Map<String, Value>), ApiError> {
        let object = read_object(&self.headers, self.bytes, policy, state.options())?;
        let engine = Arc::clone(state.engine()?);
        fields::check(&object, table)?;
        Ok((engine, object))
    }
}

/// Reads a body that must be a JSON object.
fn read_object(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    policy: BodyPolicy,
    options: &ServerOptions,
) -> Result<Map<String, Value>, ApiError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or("unreadable"));
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase());
    match (media_type.as_deref(), policy) {
        (Some("application/json"), _) => {}
        (Some(other), _) if other.starts_with("application/") && other.ends_with("+json") => {}
        (None | Some("application/x-www-form-urlencoded"), BodyPolicy::AssumeJson) => {
            if is_foreign(headers, &options.allowed_origins) {
                let message = "a page of another origin must send `Content-Type: application/json`";
                return Err(ApiError::new(StatusCode::FORBIDDEN, "permission_error", message).code("foreign_origin"));
            }
        }
        (other, _) => {
            let other = other.unwrap_or("none");
            let message = format!("the body must be JSON (`Content-Type: application/json`), found `{other}`");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "invalid_request_error", message).code("unsupported_media_type"));
        }
    }
    let body = body.map_err(|rejection| {
        if let Some(slow) = too_slow(&rejection) {
            let status = StatusCode::REQUEST_TIMEOUT;
            return ApiError::new(status, "invalid_request_error", slow.to_string()).code("body_timeout");
        }
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return content_encoding::too_large(options.max_body_bytes);
        }
        let message = format!("the body could not be read: {}", rejection.body_text());
        ApiError::new(status, "invalid_request_error", message).code("unreadable_body")
    })?;
    let body = content_encoding::decoded(headers, body, options.max_body_bytes)?;
    // Some clients on Windows begin with a byte order mark, which JSON lets a reader skip.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::invalid("the body must be a JSON object").code("invalid_json")),
        Err(error) => Err(ApiError::invalid(format!("the body is not JSON: {error}")).code("invalid_json")),
    }
}
