//! Applies a delta to its base: the result is the model folder that the merge itself would have written, byte for byte.
//!
//! The format is described in [`crate::delta`]. Any other base is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use synapse_checkpoint::{DType, ModelFolder, ShardedWriter, Staged, TensorFiles};

use crate::delta::{DELTA_FILE, DeltaFile, DeltaTensor, FORMAT, WEIGHTS, parts_of};
use crate::inputs::{StoredTensor, unreplaceable};
use crate::tiles::{RowSource, rows_and_columns, tile_rows};
use crate::{MergeError, Result, parse_dtype};

/// A delta, its base, and where the model goes.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyRequest {
    /// The folder of a merge with `--format delta`.
    pub delta: PathBuf,
    /// The model that it was made for.
    pub base: PathBuf,
    /// The folder to publish.
    pub out: PathBuf,
    /// Largest size of one output file in bytes.
    pub max_shard_bytes: u64,
}

impl DeltaFile {
    /// Reads delta.json of a folder.
    ///
    /// # Errors
    /// The folder holds none, or one of an unknown format.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(DELTA_FILE);
        let shown = path.display();
        let text = fs::read(&path)
            .map_err(|error| MergeError::request(format!("{shown}: {error}: is this a merge with --format delta?")))?;
        let file: Self =
            serde_json::from_slice(&text).map_err(|error| MergeError::request(format!("{shown}: {error}")))?;
        if file.format == FORMAT {
            return Ok(file);
        }
        Err(MergeError::request(format!(
            "{shown} is of format {}, only {FORMAT} is known; use a newer program",
            file.format
        )))
    }
}

/// Publishes the model.
///
/// # Errors
/// [`MergeError::Request`] if the folder is not a delta, is damaged, or was made for another base; every other error leaves
/// the output as it was.
pub fn apply_delta(request: &ApplyRequest) -> Result<()> {
    let ApplyRequest { delta, base, out, .. } = request;
    let file = DeltaFile::read(delta)?;
    let model = ModelFolder::open(base)?;
    if let Some(problem) = unreplaceable(out, [delta, base].into_iter(), false) {
        return Err(MergeError::request(problem));
    }
    let found = model.content_hash()?;
    if found != file.base_sha256 {
        return Err(MergeError::request(format!(
            "{} changes {} (sha256 {}), and {} is another model (sha256 {found})",
            delta.display(),
            file.base,
            file.base_sha256,
            base.display()
        )));
    }
    let dtype = file.dtype.as_deref().map(parse_dtype).transpose();
    let dtype =
        dtype.map_err(|problem| MergeError::request(format!("{}: {problem}", delta.join(DELTA_FILE).display())))?;
    let layout: Vec<(String, DType, Vec<usize>)> = model
        .config()
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let dtype = dtype.unwrap_or_else(|| StoredTensor::new(&model, &name).dtype());
            (name, dtype, shape)
        })
        .collect();
    let changes = Changes {
        files: TensorFiles::open(vec![delta.join(WEIGHTS)])?,
        path: delta.join(WEIGHTS),
        tensors: file
            .tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect(),
    };
    changes.check(&layout)?;
    let staged = Staged::beside(out)?;
    let mut writer = ShardedWriter::create(staged.path(), &layout, request.max_shard_bytes)?;
    layout
        .par_iter()
        .try_for_each(|(name, dtype, shape)| changes.write(&model, (name, *dtype, shape), &writer))?;
    for (name, ..) in &layout {
        writer.complete(name);
    }
    writer.finish()?;
    for entry in fs::read_dir(delta).map_err(MergeError::file("list", delta))? {
        let path = entry.map_err(MergeError::file("list", delta))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_file() && name != DELTA_FILE && name != WEIGHTS {
            fs::copy(&path, staged.path().join(name)).map_err(MergeError::file("copy", &path))?;
        }
    }
    Ok(staged.publish()?)
}

/// The changes of a delta.
struct Changes<'a> {
    files: TensorFiles,
    path: PathBuf,
    tensors: BTreeMap<&'a str, &'a DeltaTensor>,
}

impl Changes<'_> {
    /// Whether all tensors are ones of the model, and as they are described.
    fn check(&self, layout: &[(String, DType, Vec<usize>)]) -> Result<()> {
        let shown = self.path.display();
        let known: BTreeMap<&str, (DType, &[usize])> = layout
            .iter()
            .map(|(name, dtype, shape)| (name.as_str(), (*dtype, shape.as_slice())))
            .collect();
        for (&name, tensor) in &self.tensors {
            let Some((dtype, _)) = known.get(name).filter(|(_, shape)| *shape == tensor.shape) else {
                return Err(MergeError::request(format!(
                    "{shown}: {name} {:?} is not a tensor of the base",
                    tensor.shape
                )));
            };
            let entries: usize = tensor.shape.iter().product();
            let parts = parts_of(name);
            let expected = [(DType::U8, entries.div_ceil(8)), (*dtype, tensor.changed)];
            for (part, (dtype, count)) in parts.iter().zip(expected) {
                let fits = |info: &&synapse_checkpoint::TensorInfo| info.dtype == dtype && info.shape == [count];
                if self.files.info(part).filter(fits).is_none() {
                    return Err(MergeError::request(format!(
                        "{shown}: {part} should be {count} elements of {dtype}; is the file damaged?"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Writes one tensor: the base's values, rounded to its dtype, and the changed ones in their places.
    fn write(
        &self,
        base: &ModelFolder,
        (name, dtype, shape): (&str, DType, &[usize]),
        writer: &ShardedWriter,
    ) -> Result<()> {
        let (rows, columns) = rows_and_columns(shape);
        let (stored, size) = (StoredTensor::new(base, name), dtype.size());
        let (mut changed, mut values) = (Vec::new(), Vec::new());
        if self.tensors.contains_key(name) {
            let [bits, new] = parts_of(name);
            self.files.read_bytes(&bits, &mut changed)?;
            self.files.read_bytes(&new, &mut values)?;
            let marked: usize = changed.iter().map(|byte| byte.count_ones() as usize).sum();
            if marked * size != values.len() {
                return Err(MergeError::request(format!(
                    "{}: {name} marks {marked} entries and has {} values; is the file damaged?",
                    self.path.display(),
                    values.len() / size
                )));
            }
        }
        let mut values = values.chunks_exact(size);
        let (mut before, mut bytes) = (Vec::new(), Vec::new());
        let step = tile_rows(columns);
        for first in (0..rows).step_by(step) {
            let rows = first..rows.min(first + step);
            before.resize(rows.len() * columns, 0.0);
            stored.read(rows.clone(), &[], &mut before)?;
            bytes.clear();
            dtype.extend_bytes(&before, &mut bytes);
            let start = rows.start * columns;
            if !changed.is_empty() {
                for (at, slot) in bytes.chunks_exact_mut(size).enumerate() {
                    let entry = start + at;
                    if changed[entry / 8] >> (entry % 8) & 1 == 1
                        && let Some(value) = values.next()
                    {
                        slot.copy_from_slice(value);
                    }
                }
            }
            writer.write_part(name, (start * size) as u64, &bytes)?;
        }
        Ok(())
    }
}
