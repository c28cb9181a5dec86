//! The adapters of an engine by name, which may change while it runs.
//!
//! A name means one generation at a time. A request keeps the generation its name meant when it was taken, however
//! often the name changes or disappears afterwards; the memory goes when the last such request has ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use synapse_nn::Adapter;

use crate::{EngineError, Result};

/// Where adapters come from that are loaded while the engine runs.
pub trait AdapterSource: Send + Sync {
    /// What tells one content of a folder from another, such as a hash over its files.
    ///
    /// # Errors
    /// Why the folder is no adapter, for the one who asked.
    fn content_hash(&self, folder: &Path) -> std::result::Result<String, String>;

    /// Reads a folder whole.
    ///
    /// # Errors
    /// Why the folder is no adapter of this model, for the one who asked.
    fn load(&self, folder: &Path) -> std::result::Result<Arc<Adapter>, String>;
}

/// An adapter that requests may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name in requests.
    pub name: String,
    /// What its source says of its content; `None` for one that was handed to the engine in memory.
    pub content_hash: Option<String>,
}

/// A wish to load an adapter.
#[derive(Debug, Clone, Copy)]
pub struct AdapterOrder<'a> {
    /// Its name in requests.
    pub name: &'a str,
    /// The folder to read.
    pub folder: &'a Path,
    /// The content hash that the name must have now, if the caller means to replace just that.
    pub expected: Option<&'a str>,
    /// Adapters that there may be, this one included.
    pub limit: usize,
}

/// An adapter that a request runs under.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) adapter: Arc<Adapter>,
    /// The same for the same content only: its hash, or a number for an adapter that has none.
    pub(crate) content: Arc<str>,
}

#[derive(Clone)]
struct Generation {
    bound: Bound,
    content_hash: Option<String>,
}

/// What the names mean at one moment.
#[derive(Clone, Default)]
pub(crate) struct AdapterNames(Arc<BTreeMap<String, Generation>>);

impl AdapterNames {
    /// The adapter of that name; none for the bare base.
    pub(crate) fn resolve(&self, name: Option<&str>) -> Result<Option<Bound>> {
        let Some(name) = name else {
            return Ok(None);
        };
        match self.0.get(name) {
            Some(generation) => Ok(Some(generation.bound.clone())),
            None => Err(EngineError::UnknownAdapter {
                name: name.to_owned(),
                known: self.0.keys().cloned().collect(),
            }),
        }
    }

    /// All of them, sorted by name.
    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        let info = |(name, generation): (&String, &Generation)| AdapterInfo {
            name: name.clone(),
            content_hash: generation.content_hash.clone(),
        };
        self.0.iter().map(info).collect()
    }
}

/// The names and what they come from.
#[derive(Default)]
pub(crate) struct AdapterTable {
    names: RwLock<AdapterNames>,
    source: Option<Box<dyn AdapterSource>>,
    /// Held while a folder is read, so that one is read at a time.
    loading: Mutex<()>,
}

impl std::fmt::Debug for AdapterTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names().list()).finish()
    }
}

impl AdapterTable {
    pub(crate) fn new(adapters: Vec<(String, Arc<Adapter>)>) -> Self {
        let generation = |(number, (name, adapter)): (usize, (String, Arc<Adapter>))| {
            let content = format!("in memory {number}").into();
            let bound = Bound { adapter, content };
            let content_hash = None;
            (name, Generation { bound, content_hash })
        };
        let names = adapters.into_iter().enumerate().map(generation);
        Self {
            names: RwLock::new(AdapterNames(Arc::new(names.collect()))),
            ..Self::default()
        }
    }

    pub(crate) fn set_source(&mut self, source: Box<dyn AdapterSource>) {
        self.source = Some(source);
    }

    /// What the names mean now.
    pub(crate) fn names(&self) -> AdapterNames {
        self.names.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a name mean what a folder holds. The same content again changes nothing and reads nothing.
    pub(crate) fn load(&self, order: AdapterOrder<'_>) -> Result<AdapterInfo> {
        let source = self.source.as_ref().ok_or(EngineError::NoAdapterSource)?;
        let _loading = match self.loading.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(EngineError::AdapterLoadBusy),
        };
        self.expect(order)?;
        let refused = |message| EngineError::AdapterRefused {
            name: order.name.to_owned(),
            message,
        };
        let content_hash = source.content_hash(order.folder).map_err(refused)?;
        let now = self.names();
        let info = AdapterInfo {
            name: order.name.to_owned(),
            content_hash: Some(content_hash),
        };
        if now.list().contains(&info) {
            return Ok(info);
        }
        if now.0.len() >= order.limit && !now.0.contains_key(order.name) {
            return Err(EngineError::TooManyAdapters { limit: order.limit });
        }
        let adapter = source.load(order.folder).map_err(refused)?;
        // The name may have been removed or given away while the folder was read.
        self.expect(order)?;
        let content = info.content_hash.clone().unwrap_or_default().into();
        let generation = Generation {
            bound: Bound { adapter, content },
            content_hash: info.content_hash.clone(),
        };
        self.change(|names| names.insert(order.name.to_owned(), generation));
        Ok(info)
    }

    /// Takes a name away.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.names().resolve(Some(name))?;
        self.change(|names| names.remove(name));
        Ok(())
    }

    fn expect(&self, order: AdapterOrder<'_>) -> Result<()> {
        let Some(expected) = order.expected else {
            return Ok(());
        };
        let names = self.names();
        let found = names
            .0
            .get(order.name)
            .and_then(|generation| generation.content_hash.clone());
        if found.as_deref() == Some(expected) {
            return Ok(());
        }
        Err(EngineError::AdapterConflict {
            name: order.name.to_owned(),
            found,
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Generation>) -> T) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = BTreeMap::clone(&names.0);
        change(&mut changed);
        names.0 = Arc::new(changed);
    }
}
