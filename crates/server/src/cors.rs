//! Cross-origin requests: which web pages may call the server. Its own and those of the allowed origins may.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::ServerState;

/// Whether a web page of an origin that is not allowed sent this request.
pub(crate) fn is_foreign(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let page = origin.as_bytes();
    let of_scheme = |scheme: &str| page.strip_prefix(scheme.as_bytes());
    let own = of_scheme("http://")
        .or_else(|| of_scheme("https://"))
        .is_some_and(|page| Some(page) == host);
    !own && !is_allowed(origin, allowed)
}

fn is_allowed(origin: &HeaderValue, allowed: &[String]) -> bool {
    allowed
        .iter()
        .any(|name| name == "*" || name.as_bytes() == origin.as_bytes())
}

/// Answers preflights and sets the CORS headers for allowed origins. Without these headers, browsers block other pages.
pub(crate) async fn cross_origin(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers
        .get(ORIGIN)
        .filter(|origin| is_allowed(origin, &state.options().allowed_origins))
        .cloned();
    let Some(origin) = origin else {
        return next.run(request).await;
    };
    let is_preflight = request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let mut response = StatusCode::NO_CONTENT.into_response();
        let granted = response.headers_mut();
        granted.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, DELETE"),
        );
        granted.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(asked) = asked {
            granted.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        response
    } else {
        next.run(request).await
    };
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_allowed_pages_are_not_foreign() {
        let allowed = vec!["https://chat.example".to_owned()];
        let foreign = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:6900"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            is_foreign(&headers, &allowed)
        };
        assert!(!foreign(None));
        assert!(!foreign(Some("http://127.0.0.1:6900")));
        assert!(!foreign(Some("https://chat.example")));
        for other in [
            "http://127.0.0.1:6901",
            "https://evil.example",
            "null",
            "http://chat.example",
            "127.0.0.1:6900",
        ] {
            assert!(foreign(Some(other)), "{other}");
        }
    }
}
