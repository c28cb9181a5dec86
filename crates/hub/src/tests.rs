//! The hub crate against a hub on loopback that can fail in every way a real one does.
#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod fake_hub;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::HubError;
use crate::hub::Hub;
use crate::progress::{DownloadProgress, NoProgress};
use crate::retry::RetryPolicy;
use crate::selection::DatasetQuery;
use crate::settings::{AccessToken, HubSettings};
use fake_hub::{COMMIT, FakeHub, Faults};

const DATASET: &str = "org/rows";
const MODEL: &str = "org/model";

/// Bytes that differ everywhere, so that a wrongly resumed file cannot pass.
fn body(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

fn settings(endpoint: &str, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: None,
        token_file: cache.join("token"),
        offline: false,
    }
}

fn short_pauses() -> RetryPolicy {
    RetryPolicy {
        first_pause: Duration::from_millis(5),
        max_pause: Duration::from_millis(40),
        max_failures: 4,
        max_failures_when_asked: 12,
    }
}

fn hub_for(server: &FakeHub, cache: &Path) -> Hub {
    Hub::with_retry_policy(settings(&server.endpoint, cache), short_pauses())
}

fn rows(faults: Faults) -> FakeHub {
    FakeHub::start(
        faults,
        &[
            ("README.md", b"# rows".to_vec()),
            ("data/train-00000.bin", body(700_000)),
            ("data/train-00001.bin", body(3000)),
            ("data/test.bin", body(10)),
        ],
    )
}

fn train() -> Vec<String> {
    vec!["data/train-*.bin".to_owned()]
}

/// Every file below a folder that is not a link.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files_below(&path)),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

fn unfinished(cache: &Path) -> Vec<PathBuf> {
    let mut files = files_below(cache);
    files
        .retain(|path| path.to_string_lossy().ends_with(".incomplete") || path.to_string_lossy().ends_with(".partial"));
    files
}

#[test]
fn a_dataset_lands_in_the_standard_layout() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let dataset = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap();
    assert_eq!(dataset.revision, COMMIT);
    let paths: Vec<&str> = dataset.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["data/train-00000.bin", "data/train-00001.bin"]);
    let repo = cache.path().join("datasets--org--rows");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let pointer = repo.join("snapshots").join(COMMIT).join("data/train-00000.bin");
    assert_eq!(dataset.files[0].local, pointer);
    assert_eq!(fs::read(&pointer).unwrap(), body(700_000));
    let blob = fs::read_link(&pointer).unwrap();
    assert_eq!(blob, Path::new("../../../blobs").join(&dataset.files[0].sha256));
    assert_eq!(dataset.files[0].bytes, 700_000);
    assert!(unfinished(cache.path()).is_empty());
    assert!(!repo.join("snapshots").join(COMMIT).join("data/test.bin").exists());
}

fn wanted(patterns: &[&str]) -> DatasetQuery {
    DatasetQuery {
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        config: None,
        split: "train".to_owned(),
        shards: None,
        seed: 1,
    }
}

#[test]
fn a_dataset_by_id_alone_is_read_off_its_card() {
    let card = "---\nlicense: cc-by-4.0\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n";
    let server = FakeHub::start(
        Faults::default(),
        &[
            ("README.md", card.as_bytes().to_vec()),
            ("data/train-0.bin", body(10)),
            ("data/train-1.bin", body(10)),
            ("data/test-0.bin", body(10)),
        ],
    );
    let cache = TempDir::new().unwrap();
    let hub = hub_for(&server, cache.path());
    let selection = hub.select(DATASET, None, &wanted(&[]), &NoProgress).unwrap();
    assert_eq!(selection.files, ["data/train-0.bin", "data/train-1.bin"]);
    assert_eq!(selection.license.as_deref(), Some("cc-by-4.0"));
    let one = DatasetQuery {
        shards: Some(1),
        ..wanted(&["data/*.bin"])
    };
    let drawn = hub.select(DATASET, None, &one, &NoProgress).unwrap();
    assert_eq!((drawn.files.len(), drawn.candidates), (1, 3));
    let test = DatasetQuery {
        split: "dev".to_owned(),
        ..wanted(&[])
    };
    let error = hub.select(DATASET, None, &test, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("no split \"dev\"; its splits are train"), "{error}");
    let config = DatasetQuery {
        config: Some("x".to_owned()),
        ..wanted(&[])
    };
    let error = hub.select(DATASET, None, &config, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("its configurations are default"), "{error}");
}

#[test]
fn parts_are_fetched_once_survive_cuts_and_are_found_offline() {
    let faults = Faults {
        cut_after: Some(50_000),
        fail_every: 3,
        ..Faults::default()
    };
    let (server, cache) = (rows(faults), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let file = "data/train-00000.bin";
    let local = {
        let mut part = hub.partial_file(DATASET, COMMIT, file).unwrap();
        assert_eq!(part.size(), 700_000);
        part.ensure(699_992..700_000, &NoProgress).unwrap();
        part.ensure(1000..160_000, &NoProgress).unwrap();
        part.local().to_owned()
    };
    let bytes = fs::read(&local).unwrap();
    assert!(bytes[1000..160_000] == body(700_000)[1000..160_000] && bytes[699_992..] == body(700_000)[699_992..]);
    assert!(
        bytes[..1000].iter().all(|byte| *byte == 0),
        "nothing else was asked for"
    );
    let snapshot = local.ancestors().nth(2).unwrap().join("snapshots").join(COMMIT);
    assert!(snapshot.is_dir(), "other tools expect one");
    let sent = server.bodies_sent();
    let offline = HubSettings {
        offline: true,
        ..settings(&server.endpoint, cache.path())
    };
    let hub = Hub::with_retry_policy(offline, short_pauses());
    let mut part = hub.partial_file(DATASET, COMMIT, file).unwrap();
    part.ensure(2000..100_000, &NoProgress).unwrap();
    assert_eq!(server.bodies_sent(), sent);
    assert!(
        part.ensure(0..10, &NoProgress)
            .unwrap_err()
            .to_string()
            .contains("not in the cache")
    );
    assert!(hub.partial_file(DATASET, COMMIT, "data/test.bin").is_err());
}

#[test]
fn parts_that_make_the_whole_are_held_against_its_hash() {
    let faults = Faults {
        corrupt: Some("data/train-00001.bin"),
        ..Faults::default()
    };
    let (server, cache) = (rows(faults), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let mut part = hub.partial_file(DATASET, COMMIT, "data/train-00001.bin").unwrap();
    part.ensure(0..1000, &NoProgress).unwrap();
    let error = part.ensure(0..3000, &NoProgress).unwrap_err();
    assert!(matches!(error, HubError::Damaged { .. }), "{error}");
    assert!(!part.local().exists());
}

#[test]
fn a_server_without_ranges_is_read_past() {
    let faults = Faults {
        ignore_ranges: true,
        ..Faults::default()
    };
    let (server, cache) = (rows(faults), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let mut part = hub.partial_file(DATASET, COMMIT, "data/train-00001.bin").unwrap();
    part.ensure(500..700, &NoProgress).unwrap();
    assert_eq!(fs::read(part.local()).unwrap()[500..700], body(3000)[500..700]);
}

#[test]
fn what_is_cached_is_not_fetched_again() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap();
    let before = server.bodies_sent();
    hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap();
    assert_eq!(server.bodies_sent(), before);
}

#[test]
fn cut_connections_are_resumed() {
    let (server, cache) = (
        rows(Faults {
            cut_after: Some(100_000),
            ..Faults::default()
        }),
        TempDir::new().unwrap(),
    );
    let dataset = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap();
    assert_eq!(fs::read(&dataset.files[0].local).unwrap(), body(700_000));
    assert!(
        server.ranges().contains(&"bytes=100000-".to_owned()),
        "{:?}",
        server.ranges()
    );
}

#[test]
fn a_server_that_cannot_resume_is_asked_for_everything() {
    let faults = Faults {
        ignore_ranges: true,
        ..Faults::default()
    };
    let (server, cache) = (rows(faults), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let partial = partial_of(cache.path(), &body(700_000));
    fs::write(&partial, &body(700_000)[..1000]).unwrap();
    let dataset = hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap();
    assert_eq!(fs::read(&dataset.files[0].local).unwrap(), body(700_000));
}

/// Where an unfinished download of these bytes lies; its folder is made.
fn partial_of(cache: &Path, bytes: &[u8]) -> PathBuf {
    let blobs = cache.join("datasets--org--rows/blobs");
    fs::create_dir_all(&blobs).unwrap();
    blobs.join(format!("{}.incomplete", fake_hub::sha256(bytes)))
}

#[test]
fn an_earlier_process_s_beginning_is_used() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let partial = partial_of(cache.path(), &body(700_000));
    fs::write(&partial, &body(700_000)[..650_000]).unwrap();
    hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap();
    assert!(server.ranges().contains(&"bytes=650000-".to_owned()));
}

#[test]
fn a_wrong_beginning_costs_one_clean_try() {
    for wrong in [vec![7; 650_000], vec![7; 700_000], vec![7; 900_000]] {
        let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
        fs::write(partial_of(cache.path(), &body(700_000)), wrong).unwrap();
        let dataset = hub_for(&server, cache.path())
            .dataset_files(DATASET, None, &train(), &NoProgress)
            .unwrap();
        assert_eq!(fs::read(&dataset.files[0].local).unwrap(), body(700_000));
    }
}

#[test]
fn busy_hubs_are_waited_for() {
    let faults = Faults {
        fail_every: 3,
        limit_every: 2,
        cut_after: Some(90_000),
        ..Faults::default()
    };
    let (server, cache) = (rows(faults), TempDir::new().unwrap());
    let dataset = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap();
    assert_eq!(fs::read(&dataset.files[0].local).unwrap(), body(700_000));
    assert!(unfinished(cache.path()).is_empty());
}

#[test]
fn retries_end() {
    let (server, cache) = (
        rows(Faults {
            fail_every: 1,
            ..Faults::default()
        }),
        TempDir::new().unwrap(),
    );
    let error = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap_err();
    let HubError::Unreachable { reason, attempts, .. } = &error else {
        panic!("{error}")
    };
    assert!(reason.contains("503") && *attempts == 12, "{error}");
    let nobody = Hub::with_retry_policy(settings("http://127.0.0.1:9", cache.path()), short_pauses());
    let error = nobody
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("--offline"), "{error}");
}

#[test]
fn damaged_bytes_are_named_and_not_kept() {
    for (git, kind) in [(false, "sha256"), (true, "git sha1")] {
        let faults = Faults {
            corrupt: Some("data/train-00001.bin"),
            git_etags: git,
            ..Faults::default()
        };
        let (server, cache) = (rows(faults), TempDir::new().unwrap());
        let error = hub_for(&server, cache.path())
            .dataset_files(DATASET, None, &train(), &NoProgress)
            .unwrap_err();
        let HubError::Damaged { file, kind: found, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((file.as_str(), *found), ("data/train-00001.bin", kind));
        let snapshot = cache.path().join("datasets--org--rows/snapshots").join(COMMIT);
        assert!(!snapshot.join("data/train-00001.bin").exists());
        assert!(unfinished(cache.path()).is_empty());
    }
}

#[test]
fn a_cached_file_that_rotted_is_named() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let dataset = hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap();
    let blob = fs::canonicalize(&dataset.files[1].local).unwrap();
    fs::write(&blob, body(2999)).unwrap();
    let error = hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap_err();
    assert!(matches!(&error, HubError::DamagedCache { .. }), "{error}");
}

#[test]
fn gated_repositories_say_which_token_and_where() {
    let (server, cache) = (
        rows(Faults {
            gated: Some("right"),
            ..Faults::default()
        }),
        TempDir::new().unwrap(),
    );
    let with = |token: Option<&str>| {
        let token = token.map(|secret| AccessToken {
            secret: secret.to_owned(),
            origin: "HF_TOKEN".to_owned(),
        });
        let hub = Hub::with_retry_policy(
            HubSettings {
                token,
                ..settings(&server.endpoint, cache.path())
            },
            short_pauses(),
        );
        hub.dataset_files(DATASET, None, &train(), &NoProgress)
    };
    let none = with(None).unwrap_err().to_string();
    assert!(
        none.contains("dataset org/rows is gated") && none.contains("none is set in HF_TOKEN or"),
        "{none}"
    );
    assert!(
        none.contains(&format!("{}/datasets/org/rows", server.endpoint)),
        "{none}"
    );
    let wrong = with(Some("wrong")).unwrap_err().to_string();
    assert!(wrong.contains("the token from HF_TOKEN was refused (403)"), "{wrong}");
    assert!(with(Some("right")).is_ok());
}

#[test]
fn files_kept_elsewhere_are_fetched_there_without_the_token() {
    let elsewhere = FakeHub::start(
        Faults {
            gated: None,
            refuse_tokens: true,
            ..Faults::default()
        },
        &[("data/train-00001.bin", body(3000))],
    );
    let faults = Faults {
        redirect_to: Some(elsewhere.endpoint.clone()),
        ..Faults::default()
    };
    let server = FakeHub::start(faults, &[("data/train-00001.bin", body(3000))]);
    let cache = TempDir::new().unwrap();
    let token = Some(AccessToken {
        secret: "mine".to_owned(),
        origin: "HF_TOKEN".to_owned(),
    });
    let hub = Hub::with_retry_policy(
        HubSettings {
            token,
            ..settings(&server.endpoint, cache.path())
        },
        short_pauses(),
    );
    let dataset = hub.dataset_files(DATASET, None, &train(), &NoProgress).unwrap();
    assert_eq!(fs::read(&dataset.files[0].local).unwrap(), body(3000));
    assert_eq!(elsewhere.bodies_sent(), 1);
}

#[test]
fn offline_takes_the_cache_or_says_what_is_missing() {
    let cache = TempDir::new().unwrap();
    let offline = |cache: &Path| {
        Hub::new(HubSettings {
            offline: true,
            ..settings("http://127.0.0.1:9", cache)
        })
    };
    let error = offline(cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("dataset org/rows at main is not in the cache"),
        "{error}"
    );
    let server = rows(Faults::default());
    let online = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &NoProgress)
        .unwrap();
    drop(server);
    assert_eq!(
        offline(cache.path())
            .dataset_files(DATASET, None, &train(), &NoProgress)
            .unwrap(),
        online
    );
    assert_eq!(
        offline(cache.path())
            .dataset_files(DATASET, Some(COMMIT), &train(), &NoProgress)
            .unwrap(),
        online
    );
    // The list of files is known, so a glob means what it meant online and a gap is noticed.
    let error = offline(cache.path())
        .dataset_files(DATASET, None, &["data/*.bin".to_owned()], &NoProgress)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("data/test.bin of dataset org/rows is not in the cache"),
        "{error}"
    );
}

#[test]
fn files_of_other_tools_are_found() {
    let cache = TempDir::new().unwrap();
    let snapshot = cache.path().join("models--org--model/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(cache.path().join("models--org--model/refs")).unwrap();
    fs::write(cache.path().join("models--org--model/refs/main"), COMMIT).unwrap();
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    fs::write(snapshot.join("model.safetensors"), "x").unwrap();
    let hub = Hub::new(HubSettings {
        offline: true,
        ..settings("http://127.0.0.1:9", cache.path())
    });
    assert_eq!(hub.model(MODEL, None, &NoProgress).unwrap(), snapshot);
}

#[test]
fn a_model_brings_what_loading_needs_and_no_more() {
    let names = [
        "README.md",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "model.gguf",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "onnx/config.json",
    ];
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (*name, name.as_bytes().to_vec())).collect();
    let (server, cache) = (FakeHub::start(Faults::default(), &files), TempDir::new().unwrap());
    let folder = hub_for(&server, cache.path())
        .model(MODEL, Some("main"), &NoProgress)
        .unwrap();
    let mut found: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, {
        let mut expected = names[..9].to_vec();
        expected.sort_unstable();
        expected
    });
    let bare = FakeHub::start(Faults::default(), &[("config.json", b"{}".to_vec())]);
    let error = hub_for(&bare, TempDir::new().unwrap().path())
        .model(MODEL, None, &NoProgress)
        .unwrap_err()
        .to_string();
    assert!(error.contains(".safetensors is missing"), "{error}");
}

#[test]
fn wrong_names_are_told_apart() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let hub = hub_for(&server, cache.path());
    let text = |outcome: Result<crate::Dataset, HubError>| outcome.unwrap_err().to_string();
    let error = text(hub.dataset_files("org/nothing", None, &train(), &NoProgress));
    assert!(
        error.contains("has no dataset org/nothing, or it is private"),
        "{error}"
    );
    let error = text(hub.dataset_files(DATASET, Some("v9"), &train(), &NoProgress));
    assert!(error.contains("no revision \"v9\""), "{error}");
    let error = text(hub.dataset_files(DATASET, None, &["data/valid-*".to_owned()], &NoProgress));
    assert!(
        error.contains("data/valid-*") && error.contains("it holds README.md"),
        "{error}"
    );
    assert!(matches!(
        hub.dataset_files("rows", None, &train(), &NoProgress),
        Err(HubError::BadId { .. })
    ));
}

#[test]
fn a_hub_cannot_write_outside_its_folder() {
    let (server, cache) = (
        FakeHub::start(Faults::default(), &[("../../escape.bin", body(5))]),
        TempDir::new().unwrap(),
    );
    let error = hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &["**".to_owned()], &NoProgress)
        .unwrap_err();
    assert!(matches!(error, HubError::BadAnswer { .. }), "{error}");
}

#[test]
fn two_at_once_fetch_each_file_once() {
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                hub_for(&server, cache.path())
                    .dataset_files(DATASET, None, &train(), &NoProgress)
                    .unwrap()
            });
        }
    });
    assert_eq!(server.bodies_sent(), 2);
}

#[test]
fn progress_ends_at_the_whole_file() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(String, u64, Option<u64>)>>);
    impl DownloadProgress for Seen {
        fn file(&self, name: &str, done: u64, total: Option<u64>) {
            self.0.lock().unwrap().push((name.to_owned(), done, total));
        }
    }
    let (server, cache) = (rows(Faults::default()), TempDir::new().unwrap());
    let seen = Seen::default();
    hub_for(&server, cache.path())
        .dataset_files(DATASET, None, &train(), &seen)
        .unwrap();
    let seen = seen.0.into_inner().unwrap();
    let big: Vec<u64> = seen
        .iter()
        .filter(|(name, ..)| name.ends_with("0.bin"))
        .map(|(_, done, _)| *done)
        .collect();
    assert!(big.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(big.last(), Some(&700_000));
}
