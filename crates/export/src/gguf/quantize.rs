//! f32 into ggml's storage types, operation for operation as ggml's reference does it, so results are equal to the
//! byte. Source: `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` in ggml-quants.c.

use half::f16;
use synapse_checkpoint::DType;
use synapse_checkpoint::gguf::TensorType;

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
