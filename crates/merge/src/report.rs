//! What a merge kept and what it lost, written beside the weights as merge_report.json.
//!
//! Everything is a sum over fixed chunks of a tensor, added in order, so the report is as reproducible as the weights. Shares are of all entries of a tensor; energies are sums of squares.

use serde::{Deserialize, Serialize};

use crate::combine::{Accumulators, ChunkStatistics};
use crate::described::Kept;
use crate::plan::TensorPlan;
use crate::{Input, MergeRequest};

/// File name of the report in the output folder.
pub const REPORT_FILE: &str = "merge_report.json";
/// The report's layout, raised when a reader of an older one would misread it.
pub(crate) const FORMAT: u32 = 1;

/// The report of one merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeReport {
    /// Layout of this report; readers refuse what they do not know.
    pub format: u32,
    /// The method's name.
    pub method: String,
    /// TIES' sign election, `None` for methods that do not elect.
    pub sign: Option<String>,
    /// What was merged, in merging order.
    pub inputs: Vec<InputReport>,
    /// Sums over all merged tensors.
    pub totals: Totals,
    /// Tensors that some input changes, in file order.
    pub tensors: Vec<TensorReport>,
    /// Number of tensors that no input changes, copied from the base.
    pub copied: usize,
}

impl MergeReport {
    /// The report as it is written: indented JSON with a final newline.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and lists only: serializing them cannot fail.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a report back.
    ///
    /// # Errors
    /// The text is not a report of a known format.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(text).map_err(|error| format!("not a merge report: {error}"))?;
        if report.format == FORMAT {
            Ok(report)
        } else {
            Err(format!(
                "merge report of format {}, only {FORMAT} is known; use a newer program",
                report.format
            ))
        }
    }
}

/// One input of the merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputReport {
    /// Its name, by which tensors refer to it.
    pub name: String,
    /// Its weight.
    pub weight: f64,
    /// In words, where the weight differs from tensor to tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Its trim as decimal text, `None` for methods that do not trim and where the trim differs from tensor to tensor.
    pub trim: Option<String>,
    /// The share that is kept, in words, where it differs from tensor to tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<String>,
}

impl InputReport {
    /// An input as a request has it; `trims` says that the method sparsifies.
    pub(crate) fn new(request: &MergeRequest, input: &Input, trims: bool) -> Self {
        let (trim, density) = match trims.then(|| request.kept(&input.name)) {
            None => (None, None),
            Some(Kept::Same(trim)) => (Some(trim.to_string()), None),
            Some(Kept::Varies(text)) => (None, Some(text)),
        };
        let weights = request.weight_text(&input.name);
        let constant = weights.parse().ok();
        Self {
            name: input.name.clone(),
            weight: constant.unwrap_or(input.weight),
            weights: constant.is_none().then_some(weights),
            trim,
            density,
        }
    }
}

/// The merge as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries of the merged tensors.
    pub entries: u64,
    /// How many inputs contribute to an entry.
    pub voters: Voters,
    /// Share of entries where inputs pull in opposite directions.
    pub disagreement: f64,
    /// Energy lost on the way.
    pub energy_lost: EnergyLost,
}

/// One merged tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// The base's tensor name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The names of the inputs that contribute to it; every per-input list has their order.
    pub inputs: Vec<String>,
    /// Per input: share of its entries that are non-zero after trimming.
    pub kept_share: Vec<f64>,
    /// Per input: Euclidean norm of its change to the base, before trimming and weighting. In a linear merge of
    /// full checkpoints alone, inputs count by their weights themselves, here and below.
    pub norm: Vec<f64>,
    /// Per input: share of its energy that trimming removed.
    pub trimmed_energy: Vec<f64>,
    /// Cosine between the untrimmed changes of inputs i and j, for i < j, row by row: (0,1), (0,2), …, (1,2), ….
    pub cosine: Vec<f64>,
    /// How many inputs contribute to an entry.
    pub voters: Voters,
    /// Share of entries where inputs pull in opposite directions.
    pub disagreement: f64,
    /// Energy lost on the way.
    pub energy_lost: EnergyLost,
    /// Norm of the merged change divided by the base tensor's norm.
    pub relative_update: f64,
}

/// Shares of entries by the number of inputs whose trimmed, weighted change is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Voters {
    /// No input changes the entry.
    pub none: f64,
    /// Exactly one does.
    pub one: f64,
    /// Two or more do.
    pub several: f64,
}

/// Where the inputs' energy went, each as a share of what arrived at that step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyLost {
    /// Removed by trimming, of the weighted changes' energy.
    pub trim: f64,
    /// Removed because the sign lost its vote, of what trimming left.
    pub vote: f64,
    /// Energy of the error that the output dtype's rounding makes, relative to the merged change's energy.
    /// Above one, rounding is larger than the change itself.
    pub rounding: f64,
}

impl From<&Accumulators> for Voters {
    fn from(sums: &Accumulators) -> Self {
        let [none, one, several] = sums.voters.map(|count| share(count as f64, sums.entries as f64));
        Self { none, one, several }
    }
}

impl From<&Accumulators> for EnergyLost {
    fn from(sums: &Accumulators) -> Self {
        Self {
            trim: share(sums.weighted - sums.trimmed, sums.weighted).max(0.0),
            vote: share(sums.trimmed - sums.agreeing, sums.trimmed).max(0.0),
            rounding: share(sums.rounding, sums.update),
        }
    }
}

impl From<&Accumulators> for Totals {
    fn from(sums: &Accumulators) -> Self {
        Self {
            entries: sums.entries,
            voters: sums.into(),
            disagreement: disagreement(sums),
            energy_lost: sums.into(),
        }
    }
}

fn disagreement(sums: &Accumulators) -> f64 {
    share(sums.disagreements as f64, sums.entries as f64)
}

/// One tensor's shares from its sums.
pub(crate) fn describe_tensor(target: &TensorPlan, inputs: Vec<String>, sums: &ChunkStatistics) -> TensorReport {
    let accumulators = &sums.accumulators;
    let norms: Vec<f64> = sums.inputs.iter().map(|input| input.energy.sqrt()).collect();
    let pairs = (0..norms.len()).flat_map(|i| (i + 1..norms.len()).map(move |j| (i, j)));
    TensorReport {
        name: target.name.clone(),
        shape: target.shape.clone(),
        kept_share: sums
            .inputs
            .iter()
            .map(|input| share(input.kept as f64, accumulators.entries as f64))
            .collect(),
        trimmed_energy: sums
            .inputs
            .iter()
            .map(|input| share(input.energy - input.kept_energy, input.energy).max(0.0))
            .collect(),
        cosine: pairs
            .zip(&sums.products)
            .map(|((i, j), product)| {
                let norms = norms[i] * norms[j];
                if norms > 0.0 {
                    (product / norms).clamp(-1.0, 1.0)
                } else {
                    0.0
                }
            })
            .collect(),
        norm: norms,
        voters: accumulators.into(),
        disagreement: disagreement(accumulators),
        energy_lost: accumulators.into(),
        relative_update: share(accumulators.update, accumulators.base).sqrt(),
        inputs,
    }
}

/// part / whole; 0 where the whole is 0.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
