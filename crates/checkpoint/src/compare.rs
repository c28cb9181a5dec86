//! Whether two stored tensors hold the same values, read piece by piece.

use crate::dtype::DType;
use crate::error::Result;
use crate::tensors::TensorFiles;

/// Elements that are compared at a time.
const PIECE: usize = 1 << 18;

/// Whether two tensors hold the same values. Where one is stored narrower, the other counts as rounded to that type: it is
/// what a program that loads both in one type sees. `false` for tensors of other shapes, or not of weights.
pub(crate) fn same_values(left: (&TensorFiles, &str), right: (&TensorFiles, &str)) -> Result<bool> {
    let (Some(left_info), Some(right_info)) = (left.0.info(left.1), right.0.info(right.1)) else {
        return Ok(false);
    };
    let weights = left_info.dtype.is_weight() && right_info.dtype.is_weight();
    if left_info.shape != right_info.shape || !weights {
        return Ok(false);
    }
    let narrow = narrower(left_info.dtype, right_info.dtype);
    let rows = left_info.shape.first().copied().unwrap_or(1);
    let width: usize = left_info.shape.iter().skip(1).product();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for start in (0..rows).step_by((PIECE / width.max(1)).max(1)) {
        let piece = start..rows.min(start + (PIECE / width.max(1)).max(1));
        left.0.read_f32_rows(left.1, piece.clone(), &mut one)?;
        right.0.read_f32_rows(right.1, piece, &mut other)?;
        if !same_rounded(&mut one, &mut other, narrow) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether values are the same once both are rounded to a type.
pub(crate) fn same_rounded(one: &mut Vec<f32>, other: &mut Vec<f32>, narrow: Option<DType>) -> bool {
    if let Some(narrow) = narrow {
        let mut bytes = Vec::new();
        for values in [&mut *one, &mut *other] {
            bytes.clear();
            narrow.extend_bytes(values, &mut bytes);
            values.clear();
            narrow.extend_f32(&bytes, values);
        }
    }
    one == other
}

/// The type that both are rounded to; `None` where nothing needs rounding, and where neither holds the other's values.
pub(crate) fn narrower(left: DType, right: DType) -> Option<DType> {
    match (left, right) {
        (left, right) if left == right => None,
        (DType::F32, other) | (other, DType::F32) => Some(other),
        _ => None,
    }
}
