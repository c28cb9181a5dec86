//! `GET /metrics`, and the middleware that counts responses.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::prometheus_text;

use crate::ServerState;
use crate::error::ApiError;

/// All metrics. Needs no key, like `/health`, and works while the server loads or drains.
pub(crate) async fn metrics(State(state): State<ServerState>) -> Result<Response, ApiError> {
    let text = state.metrics().text(state.load());
    let text = text.map_err(|_| ApiError::internal("the metrics could not be written"))?;
    Ok(([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response())
}

/// Counts responses by the route's path as /openapi.json writes it; paths without a route count as `other`.
pub(crate) async fn count(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or_else(|| "other".to_owned(), |path| path.as_str().replace("{*", "{"));
    let response = next.run(request).await;
    state.metrics().answered(path, response.status().as_u16());
    response
}
