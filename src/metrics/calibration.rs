//! Probabilities: whether as many images are right as they say.

use serde::Serialize;

use super::ratio;

/// Confidences in bins of equal width, and how many of each were right (Guo et al. 2017, arXiv:1706.04599, section 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// The bins, from 0 to 1, empty ones included.
    pub bins: Vec<Bin>,
}

/// Images whose confidence is in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// How many.
    pub images: u64,
    /// Mean confidence; not a number where there are none.
    pub confidence: f64,
    /// Share that was right; likewise.
    pub accuracy: f64,
}

impl Reliability {
    /// Of confidences from 0 to 1, each with whether the decision was right, in so many bins. A bin takes what is above its lower
    /// edge and up to its upper one, and the first also 0 (`calibration_curve` with the strategy uniform).
    pub fn of(decisions: impl Iterator<Item = (f32, bool)>, bins: usize) -> Self {
        let mut sums = vec![(0u64, 0.0f64, 0u64); bins];
        for (confidence, right) in decisions {
            let confidence = f64::from(confidence);
            let at = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            let (images, sum, count) = &mut sums[at];
            *images += 1;
            *sum += confidence;
            *count += u64::from(right);
        }
        let bin = |(images, sum, right): (u64, f64, u64)| Bin {
            images,
            confidence: ratio(sum, images as f64),
            accuracy: ratio(right as f64, images as f64),
        };
        Self { bins: sums.into_iter().map(bin).collect() }
    }

    /// The expected calibration error: how far accuracy is off confidence, averaged over the images (equation 3).
    pub fn expected_error(&self) -> f64 {
        let images: u64 = self.bins.iter().map(|bin| bin.images).sum();
        let filled = self.bins.iter().filter(|bin| bin.images > 0);
        ratio(filled.map(|bin| bin.images as f64 * (bin.accuracy - bin.confidence).abs()).sum(), images as f64)
    }
}

/// The temperature by which logits must be divided for the softmax to give the classes of images the greatest likelihood (section
/// 4.2), given the probabilities of each image in a row and its class: their logarithms are logits. `None` without images, or
/// where every image is right, so that the less the better.
///
/// # Panics
/// If a class is none.
pub fn temperature(probabilities: &[f32], classes: usize, labels: &[u32]) -> Option<f64> {
    const LEAST: f64 = 1e-3;
    const MOST: f64 = 1e3;
    let logits: Vec<f64> = probabilities.iter().map(|p| f64::from(p.max(f32::MIN_POSITIVE)).ln()).collect();
    // The slope of the negative log-likelihood over the inverse of the temperature, which rises: the loss is convex in it.
    let slope = |inverse: f64| -> f64 {
        let of_image = |(row, label): (&[f64], &u32)| {
            let greatest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights = row.iter().map(|logit| (inverse * (logit - greatest)).exp());
            let (sum, mean) = weights.zip(row).fold((0.0, 0.0), |(sum, mean), (w, logit)| (sum + w, mean + w * logit));
            mean / sum - row[*label as usize]
        };
        logits.chunks_exact(classes).zip(labels).map(of_image).sum()
    };
    let (mut low, mut high) = (1.0 / MOST, 1.0 / LEAST);
    if labels.is_empty() || slope(low) >= 0.0 || slope(high) <= 0.0 {
        return None;
    }
    // Bisection of the logarithm: 60 halves are more than an f64 tells apart.
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    Some(1.0 / low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is what `scipy.optimize.minimize_scalar` finds for the same likelihood.
    #[test]
    fn the_likeliest_temperature() {
        let probabilities =
            [0.7, 0.2, 0.1, 0.5, 0.3, 0.2, 0.1, 0.8, 0.1, 0.25, 0.25, 0.5, 0.6, 0.3, 0.1, 0.2, 0.7, 0.1];
        let found = temperature(&probabilities, 3, &[0, 1, 1, 2, 0, 0]).unwrap();
        assert!((found - 0.761_571_87).abs() < 1e-6, "{found}");
        // All right, or none: the less, or the more, the better.
        assert_eq!(temperature(&[0.9, 0.1], 2, &[0]), None);
        assert_eq!(temperature(&[0.9, 0.1], 2, &[1]), None);
        assert_eq!(temperature(&[], 2, &[]), None);
        assert!(temperature(&[1.0, 0.0, 1.0, 0.0], 2, &[0, 1]).is_none_or(f64::is_finite));
    }

    #[test]
    fn edges_are_of_the_bin_below() {
        let decisions = [(0.0, false), (0.5, true), (0.500_1, false), (1.0, true)];
        let bins = Reliability::of(decisions.into_iter(), 2).bins;
        let shown: Vec<(u64, f64)> = bins.iter().map(|bin| (bin.images, bin.accuracy)).collect();
        assert_eq!(shown, [(2, 0.5), (2, 0.5)]);
        assert!(Reliability::of([].into_iter(), 3).expected_error().is_nan());
    }
}
