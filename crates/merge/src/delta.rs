//! A merge as a delta: the entries that it changes in its base, and their new values. A delta is far smaller than the model
//! where few entries change by more than the output's rounding, and it is exact: [`crate::apply_delta`] writes the folder
//! that the merge itself would have written.
//!
//! The folder is that of a merge, with two files instead of the weights. delta.safetensors has two tensors for each that
//! changes: `NAME.changed`, a bit an entry, the lowest of the first byte first, and `NAME.values`, the new values in
//! order. delta.json ([`DeltaFile`]) says which base they are changes to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{DType, ShardedWriter, write_atomic};

use crate::inputs::Inputs;
use crate::plan::TensorPlan;
use crate::request::torch_name;
use crate::tiles::{RowSource, rows_and_columns, tile_rows};
use crate::{MergeError, MergeRequest, Result};

/// Name of the file that describes a delta.
pub const DELTA_FILE: &str = "delta.json";
/// Name of the file with the changes.
pub(crate) const WEIGHTS: &str = "delta.safetensors";
/// Raised when an older reader would misread the file.
pub(crate) const FORMAT: u32 = 1;
/// Folder of the tensors until all of them are known.
const PARTS: &str = "parts";

/// delta.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaFile {
    /// Layout of the two files; readers refuse what they do not know.
    pub format: u32,
    /// What the base is called: its hub id, or its folder.
    pub base: String,
    /// sha256 of the base's contents.
    pub base_sha256: String,
    /// dtype of every tensor of the model, as torch calls it; without one, each tensor keeps the base's.
    pub dtype: Option<String>,
    /// The tensors that change, in file order.
    pub tensors: Vec<DeltaTensor>,
}

/// A tensor that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaTensor {
    /// Its name in the model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Entries that change.
    pub changed: usize,
}

/// The changes found so far, with one file per tensor.
pub(crate) struct DeltaWriter<'a> {
    inputs: &'a Inputs,
    plans: &'a [TensorPlan],
    folder: PathBuf,
    /// By index of the plan: the values' dtype and number.
    found: BTreeMap<usize, (DType, usize)>,
}

/// The names of a tensor's two parts.
pub(crate) fn parts_of(tensor: &str) -> [String; 2] {
    [format!("{tensor}.changed"), format!("{tensor}.values")]
}

impl<'a> DeltaWriter<'a> {
    /// Nothing found yet; files go to a folder below `folder`.
    pub(crate) fn new(inputs: &'a Inputs, plans: &'a [TensorPlan], folder: &Path) -> Result<Self> {
        let parts = folder.join(PARTS);
        fs::create_dir_all(&parts).map_err(MergeError::file("create", &parts))?;
        Ok(Self {
            inputs,
            plans,
            folder: folder.to_owned(),
            found: BTreeMap::new(),
        })
    }

    fn part(&self, index: usize, kind: &str) -> PathBuf {
        self.folder.join(PARTS).join(format!("{index}.{kind}"))
    }

    /// Compares a tensor's bytes with the base's, rounded to the same dtype.
    pub(crate) fn add(&mut self, index: usize, dtype: DType, bytes: &[u8]) -> Result<()> {
        let plan = &self.plans[index];
        let (rows, columns) = rows_and_columns(&plan.shape);
        let (base, size) = (self.inputs.base_rows(plan), dtype.size());
        let mut changed = vec![0_u8; (rows * columns).div_ceil(8)];
        let (mut values, mut before, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        let step = tile_rows(columns);
        for first in (0..rows).step_by(step) {
            let rows = first..rows.min(first + step);
            before.resize(rows.len() * columns, 0.0);
            base.read(rows.clone(), &[], &mut before)?;
            stored.clear();
            dtype.extend_bytes(&before, &mut stored);
            let start = rows.start * columns;
            let made = &bytes[start * size..rows.end * columns * size];
            for (at, (before, made)) in stored.chunks_exact(size).zip(made.chunks_exact(size)).enumerate() {
                if before != made {
                    changed[(start + at) / 8] |= 1 << ((start + at) % 8);
                    values.extend_from_slice(made);
                }
            }
        }
        if !values.is_empty() {
            self.found.insert(index, (dtype, values.len() / size));
            for (kind, bytes) in [("changed", &changed), ("values", &values)] {
                let path = self.part(index, kind);
                fs::write(&path, bytes).map_err(MergeError::file("write", &path))?;
            }
        }
        Ok(())
    }

    /// Puts all tensors into one file, in the order of the model, whatever order they were found in.
    pub(crate) fn assemble(&self) -> Result<()> {
        let mut layout = Vec::new();
        for (&index, &(dtype, count)) in &self.found {
            let plan = &self.plans[index];
            let [changed, values] = parts_of(&plan.name);
            let entries: usize = plan.shape.iter().product();
            layout.push((changed, DType::U8, vec![entries.div_ceil(8)]));
            layout.push((values, dtype, vec![count]));
        }
        let parts = self.folder.join(PARTS);
        let mut writer = ShardedWriter::create(&parts, &layout, u64::MAX)?;
        for &index in self.found.keys() {
            for (kind, name) in ["changed", "values"].into_iter().zip(parts_of(&self.plans[index].name)) {
                let path = self.part(index, kind);
                writer.write(&name, &fs::read(&path).map_err(MergeError::file("read", &path))?)?;
                fs::remove_file(&path).map_err(MergeError::file("remove", &path))?;
            }
        }
        writer.finish()?;
        // Everything fits into one file, which the writer names as it does those of models.
        let (from, to) = (parts.join("model.safetensors"), self.folder.join(WEIGHTS));
        fs::rename(&from, &to).map_err(MergeError::file("rename", &from))?;
        fs::remove_dir(&parts).map_err(MergeError::file("remove", &parts))
    }

    /// Writes delta.json.
    pub(crate) fn describe(
        &self,
        request: &MergeRequest,
        hashes: &BTreeMap<PathBuf, String>,
        folder: &Path,
    ) -> Result<()> {
        let file = DeltaFile {
            format: FORMAT,
            base: request.reference_of(&request.base),
            base_sha256: hashes.get(self.inputs.base.path()).cloned().unwrap_or_default(),
            dtype: request.dtype.map(|dtype| torch_name(dtype).to_owned()),
            tensors: self
                .found
                .iter()
                .map(|(&index, &(_, changed))| DeltaTensor {
                    name: self.plans[index].name.clone(),
                    shape: self.plans[index].shape.clone(),
                    changed,
                })
                .collect(),
        };
        // Strings, numbers and lists only: serializing them cannot fail.
        let mut text = serde_json::to_vec_pretty(&file).unwrap_or_default();
        text.push(b'\n');
        Ok(write_atomic(&folder.join(DELTA_FILE), &text)?)
    }
}
