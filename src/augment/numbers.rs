//! Random numbers of one image of one step.

use rand::RngCore;
use rand_distr::{Beta, Distribution};

use crate::kernel::random::pcg4d;

/// Numbers of a counter: those of one image do not depend on what is drawn for others.
pub(super) struct Numbers {
    clock: [u32; 2],
    image: u32,
    next: u32,
}

impl Numbers {
    /// Those of the image at `image` of the batch of this clock, or of the batch as a whole.
    pub fn new(clock: [u32; 2], image: Option<u32>) -> Self {
        // 0 is left to dropout, which counts its layers there.
        Self { clock, image: image.map_or(u32::MAX, |image| image), next: 0x8000_0000 }
    }

    fn words(&mut self) -> [u32; 4] {
        self.next += 1;
        pcg4d([self.clock[0], self.clock[1], self.next, self.image])
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A whole number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.uniform() * end as f64) as usize).min(end - 1)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Of the beta distribution of this shape, which is above 0, on both sides.
    pub fn beta(&mut self, shape: f64) -> f64 {
        // Shapes so small that they underflow are of 0 or 1 alone.
        Beta::new(shape, shape).map_or(0.0, |beta| beta.sample(self))
    }
}

impl RngCore for Numbers {
    fn next_u32(&mut self) -> u32 {
        self.words()[0]
    }

    fn next_u64(&mut self) -> u64 {
        let [high, low, ..] = self.words();
        u64::from(high) << 32 | u64::from(low)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of so many numbers.
    fn moments(mut draw: impl FnMut(&mut Numbers) -> f64) -> (f64, f64) {
        let n = 20_000;
        let mut numbers = Numbers::new([3, 9], Some(5));
        let values: Vec<f64> = (0..n).map(|_| draw(&mut numbers)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n))
    }

    #[test]
    fn numbers_have_the_moments_of_their_distributions() {
        let near = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 0.02, "mean {mean}, expected {}", expected.0);
            assert!((variance / expected.1 - 1.0).abs() < 0.05, "variance {variance}, expected {}", expected.1);
        };
        near(moments(Numbers::uniform), (0.5, 1.0 / 12.0));
        near(moments(|numbers| numbers.below(5) as f64), (2.0, 2.0));
        for shape in [0.2, 1.0, 4.0] {
            // The variance of the beta distribution of twice the same shape.
            near(moments(|numbers| numbers.beta(shape)), (0.5, 0.25 / (2.0 * shape + 1.0)));
        }
    }

    #[test]
    fn images_and_steps_draw_different_numbers() {
        let first = |clock, image| Numbers::new(clock, image).next_u32();
        let words = [first([1, 2], Some(0)), first([1, 2], Some(1)), first([1, 3], Some(0)), first([1, 2], None)];
        let distinct: std::collections::BTreeSet<u32> = words.into_iter().collect();
        assert_eq!(distinct.len(), words.len());
        assert_eq!(first([1, 2], Some(0)), words[0]);
    }
}
