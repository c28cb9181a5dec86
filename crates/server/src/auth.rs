//! Requires an API key, if the server has any.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::ServerState;
use crate::api_keys::ApiKeys;
use crate::error::ApiError;

/// Passes a request on if it carries a valid key, or none is needed.
pub(crate) async fn require_key(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    match &state.options().api_keys {
        Some(keys) if request.method() != Method::OPTIONS => match check(keys, request.headers()) {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        },
        _ => next.run(request).await,
    }
}

fn check(keys: &ApiKeys, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |message: &str| {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message).code("invalid_api_key")
    };
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, key) = value
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| refused("no API key given; send it as `Authorization: Bearer KEY`"))?;
    // The scheme is case-insensitive, the key is not.
    if !scheme.eq_ignore_ascii_case("bearer") || !keys.contains(key.trim()) {
        return Err(refused("the API key is not valid"));
    }
    Ok(())
}
