//! Tensors of random numbers, for checks and benchmarks.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Shape, Tensor};

/// Normally distributed numbers of mean 0 and deviation 1 (Box and Muller's transform), the same for the same seed.
pub fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let normal = |_| {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    let data = (0..shape.elements()).map(normal).collect();
    Tensor::f32(shape, data)
}
