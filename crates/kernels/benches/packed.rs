//! GB/s of weights read and Gop/s of the products for generated tokens, from memory and not from a cache.
//!
//!     cargo bench -p synapse-kernels --bench packed       (SYNAPSE_ISA=avx2 to force a path)
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::time::Instant;

use synapse_kernels::{
    Isa, Nf4Matrix,
    packed::{PackedFormat, PackedProduct, PackedWeight, QuantizedActivations, products},
    random::Stream,
};

/// More than caches hold.
const BYTES: usize = 256 << 20;

fn main() {
    println!("isa {}, {} threads", Isa::current().name(), synapse_kernels::threads());
    // a width that every format's blocks divide
    let (n, k) = (1536, 768);
    let stream = Stream::new(&[1]);
    let dense: Vec<f32> = (0..(n * k) as u64).map(|i| stream.uniform(i) - 0.5).collect();
    let nf4 = PackedWeight::from_nf4(&Nf4Matrix::quantize(&dense, n, k, true));
    // any codes take the same time
    let stored = [
        ("q4_0", PackedFormat::Q4_0),
        ("q8_0", PackedFormat::Q8_0),
        ("q4_k", PackedFormat::Q4K),
        ("q5_k", PackedFormat::Q5K),
        ("q6_k", PackedFormat::Q6K),
    ];
    let stored = stored.map(|(name, kind)| (name, PackedWeight::zeros(kind, n, k)));
    for (name, weight) in [("nf4", nf4)].into_iter().chain(stored) {
        let weights = vec![weight; BYTES / (n * k)];
        for m in [1, 2, 4, 8, 16, 32] {
            let x: Vec<f32> = (0..(m * k) as u64).map(|i| stream.uniform(i) - 0.5).collect();
            let mut out = vec![0.0; m * n];
            let mut activations = QuantizedActivations::default();
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                for weight in &weights {
                    activations.quantize(weight.kind(), &x, k);
                    products(&activations, &mut [PackedProduct { weight, out: &mut out }]);
                }
                best = best.min(start.elapsed().as_secs_f64());
            }
            let bytes: usize = weights.iter().map(PackedWeight::bytes).sum();
            let operations = 2.0 * (m * n * k * weights.len()) as f64;
            println!(
                "{name}, {m:>2} rows: {:>5.1} GB/s, {:>6.1} Gop/s, {:>6.2} µs a product",
                bytes as f64 / best / 1e9,
                operations / best / 1e9,
                best / weights.len() as f64 * 1e6
            );
        }
    }
}
