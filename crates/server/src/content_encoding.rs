//! Request bodies that are compressed with gzip, as some clients and proxies send large prompts.

use std::io::Read;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;

use crate::error::ApiError;

/// The body as it was before it was compressed, at most `limit` bytes.
pub(crate) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, ApiError> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let codings = codings.flat_map(|value| value.to_str().unwrap_or("unreadable").split(','));
    let codings: Vec<String> = codings
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    match codings.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(body),
        ["gzip" | "x-gzip"] => inflate(&body, limit),
        other => {
            let message = format!(
                "the body may be compressed with `gzip` or not at all, found `{}`",
                other.join(", ")
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(ApiError::new(status, "invalid_request_error", message).code("unsupported_content_encoding"))
        }
    }
}

fn inflate(body: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    let mut inflated = Vec::new();
    // One byte more tells a body at the limit from a larger one.
    let mut reader = MultiGzDecoder::new(body).take(limit as u64 + 1);
    if let Err(error) = reader.read_to_end(&mut inflated) {
        return Err(ApiError::invalid(format!("the body is not valid gzip: {error}")).code("unreadable_body"));
    }
    if inflated.len() > limit {
        return Err(too_large(limit));
    }
    Ok(inflated.into())
}

/// 413.
pub(crate) fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than the {limit} bytes that this server takes");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    ApiError::new(status, "invalid_request_error", message).code("body_too_large")
}
