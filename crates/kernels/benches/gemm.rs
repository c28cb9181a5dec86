//! GFLOP/s of the products that a training step is made of, per storage format, and the most that f32 could reach: a loop
//! of fused multiply-adds that touches no memory, on all threads.
//!
//!     cargo bench -p synapse-kernels --bench gemm        (SYNAPSE_ISA=avx512 to force a path)
#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(unsafe_code, reason = "the instruction set of the peak loop is chosen at run time")]

use std::time::Instant;

use half::bf16;
use synapse_kernels::{
    Accumulate, Isa, Matrix, Nf4Matrix, Precision, Shape,
    gemm::{Left, Product, Right},
    random::Stream,
};

fn main() {
    println!(
        "isa {}, {} threads, at most {:.1} GFLOP/s in f32 from registers alone",
        Isa::current().name(),
        synapse_kernels::threads(),
        peak()
    );
    let stream = Stream::new(&[1]);
    for (m, n, k) in [
        (1024, 576, 576),
        (1024, 1536, 576),
        (1024, 576, 1536),
        (1024, 64, 576),
        (1024, 576, 64),
        (2048, 2048, 2048),
        (1, 1536, 576),
        (128, 49152, 576),
    ] {
        let shape = Shape { m, n, k };
        let left: Vec<f32> = (0..(m * k) as u64).map(|i| stream.uniform(i) - 0.5).collect();
        let dense: Vec<f32> = (0..(n * k) as u64).map(|i| stream.uniform(i) - 0.5).collect();
        let halves: Vec<bf16> = dense.iter().map(|&v| bf16::from_f32(v)).collect();
        let quantized = Nf4Matrix::quantize(&dense, n, k, true);
        let mut out = vec![0.0; m * n];
        print!("{m:>5} x {n:>5} x {k:>5}");
        for (name, matrix) in [
            ("f32", Matrix::F32(&dense)),
            ("bf16", Matrix::Bf16(&halves)),
            ("nf4", Matrix::Nf4(&quantized)),
        ] {
            for precision in [Precision::F32, Precision::Bf16] {
                let product = Product {
                    shape,
                    left: Left::rows(&left, k),
                    right: Right::transposed(matrix, k),
                    scale: 1.0,
                    accumulate: Accumulate::Overwrite,
                    precision,
                };
                product.compute(&mut out, n);
                let flops = 2.0 * (m * n * k) as f64;
                let runs = (4e9 / flops).clamp(3.0, 2000.0) as usize;
                let start = Instant::now();
                for _ in 0..runs {
                    product.compute(&mut out, n);
                }
                let rate = flops * runs as f64 / start.elapsed().as_secs_f64() / 1e9;
                print!(
                    "  {name}/{} {rate:>6.1}",
                    if precision == Precision::F32 { "f32" } else { "bf16" }
                );
            }
        }
        println!();
    }
}

/// The rate of fused multiply-adds on registers, on all threads.
fn peak() -> f64 {
    const STEPS: usize = 20_000_000;
    let threads = synapse_kernels::threads();
    let start = Instant::now();
    synapse_kernels::parallel_for(threads, |_| {
        std::hint::black_box(multiply_add(STEPS));
    });
    let flops = 2.0 * (LANES * INDEPENDENT * STEPS * threads) as f64;
    flops / start.elapsed().as_secs_f64() / 1e9
}

/// Lanes of a sum, and sums without a dependence on each other: enough to fill two units whose results take five cycles.
const LANES: usize = 8;
const INDEPENDENT: usize = 12;

#[cfg(target_arch = "x86_64")]
fn multiply_add(steps: usize) -> f32 {
    #[target_feature(enable = "avx2,fma")]
    fn fused(steps: usize) -> f32 {
        use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
        let factor = _mm256_set1_ps(std::hint::black_box(0.5));
        let mut sums = [_mm256_set1_ps(std::hint::black_box(1.5)); INDEPENDENT];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
    }
    assert!(Isa::Avx2.is_available(), "the peak is measured with AVX2");
    // SAFETY: the machine has AVX2 and FMA.
    unsafe { fused(steps) }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(steps: usize) -> f32 {
    let mut sums = [[std::hint::black_box(1.5f32); LANES]; INDEPENDENT];
    for _ in 0..steps {
        for value in sums.as_flattened_mut() {
            *value = value.mul_add(0.5, 0.5);
        }
    }
    sums.as_flattened().iter().sum()
}
