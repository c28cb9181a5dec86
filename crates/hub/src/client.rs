//! HTTP requests to the hub: retries, redirects, and the errors behind its status codes.
//!
//! A transient failure (429, 5xx, a broken connection) is retried, after the pause the hub asks for if it does. Every
//! other failure is an error at once, whose message names the remedy.

use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::http::{HeaderMap, Response, header};

use crate::error::{HubError, Result};
use crate::repository::{Repository, is_safe_path};
use crate::retry::{Attempt, RetryPolicy, Transient};
use crate::settings::HubSettings;

/// A revision as the hub describes it.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    /// The commit that the revision points to.
    pub(crate) commit: String,
    /// Every file of the commit, sorted.
    pub(crate) files: Vec<String>,
}

/// Hash and length of a file, known before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The blob's name: SHA-256 of large files, git's SHA-1 of small ones.
    pub(crate) etag: String,
    /// Length in bytes, if announced.
    pub(crate) size: Option<u64>,
}

/// A connection to one hub.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    settings: HubSettings,
    pub(crate) retry_policy: RetryPolicy,
}

impl Client {
    pub(crate) fn new(settings: HubSettings, retry_policy: RetryPolicy) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Only the hub's own answer carries the hashes, not the one it redirects to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("synapse-hub/", env!("CARGO_PKG_VERSION")));
        // A hub on this machine is never behind a proxy.
        let local = ["http://127.", "http://localhost", "http://[::1]"];
        let config = if local.iter().any(|start| settings.endpoint.starts_with(start)) {
            config.proxy(None)
        } else {
            config
        };
        Self {
            agent: config.build().new_agent(),
            settings,
            retry_policy,
        }
    }

    pub(crate) fn settings(&self) -> &HubSettings {
        &self.settings
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.endpoint)
    }

    /// Requests the commit of a revision and its file list.
    pub(crate) fn describe(&self, repository: &Repository) -> Result<Description> {
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        let url = self.url(&repository.api_path());
        let text = self.retry_policy.retry(&url, || {
            let mut response = match self.get(&url, None)? {
                Ok(response) => response,
                Err(transient) => return Ok(Attempt::Failed(transient)),
            };
            self.check_status(repository, &url, &mut response)?;
            // File lists of large repositories exceed the reader's default limit.
            match response.body_mut().with_config().limit(256 << 20).read_to_string() {
                Ok(text) => Ok(Attempt::Done(text)),
                Err(error) => Ok(Attempt::Failed(Transient::new(error.to_string()))),
            }
        })?;
        let info: Info = serde_json::from_str(&text).map_err(|error| HubError::BadAnswer {
            url: url.clone(),
            reason: error.to_string(),
        })?;
        if !crate::repository::is_commit(&info.sha) {
            return Err(HubError::BadAnswer {
                url,
                reason: format!("{:?} is not a commit", info.sha),
            });
        }
        let mut files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        if let Some(bad) = files.iter().find(|file| !is_safe_path(file)) {
            return Err(HubError::BadAnswer {
                url,
                reason: format!("the file name {bad:?} leaves its folder"),
            });
        }
        files.sort();
        Ok(Description {
            commit: info.sha,
            files,
        })
    }

    /// Requests a file's hash and length.
    pub(crate) fn metadata(&self, repository: &Repository, commit: &str, file: &str) -> Result<Metadata> {
        let mut url = self.url(&repository.file_path(commit, file));
        // Renamed repositories redirect within the hub; large files redirect away from it.
        for _ in 0..5 {
            let headers = self.retry_policy.retry(&url, || match self.head(&url)? {
                Ok(mut response) => {
                    self.check_status(repository, &url, &mut response)?;
                    Ok(Attempt::Done(response.into_parts().0.headers))
                }
                Err(transient) => Ok(Attempt::Failed(transient)),
            })?;
            let location = text_of(&headers, header::LOCATION.as_str()).filter(|location| location.starts_with('/'));
            match location.filter(|_| !headers.contains_key("x-linked-etag")) {
                Some(location) => url = self.url(location.trim_start_matches('/')),
                None => {
                    return metadata_of(&headers).map_err(|reason| HubError::BadAnswer { url, reason });
                }
            }
        }
        Err(HubError::BadAnswer {
            url,
            reason: "redirected too often".to_owned(),
        })
    }

    /// Starts fetching a file from byte `from`, up to byte `last` if given. Follows redirects to other hosts without the
    /// token. Returns successful answers and transient failures; all other failures are errors.
    pub(crate) fn open(
        &self,
        repository: &Repository,
        url: &str,
        from: u64,
        last: Option<u64>,
    ) -> Result<Result<Response<ureq::Body>, Transient>> {
        let range = match last {
            Some(last) => Some(format!("bytes={from}-{last}")),
            None => (from > 0).then(|| format!("bytes={from}-")),
        };
        let mut address = url.to_owned();
        for _ in 0..10 {
            let mut response = match self.get(&address, range.as_deref())? {
                Ok(response) => response,
                Err(transient) => return Ok(Err(transient)),
            };
            let status = response.status().as_u16();
            if status == 416 {
                return Ok(Ok(response));
            }
            // Links to the storage host expire; the hub issues a new one.
            if address != url && matches!(status, 401 | 403 | 404) {
                let reason = format!("{address} answered {status}");
                return Ok(Err(Transient::new(reason)));
            }
            self.check_status(repository, &address, &mut response)?;
            let location =
                text_of(response.headers(), header::LOCATION.as_str()).filter(|_| (300..400).contains(&status));
            match location {
                Some(location) if location.starts_with('/') => {
                    let base = address
                        .find("://")
                        .and_then(|scheme| address[scheme + 3..].find('/').map(|slash| scheme + 3 + slash));
                    address = format!("{}{location}", &address[..base.unwrap_or(address.len())]);
                }
                Some(location) => address = location,
                None => return Ok(Ok(response)),
            }
        }
        Err(HubError::BadAnswer {
            url: url.to_owned(),
            reason: "redirected too often".to_owned(),
        })
    }

    fn get(&self, url: &str, range: Option<&str>) -> Result<Result<Response<ureq::Body>, Transient>> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.token_for(url) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        classify(url, request.call())
    }

    fn head(&self, url: &str) -> Result<Result<Response<ureq::Body>, Transient>> {
        let mut request = self.agent.head(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token_for(url) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        classify(url, request.call())
    }

    /// The token, for addresses of the hub only.
    fn token_for(&self, url: &str) -> Option<&str> {
        let is_hub = url
            .strip_prefix(&self.settings.endpoint)
            .is_some_and(|rest| rest.starts_with('/'));
        self.settings
            .token
            .as_ref()
            .filter(|_| is_hub)
            .map(|token| token.secret.as_str())
    }

    /// Turns an error status into the error that names the remedy; successes and redirects pass.
    fn check_status(&self, repository: &Repository, url: &str, response: &mut Response<ureq::Body>) -> Result<()> {
        let status = response.status().as_u16();
        if status < 400 {
            return Ok(());
        }
        let code = text_of(response.headers(), "x-error-code").unwrap_or_default();
        let settings = &self.settings;
        match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => Err(self.gated(repository, status)),
            (404, "RevisionNotFound") => Err(HubError::NoRevision {
                repo: repository.describe(),
                revision: repository.revision().to_owned(),
            }),
            (401, _) | (403 | 404, "" | "RepoNotFound" | "NotFound") => Err(HubError::NoRepository {
                endpoint: settings.endpoint.clone(),
                repo: repository.describe(),
                token: match &settings.token {
                    Some(token) => format!("the token from {} has no access ({status})", token.origin),
                    None => format!("no token is set in HF_TOKEN or {}", settings.token_file.display()),
                },
            }),
            _ => {
                let message = text_of(response.headers(), "x-error-message");
                let message = message.unwrap_or_else(|| response.body_mut().read_to_string().unwrap_or_default());
                let message: String = message.trim().chars().take(200).collect();
                let detail = if message.is_empty() {
                    message
                } else {
                    format!(": {message}")
                };
                Err(HubError::Status {
                    url: url.to_owned(),
                    status,
                    detail,
                })
            }
        }
    }

    fn gated(&self, repository: &Repository, status: u16) -> HubError {
        let page = self.url(&repository.page_path());
        let file = self.settings.token_file.display();
        let (reason, remedy) = match &self.settings.token {
            None => (
                format!("it needs a token, and none is set in HF_TOKEN or {file}"),
                format!("ask for access on {page}, then set HF_TOKEN or write the token to {file}"),
            ),
            Some(token) => (
                format!("the token from {} was refused ({status})", token.origin),
                format!(
                    "ask for access on {page} with the account the token belongs to, or give another token in HF_TOKEN or {file}"
                ),
            ),
        };
        HubError::Gated {
            repo: repository.describe(),
            reason,
            remedy,
        }
    }
}

/// Separates transient failures from answers.
fn classify(
    url: &str,
    outcome: Result<Response<ureq::Body>, ureq::Error>,
) -> Result<Result<Response<ureq::Body>, Transient>> {
    match outcome {
        Ok(response) if matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) => {
            let wait = text_of(response.headers(), header::RETRY_AFTER.as_str());
            let wait = wait.and_then(|text| parse_retry_after(text.trim()));
            let reason = format!("the hub answered {}", response.status());
            Ok(Err(Transient {
                reason,
                retry_after: wait,
            }))
        }
        Ok(response) => Ok(Ok(response)),
        Err(ureq::Error::BadUri(reason)) => Err(HubError::BadAnswer {
            url: url.to_owned(),
            reason,
        }),
        Err(error) => Ok(Err(Transient::new(error.to_string()))),
    }
}

/// The value of `Retry-After`: seconds, or a date.
fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Reads a file's hash and length from the headers of a HEAD request.
fn metadata_of(headers: &HeaderMap) -> Result<Metadata, String> {
    let linked = text_of(headers, "x-linked-etag");
    let is_linked = linked.is_some();
    let etag = linked.or_else(|| text_of(headers, "etag")).ok_or("it sent no ETag")?;
    let etag = etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if etag.is_empty() || etag.starts_with('.') || !etag.chars().all(plain) {
        return Err(format!("the ETag {etag:?} cannot name a file"));
    }
    // A redirect's own Content-Length is not the file's.
    let own_length = if is_linked {
        None
    } else {
        text_of(headers, "content-length")
    };
    let size = text_of(headers, "x-linked-size")
        .or(own_length)
        .and_then(|size| size.parse().ok());
    Ok(Metadata { etag, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = std::time::SystemTime::now() + Duration::from_secs(90);
        let wait = parse_retry_after(&httpdate::fmt_http_date(soon));
        assert!(wait.is_some_and(|wait| (85..=90).contains(&wait.as_secs())), "{wait:?}");
        assert_eq!(parse_retry_after("later"), None);
    }
}
