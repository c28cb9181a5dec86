//! f32 into ggml's storage types, operation for operation as ggml's reference does it, so results are equal to the
//! byte. Source: `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` in ggml-quants.c.

use half::f16;

use super::TensorType;
use crate::config::ModelConfig;
use crate::dtype::DType;

/// The type that a tensor is stored as in a file whose matrices are to be `wanted`. Norms and biases stay F32. The output head
/// decides the next token, so Q4_0 keeps it (or the embedding it is tied to) in Q8_0; rows that are no whole number of
/// blocks stay F16.
#[must_use]
pub fn stored_type(config: &ModelConfig, wanted: TensorType, name: &str, shape: &[usize]) -> TensorType {
    let [_, width] = shape else {
        return TensorType::F32;
    };
    let head = name == "lm_head.weight" || (config.tie_word_embeddings && name == "model.embed_tokens.weight");
    let wanted = if head && wanted == TensorType::Q4_0 {
        TensorType::Q8_0
    } else {
        wanted
    };
    if width.is_multiple_of(wanted.block_elements()) {
        wanted
    } else {
        TensorType::F16
    }
}

/// Why these values cannot be stored so, if they cannot; `instead` is the way out where they are too large.
#[must_use]
pub fn unfit(tensor_type: TensorType, values: &[f32], instead: &str) -> Option<String> {
    let largest = values.iter().fold(0.0_f32, |largest, value| {
        if value.is_nan() {
            f32::INFINITY
        } else {
            largest.max(value.abs())
        }
    });
    if !largest.is_finite() {
        return Some("holds values that are not finite; the model is damaged".to_owned());
    }
    // Block scales are f16 as well, at most the largest weight itself.
    let wide = matches!(tensor_type, TensorType::F32 | TensorType::Bf16);
    (largest > f16::MAX.to_f32() && !wide).then(|| {
        let name = tensor_type.name();
        format!("holds the value {largest}, too large for {name}; {instead}")
    })
}

/// Appends whole blocks of values in their stored form. F32, F16, BF16, Q8_0 and Q4_0 are written; other types, and
/// values after the last whole block, add nothing.
pub fn quantize(tensor_type: TensorType, values: &[f32], out: &mut Vec<u8>) {
    match tensor_type {
        TensorType::F32 => DType::F32.extend_bytes(values, out),
        TensorType::F16 => DType::F16.extend_bytes(values, out),
        TensorType::Bf16 => DType::BF16.extend_bytes(values, out),
        TensorType::Q8_0 => values.as_chunks().0.iter().for_each(|block| q8_0(block, out)),
        TensorType::Q4_0 => values.as_chunks().0.iter().for_each(|block| q4_0(block, out)),
        _ => {}
    }
}

/// The largest magnitude becomes ±127.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
}

/// The value of the largest magnitude (the first of equals) becomes −8, whichever its sign.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let extreme = block.iter().fold(
        0.0_f32,
        |extreme, &value| {
            if value.abs() > extreme.abs() { value } else { extreme }
        },
    );
    let scale = extreme / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    out.extend(f16::from_f32(scale).to_le_bytes());
    let (low, high) = block.split_at(16);
    out.extend(low.iter().zip(high).map(|(&low, &high)| code(low) | code(high) << 4));
}
