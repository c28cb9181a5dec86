//! A hub on loopback: one repository, one commit, and the faults of a real network on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The only commit there is.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong.
#[derive(Debug, Default, Clone)]
pub(super) struct Faults {
    /// Every nth file request answers 503 with Retry-After.
    pub(super) fail_every: usize,
    /// Every nth file request answers 429 with Retry-After.
    pub(super) limit_every: usize,
    /// Bodies end here and the connection with them.
    pub(super) cut_after: Option<usize>,
    /// One byte of this file is flipped.
    pub(super) corrupt: Option<&'static str>,
    /// Only this token opens the repository.
    pub(super) gated: Option<&'static str>,
    /// A request with a token is an error, as it is for storage with signed links.
    pub(super) refuse_tokens: bool,
    /// Range is ignored.
    pub(super) ignore_ranges: bool,
    /// Hashes are git's, as for small files.
    pub(super) git_etags: bool,
    /// Files are kept at this address.
    pub(super) redirect_to: Option<String>,
}

struct Shared {
    faults: Faults,
    files: Vec<(String, Vec<u8>)>,
    requests: AtomicUsize,
    bodies: AtomicUsize,
    ranges: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// A running hub; it stops when dropped.
pub(super) struct FakeHub {
    pub(super) endpoint: String,
    shared: Arc<Shared>,
}

impl FakeHub {
    pub(super) fn start(faults: Faults, files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()))
            .collect();
        let shared = Arc::new(Shared {
            faults,
            files,
            requests: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            ranges: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let server = Arc::clone(&server);
                std::thread::spawn(move || stream.map(|stream| server.serve(&stream)));
            }
        });
        Self { endpoint, shared }
    }

    /// Answers that carried a file's bytes.
    pub(super) fn bodies_sent(&self) -> usize {
        self.shared.bodies.load(Ordering::Relaxed)
    }

    /// Range headers seen.
    pub(super) fn ranges(&self) -> Vec<String> {
        self.shared.ranges.lock().unwrap().clone()
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener so that it sees the flag.
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
    }
}

struct Request {
    method: String,
    path: String,
    range: Option<String>,
    token: Option<String>,
}

impl Shared {
    /// Answers requests until the client leaves or an answer is cut off.
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            match self.answer(&request, stream) {
                Ok(true) => {}
                _ => {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
            }
        }
    }

    /// Whether the connection may go on.
    fn answer(&self, request: &Request, mut out: &TcpStream) -> std::io::Result<bool> {
        let mut reply = |status: &str, headers: &str, body: &[u8]| {
            write!(
                out,
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
                body.len()
            )?;
            if request.method != "HEAD" {
                out.write_all(body)?;
            }
            Ok(true)
        };
        if self.faults.refuse_tokens && request.token.is_some() {
            return reply("400 Bad Request", "", b"no tokens here");
        }
        if let Some(right) = self.faults.gated {
            match &request.token {
                None => return reply("401 Unauthorized", "X-Error-Code: GatedRepo\r\n", b""),
                Some(token) if token != right => {
                    return reply("403 Forbidden", "X-Error-Code: GatedRepo\r\n", b"");
                }
                Some(_) => {}
            }
        }
        let path = request.path.trim_start_matches('/');
        let repos = ["datasets/org/rows", "models/org/model"];
        if let Some(rest) = path.strip_prefix("api/") {
            let Some(revision) = repos.iter().find_map(|repo| rest.strip_prefix(repo)) else {
                return reply("404 Not Found", "X-Error-Code: RepoNotFound\r\n", b"");
            };
            if !["/revision/main".to_owned(), format!("/revision/{COMMIT}")].contains(&revision.to_owned()) {
                return reply("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", b"");
            }
            let siblings: Vec<_> = self
                .files
                .iter()
                .map(|(name, _)| serde_json::json!({ "rfilename": name }))
                .collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes());
        }
        let file = path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, file)| file);
        let Some((name, bytes)) = self.files.iter().find(|(name, _)| Some(name.as_str()) == file) else {
            return reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"");
        };
        self.send_file(request, name, bytes, out)
    }

    fn send_file(&self, request: &Request, name: &str, bytes: &[u8], mut out: &TcpStream) -> std::io::Result<bool> {
        let faults = &self.faults;
        let etag = if faults.git_etags {
            git_sha1(bytes)
        } else {
            sha256(bytes)
        };
        let hashes = format!("X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\n", bytes.len());
        if let Some(elsewhere) = &faults.redirect_to {
            write!(
                out,
                "HTTP/1.1 302 Found\r\n{hashes}Location: {elsewhere}{}\r\nContent-Length: 0\r\n\r\n",
                request.path
            )?;
            return Ok(true);
        }
        if request.method == "GET" {
            let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            for (every, status) in [
                (faults.fail_every, "503 Unavailable"),
                (faults.limit_every, "429 Too Many"),
            ] {
                if every > 0 && number.is_multiple_of(every) {
                    write!(out, "HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")?;
                    return Ok(true);
                }
            }
        }
        let (mut start, mut end, mut partial) = (0, bytes.len(), false);
        if let Some(range) = &request.range {
            self.ranges.lock().unwrap().push(range.clone());
            if !faults.ignore_ranges {
                let (from, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
                start = from.parse().unwrap();
                end = last.parse().map_or(end, |last: usize| end.min(last + 1));
                partial = true;
            }
        }
        if start >= bytes.len() {
            write!(out, "HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        let mut body = bytes[start..end].to_vec();
        if faults.corrupt == Some(name) {
            body[0] ^= 1;
        }
        let status = if partial { "206 Partial" } else { "200 OK" };
        let content_range = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, bytes.len());
        let content_range = if partial { content_range.as_str() } else { "" };
        write!(
            out,
            "HTTP/1.1 {status}\r\n{hashes}{content_range}Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        self.bodies.fetch_add(1, Ordering::Relaxed);
        let sent = body.len().min(faults.cut_after.unwrap_or(usize::MAX));
        out.write_all(&body[..sent])?;
        Ok(sent == body.len())
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        range: None,
        token: None,
    };
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let header = line.trim_end();
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = Some(value.trim_start_matches("Bearer ").to_owned()),
            _ => {}
        }
    }
    Some(request)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git_sha1(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len()))
        .chain_update(bytes)
        .finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
