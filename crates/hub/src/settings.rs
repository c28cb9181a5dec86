//! Endpoint, cache, token and offline mode, from the environment variables that all Hugging Face tools read.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{HubError, Result};

/// The default hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How to reach a hub and where to cache its files.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The hub's address without a slash at the end.
    pub endpoint: String,
    /// The folder that holds `models--…` and `datasets--…`.
    pub cache: PathBuf,
    /// The access token, if there is one.
    pub token: Option<AccessToken>,
    /// The file from which the token was, or would have been, read.
    pub token_file: PathBuf,
    /// Use only the cache, never the network.
    pub offline: bool,
}

/// A token and where it came from.
#[derive(Clone)]
pub struct AccessToken {
    /// Sent to the hub only, never to a host it redirects to.
    pub secret: String,
    /// `HF_TOKEN` or the file's path, for messages.
    pub origin: String,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "AccessToken from {}", self.origin)
    }
}

impl HubSettings {
    /// Reads HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE.
    ///
    /// # Errors
    /// If there is no home folder, or a variable has an invalid value.
    pub fn from_env(offline: bool) -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name), offline)
    }

    /// As [`HubSettings::from_env`], from any source of variables.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, offline: bool) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &'static str, expected: &'static str| match get(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value.trim().to_owned())),
            Some(Err(value)) => Err(HubError::Environment {
                name,
                value: value.to_string_lossy().into_owned(),
                expected,
            }),
        };
        let endpoint = match text("HF_ENDPOINT", "an http address")? {
            None => DEFAULT_ENDPOINT.to_owned(),
            Some(value) if value.starts_with("http://") || value.starts_with("https://") => {
                value.trim_end_matches('/').to_owned()
            }
            Some(value) => {
                return Err(HubError::Environment {
                    name: "HF_ENDPOINT",
                    value,
                    expected: "an http address",
                });
            }
        };
        let home = match get("HF_HOME") {
            Some(home) => PathBuf::from(home),
            None => {
                let caches = get("XDG_CACHE_HOME").map(PathBuf::from);
                let caches = caches.or_else(|| get("HOME").map(|home| PathBuf::from(home).join(".cache")));
                let caches = caches.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
                caches.ok_or(HubError::NoCacheFolder)?.join("huggingface")
            }
        };
        let cache = get("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = match text("HF_TOKEN", "text")? {
            Some(secret) => Some(AccessToken {
                secret,
                origin: "HF_TOKEN".to_owned(),
            }),
            None => std::fs::read_to_string(&token_file)
                .ok()
                .map(|secret| secret.trim().to_owned())
                .filter(|secret| !secret.is_empty())
                .map(|secret| AccessToken {
                    secret,
                    origin: token_file.display().to_string(),
                }),
        };
        let offline_asked = match text("HF_HUB_OFFLINE", "1 or 0")? {
            None => false,
            Some(value) => match value.to_ascii_uppercase().as_str() {
                "1" | "ON" | "YES" | "TRUE" => true,
                "0" | "OFF" | "NO" | "FALSE" => false,
                _ => {
                    return Err(HubError::Environment {
                        name: "HF_HUB_OFFLINE",
                        value,
                        expected: "1 or 0",
                    });
                }
            },
        };
        Ok(Self {
            endpoint,
            cache,
            token,
            token_file,
            offline: offline || offline_asked,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        };
        HubSettings::from_lookup(find, false)
    }

    #[test]
    fn defaults_and_overrides() {
        let plain = settings(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, PathBuf::from("/home/a/.cache/huggingface/hub"));
        assert_eq!(plain.token_file, PathBuf::from("/home/a/.cache/huggingface/token"));
        let moved = settings(&[("HF_HOME", "/x"), ("HF_ENDPOINT", "http://h:1/"), ("HF_TOKEN", " t\n")]).unwrap();
        assert_eq!(
            (moved.endpoint.as_str(), moved.cache),
            ("http://h:1", PathBuf::from("/x/hub"))
        );
        assert_eq!(moved.token.unwrap().secret, "t");
        let cache = settings(&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y"), ("HF_HUB_OFFLINE", "true")]).unwrap();
        assert_eq!((cache.cache, cache.offline), (PathBuf::from("/y"), true));
    }

    #[test]
    fn invalid_values_are_refused() {
        assert!(settings(&[("HOME", "/h"), ("HF_ENDPOINT", "hub.example")]).is_err());
        assert!(settings(&[("HOME", "/h"), ("HF_HUB_OFFLINE", "maybe")]).is_err());
    }

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let settings = settings(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }
}
