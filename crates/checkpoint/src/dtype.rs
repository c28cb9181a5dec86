//! Element types of stored tensors, and the conversions between the floating ones. Rounding to bf16 and f16 is to
//! nearest, ties to even, as torch does it.

use std::fmt;

use half::{bf16, f16};

/// Element type of a stored tensor; the names are safetensors' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    const ALL: [(Self, &'static str, usize); 13] = [
        (Self::F64, "F64", 8),
        (Self::F32, "F32", 4),
        (Self::F16, "F16", 2),
        (Self::BF16, "BF16", 2),
        (Self::I64, "I64", 8),
        (Self::I32, "I32", 4),
        (Self::I16, "I16", 2),
        (Self::I8, "I8", 1),
        (Self::U64, "U64", 8),
        (Self::U32, "U32", 4),
        (Self::U16, "U16", 2),
        (Self::U8, "U8", 1),
        (Self::Bool, "BOOL", 1),
    ];

    /// Bytes an element takes.
    #[must_use]
    pub fn size(self) -> usize {
        Self::ALL
            .iter()
            .find(|(dtype, ..)| *dtype == self)
            .map_or(1, |(.., size)| *size)
    }

    /// The name in a safetensors header.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(dtype, ..)| *dtype == self)
            .map_or("", |(_, name, _)| name)
    }

    /// The type with this safetensors name, if it is known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(dtype, ..)| *dtype)
    }

    /// F32, F16 or BF16: what model and adapter weights may be stored as.
    #[must_use]
    pub fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Appends little-endian elements, widened to f32. Bytes of a type other than F32, F16, BF16 add nothing.
    pub fn extend_f32(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk))),
            Self::F16 => out.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&chunk| f16::from_le_bytes(chunk).to_f32()),
            ),
            Self::BF16 => out.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&chunk| bf16::from_le_bytes(chunk).to_f32()),
            ),
            _ => {}
        }
    }

    /// Appends little-endian elements, rounded to bf16. Bytes of a type other than F32, F16, BF16 add nothing.
    pub fn extend_bf16(self, bytes: &[u8], out: &mut Vec<bf16>) {
        match self {
            Self::F32 => out.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&chunk| bf16::from_f32(f32::from_le_bytes(chunk))),
            ),
            Self::F16 => out.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&chunk| bf16::from_f32(f16::from_le_bytes(chunk).to_f32())),
            ),
            Self::BF16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|&chunk| bf16::from_le_bytes(chunk))),
            _ => {}
        }
    }

    /// Appends f32 values as little-endian elements of this type, rounded where it is narrower. Adds nothing for a
    /// type other than F32, F16, BF16.
    pub fn extend_bytes(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Self::BF16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
            _ => {}
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
