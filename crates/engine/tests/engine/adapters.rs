//! Adapters that come and go while others answer.

use std::path::Path;
use std::sync::Arc;

use synapse_engine::{AdapterSource, Engine, EngineError, EngineOptions, Event, LoadAdapter};
use synapse_nn::Adapter;

use crate::support::{ADAPTER_WORDS, CALL_WORDS, MockModel, Speech, chat};
use crate::{greedy, one, request, slow};

/// A folder holds the number of one of the model's adapters.
struct Numbers(Vec<Arc<Adapter>>);

impl AdapterSource for Numbers {
    fn content_hash(&self, folder: &Path) -> Result<String, String> {
        std::fs::read_to_string(folder.join("number")).map_err(|error| error.to_string())
    }

    fn load(&self, folder: &Path) -> Result<Arc<Adapter>, String> {
        let number: usize = self.content_hash(folder)?.parse().map_err(|_| "no number".to_owned())?;
        self.0
            .get(number)
            .cloned()
            .ok_or_else(|| format!("there is no adapter {number}"))
    }
}

struct Live {
    engine: Engine,
    folder: tempfile::TempDir,
}

impl Live {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = MockModel {
            adapters: MockModel::new(Speech::Script, 2).adapters,
            ..slow(Speech::Script)
        };
        let source = Numbers(model.adapters.clone());
        let engine = Engine::start(
            Arc::new(model),
            chat(folder.path()),
            Vec::new(),
            EngineOptions::default(),
        );
        Self {
            engine: engine.with_adapter_source(source),
            folder,
        }
    }

    fn load(&self, name: &str, content: &str, expected: Option<&str>) -> Result<String, EngineError> {
        std::fs::write(self.folder.path().join("number"), content).unwrap();
        let order = LoadAdapter {
            name,
            folder: self.folder.path(),
            expected,
            limit: 2,
        };
        self.engine.load_adapter(order).map(|info| info.content_hash.unwrap())
    }

    fn request(&self) -> synapse_engine::Request {
        synapse_engine::Request {
            adapter: Some("live".into()),
            ..request("Hi\n", greedy(60))
        }
    }
}

#[test]
fn a_request_keeps_the_adapter_it_began_with() {
    let live = Live::new();
    assert!(matches!(
        live.engine.submit(live.request()),
        Err(EngineError::UnknownAdapter { .. })
    ));
    assert_eq!(live.load("live", "0", None).unwrap(), "0");
    let mut running = live.engine.submit(live.request()).unwrap();
    assert!(matches!(running.blocking_recv(), Some(Event::Token(_))));
    let queued = live.engine.submit(live.request()).unwrap();
    assert_eq!(live.load("live", "1", None).unwrap(), "1");
    assert_eq!(one(&live.engine, live.request()).text, CALL_WORDS.concat());
    live.engine.remove_adapter("live").unwrap();
    assert!(matches!(
        live.engine.submit(live.request()),
        Err(EngineError::UnknownAdapter { .. })
    ));
    for (mut events, seen) in [(running, 1), (queued, 0)] {
        let mut text = ADAPTER_WORDS[..seen].concat();
        while let Some(event) = events.blocking_recv() {
            if let Event::Token(token) = event {
                text += &token.text;
            }
        }
        assert_eq!(text, ADAPTER_WORDS.concat());
    }
}

#[test]
fn changes_are_refused_where_they_would_surprise() {
    let live = Live::new();
    assert!(matches!(
        live.load("live", "x", None),
        Err(EngineError::AdapterRefused { .. })
    ));
    assert!(matches!(
        live.load("live", "7", None),
        Err(EngineError::AdapterRefused { .. })
    ));
    assert!(live.engine.adapters().is_empty(), "nothing of a refused folder stays");
    assert!(matches!(
        live.load("live", "0", Some("5")),
        Err(EngineError::AdapterConflict { found: None, .. })
    ));
    live.load("live", "0", None).unwrap();
    assert!(matches!(
        live.load("live", "1", Some("5")),
        Err(EngineError::AdapterConflict { found: Some(found), .. }) if found == "0"
    ));
    assert_eq!(live.load("live", "1", Some("0")).unwrap(), "1");
    assert_eq!(
        live.load("live", "1", None).unwrap(),
        "1",
        "the same content again is no change"
    );
    live.load("other", "0", None).unwrap();
    assert!(matches!(
        live.load("third", "0", None),
        Err(EngineError::TooManyAdapters { limit: 2 })
    ));
    assert!(matches!(
        live.engine.remove_adapter("third"),
        Err(EngineError::UnknownAdapter { .. })
    ));
    let names: Vec<String> = live.engine.adapters().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["live", "other"]);

    let folder = tempfile::tempdir().unwrap();
    let bare = Engine::start(
        Arc::new(MockModel::new(Speech::Script, 0)),
        chat(folder.path()),
        Vec::new(),
        EngineOptions::default(),
    );
    let order = LoadAdapter {
        name: "live",
        folder: folder.path(),
        expected: None,
        limit: 2,
    };
    assert_eq!(bare.load_adapter(order), Err(EngineError::NoAdapterSource));
}
