//! The routes and the middleware around them.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};

use crate::error::ApiError;
use crate::router::http as decisions;
use crate::{
    ServerState, adapters, auth, chat, completions, cors, embeddings, identity, metrics, models, module_trace, openapi,
    page, read_timeout, tokenize,
};

/// The routes; [`crate::serve`] runs them on a socket.
pub fn router(state: ServerState) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route(
            "/v1/models/trace",
            get(models::retrieve_trace).post(module_trace::trace),
        )
        .route("/v1/router/decisions", get(decisions::list))
        // Deprecated: both now have a path of their own, above.
        .route("/v1/routing/trace", get(decisions::list).post(module_trace::trace))
        .route("/v1/adapters", post(adapters::load))
        .route("/v1/adapters/{*name}", delete(adapters::remove))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route_layer(from_fn_with_state(state.clone(), auth::require_key))
        .route("/health", get(models::health))
        .route("/metrics", get(metrics::http::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/", get(page::page))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), cors::cross_origin))
        .layer(from_fn(request_id))
        .layer(from_fn_with_state(state.clone(), metrics::http::count))
        .layer(from_fn_with_state(state.clone(), read_timeout::limit))
        .layer(DefaultBodyLimit::max(state.options().max_body_bytes))
        .with_state(state)
}

async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).code("not_found")
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message).code("method_not_allowed")
}

/// Gives every response an id, which users can quote in reports.
async fn request_id(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&identity::random_id("req_")) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}
