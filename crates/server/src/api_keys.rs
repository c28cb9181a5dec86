//! API keys: read from a file, stored as hashes, compared in constant time.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::ServerError;

/// The keys for all routes that compute or change something. The chat page and the routes about the server itself
/// (`/health`, `/metrics`, `/openapi.json`) need no key.
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
    /// Reads one key per line; empty lines and lines that begin with `#` are skipped.
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

    /// Whether `key` is one of them. The hashes have equal lengths and are compared to the end, so the time taken reveals
    /// nothing about the keys.
    pub(crate) fn contains(&self, key: &str) -> bool {
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
        assert!(keys.contains("Secret-1") && keys.contains("second key"));
        assert!(!keys.contains("secret-1") && !keys.contains("") && !keys.contains("# team"));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");

        std::fs::write(&path, "# none yet\n").unwrap();
        assert!(matches!(ApiKeys::read(&path), Err(ServerError::NoKeys { .. })));
        assert!(matches!(
            ApiKeys::read(&folder.path().join("absent")),
            Err(ServerError::KeyFile { .. })
        ));
    }
}
