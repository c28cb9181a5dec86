//! GGUF files (versions 2 and 3, little-endian): metadata, tensor directory and dequantized tensors, read lazily. A model
//! split over several files is one [`GgufFile`]. Source: ggml's docs/gguf.md. Turning one into a model folder is `import`'s
//! subject, writing one the export crate's.

mod config;
mod cursor;
mod dequantize;
mod import;
mod metadata;
mod model;
mod names;
mod pre_tokenizer;
mod quantize;
mod split;
mod tensor_type;
mod tokenizer;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use dequantize::dequantize;
pub use import::{import_gguf, import_gguf_as};
pub use metadata::{Metadata, MetadataType, MetadataValue};
pub use model::GgufModel;
pub use names::{gguf_tensor_name, interleave_rotary_rows, rotated_heads, separate_rotary_rows};
pub use pre_tokenizer::PreTokenizer;
pub use quantize::{quantize, stored_type, unfit};
pub use split::gguf_at;
pub use tensor_type::TensorType;

use crate::error::{CheckpointError, Result};
use crate::positioned::read_exact_at;
use cursor::Cursor;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Tensor data begins on multiples of this where `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Dimensions a GGUF tensor may have.
const MOST_DIMENSIONS: u32 = 4;
/// Tensors are read and dequantized in pieces of about this many elements.
const CHUNK_ELEMENTS: usize = 1 << 18;

/// One tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// ggml's name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its elements are stored.
    pub tensor_type: TensorType,
    /// Sizes, outermost first (GGUF itself stores them innermost first).
    pub shape: Vec<usize>,
    /// Which of the model's files holds it.
    part: usize,
    /// First byte within that file.
    offset: u64,
    /// Length in bytes.
    bytes: u64,
}

impl GgufTensor {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An opened GGUF file, or the parts of a split one: metadata and directory in memory, tensors on disk.
#[derive(Debug)]
pub struct GgufFile {
    /// At least one.
    parts: Vec<Part>,
    /// The first part's.
    metadata: Metadata,
    tensors: Vec<GgufTensor>,
}

/// One file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    version: u32,
}

impl GgufFile {
    /// Opens a file and checks its directory against its length. Of a split model, any part stands for all of them.
    ///
    /// # Errors
    /// The file or another part is missing, truncated or no GGUF file of a supported version, or a tensor has a type that
    /// is not supported; the message names the key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let (first, metadata, tensors) = open_part(path, 0)?;
        let Some(split) = split::Split::read(&metadata)? else {
            return Ok(Self {
                parts: vec![first],
                metadata,
                tensors,
            });
        };
        let paths = split.paths(path)?;
        let mut opened = Self {
            parts: Vec::new(),
            metadata,
            tensors: Vec::new(),
        };
        for (index, path) in paths.iter().enumerate() {
            let (part, metadata, tensors) = open_part(path, index)?;
            split.check_part(index, &metadata)?;
            opened.parts.push(part);
            opened.tensors.extend(tensors);
            if index == 0 {
                opened.metadata = metadata;
            }
        }
        split.check_tensors(opened.tensors.len(), opened.path())?;
        check_names(opened.path(), &opened.tensors)?;
        Ok(opened)
    }

    /// The file; of a split model, the first part.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), |part| part.path.as_path())
    }

    /// Every file of the model, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The format's version, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.parts.first().map_or(0, |part| part.version)
    }

    /// The key-value section.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the directory's order.
    #[must_use]
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// A tensor by ggml's name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Reads a tensor, dequantized to f32.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self
            .tensor(name)
            .ok_or_else(|| CheckpointError::tensor(self.path(), name, "does not exist"))?;
        let mut out = Vec::with_capacity(tensor.elements());
        self.read_chunks(tensor, |values| out.extend_from_slice(values))?;
        Ok(out)
    }

    /// A tensor's bytes, as they are stored.
    pub(crate) fn read_bytes(&self, tensor: &GgufTensor) -> Result<Vec<u8>> {
        let Part { path, file, .. } = &self.parts[tensor.part];
        let length = usize::try_from(tensor.bytes)
            .map_err(|_| CheckpointError::tensor(path, &tensor.name, "does not fit into memory"))?;
        let mut bytes = vec![0; length];
        read_exact_at(file, &mut bytes, tensor.offset).map_err(CheckpointError::io("read", path))?;
        Ok(bytes)
    }

    /// Feeds a tensor's dequantized elements to `take`, piece by piece in order.
    pub(crate) fn read_chunks(&self, tensor: &GgufTensor, mut take: impl FnMut(&[f32])) -> Result<()> {
        let Part { path, file, .. } = &self.parts[tensor.part];
        let chunk = CHUNK_ELEMENTS / tensor.tensor_type.block_elements() * tensor.tensor_type.block_bytes();
        let (mut at, mut left) = (tensor.offset, tensor.bytes);
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while left > 0 {
            bytes.resize(left.min(chunk as u64) as usize, 0);
            read_exact_at(file, &mut bytes, at).map_err(CheckpointError::io("read", path))?;
            values.clear();
            dequantize(tensor.tensor_type, &bytes, &mut values);
            take(&values);
            at += bytes.len() as u64;
            left -= bytes.len() as u64;
        }
        Ok(())
    }
}

/// Reads one file's metadata and directory.
fn open_part(path: &Path, index: usize) -> Result<(Part, Metadata, Vec<GgufTensor>)> {
    let file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let length = file.metadata().map_err(CheckpointError::io("read", path))?.len();
    let reader = file.try_clone().map_err(CheckpointError::io("open", path))?;
    let mut cursor = Cursor::new(reader, path, length);
    if cursor.array::<4>()? != MAGIC {
        return Err(CheckpointError::format(
            path,
            "is not a GGUF file: it does not begin with `GGUF`",
        ));
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        let why = if version.swap_bytes() <= 3 {
            "big-endian files are not read"
        } else {
            "versions 2 and 3 are read"
        };
        return Err(CheckpointError::format(
            path,
            format!("has GGUF version {version}: {why}"),
        ));
    }
    let tensor_count = cursor.u64()?;
    let entry_count = cursor.u64()?;
    let metadata = Metadata::read(&mut cursor, path, entry_count)?;
    let directory = read_directory(&mut cursor, path, tensor_count)?;
    let places = Places {
        path,
        part: index,
        alignment: alignment(&metadata)?,
        directory_end: cursor.position(),
        length,
    };
    let tensors = places.of(directory)?;
    let part = Part {
        path: path.to_owned(),
        file,
        version,
    };
    Ok((part, metadata, tensors))
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    match metadata.optional_u64("general.alignment")? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => Ok(alignment),
        Some(other) => Err(metadata.error(
            "general.alignment",
            format!("is {other}, no power of two up to 1048576"),
        )),
    }
}

/// A directory entry before its place in the file is known to exist.
struct Entry {
    name: String,
    tensor_type: TensorType,
    shape: Vec<usize>,
    relative: u64,
    bytes: u64,
}

fn read_directory(cursor: &mut Cursor<'_>, path: &Path, count: u64) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let name = cursor.string("a tensor's name")?;
        let dimensions = cursor.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(CheckpointError::tensor(
                path,
                &name,
                format!("has {dimensions} dimensions; a GGUF tensor has at most {MOST_DIMENSIONS}"),
            ));
        }
        let absurd = || CheckpointError::tensor(path, &name, "has an impossible shape");
        let mut shape = Vec::new();
        let mut elements = 1_u64;
        for _ in 0..dimensions {
            let size = cursor.u64()?;
            elements = elements
                .checked_mul(size)
                .filter(|&elements| elements > 0 && elements < 1 << 60)
                .ok_or_else(absurd)?;
            shape.insert(0, usize::try_from(size).map_err(|_| absurd())?);
        }
        let number = cursor.u32()?;
        let relative = cursor.u64()?;
        let tensor_type = TensorType::from_number(number).ok_or_else(|| {
            let known = TensorType::ALL.map(TensorType::name).join(", ");
            CheckpointError::tensor(
                path,
                &name,
                format!(
                    "has type {}, which is not supported; supported: {known}",
                    tensor_type::describe(number)
                ),
            )
        })?;
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(tensor_type.block_elements()) {
            let message = format!(
                "has rows of {row} elements, which is not a multiple of {}'s {}",
                tensor_type.name(),
                tensor_type.block_elements()
            );
            return Err(CheckpointError::tensor(path, &name, message));
        }
        let bytes = elements / tensor_type.block_elements() as u64 * tensor_type.block_bytes() as u64;
        entries.push(Entry {
            name,
            tensor_type,
            shape,
            relative,
            bytes,
        });
    }
    Ok(entries)
}

/// Where the tensors of one file may lie.
struct Places<'a> {
    path: &'a Path,
    part: usize,
    alignment: u64,
    directory_end: u64,
    length: u64,
}

impl Places<'_> {
    /// Checks that every tensor lies within the file, aligned, and overlaps no other.
    fn of(&self, entries: Vec<Entry>) -> Result<Vec<GgufTensor>> {
        let Self {
            path,
            part,
            alignment,
            directory_end,
            length,
        } = *self;
        let start = directory_end.next_multiple_of(alignment);
        let mut tensors = Vec::with_capacity(entries.len());
        for entry in entries {
            if !entry.relative.is_multiple_of(alignment) {
                return Err(CheckpointError::tensor(
                    path,
                    &entry.name,
                    format!(
                        "begins at {}, which is not a multiple of the alignment {alignment}",
                        entry.relative
                    ),
                ));
            }
            let offset = start.saturating_add(entry.relative);
            let end = offset.saturating_add(entry.bytes);
            if end > length {
                return Err(CheckpointError::Length {
                    path: path.to_owned(),
                    expected: end,
                    actual: length,
                });
            }
            tensors.push(GgufTensor {
                name: entry.name,
                tensor_type: entry.tensor_type,
                shape: entry.shape,
                part,
                offset,
                bytes: entry.bytes,
            });
        }
        let mut by_place: Vec<&GgufTensor> = tensors.iter().collect();
        by_place.sort_by_key(|tensor| tensor.offset);
        if let Some([first, second]) = by_place
            .array_windows()
            .find(|[first, second]| first.offset + first.bytes > second.offset)
        {
            return Err(CheckpointError::tensor(
                path,
                &second.name,
                format!("overlaps `{}`", first.name),
            ));
        }
        check_names(path, &tensors)?;
        Ok(tensors)
    }
}

/// Refuses two tensors of one name.
fn check_names(path: &Path, tensors: &[GgufTensor]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.array_windows().find(|[first, second]| first == second) {
        Some([name, _]) => Err(CheckpointError::tensor(path, name, "appears twice")),
        None => Ok(()),
    }
}
