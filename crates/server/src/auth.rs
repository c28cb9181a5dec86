//! API keys: read from a file, kept as hashes, compared in constant time.

use std::path::Path;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::{ServerError, ServerState};

/// The keys that open all that computes or changes something; the chat page and what only tells about the server
/// (`/health`, `/metrics`, `/openapi.json`) stay open.
#[derive(Clone)]
pub struct ApiKeys {
    hashes: Vec<[u8; 32]>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.hashes.len())
    }
}

impl ApiKeys {
    /// Reads one key a line; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// A file that cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, ServerError> {
        let text = std::fs::read_to_string(path).map_err(|source| ServerError::KeyFile {
            path: path.to_owned(),
            source,
        })?;
        let keys = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let hashes: Vec<_> = keys.map(hash).collect();
        if hashes.is_empty() {
            return Err(ServerError::NoKeys { path: path.to_owned() });
        }
        Ok(Self { hashes })
    }

    /// Whether `key` is one of them. Hashing first makes lengths equal, and every hash is compared to its end, so
    /// the time it takes tells nothing about the keys.
    fn open_with(&self, key: &str) -> bool {
        let given = hash(key);
        self.hashes.iter().fold(false, |found, known| {
            let difference = given.iter().zip(known).fold(0, |bits, (a, b)| bits | (a ^ b));
            found | (difference == 0)
        })
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Lets a request through if it carries a key, or none is needed.
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
    // The scheme's case does not matter, the key's does.
    if !scheme.eq_ignore_ascii_case("bearer") || !keys.open_with(key.trim()) {
        return Err(refused("the API key is not valid"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn keys_are_lines_and_case_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "# team\nSecret-1\n\n  second key  \n").unwrap();
        let keys = ApiKeys::read(&path).unwrap();
        assert!(keys.open_with("Secret-1") && keys.open_with("second key"));
        assert!(!keys.open_with("secret-1") && !keys.open_with("") && !keys.open_with("# team"));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");

        std::fs::write(&path, "# none yet\n").unwrap();
        assert!(matches!(ApiKeys::read(&path), Err(ServerError::NoKeys { .. })));
        assert!(matches!(
            ApiKeys::read(&folder.path().join("absent")),
            Err(ServerError::KeyFile { .. })
        ));
    }
}
