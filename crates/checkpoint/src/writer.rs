//! Writing safetensors. The layout is fixed up front from names, types and shapes, so tensors are streamed to their
//! final place in any order and the same input gives the same bytes. [`ShardedWriter`] writes into a staging folder and
//! leaves publishing it to `Staged`; [`write_safetensors`] writes one file whole.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::header;
use crate::positioned::{read_exact_at, reserve, write_all_at};
use crate::publish::{StagedFile, write_atomic};

/// Streams a model's tensors into `model.safetensors`, or into numbered shards with an index where they do not fit
/// into one. Each tensor is written once, in any order.
#[derive(Debug)]
pub struct ShardedWriter {
    folder: PathBuf,
    shards: Vec<(PathBuf, File)>,
    places: HashMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    shard: usize,
    offset: u64,
    bytes: u64,
    written: bool,
}

impl ShardedWriter {
    /// Lays the tensors out in the order given, `max_shard_bytes` of data a file (a larger tensor has a file of its
    /// own), and writes the headers and, for several files, the index.
    ///
    /// # Errors
    /// A name appears twice, or the folder cannot be written to.
    pub fn create(folder: &Path, tensors: &[(String, DType, Vec<usize>)], max_shard_bytes: u64) -> Result<Self> {
        Self::lay_out(folder, tensors, max_shard_bytes, false)
    }

    /// Opens what an earlier [`ShardedWriter::create`] of the same layout left, with its data; the caller knows which
    /// tensors are there. Files that are missing are made.
    ///
    /// # Errors
    /// A name appears twice, or the folder cannot be written to.
    pub fn resume(folder: &Path, tensors: &[(String, DType, Vec<usize>)], max_shard_bytes: u64) -> Result<Self> {
        Self::lay_out(folder, tensors, max_shard_bytes, true)
    }

    fn lay_out(
        folder: &Path,
        tensors: &[(String, DType, Vec<usize>)],
        max_shard_bytes: u64,
        keep: bool,
    ) -> Result<Self> {
        let shards = split(tensors, max_shard_bytes);
        let names = shard_names(shards.len());
        let mut writer = Self {
            folder: folder.to_owned(),
            shards: Vec::new(),
            places: HashMap::new(),
        };
        let mut weight_map = Map::new();
        let mut total = 0;
        for (shard, (tensors, name)) in shards.iter().zip(&names).enumerate() {
            let path = folder.join(name);
            let entries: Vec<(&str, DType, &[usize])> = tensors
                .iter()
                .map(|(name, dtype, shape)| (name.as_str(), *dtype, shape.as_slice()))
                .collect();
            let (head, offsets) = header::build(&entries, &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
            let mut end = head.len() as u64;
            for ((tensor, dtype, shape), offset) in tensors.iter().zip(offsets) {
                let bytes = header::byte_length(*dtype, shape);
                if writer
                    .places
                    .insert(
                        tensor.clone(),
                        Place {
                            shard,
                            offset,
                            bytes,
                            written: false,
                        },
                    )
                    .is_some()
                {
                    return Err(CheckpointError::tensor(&path, tensor, "is in the layout twice"));
                }
                weight_map.insert(tensor.clone(), json!(name));
                end = offset + bytes;
                total += bytes;
            }
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(!keep)
                .open(&path)
                .map_err(CheckpointError::io("create", &path))?;
            reserve(&file, end).map_err(CheckpointError::io("reserve space for", &path))?;
            write_all_at(&file, &head, 0).map_err(CheckpointError::io("write", &path))?;
            writer.shards.push((path, file));
        }
        if shards.len() > 1 {
            weight_map.sort_keys();
            let index = json!({ "metadata": { "total_size": total }, "weight_map": Value::Object(weight_map) });
            write_atomic(
                &folder.join("model.safetensors.index.json"),
                format!("{index:#}\n").as_bytes(),
            )?;
        }
        Ok(writer)
    }

    /// Writes one tensor's bytes (little-endian, as its type and shape say) to its place.
    ///
    /// # Errors
    /// The layout has no such tensor, it was written before, the length is wrong, or the file cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(place) = self.places.get_mut(name) else {
            return Err(CheckpointError::tensor(&self.folder, name, "is not in the layout"));
        };
        let (path, file) = &self.shards[place.shard];
        if place.written {
            return Err(CheckpointError::tensor(path, name, "was already written"));
        }
        if bytes.len() as u64 != place.bytes {
            return Err(CheckpointError::tensor(
                path,
                name,
                format!("takes {} bytes, was given {}", place.bytes, bytes.len()),
            ));
        }
        write_all_at(file, bytes, place.offset).map_err(CheckpointError::io("write", path))?;
        place.written = true;
        Ok(())
    }

    /// Writes some of a tensor's bytes, `offset` bytes into it. Any thread may write any part; when all are there,
    /// [`ShardedWriter::complete`] says so.
    ///
    /// # Errors
    /// The layout has no such tensor, the bytes lie outside it, or the file cannot be written.
    pub fn write_part(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let (path, file, at) = self.part(name, offset, bytes.len())?;
        write_all_at(file, bytes, at).map_err(CheckpointError::io("write", path))
    }

    /// Reads back some of a tensor's bytes, `offset` bytes into it.
    ///
    /// # Errors
    /// The layout has no such tensor, the bytes lie outside it, or the file cannot be read.
    pub fn read_part(&self, name: &str, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let (path, file, at) = self.part(name, offset, bytes.len())?;
        read_exact_at(file, bytes, at).map_err(CheckpointError::io("read", path))
    }

    fn part(&self, name: &str, offset: u64, bytes: usize) -> Result<(&Path, &File, u64)> {
        let Some(place) = self.places.get(name) else {
            return Err(CheckpointError::tensor(&self.folder, name, "is not in the layout"));
        };
        let (path, file) = &self.shards[place.shard];
        if offset.saturating_add(bytes as u64) > place.bytes {
            let message = format!("takes {} bytes, asked for {bytes} from byte {offset}", place.bytes);
            return Err(CheckpointError::tensor(path, name, message));
        }
        Ok((path, file, place.offset + offset))
    }

    /// Bytes that a tensor takes, if it is in the layout.
    #[must_use]
    pub fn bytes_of(&self, name: &str) -> Option<u64> {
        self.places.get(name).map(|place| place.bytes)
    }

    /// Says that a tensor was written in parts.
    pub fn complete(&mut self, name: &str) {
        if let Some(place) = self.places.get_mut(name) {
            place.written = true;
        }
    }

    /// Syncs everything written so far to the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<()> {
        for (path, file) in &self.shards {
            file.sync_data().map_err(CheckpointError::io("sync", path))?;
        }
        Ok(())
    }

    /// Checks that every tensor was written and brings the files to the disk.
    ///
    /// # Errors
    /// A tensor was not written (the first is named), or the disk refuses.
    pub fn finish(self) -> Result<()> {
        if let Some(missing) = self
            .places
            .iter()
            .filter(|(_, place)| !place.written)
            .map(|(name, _)| name)
            .min()
        {
            return Err(CheckpointError::tensor(&self.folder, missing, "was never written"));
        }
        for (path, file) in &self.shards {
            file.sync_all().map_err(CheckpointError::io("sync", path))?;
        }
        Ok(())
    }
}

type Layout = (String, DType, Vec<usize>);

/// Fills one shard after another in the order given; within a shard wider elements come first, so that every tensor
/// begins on a multiple of its element size.
fn split(tensors: &[Layout], max_shard_bytes: u64) -> Vec<Vec<&Layout>> {
    let mut shards: Vec<Vec<&Layout>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let bytes = header::byte_length(tensor.1, &tensor.2);
        if filled > 0 && filled + bytes > max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    for shard in &mut shards {
        shard.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.size()));
    }
    shards
}

fn shard_names(count: usize) -> Vec<String> {
    if count == 1 {
        return vec!["model.safetensors".to_owned()];
    }
    (1..=count)
        .map(|number| format!("model-{number:05}-of-{count:05}.safetensors"))
        .collect()
}

/// Writes one safetensors file with any named tensors and metadata, in the order given but wider elements first,
/// to a file next to `path` that is then renamed.
///
/// # Errors
/// A tensor's bytes do not fit its type and shape, a name appears twice, or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(String, DType, Vec<usize>, &[u8])],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut tensors: Vec<_> = tensors.iter().collect();
    tensors.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.size()));
    let mut seen = std::collections::HashSet::new();
    for (name, dtype, shape, bytes) in &tensors {
        let expected = header::byte_length(*dtype, shape);
        if bytes.len() as u64 != expected {
            return Err(CheckpointError::tensor(
                path,
                name,
                format!(
                    "of shape {shape:?} and type {dtype} takes {expected} bytes, was given {}",
                    bytes.len()
                ),
            ));
        }
        if !seen.insert(name.as_str()) {
            return Err(CheckpointError::tensor(path, name, "is given twice"));
        }
    }
    let entries: Vec<(&str, DType, &[usize])> = tensors
        .iter()
        .map(|(name, dtype, shape, _)| (name.as_str(), *dtype, shape.as_slice()))
        .collect();
    let (head, _) = header::build(&entries, metadata);
    let mut staged = StagedFile::beside(path)?;
    staged.write(&head)?;
    for (.., bytes) in &tensors {
        staged.write(bytes)?;
    }
    staged.publish()
}
