//! CPU kernels on plain slices: the arithmetic of training and serving transformers and recurrent models.
//!
//! Inputs and outputs are slices with shapes in the documentation (`[rows, columns]`, row-major). The instruction set is
//! chosen at run time ([`Isa`]; the environment variable `SYNAPSE_ISA` forces one), and each fast path has a portable
//! version that tests compare it with. Every output element is summed in one fixed order by one thread, so results do
//! not depend on the number of threads.
//!
//! What this crate is not: it knows no models, no files and no tensors beyond slices and shapes.
//!
//! | modules | subject |
//! |---|---|
//! | [`gemm`] | matrix products of f32 or bf16 activations with f32, bf16, NF4 or packed weights |
//! | [`packed`] | matrix-vector products for decoding: 4- and 8-bit weights, 8-bit activations |
//! | [`nf4`] | 4-bit NormalFloat quantization (QLoRA) |
//! | [`attention`], [`rope`] | causal attention for training and over a key/value cache, rotary embedding |
//! | [`recurrent`] | mLSTM, sLSTM, gated delta rule, selective scan, causal convolution |
//! | [`norm`], [`head_norm`], [`elementwise`] | normalization, activations, dropout |
//! | [`cross_entropy`], [`adamw`] | loss and optimizer update |
//! | [`selection`] | statistics for top-k selection by magnitude |
//! | [`random`] | counter-based random numbers and torch's generator |
//!
//! # Example
//! A linear layer with an NF4 weight, checked against the definition:
//! ```
//! use synapse_kernels::{Matrix, Nf4Matrix, Precision, Shape, gemm};
//!
//! let (rows, inputs, outputs) = (3, 64, 2);
//! let x: Vec<f32> = (0..rows * inputs).map(|i| (i % 7) as f32 - 3.0).collect();
//! let dense: Vec<f32> = (0..outputs * inputs).map(|i| (i % 5) as f32 * 0.25 - 0.5).collect();
//! let double_quant = false;
//! let weight = Nf4Matrix::quantize(&dense, outputs, inputs, double_quant);
//!
//! let mut y = vec![0.0; rows * outputs];
//! let shape = Shape { m: rows, n: outputs, k: inputs };
//! gemm::linear(x.as_slice(), Matrix::Nf4(&weight), &mut y, shape, Precision::F32);
//!
//! let weight = weight.dequantize();
//! for row in 0..rows {
//!     for output in 0..outputs {
//!         let expected: f32 = (0..inputs).map(|k| x[row * inputs + k] * weight[output * inputs + k]).sum();
//!         assert!((y[row * outputs + output] - expected).abs() < 1e-3);
//!     }
//! }
//! ```
#![expect(unsafe_code, reason = "SIMD intrinsics and disjoint writes from several threads")]

pub mod adamw;
#[cfg(simd_x86)]
mod amx;
pub mod attention;
pub mod cross_entropy;
pub mod elementwise;
pub mod gemm;
pub mod head_norm;
mod isa;
mod math;
mod matrix;
mod micro_tile;
pub mod nf4;
pub mod norm;
pub mod packed;
mod parallel;
mod pool;
pub mod random;
pub mod recurrent;
pub mod rope;
pub mod selection;

pub use gemm::{Accumulate, Precision, Shape};
pub use isa::Isa;
pub use matrix::{Matrix, MatrixMut};
pub use nf4::Nf4Matrix;
pub use parallel::{for_each_chunk, for_each_row_block, parallel_for, threads, with_threads};
pub use pool::threads_from_environment;
