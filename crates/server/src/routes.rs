//! The routes and the middleware around them.

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
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
    let path = uri.path();
    let message = match openapi::nearest_path(path) {
        _ if path.trim_end_matches('/') == "/v1/responses" => {
            format!("there is nothing at {path}: the Responses API is not implemented; use /v1/chat/completions")
        }
        Some(near) if near != path => format!("there is nothing at {path}; did you mean {near}?"),
        _ => format!("there is nothing at {path}"),
    };
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).code("not_found")
}

async fn method_not_allowed(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(path, MatchedPath::as_str);
    let allowed = openapi::methods(route).join(" or ");
    let message = format!("{method} is not allowed on {path}; use {allowed}");
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::openapi;

    /// The methods and paths of the calls of `route` above.
    fn routes() -> BTreeSet<(String, String)> {
        let source = include_str!("routes.rs");
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let mut routes = BTreeSet::new();
        for call in source.split(".route(").skip(1) {
            let mut parts = call.split('"');
            let path = parts.nth(1).unwrap_or_default().replace("{*", "{");
            let handlers = parts.next().unwrap_or_default();
            let handlers = handlers.split("\n        .").next().unwrap_or_default();
            for method in ["get", "post", "delete", "put", "patch"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert((method.to_owned(), path.clone()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_documented_and_every_documented_route_is_there() {
        let mut routes = routes();
        assert!(routes.len() > 15, "{routes:?}");
        // A model may be called `trace`: this is `GET /v1/models/{id}`.
        assert!(routes.remove(&("get".to_owned(), "/v1/models/trace".to_owned())));
        let documented: BTreeSet<(String, String)> = openapi::operations()
            .map(|(method, path)| (method.to_owned(), path.to_owned()))
            .collect();
        assert_eq!(routes, documented);
    }
}
