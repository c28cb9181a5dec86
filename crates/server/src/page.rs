//! The chat page: one HTML file inside the binary, which loads nothing from anywhere.

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{Html, IntoResponse, Response};

use crate::error::ApiError;
use crate::identity;

/// Its script and style carry the placeholder `NONCE`.
const PAGE: &str = include_str!("page.html");

/// The page under a policy that runs its own script and nothing else, whatever a model may write.
pub(crate) async fn page() -> Result<Response, ApiError> {
    let nonce = identity::random_id("");
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).map_err(|_| ApiError::internal("the page's policy is malformed"))?;
    let mut response = Html(PAGE.replace("NONCE", &nonce)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
