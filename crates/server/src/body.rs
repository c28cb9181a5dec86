//! From a request's body to a JSON object, with every way that can fail as an error of ours.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::origin::is_foreign;
use crate::patience::too_slow;

/// What a body is that does not say it is JSON: `curl -d` sends none or a form's content type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// JSON, on the completion routes. Any web page could send the same without its browser asking first, so a foreign
    /// origin, which is none of these, is refused.
    IsJson(&'a [String]),
    /// Not JSON.
    IsRefused,
}

/// Reads a body that must be a JSON object.
pub(crate) fn read_object(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    form: Form<'_>,
) -> Result<Map<String, Value>, ApiError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or("unreadable"));
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase());
    match (media_type.as_deref(), form) {
        (Some("application/json"), _) => {}
        (Some(other), _) if other.starts_with("application/") && other.ends_with("+json") => {}
        (None | Some("application/x-www-form-urlencoded"), Form::IsJson(allowed_origins)) => {
            if is_foreign(headers, allowed_origins) {
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
        let (message, code) = if status == StatusCode::PAYLOAD_TOO_LARGE {
            ("the body is larger than this server takes".to_owned(), "body_too_large")
        } else {
            let message = format!("the body could not be read: {}", rejection.body_text());
            (message, "unreadable_body")
        };
        ApiError::new(status, "invalid_request_error", message).code(code)
    })?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::invalid("the body must be a JSON object").code("invalid_json")),
        Err(error) => Err(ApiError::invalid(format!("the body is not JSON: {error}")).code("invalid_json")),
    }
}
