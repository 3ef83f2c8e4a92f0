//! Initialisers: how parameters begin.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::tensor::Shape;

/// How a parameter begins. Fans are those of a convolution's weight `[kh, kw, in, out]` and of a dense layer's
/// `[in, out]`: the product of all extents but the last one or the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// This number.
    Constant(f32),
    /// Uniform with deviation `sqrt(2 / fan)` (He et al. 2015).
    HeUniform(Fan),
    /// Normal with deviation `sqrt(2 / fan)` (He et al. 2015).
    HeNormal(Fan),
    /// Uniform in `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    GlorotUniform,
    /// Normal with deviation `sqrt(2 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    GlorotNormal,
    /// Normal of this deviation, redrawn beyond two deviations.
    TruncatedNormal(f32),
    /// Uniform within this distance of 0.
    Uniform(f32),
    /// Uniform within `1 / sqrt(fan_in)`, as PyTorch begins its convolutions and dense layers.
    FanInUniform,
    /// The first outputs are the inputs, by the tap in the middle; the others as [`Init::FanInUniform`].
    Dirac,
    /// For a convolution of the normalised images: filters that make its outputs uncorrelated and of variance 1, each with its
    /// negative, as the training images say once training begins; this number is added to the variances. Until then
    /// as [`Init::FanInUniform`].
    Whitening(f32),
}

/// Which side of a weight its deviation keeps the scale of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fan {
    /// Inputs of one output: keeps the scale of activations.
    In,
    /// Outputs of one input: keeps the scale of gradients.
    Out,
}

impl Init {
    /// Values for a parameter of `shape`, the `stream`-th of a model with this seed.
    pub fn sample(&self, shape: &Shape, seed: u64, stream: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let n = shape.elements();
        let (fan_in, fan_out) = fans(shape);
        let fan = |which: Fan| match which {
            Fan::In => fan_in,
            Fan::Out => fan_out,
        };
        let mut uniform = |limit: f64| (0..n).map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * limit) as f32).collect();
        match *self {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Constant(value) => vec![value; n],
            Init::HeUniform(which) => uniform((6.0 / fan(which)).sqrt()),
            Init::GlorotUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Init::Uniform(limit) => uniform(limit.into()),
            Init::FanInUniform | Init::Whitening(_) => uniform(fan_in.sqrt().recip()),
            Init::Dirac => {
                let mut values: Vec<f32> = uniform(fan_in.sqrt().recip());
                keep_inputs(&mut values, shape);
                values
            }
            Init::HeNormal(which) => normal(&mut rng, n, (2.0 / fan(which)).sqrt(), f64::INFINITY),
            Init::GlorotNormal => normal(&mut rng, n, (2.0 / (fan_in + fan_out)).sqrt(), f64::INFINITY),
            Init::TruncatedNormal(deviation) => normal(&mut rng, n, deviation.into(), 2.0),
        }
    }
}

/// Makes the first outputs of a convolution's weight its inputs.
fn keep_inputs(values: &mut [f32], shape: &Shape) {
    let [height, width, inputs, outputs] = shape[..] else { return };
    for (at, value) in values.iter_mut().enumerate() {
        let (tap, input, output) = (at / outputs / inputs, at / outputs % inputs, at % outputs);
        if output < inputs {
            let middle = tap == height / 2 * width + width / 2;
            *value = if middle && input == output { 1.0 } else { 0.0 };
        }
    }
}

/// `n` normal numbers, redrawn beyond `limit` deviations (Box and Muller's transform).
fn normal(rng: &mut ChaCha8Rng, n: usize, deviation: f64, limit: f64) -> Vec<f32> {
    (0..n)
        .map(|_| {
            loop {
                let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
                let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                if z.abs() <= limit {
                    break (z * deviation) as f32;
                }
            }
        })
        .collect()
}

/// Fan in and fan out of a weight; a vector's fans are its length.
fn fans(shape: &Shape) -> (f64, f64) {
    let rank = shape.rank();
    if rank < 2 {
        let n = shape.elements() as f64;
        return (n, n);
    }
    let receptive: usize = shape[..rank - 2].iter().product();
    ((receptive * shape[rank - 2]) as f64, (receptive * shape[rank - 1]) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn deviations_follow_the_fans() {
        let shape = Shape::from([3, 3, 64, 128]);
        for (init, expected) in [
            (Init::HeNormal(Fan::In), (2.0f64 / 576.0).sqrt()),
            (Init::HeUniform(Fan::Out), (2.0f64 / 1152.0).sqrt()),
            (Init::GlorotUniform, (2.0f64 / 1728.0).sqrt()),
            (Init::GlorotNormal, (2.0f64 / 1728.0).sqrt()),
            // A normal cut at two deviations keeps 0.8796 of its deviation.
            (Init::TruncatedNormal(0.02), 0.02 * 0.8796),
            (Init::FanInUniform, (1.0f64 / 3.0 / 576.0).sqrt()),
        ] {
            let (mean, deviation) = moments(&init.sample(&shape, 7, 0));
            assert!(mean.abs() < 0.01 * expected, "{init:?}: mean {mean}");
            assert!((deviation / expected - 1.0).abs() < 0.01, "{init:?}: deviation {deviation}, not {expected}");
        }
    }

    #[test]
    fn dirac_passes_the_inputs_on() {
        let values = Init::Dirac.sample(&Shape::from([3, 3, 2, 5]), 7, 0);
        let at = |tap: usize, input: usize, output: usize| values[(tap * 2 + input) * 5 + output];
        for (tap, input, output) in (0..9).flat_map(|t| (0..2).flat_map(move |i| (0..2).map(move |o| (t, i, o)))) {
            assert_eq!(at(tap, input, output), f32::from(u8::from(tap == 4 && input == output)));
        }
        let limit = 18f32.sqrt().recip();
        let others: Vec<f32> = (0..18).map(|row| values[row * 5 + 2]).collect();
        assert!(others.iter().all(|value| *value != 0.0 && value.abs() <= limit), "{others:?}");
    }

    #[test]
    fn seeds_and_streams_differ_and_repeat() {
        let shape = Shape::from([8, 8]);
        let sample = |seed, stream| Init::GlorotUniform.sample(&shape, seed, stream);
        assert_eq!(sample(1, 0), sample(1, 0));
        assert_ne!(sample(1, 0), sample(1, 1));
        assert_ne!(sample(1, 0), sample(2, 0));
    }
}
