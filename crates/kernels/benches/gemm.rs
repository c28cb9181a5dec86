//! GFLOP/s of the products that a training step is made of, per storage format.
//!
//!     cargo bench -p synapse-kernels --bench gemm        (SYNAPSE_ISA=avx512 to force a path)
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::time::Instant;

use half::bf16;
use synapse_kernels::{
    Accumulate, Isa, Matrix, Nf4Matrix, Precision, Shape,
    gemm::{Left, Product, Right},
    random::Stream,
};

fn main() {
    println!("isa {}, {} threads", Isa::current().name(), synapse_kernels::threads());
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
