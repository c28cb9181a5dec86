//! What to merge and how: the resolved request.
//!
//! Recipes, command lines and mergekit files all become a [`MergeRequest`]. The merge itself knows none of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synapse_checkpoint::DType;
use synapse_export::GgufType;

use crate::method::NeedsBase;
use crate::options::{
    BaseView, Compat, Counting, DivideBy, Rescale, Rounding, Scope, Sign, TieBreak, TiesOptions, TopKSelection,
};
use crate::settings::Settings;
use crate::{Method, Trim};

/// Default size of an output shard: 5 GB, as the Hub's tools count it.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Some layers of the output and where they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// As many layers of each source.
    pub sources: Vec<SliceSource>,
    /// Parameters of this slice, above those of the whole merge.
    pub parameters: Settings,
}

/// Layers of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceSource {
    /// An input's name, or `None` for the base.
    pub input: Option<String>,
    /// Its layers.
    pub layers: std::ops::Range<usize>,
    /// Parameters of this source, above those of the slice.
    pub parameters: Settings,
}

/// One model to merge: a PEFT adapter folder on the base, or a full checkpoint of the base's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Short name for messages and the report, unique in a request.
    pub name: String,
    /// The local folder.
    pub path: PathBuf,
    /// wᵢ; finite.
    pub weight: f64,
}

impl Input {
    /// An input of weight 1.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            weight: 1.0,
        }
    }

    /// The same input with another weight.
    #[must_use]
    pub fn with_weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }
}

/// A PEFT adapter folder with its name and weight.
pub type AdapterInput = Input;
/// A full checkpoint folder with its name and weight.
pub type ModelInput = Input;

/// One merge, resolved. Start from [`MergeRequest::new`] and change what differs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MergeRequest {
    /// The method.
    pub method: Method,
    /// Share of each tensor's smallest entries set to zero: 1 − density.
    pub trim: Trim,
    /// The trim of single inputs by name, where it differs.
    pub input_trims: BTreeMap<String, Trim>,
    /// How TIES and its relatives select entries and elect signs.
    pub ties: TiesOptions,
    /// Divide the combined change by the weights that went into it.
    pub normalize: bool,
    /// λ, the factor of the combined change; not used by `linear`.
    pub lambda: f64,
    /// The base's folder: the tensors that adapters change, and the source of config and tokenizer.
    pub base: PathBuf,
    /// The base takes part in the merge. If false, the base contributes only shapes, config and tokenizer; only some
    /// methods can do without it.
    pub uses_base: bool,
    /// What the inputs' changes are added to.
    pub base_view: BaseView,
    /// Adapters on the base; they come before the models wherever order matters.
    pub adapters: Vec<AdapterInput>,
    /// Full checkpoints of the base's shape.
    pub models: Vec<ModelInput>,
    /// The folder to publish.
    pub out: PathBuf,
    /// dtype of every floating-point output tensor; `None` keeps each tensor's own.
    pub dtype: Option<DType>,
    /// Write one GGUF file of this type at `out` instead of a folder.
    pub gguf: Option<GgufType>,
    /// Write what the merge changes, instead of whole tensors: see [`crate::apply_delta`].
    pub sparse: bool,
    /// Write the merged change as a LoRA adapter of this rank at `out`, instead of a model folder.
    pub extract_rank: Option<usize>,
    /// Largest size of one output file in bytes; a larger tensor gets a file to itself.
    pub max_shard_bytes: u64,
    /// Names that merge.yaml uses instead of a folder's path: the hub id of a cached model.
    pub aliases: BTreeMap<PathBuf, String>,
    /// sha256 that inputs must have, by folder, when a merge.yaml is run again.
    pub pinned: BTreeMap<PathBuf, String>,
    /// mergekit's parameters of the whole merge, except those with a field of their own.
    pub parameters: Settings,
    /// mergekit's parameters of single inputs, by name.
    pub input_parameters: BTreeMap<String, Settings>,
    /// Layers to stack; empty takes all layers of the base.
    pub slices: Vec<Slice>,
    /// Whose tokenizer the output has, as the file writes it; `None` is the base's.
    pub tokenizer: Option<String>,
    /// A chat template to write instead of the base's: `auto`, a name, or Jinja.
    pub chat_template: Option<String>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// How values are rounded to the output's dtype.
    pub rounding: Rounding,
    /// Memory for the inputs' changes in bytes, shared by all tensors in progress. A tensor that needs more is computed
    /// again in each sweep.
    pub tile_budget: usize,
}

/// Default of [`MergeRequest::tile_budget`]: the four changes of a 3B model's widest matrix.
const TILE_BUDGET: usize = 512 << 20;

impl MergeRequest {
    /// A request with Synapse's defaults and no inputs yet: trim 0.8, majority vote, a tie merges nothing, λ 1.
    pub fn new(method: Method, base: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            method,
            trim: if method == Method::Ties {
                Trim::DEFAULT
            } else {
                Trim::NONE
            },
            input_trims: BTreeMap::new(),
            ties: TiesOptions::default(),
            normalize: method.normalizes(),
            lambda: 1.0,
            base: base.into(),
            uses_base: method.requirements().base == NeedsBase::Always,
            base_view: BaseView::default(),
            adapters: Vec::new(),
            models: Vec::new(),
            out: out.into(),
            dtype: None,
            gguf: None,
            sparse: false,
            extract_rank: None,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
            aliases: BTreeMap::new(),
            pinned: BTreeMap::new(),
            parameters: Settings::default(),
            input_parameters: BTreeMap::new(),
            slices: Vec::new(),
            tokenizer: None,
            chat_template: None,
            seed: 0,
            rounding: Rounding::default(),
            tile_budget: TILE_BUDGET,
        }
    }

    /// Sets all options of TIES and its relatives to those of another implementation.
    pub fn apply_compat(&mut self, preset: Compat) {
        let method = self.method;
        let rescale = method.rescales().then_some(Rescale::Inverse);
        self.normalize = method.normalizes();
        self.ties = TiesOptions {
            sign: Sign::Total,
            tie_break: TieBreak::Positive,
            vote_in_f32: true,
            counting: Counting::Binary,
            ..TiesOptions::default()
        };
        let ties = &mut self.ties;
        match preset {
            Compat::Mergekit => self.trim = Trim::NONE,
            Compat::Peft => {
                self.trim = Trim::NONE;
                (ties.factors, ties.rescale) = (true, rescale);
            }
            Compat::Paper => {
                (ties.scope, ties.selection) = (Scope::Global, TopKSelection::Threshold);
                (ties.tie_break, ties.counting) = (TieBreak::Majority, Counting::OneMore);
                (ties.weighted_vote, ties.divide_by) = (false, DivideBy::Count);
                ties.rescale = rescale;
            }
            Compat::Titan => {
                (ties.sign, ties.tie_break) = (Sign::Frequency, TieBreak::Drop);
                (ties.selection, ties.counting) = (TopKSelection::Threshold, Counting::Quantile);
                (ties.weighted_vote, ties.divide_by) = (false, DivideBy::Count);
                // Its code keeps the share that its model card says it trims.
                self.trim = Trim::from_density("0.8").unwrap_or(Trim::NONE);
            }
        }
        if preset == Compat::Paper && method == Method::Ties {
            self.trim = Trim::DEFAULT;
        }
    }

    /// How kept entries are rescaled: as the request says, else as the method does by default.
    pub fn rescaling(&self) -> Rescale {
        let default = if self.method.rescales() {
            Rescale::Norm
        } else {
            Rescale::None
        };
        self.ties.rescale.unwrap_or(default)
    }

    /// All inputs in merging order: adapters, then models.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.adapters.iter().chain(&self.models)
    }

    /// The trim of one input.
    pub fn trim_of(&self, input: &str) -> Trim {
        self.input_trims.get(input).copied().unwrap_or(self.trim)
    }

    /// How merge.yaml refers to a folder.
    pub(crate) fn reference_of(&self, folder: &Path) -> String {
        let path = || folder.to_string_lossy().into_owned();
        self.aliases.get(folder).cloned().unwrap_or_else(path)
    }
}

/// Reads a dtype by Synapse's or torch's name.
///
/// # Errors
/// Names the known ones.
pub fn parse_dtype(word: &str) -> Result<DType, String> {
    match word {
        "f32" | "float32" => Ok(DType::F32),
        "f16" | "float16" => Ok(DType::F16),
        "bf16" | "bfloat16" => Ok(DType::BF16),
        _ => Err(format!(
            "unknown dtype `{word}` (one of: f32, f16, bf16, float32, float16, bfloat16)"
        )),
    }
}

/// torch's name of an output dtype, as config.json and mergekit write it.
pub(crate) fn torch_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    }
}
