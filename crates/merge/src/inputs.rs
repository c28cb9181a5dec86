//! The folders of a request, opened and checked against the base before any work begins, and the rows of their tensors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use synapse_checkpoint::{EMBEDDING, HEAD, HeadChange, ModelConfig, ModelFolder, merge_ties};

use crate::peft::PeftAdapter;
use crate::plan::{PlannedInput, TensorPlan, missing_layers};
use crate::tiles::{Representation, RowSource};
use crate::vocabulary::{self, RowMap};
use crate::{MergeError, MergeRequest, Method, Result};

/// The base and all inputs, open.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) base: ModelFolder,
    /// The base's configuration, with the head of the output.
    pub(crate) config: ModelConfig,
    /// In merging order.
    opened: Vec<OpenInput>,
}

#[derive(Debug)]
struct OpenInput {
    name: String,
    folder: Folder,
    /// Where the rows of embedding and head come from, for a checkpoint of another vocabulary.
    row_map: Option<RowMap>,
}

#[derive(Debug)]
enum Folder {
    Adapter(Box<PeftAdapter>),
    Model(Box<ModelFolder>),
}

impl Inputs {
    /// Opens and checks everything a request names.
    ///
    /// # Errors
    /// Every problem of the request and its folders at once.
    pub(crate) fn open(request: &MergeRequest) -> Result<Self> {
        let mut problems = crate::validate::problems(request);
        problems.extend(vocabulary::problems(request));
        problems.extend(output_problems(request));
        let base = match ModelFolder::open(&request.base) {
            Ok(base) => Some(base),
            Err(error) => {
                problems.push(format!("base: {error}"));
                None
            }
        };
        let mut opened = Vec::new();
        let mut add = |name: &str, folder, row_map| {
            opened.push(OpenInput {
                name: name.to_owned(),
                folder,
                row_map,
            });
        };
        for input in &request.adapters {
            match PeftAdapter::open(&input.path) {
                Ok(mut folder) => {
                    let misfits = match &base {
                        None => Vec::new(),
                        Some(base) => match folder.forget_copies(base) {
                            Ok(()) => folder.problems(base),
                            Err(error) => vec![error.to_string()],
                        },
                    };
                    problems.extend(misfits.into_iter().map(|problem| format!("{}: {problem}", input.name)));
                    add(&input.name, Folder::Adapter(Box::new(folder)), None);
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        for input in &request.models {
            match ModelFolder::open(&input.path) {
                Ok(folder) => {
                    let mut row_map = None;
                    if let Some(base) = &base {
                        let whole = request.slices.is_empty();
                        let rows = [base, &folder].map(|model| model.config().vocab_size);
                        row_map = vocabulary::row_map(request, input, rows[0], rows[1]);
                        problems.extend(
                            mismatches(base, &folder, whole, row_map.is_some())
                                .into_iter()
                                .map(|problem| format!("{}: {problem}", input.name)),
                        );
                    }
                    add(&input.name, Folder::Model(Box::new(folder)), row_map);
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        match base {
            Some(base) => {
                let mut inputs = Self {
                    config: base.config().clone(),
                    base,
                    opened,
                };
                problems.extend(inputs.slice_problems(request));
                if problems.is_empty() {
                    inputs.settle_head()?;
                    problems.extend(inputs.untied_problem(request));
                }
                if problems.is_empty() {
                    Ok(inputs)
                } else {
                    Err(MergeError::Request(problems))
                }
            }
            None => Err(MergeError::Request(problems)),
        }
    }

    /// Decides whether the output's head is its embedding, and lets every adapter of a tied pair follow.
    fn settle_head(&mut self) -> Result<()> {
        let changes = self.opened.iter().map(|opened| match &opened.folder {
            Folder::Adapter(adapter) => adapter.head_change(),
            Folder::Model(model) if model.config().tie_word_embeddings => Ok(HeadChange::Follows),
            Folder::Model(_) => Ok(HeadChange::Separates),
        });
        let changes = changes.collect::<Result<Vec<_>>>()?;
        if self.base.config().tie_word_embeddings {
            self.config.tie_word_embeddings = merge_ties(self.base.config(), changes.iter().copied());
            for (opened, change) in self.opened.iter_mut().zip(changes) {
                if let (Folder::Adapter(adapter), HeadChange::Follows) = (&mut opened.folder, change) {
                    adapter.follow_head(self.config.tie_word_embeddings);
                }
            }
        }
        Ok(())
    }

    /// Why a merge that gives a tied base a head of its own cannot be written as asked.
    fn untied_problem(&self, request: &MergeRequest) -> Option<String> {
        let untied = self.base.config().tie_word_embeddings && !self.config.tie_word_embeddings;
        (untied && request.sparse).then(|| {
            "--format delta: the merge gives the base, whose head is its embedding, a head of its own, which a delta of the \
             base cannot say; merge into a folder instead"
                .to_owned()
        })
    }

    fn slice_problems(&self, request: &MergeRequest) -> Vec<String> {
        let mut problems = Vec::new();
        for (index, slice) in request.slices.iter().enumerate() {
            for source in &slice.sources {
                let opened = source
                    .input
                    .as_ref()
                    .map(|name| self.opened.iter().find(|opened| opened.name == *name));
                let model = match opened {
                    Some(Some(OpenInput {
                        folder: Folder::Model(model),
                        ..
                    })) => model,
                    Some(None) => continue,
                    _ => &self.base,
                };
                problems.extend(missing_layers(index, &source.layers, model.config(), model.path()));
            }
        }
        problems
    }

    /// Whether all inputs are full checkpoints.
    pub(crate) fn all_models(&self) -> bool {
        self.opened
            .iter()
            .all(|opened| matches!(opened.folder, Folder::Model(_)))
    }

    /// An input's name.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.opened[index].name
    }

    /// Whether an input has a tensor.
    pub(crate) fn contributes(&self, input: &PlannedInput) -> bool {
        match &self.opened[input.input].folder {
            Folder::Adapter(adapter) => adapter.adapts(&input.tensor),
            Folder::Model(_) => true,
        }
    }

    /// An adapter that is an input.
    pub(crate) fn adapter(&self, index: usize) -> Option<&PeftAdapter> {
        match &self.opened[index].folder {
            Folder::Adapter(adapter) => Some(adapter),
            Folder::Model(_) => None,
        }
    }

    /// The rows of the base's tensor, or of the first input's where a slice takes nothing of the base.
    pub(crate) fn base_rows<'a>(&'a self, plan: &'a TensorPlan) -> StoredTensor<'a> {
        match (&plan.base, plan.inputs.first()) {
            (Some(tensor), _) => StoredTensor::new(&self.base, tensor),
            (None, Some(first)) => match &self.opened[first.input].folder {
                Folder::Model(model) => StoredTensor::new(model, &first.tensor),
                Folder::Adapter(_) => StoredTensor::new(&self.base, &first.tensor),
            },
            (None, None) => StoredTensor::new(&self.base, &plan.name),
        }
    }

    /// The rows of one input's tensor; `None` where it has none.
    pub(crate) fn rows<'a>(
        &'a self,
        plan: &TensorPlan,
        input: &'a PlannedInput,
    ) -> Result<Option<Box<dyn RowSource + 'a>>> {
        match &self.opened[input.input].folder {
            Folder::Adapter(adapter) => adapter.rows(&input.tensor, &plan.shape),
            Folder::Model(model) => {
                let stored = StoredTensor::new(model, &input.tensor);
                let map = self.opened[input.input].row_map.as_ref();
                Ok(Some(match map.filter(|_| is_by_token(&input.tensor)) {
                    Some(map) => Box::new(RowsByToken { stored, map }),
                    None => Box::new(stored),
                }))
            }
        }
    }

    /// sha256 of the contents of the base (first) and of every input, with their folders.
    pub(crate) fn hashes(&self) -> Result<Vec<(PathBuf, String)>> {
        let base = (self.base.path().to_owned(), self.base.content_hash()?);
        let inputs = self.opened.iter().map(|opened| match &opened.folder {
            Folder::Adapter(adapter) => Ok((adapter.path().to_owned(), adapter.content_hash()?)),
            Folder::Model(model) => Ok((model.path().to_owned(), model.content_hash()?)),
        });
        std::iter::once(Ok(base)).chain(inputs).collect()
    }

    /// Length and modification time of every file that is read. A resumed merge must find them unchanged.
    pub(crate) fn stamps(&self) -> Vec<String> {
        let folders = self.opened.iter().flat_map(|opened| match &opened.folder {
            Folder::Adapter(adapter) => adapter.paths(),
            Folder::Model(model) => model.paths(),
        });
        self.base
            .paths()
            .into_iter()
            .chain(folders)
            .map(|path| {
                let stamp = path.metadata().and_then(|data| Ok((data.len(), data.modified()?)));
                format!("{} {stamp:?}", path.display())
            })
            .collect()
    }
}

/// A tensor of a model folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredTensor<'a> {
    folder: &'a ModelFolder,
    name: &'a str,
    /// One row is the whole tensor.
    vector: bool,
}

impl<'a> StoredTensor<'a> {
    /// A tensor by its name in the output.
    pub(crate) fn new(folder: &'a ModelFolder, tensor: &'a str) -> Self {
        Self {
            folder,
            name: tensor,
            vector: folder.info(tensor).is_some_and(|info| info.shape.len() < 2),
        }
    }

    /// The dtype that it is stored in.
    pub(crate) fn dtype(&self) -> synapse_checkpoint::DType {
        let info = self.folder.info(self.name);
        info.map_or(synapse_checkpoint::DType::F32, |info| info.dtype)
    }

    /// Tells the operating system that the tensor will be read soon.
    pub(crate) fn prefetch(&self) {
        self.folder.announce(self.name);
    }
}

impl RowSource for StoredTensor<'_> {
    fn representation(&self) -> Representation {
        Representation::Whole
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        let rows = if self.vector { 0..out.len() } else { rows };
        Ok(self.folder.read_f32_into(self.name, rows, out)?)
    }
}

/// A checkpoint's embedding or head with its rows in the order of the base's tokens.
struct RowsByToken<'a> {
    stored: StoredTensor<'a>,
    map: &'a RowMap,
}

impl RowSource for RowsByToken<'_> {
    fn representation(&self) -> Representation {
        Representation::Whole
    }

    /// Rows of tokens that the model does not have are the base's.
    fn needs_base(&self) -> bool {
        true
    }

    fn read(&self, rows: Range<usize>, base: &[f32], out: &mut [f32]) -> Result<()> {
        let width = out.len() / rows.len().max(1);
        let map = &self.map[rows];
        let mut at = 0;
        while at < map.len() {
            let Some(first) = map[at] else {
                out[at * width..(at + 1) * width].copy_from_slice(&base[at * width..(at + 1) * width]);
                at += 1;
                continue;
            };
            let run = map[at..]
                .iter()
                .zip(first..)
                .take_while(|(row, next)| **row == Some(*next))
                .count();
            self.stored
                .read(first..first + run, &[], &mut out[at * width..(at + run) * width])?;
            at += run;
        }
        Ok(())
    }
}

/// Whether a tensor has a row for each token.
fn is_by_token(tensor: &str) -> bool {
    [EMBEDDING, HEAD].contains(&tensor)
}

/// Why a checkpoint cannot be merged with the base. Stacked layers are checked where they are taken, and the number of rows
/// of tokens counts only where they are not taken `by_token`.
fn mismatches(base: &ModelFolder, model: &ModelFolder, whole: bool, by_token: bool) -> Vec<String> {
    let path = model.path().display();
    let known = |name: &str| whole || !name.starts_with("model.layers.");
    let wrong = base.names().filter(|name| known(name)).filter_map(|name| {
        let expected = &base.info(name)?.shape;
        match model.info(name) {
            None => Some(format!("{path} has no tensor {name}")),
            Some(info) if by_token && is_by_token(name) && info.shape[1..] == expected[1..] => None,
            Some(info) if info.shape != *expected => Some(format!(
                "{path}: {name}: expected {expected:?} as in the base, found {:?}",
                info.shape
            )),
            Some(_) => None,
        }
    });
    let extra = model
        .names()
        .filter(|name| known(name) && base.info(name).is_none())
        .map(|name| format!("{path}: {name} does not exist in the base"));
    let widths = |folder: &ModelFolder| {
        let config = folder.config();
        (
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            config.num_key_value_heads,
        )
    };
    let stacked = (!whole && widths(base) != widths(model))
        .then(|| format!("{path}: its layers differ in width from the base's, so they cannot be stacked"));
    wrong.chain(extra).chain(stacked).collect()
}

/// Why the output cannot be replaced.
fn output_problems(request: &MergeRequest) -> Option<String> {
    let inputs = std::iter::once(&request.base).chain(request.inputs().map(|input| &input.path));
    if request.gguf.is_some() && request.out.is_dir() {
        return Some(format!(
            "{} is a folder, but a GGUF file is written; pass a file with --out",
            request.out.display()
        ));
    }
    unreplaceable(&request.out, inputs, request.gguf.is_some())
}

/// Why an output made from these inputs cannot be replaced; `file` says that it is a file.
pub(crate) fn unreplaceable<'p>(
    out: &Path,
    mut inputs: impl Iterator<Item = &'p PathBuf>,
    file: bool,
) -> Option<String> {
    let shown = out.display();
    let out = out.canonicalize().ok()?;
    let inside = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(&out));
    if let Some(path) = inputs.find(|path| inside(path)) {
        return Some(format!(
            "the output {shown} would replace the input {}; choose another folder",
            path.display()
        ));
    }
    if file {
        return None;
    }
    let empty = out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    let merged = out.join(crate::merge_file::FILE).is_file();
    (!empty && !merged).then(|| {
        format!(
            "{shown} exists and is not a merge (it has no {}); choose another folder or remove it",
            crate::merge_file::FILE
        )
    })
}

/// Whether a request merges whole weights instead of changes to the base.
pub(crate) fn on_weights(request: &MergeRequest, inputs: &Inputs) -> bool {
    match request.method {
        Method::Linear => inputs.all_models(),
        Method::NuSlerp | Method::MultiSlerp => !request.uses_base,
        Method::Slerp | Method::Karcher | Method::NearSwap | Method::ArceeFusion | Method::Passthrough => true,
        Method::TaskArithmetic
        | Method::Ties
        | Method::DareLinear
        | Method::DareTies
        | Method::Breadcrumbs
        | Method::BreadcrumbsTies
        | Method::Della
        | Method::DellaLinear
        | Method::ModelStock
        | Method::Sce => false,
    }
}
