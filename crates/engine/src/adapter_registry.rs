//! The adapters of an engine by name. They can change while the engine runs.
//!
//! A name stands for one version at a time. A request keeps the version that its name stood for at submission, even if
//! the name is replaced or removed later. The memory is freed when the last such request has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use synapse_nn::Adapter;

use crate::adapters::{AdapterInfo, AdapterSource, LoadAdapter};
use crate::{EngineError, Result};

/// An adapter with fixed content, as requests run under it.
#[derive(Debug, Clone)]
pub(crate) struct AdapterVersion {
    pub(crate) adapter: Arc<Adapter>,
    /// Equal for equal content only: the content hash, or a number for an adapter that has none.
    pub(crate) content_id: Arc<str>,
    has_hash: bool,
}

impl AdapterVersion {
    fn content_hash(&self) -> Option<String> {
        self.has_hash.then(|| self.content_id.to_string())
    }
}

/// The versions that the names stand for at one moment.
#[derive(Clone, Default)]
pub(crate) struct AdapterSnapshot(Arc<BTreeMap<String, AdapterVersion>>);

impl AdapterSnapshot {
    /// The adapter of that name; `None` for the base model.
    pub(crate) fn resolve(&self, name: Option<&str>) -> Result<Option<AdapterVersion>> {
        let Some(name) = name else {
            return Ok(None);
        };
        match self.0.get(name) {
            Some(version) => Ok(Some(version.clone())),
            None => Err(EngineError::UnknownAdapter {
                name: name.to_owned(),
                known: self.0.keys().cloned().collect(),
            }),
        }
    }

    /// All adapters, sorted by name.
    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        let info = |(name, version): (&String, &AdapterVersion)| AdapterInfo {
            name: name.clone(),
            content_hash: version.content_hash(),
        };
        self.0.iter().map(info).collect()
    }
}

/// The current adapters and the source of new ones.
#[derive(Default)]
pub(crate) struct AdapterRegistry {
    current: RwLock<AdapterSnapshot>,
    source: Option<Box<dyn AdapterSource>>,
    /// Held while a folder is read, so that one folder is read at a time.
    loading: Mutex<()>,
}

impl std::fmt::Debug for AdapterRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.snapshot().list()).finish()
    }
}

impl AdapterRegistry {
    pub(crate) fn new(adapters: Vec<(String, Arc<Adapter>)>) -> Self {
        let version = |(number, (name, adapter)): (usize, (String, Arc<Adapter>))| {
            let version = AdapterVersion {
                adapter,
                content_id: format!("in memory {number}").into(),
                has_hash: false,
            };
            (name, version)
        };
        let versions = adapters.into_iter().enumerate().map(version);
        Self {
            current: RwLock::new(AdapterSnapshot(Arc::new(versions.collect()))),
            ..Self::default()
        }
    }

    pub(crate) fn set_source(&mut self, source: Box<dyn AdapterSource>) {
        self.source = Some(source);
    }

    /// The adapters at this moment.
    pub(crate) fn snapshot(&self) -> AdapterSnapshot {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads a folder under a name. If the name already has this content, nothing is read.
    pub(crate) fn load(&self, request: LoadAdapter<'_>) -> Result<AdapterInfo> {
        let source = self.source.as_ref().ok_or(EngineError::NoAdapterSource)?;
        let _loading = match self.loading.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(EngineError::AdapterLoadBusy),
        };
        self.check_expected(request)?;
        let refused = |message| EngineError::AdapterRefused {
            name: request.name.to_owned(),
            message,
        };
        let content_hash = source.content_hash(request.folder).map_err(refused)?;
        let now = self.snapshot();
        let info = AdapterInfo {
            name: request.name.to_owned(),
            content_hash: Some(content_hash),
        };
        if now.list().contains(&info) {
            return Ok(info);
        }
        if now.0.len() >= request.limit && !now.0.contains_key(request.name) {
            return Err(EngineError::TooManyAdapters { limit: request.limit });
        }
        let adapter = source.load(request.folder).map_err(refused)?;
        // The name may have been removed or replaced while the folder was read.
        self.check_expected(request)?;
        let version = AdapterVersion {
            adapter,
            content_id: info.content_hash.clone().unwrap_or_default().into(),
            has_hash: true,
        };
        self.change(|versions| versions.insert(request.name.to_owned(), version));
        Ok(info)
    }

    /// Removes a name.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.snapshot().resolve(Some(name))?;
        self.change(|versions| versions.remove(name));
        Ok(())
    }

    fn check_expected(&self, request: LoadAdapter<'_>) -> Result<()> {
        let Some(expected) = request.expected else {
            return Ok(());
        };
        let now = self.snapshot();
        let found = now.0.get(request.name).and_then(AdapterVersion::content_hash);
        if found.as_deref() == Some(expected) {
            return Ok(());
        }
        Err(EngineError::AdapterConflict {
            name: request.name.to_owned(),
            found,
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, AdapterVersion>) -> T) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = BTreeMap::clone(&current.0);
        change(&mut changed);
        current.0 = Arc::new(changed);
    }
}
