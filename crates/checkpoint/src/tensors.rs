//! One or more safetensors files as one set of named tensors. Opening reads and checks headers only; data is read
//! tensor by tensor with positioned reads into the caller's buffer, because mapped pages would count as resident
//! memory while training and merging. It knows nothing of models or adapters.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;

use crate::error::{CheckpointError, Result};
use crate::header::{self, TensorInfo};
use crate::positioned::{announce, read_exact_at};

/// Conversions go through a buffer of this size, so that reading a tensor as f32 takes its f32 size and little more.
const CHUNK_BYTES: usize = 1 << 20;
/// Pieces of a read into a caller's slice: small enough for the allocator to hand out the same memory every time.
const PIECE_BYTES: usize = 1 << 16;

/// Lazily opened safetensors files. Cheap to share between threads: reads do not move a cursor.
#[derive(Debug)]
pub struct TensorFiles {
    files: Vec<(PathBuf, File)>,
    /// In order of file, then of data.
    order: Vec<String>,
    tensors: HashMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl TensorFiles {
    /// Opens the files and checks every header against its file's length.
    ///
    /// # Errors
    /// A file is missing, truncated or malformed, or two files hold a tensor of the same name.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self> {
        let mut opened = Self {
            files: Vec::new(),
            order: Vec::new(),
            tensors: HashMap::new(),
            metadata: BTreeMap::new(),
        };
        for path in paths {
            let file = File::open(&path).map_err(CheckpointError::io("open", &path))?;
            let header = header::read(&file, &path, opened.files.len())?;
            for (name, info) in header.tensors {
                if let Some(first) = opened.tensors.get(&name) {
                    let first = opened.files[first.file].0.display();
                    return Err(CheckpointError::tensor(&path, &name, format!("is also in {first}")));
                }
                opened.order.push(name.clone());
                opened.tensors.insert(name, info);
            }
            opened.metadata.extend(header.metadata);
            opened.files.push((path, file));
        }
        Ok(opened)
    }

    /// The opened files, in the order given.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Names of all tensors, in order of file, then of data.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Type and shape of a tensor.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The headers' metadata; where files disagree, the last one's.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The file that holds a tensor.
    #[must_use]
    pub fn path_of(&self, name: &str) -> Option<&Path> {
        self.info(name).map(|info| self.files[info.file].0.as_path())
    }

    /// Tells the system that a tensor will be read soon; nothing is lost where it does not listen.
    pub fn announce(&self, name: &str) {
        if let Some(info) = self.info(name) {
            announce(&self.files[info.file].1, info.offset, info.bytes);
        }
    }

    /// Reads a tensor's bytes as stored (little-endian) into `out`, which is resized and reused.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_bytes(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        let info = self.expect(name)?;
        let (path, file) = &self.files[info.file];
        let length =
            usize::try_from(info.bytes).map_err(|_| CheckpointError::tensor(path, name, "does not fit into memory"))?;
        out.resize(length, 0);
        read_exact_at(file, out, info.offset).map_err(CheckpointError::io("read", path))
    }

    /// Reads a tensor of F32, F16 or BF16, widened to f32.
    ///
    /// # Errors
    /// There is no such tensor, it has another type, or the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.expect_weight(name)?;
        let mut out = Vec::with_capacity(info.elements());
        self.convert(info, 0..info.elements(), |bytes| {
            info.dtype.extend_f32(bytes, &mut out);
        })?;
        Ok(out)
    }

    /// Reads a tensor of F32, F16 or BF16, rounded to bf16.
    ///
    /// # Errors
    /// There is no such tensor, it has another type, or the file cannot be read.
    pub fn read_bf16(&self, name: &str) -> Result<Vec<bf16>> {
        let info = self.expect_weight(name)?;
        let mut out = Vec::with_capacity(info.elements());
        self.convert(info, 0..info.elements(), |bytes| {
            info.dtype.extend_bf16(bytes, &mut out);
        })?;
        Ok(out)
    }

    /// Reads rows (indices of the first dimension) of a tensor of F32, F16 or BF16, widened to f32, into `out`, which
    /// is cleared and reused.
    ///
    /// # Errors
    /// There is no such tensor, it has another type or fewer rows, or the file cannot be read.
    pub fn read_f32_rows(&self, name: &str, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let info = self.expect_weight(name)?;
        let (count, width) = match info.shape.split_first() {
            Some((&count, rest)) => (count, rest.iter().product::<usize>()),
            None => (1, 1),
        };
        if rows.start > rows.end || rows.end > count {
            let message = format!("has {count} rows, asked for {} to {}", rows.start, rows.end);
            return Err(CheckpointError::tensor(&self.files[info.file].0, name, message));
        }
        out.clear();
        out.reserve(rows.len() * width);
        self.convert(info, rows.start * width..rows.end * width, |bytes| {
            info.dtype.extend_f32(bytes, out);
        })
    }

    /// Reads rows (indices of the first dimension) of a tensor of F32, F16 or BF16, widened to f32, into a slice of just
    /// their length.
    ///
    /// # Errors
    /// There is no such tensor, it has another type or fewer rows, the slice has another length, or the file cannot be
    /// read.
    pub fn read_f32_into(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let info = self.expect_weight(name)?;
        let width: usize = info.shape.iter().skip(1).product();
        let (path, file) = &self.files[info.file];
        if rows.start > rows.end || rows.end * width > info.elements() || rows.len() * width != out.len() {
            let message = format!(
                "has shape {:?}, asked for {} elements of rows {rows:?}",
                info.shape,
                out.len()
            );
            return Err(CheckpointError::tensor(path, name, message));
        }
        let size = info.dtype.size();
        let mut at = info.offset + (rows.start * width * size) as u64;
        let mut buffer = vec![0; PIECE_BYTES.min(out.len() * size)];
        let mut values = Vec::with_capacity(PIECE_BYTES / size);
        for out in out.chunks_mut(PIECE_BYTES / size) {
            let bytes = &mut buffer[..out.len() * size];
            read_exact_at(file, bytes, at).map_err(CheckpointError::io("read", path))?;
            at += bytes.len() as u64;
            values.clear();
            info.dtype.extend_f32(bytes, &mut values);
            out.copy_from_slice(&values);
        }
        Ok(())
    }

    /// Feeds the bytes of some elements to `take`, a whole number of elements at a time.
    fn convert(&self, info: &TensorInfo, elements: Range<usize>, mut take: impl FnMut(&[u8])) -> Result<()> {
        let (path, file) = &self.files[info.file];
        let size = info.dtype.size();
        let mut at = info.offset + (elements.start * size) as u64;
        let mut left = elements.len() * size;
        let mut buffer = vec![0; left.min(CHUNK_BYTES)];
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK_BYTES)];
            read_exact_at(file, chunk, at).map_err(CheckpointError::io("read", path))?;
            take(chunk);
            at += chunk.len() as u64;
            left -= chunk.len();
        }
        Ok(())
    }

    fn expect(&self, name: &str) -> Result<&TensorInfo> {
        self.info(name).ok_or_else(|| {
            let path = self.files.first().map_or(Path::new(""), |(path, _)| path);
            CheckpointError::tensor(path, name, "does not exist")
        })
    }

    fn expect_weight(&self, name: &str) -> Result<&TensorInfo> {
        let info = self.expect(name)?;
        if info.dtype.is_weight() {
            Ok(info)
        } else {
            Err(CheckpointError::not_floating(
                &self.files[info.file].0,
                name,
                info.dtype,
            ))
        }
    }
}
