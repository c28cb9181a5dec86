//! What to merge and how: the resolved request, in which nothing is left open.
//!
//! Recipes, command lines and mergekit files all end here; the maths and the streaming know nothing of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synapse_checkpoint::DType;
use synapse_export::GgufType;

use crate::choices::{BaseView, Compat, Counting, DivideBy, Election, Rounding, Scope, Selection, Sign, ZeroSign};
use crate::method::NeedsBase;
use crate::settings::Settings;
use crate::sparsify::Rescale;
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

/// A PEFT adapter folder with its name and weight.
pub type AdapterInput = Input;
/// A full checkpoint folder with its name and weight.
pub type ModelInput = Input;

/// One merge, resolved. Start from [`MergeRequest::new`] and change what differs.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeRequest {
    /// The method.
    pub method: Method,
    /// TIES: the share of each tensor's smallest entries set to zero.
    pub trim: Trim,
    /// TIES: a trim of its own for an input of that name.
    pub input_trims: BTreeMap<String, Trim>,
    /// TIES: who wins an entry.
    pub sign: Sign,
    /// TIES: what a draw does.
    pub zero_sign: ZeroSign,
    /// TIES: what else its implementations disagree on.
    pub election: Election,
    /// TIES: what the trim ranks against.
    pub scope: Scope,
    /// TIES: what ties at the threshold do.
    pub selection: Selection,
    /// How k follows from the share that is kept.
    pub counting: Counting,
    /// What makes good for dropped entries; `None` is the method's own default.
    pub rescale: Option<Rescale>,
    /// PEFT's way: merge the factors of adapters instead of their products.
    pub factors: bool,
    /// Divide the combined change by the weights that went into it.
    pub normalize: bool,
    /// λ, the factor of the combined change; not used by `linear`.
    pub lambda: f64,
    /// The base's folder: the tensors that adapters change, and the source of config and tokenizer.
    pub base: PathBuf,
    /// The base takes part in the merge. False only where a method can do without: then its folder lends no more than
    /// shapes, config and tokenizer.
    pub based: bool,
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
    /// Write one GGUF file of this type at `out`, instead of a folder; no folder is made on the way.
    pub gguf: Option<GgufType>,
    /// Write what the merge changes, instead of whole tensors: see [`crate::apply`].
    pub sparse: bool,
    /// Write an adapter of this rank at `out` instead of a folder: the merged change, cut down.
    pub extract_rank: Option<usize>,
    /// Largest size of one output file in bytes; a larger tensor gets a file to itself.
    pub max_shard_bytes: u64,
    /// What merge.yaml calls a folder, where that is not its path: the hub id of a cached model.
    pub aliases: BTreeMap<PathBuf, String>,
    /// sha256 that inputs must have, by folder, when a merge.yaml is run again.
    pub pinned: BTreeMap<PathBuf, String>,
    /// mergekit's parameters of the whole merge, beside those with a field of their own.
    pub parameters: Settings,
    /// mergekit's parameters of single inputs, by name.
    pub input_parameters: BTreeMap<String, Settings>,
    /// Layers to stack; empty takes all layers of the base.
    pub slices: Vec<Slice>,
    /// Whose tokenizer the output has, as the file says it; `None` is the base's, unasked.
    pub tokenizer: Option<String>,
    /// A chat template to write instead of the base's: `auto`, a name, or Jinja.
    pub chat_template: Option<String>,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// How values are rounded to the output's dtype.
    pub rounding: Rounding,
    /// Most bytes of inputs that are kept between sweeps, of all tensors under way together; a tensor that takes more is
    /// made anew in each sweep.
    pub tile_budget: usize,
}

/// Default of [`MergeRequest::tile_budget`]: the four changes of a 3B model's widest matrix.
const TILE_BUDGET: usize = 512 << 20;

impl MergeRequest {
    /// A request with Synapse's defaults and no inputs yet: trim 0.8, majority vote, a draw merges nothing, λ 1.
    pub fn new(method: Method, base: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            method,
            trim: if method == Method::Ties {
                Trim::DEFAULT
            } else {
                Trim::NONE
            },
            input_trims: BTreeMap::new(),
            sign: Sign::default(),
            zero_sign: ZeroSign::default(),
            election: Election::default(),
            scope: Scope::default(),
            selection: Selection::default(),
            counting: Counting::default(),
            rescale: None,
            factors: false,
            normalize: method.normalizes(),
            lambda: 1.0,
            base: base.into(),
            based: method.contract().base == NeedsBase::Always,
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

    /// Takes over a peer's whole set of choices for TIES and its relatives.
    pub fn follow(&mut self, peer: Compat) {
        let own = Self::new(self.method, PathBuf::new(), PathBuf::new());
        (self.sign, self.zero_sign) = (Sign::Total, ZeroSign::Positive);
        (self.scope, self.selection, self.counting) = (own.scope, own.selection, Counting::Binary);
        self.election = Election {
            single: true,
            ..Election::default()
        };
        self.rescale = None;
        self.factors = false;
        self.normalize = own.normalize;
        match peer {
            Compat::Mergekit => self.trim = Trim::NONE,
            Compat::Peft => {
                self.trim = Trim::NONE;
                self.factors = true;
                self.rescale = own.method.rescales().then_some(Rescale::Inverse);
            }
            Compat::Paper => {
                (self.scope, self.selection) = (Scope::Global, Selection::Threshold);
                (self.zero_sign, self.counting) = (ZeroSign::Majority, Counting::OneMore);
                self.rescale = own.method.rescales().then_some(Rescale::Inverse);
                self.by_count(false);
            }
            Compat::Titan => {
                (self.sign, self.zero_sign) = (Sign::Frequency, ZeroSign::Drop);
                (self.selection, self.counting) = (Selection::Threshold, Counting::Quantile);
                // Its code keeps what its card says it trims.
                self.trim = Trim::from_density("0.8").unwrap_or(Trim::NONE);
                self.by_count(false);
            }
        }
        if peer == Compat::Paper && self.method == Method::Ties {
            self.trim = Trim::DEFAULT;
        }
    }

    fn by_count(&mut self, weighted: bool) {
        self.election = Election {
            weighted,
            divide_by: DivideBy::Count,
            single: true,
        };
    }

    /// What makes good for dropped entries.
    pub fn rescaling(&self) -> Rescale {
        let default = if self.method.rescales() {
            Rescale::Norm
        } else {
            Rescale::None
        };
        self.rescale.unwrap_or(default)
    }

    /// All inputs in merging order: adapters, then models.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.adapters.iter().chain(&self.models)
    }

    /// The trim of one input.
    pub fn trim_of(&self, input: &str) -> Trim {
        self.input_trims.get(input).copied().unwrap_or(self.trim)
    }

    /// What merge.yaml calls a folder.
    pub(crate) fn called(&self, folder: &Path) -> String {
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
