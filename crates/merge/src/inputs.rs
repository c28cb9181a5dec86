//! The folders of a request, opened and checked against the base before any work begins, and the rows of their tensors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use synapse_checkpoint::ModelFolder;

use crate::peft::PeftAdapter;
use crate::plan::{PlannedInput, TensorPlan, missing_layers};
use crate::tiles::{Representation, RowSource};
use crate::{MergeError, MergeRequest, Method, Result};

/// The embedding that a tied head shares.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The base and all inputs, open.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) base: ModelFolder,
    /// In merging order.
    opened: Vec<OpenInput>,
}

#[derive(Debug)]
struct OpenInput {
    name: String,
    folder: Folder,
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
        problems.extend(crate::vocabulary::problems(request));
        problems.extend(output_problems(request));
        let base = match ModelFolder::open(&request.base) {
            Ok(base) => Some(base),
            Err(error) => {
                problems.push(format!("base: {error}"));
                None
            }
        };
        let mut opened = Vec::new();
        let mut add = |name: &str, folder| {
            opened.push(OpenInput {
                name: name.to_owned(),
                folder,
            });
        };
        for input in &request.adapters {
            match PeftAdapter::open(&input.path) {
                Ok(folder) => {
                    let misfits = base.as_ref().map(|base| folder.problems(base)).unwrap_or_default();
                    problems.extend(misfits.into_iter().map(|problem| format!("{}: {problem}", input.name)));
                    add(&input.name, Folder::Adapter(Box::new(folder)));
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        for input in &request.models {
            match ModelFolder::open(&input.path) {
                Ok(folder) => {
                    if let Some(base) = &base {
                        let whole = request.slices.is_empty();
                        problems.extend(
                            mismatches(base, &folder, whole)
                                .into_iter()
                                .map(|problem| format!("{}: {problem}", input.name)),
                        );
                    }
                    add(&input.name, Folder::Model(Box::new(folder)));
                }
                Err(error) => problems.push(format!("{}: {error}", input.name)),
            }
        }
        match base {
            Some(base) => {
                let inputs = Self { base, opened };
                problems.extend(inputs.slice_problems(request));
                if problems.is_empty() {
                    Ok(inputs)
                } else {
                    Err(MergeError::Request(problems))
                }
            }
            None => Err(MergeError::Request(problems)),
        }
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
            Folder::Model(model) => Ok(Some(Box::new(StoredTensor::new(model, &input.tensor)))),
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
        let name = stored_name(folder, tensor);
        Self {
            folder,
            name,
            vector: folder.info(name).is_some_and(|info| info.shape.len() < 2),
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

/// The name under which a model stores a tensor: a tied head is its embedding.
fn stored_name<'a>(model: &ModelFolder, tensor: &'a str) -> &'a str {
    if tensor == HEAD && model.config().tie_word_embeddings {
        EMBEDDING
    } else {
        tensor
    }
}

/// Why a checkpoint cannot be merged with the base. Stacked layers are checked where they are taken.
fn mismatches(base: &ModelFolder, model: &ModelFolder, whole: bool) -> Vec<String> {
    let path = model.path().display();
    let known = |name: &str| whole || !name.starts_with("model.layers.");
    let wrong = base.names().filter(|name| known(name)).filter_map(|name| {
        let expected = &base.info(name)?.shape;
        match model.info(stored_name(model, name)) {
            None => Some(format!("{path} has no tensor {name}")),
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
        .map(|name| {
            let tied = if name == HEAD {
                "; the base ties its head to the embedding"
            } else {
                ""
            };
            format!("{path}: {name} does not exist in the base{tied}")
        });
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
