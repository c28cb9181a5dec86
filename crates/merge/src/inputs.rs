//! A request's folders, opened and checked against the base before any work begins, and every input's change to a
//! tensor read on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synapse_checkpoint::{AdapterFolder, AdapterModule, ModelFolder};

use crate::delta::{Factors, dense};
use crate::tensor::{Stored, subtract};
use crate::{MergeError, MergeRequest, Method, Result};

/// The embedding that a tied head shares.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Everything opened.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) base: ModelFolder,
    /// In merging order.
    opened: Vec<Opened>,
    /// Inputs replace the base instead of changing it: a linear merge of checkpoints only.
    pub(crate) whole: bool,
}

#[derive(Debug)]
struct Opened {
    name: String,
    folder: Folder,
}

#[derive(Debug)]
enum Folder {
    Adapter {
        folder: Box<AdapterFolder>,
        modules: BTreeMap<String, AdapterModule>,
    },
    Model(Box<ModelFolder>),
}

impl Inputs {
    /// Opens and checks everything a request names.
    ///
    /// # Errors
    /// Every problem of the request and its folders at once.
    pub(crate) fn open(request: &MergeRequest) -> Result<Self> {
        let mut problems = request.problems();
        problems.extend(output_problems(request));
        let base = match ModelFolder::open(&request.base) {
            Ok(base) => Some(base),
            Err(error) => {
                problems.push(format!("base: {error}"));
                None
            }
        };
        let mut opened = Vec::new();
        for input in &request.adapters {
            let folder = AdapterFolder::open(&input.path).and_then(|folder| {
                base.as_ref()
                    .map_or(Ok(()), |base| folder.check_against(base.config()))
                    .map(|()| folder)
            });
            match folder {
                Ok(folder) => {
                    let by_tensor = |module: &AdapterModule| (format!("{}.weight", module.module), module.clone());
                    let modules = folder.modules().iter().map(by_tensor).collect();
                    opened.push(Opened {
                        name: input.name.clone(),
                        folder: Folder::Adapter {
                            folder: Box::new(folder),
                            modules,
                        },
                    });
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        for input in &request.models {
            match ModelFolder::open(&input.path) {
                Ok(folder) => {
                    if let Some(base) = &base {
                        problems.extend(mismatches(base, &folder).map(|problem| format!("{}: {problem}", input.name)));
                    }
                    opened.push(Opened {
                        name: input.name.clone(),
                        folder: Folder::Model(Box::new(folder)),
                    });
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        match base {
            Some(base) if problems.is_empty() => {
                let whole = request.method == Method::Linear && request.adapters.is_empty();
                Ok(Self { base, opened, whole })
            }
            _ => Err(MergeError::Request(problems)),
        }
    }

    /// The inputs that touch a tensor, by their index in merging order.
    pub(crate) fn touching(&self, tensor: &str) -> Vec<usize> {
        let touches = |opened: &Opened| match &opened.folder {
            Folder::Adapter { modules, .. } => modules.contains_key(tensor),
            Folder::Model(_) => true,
        };
        (0..self.opened.len())
            .filter(|&index| touches(&self.opened[index]))
            .collect()
    }

    /// An input's name.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.opened[index].name
    }

    /// Reads one input's change to a tensor it touches into `delta`, or the whole weights where inputs replace the
    /// base. `base` is the tensor as the base stores it.
    pub(crate) fn read(&self, index: usize, tensor: &str, base: Stored<'_>, delta: &mut Vec<f32>) -> Result<()> {
        match &self.opened[index].folder {
            Folder::Adapter { folder, modules } => {
                let Some(module) = modules.get(tensor) else {
                    delta.fill(0.0);
                    return Ok(());
                };
                let (a, b) = (folder.read_a(&module.module)?, folder.read_b(&module.module)?);
                delta.resize(module.out_features * module.in_features, 0.0);
                let AdapterModule {
                    rank,
                    scale,
                    in_features: columns,
                    ..
                } = *module;
                dense(
                    &Factors {
                        a: &a,
                        b: &b,
                        rank,
                        columns,
                        scale,
                    },
                    delta,
                );
            }
            Folder::Model(folder) => {
                let stored = stored_name(folder, tensor);
                let rows = folder
                    .info(stored)
                    .and_then(|info| info.shape.first().copied())
                    .unwrap_or(1);
                folder.read_f32_rows(stored, 0..rows, delta)?;
                if !self.whole {
                    subtract(base, delta);
                }
            }
        }
        Ok(())
    }

    /// sha256 of the contents of the base (first) and of every input, with their folders.
    pub(crate) fn hashes(&self) -> Result<Vec<(PathBuf, String)>> {
        let base = (self.base.path().to_owned(), self.base.content_hash()?);
        let inputs = self.opened.iter().map(|opened| match &opened.folder {
            Folder::Adapter { folder, .. } => Ok((folder.path().to_owned(), folder.content_hash()?)),
            Folder::Model(folder) => Ok((folder.path().to_owned(), folder.content_hash()?)),
        });
        std::iter::once(Ok(base)).chain(inputs).collect()
    }
}

/// Where a model keeps a tensor: a tied head is its embedding.
fn stored_name<'a>(model: &ModelFolder, tensor: &'a str) -> &'a str {
    if tensor == HEAD && model.config().tie_word_embeddings {
        EMBEDDING
    } else {
        tensor
    }
}

/// What keeps a checkpoint from being merged with the base.
fn mismatches<'a>(base: &'a ModelFolder, model: &'a ModelFolder) -> impl Iterator<Item = String> + 'a {
    let wrong = base.names().filter_map(|name| {
        let expected = &base.info(name)?.shape;
        match model.info(stored_name(model, name)) {
            None => Some(format!("{} has no tensor {name}", model.path().display())),
            Some(info) if info.shape != *expected => {
                let path = model.path().display();
                Some(format!(
                    "{path}: {name}: expected {expected:?} as in the base, found {:?}",
                    info.shape
                ))
            }
            Some(_) => None,
        }
    });
    let extra = model.names().filter(|name| base.info(name).is_none()).map(|name| {
        let tied = if name == HEAD {
            "; the base ties its head to the embedding, so the two differ in kind"
        } else {
            ""
        };
        format!("{}: {name} does not exist in the base{tied}", model.path().display())
    });
    wrong.chain(extra)
}

/// What keeps the output folder from being replaced.
fn output_problems(request: &MergeRequest) -> Option<String> {
    let out = request.out.canonicalize().ok()?;
    let shown = request.out.display();
    let inside = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(&out));
    if let Some(path) = std::iter::once(&request.base)
        .chain(request.inputs().map(|input| &input.path))
        .find(|path| inside(path))
    {
        return Some(format!(
            "the output {shown} would replace the input {}; choose another folder",
            path.display()
        ));
    }
    let empty = out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    let merged = out.join(crate::merge_file::FILE).is_file();
    (!empty && !merged).then(|| {
        format!(
            "{shown} exists and is no earlier merge (it has no {}); choose another folder or remove it",
            crate::merge_file::FILE
        )
    })
}
