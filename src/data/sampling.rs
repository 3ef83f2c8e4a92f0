//! How often each image of an epoch is drawn.

use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::{DataError, Dataset};

/// How the images of an epoch are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Sampling {
    /// Each image once, in a new order each epoch
    #[default]
    Shuffled,
    /// As many images as there are, each class equally often on average, an image perhaps several times
    Balanced,
}

impl Sampling {
    /// How often each image of `set` is drawn by that of the others, for [`LoaderOptions`](super::LoaderOptions); `None` where each
    /// is drawn once.
    ///
    /// # Errors
    /// If classes are to be balanced, and images are of several each.
    pub fn weights(self, set: &Dataset) -> Result<Option<Vec<f64>>, DataError> {
        if self == Self::Shuffled {
            return Ok(None);
        }
        let Some(labels) = set.labels().classes() else {
            return Err(DataError::Option(format!(
                "`sample` balanced is for images of one class each, and those of {} have several: use `balance_classes`, which \
                 weighs the loss",
                set.name()
            )));
        };
        let counts = set.class_counts();
        Ok(Some(labels.iter().map(|&label| 1.0 / counts[label as usize] as f64).collect()))
    }
}

/// Draws images in proportion to their weights, with replacement (as PyTorch's `WeightedRandomSampler`).
pub(super) struct Weighted {
    /// For each image the weights up to its own, summed.
    sums: Vec<f64>,
}

impl Weighted {
    /// By one weight an image.
    ///
    /// # Errors
    /// If there is not one weight an image, one is negative or not finite, or all are 0.
    pub fn new(weights: &[f64], images: usize) -> Result<Self, String> {
        if weights.len() != images {
            return Err(format!(
                "{} weights do not say how often {images} images are drawn: give one an image",
                weights.len()
            ));
        }
        if let Some(at) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            return Err(format!("the weight of image {at} is {}: give a finite number of 0 or more", weights[at]));
        }
        let sum = |sum: &mut f64, weight: &f64| {
            *sum += weight;
            Some(*sum)
        };
        let sums: Vec<f64> = weights.iter().scan(0.0, sum).collect();
        match sums.last() {
            Some(all) if *all > 0.0 && all.is_finite() => Ok(Self { sums }),
            _ => Err("the weights of the images must have a sum above 0".into()),
        }
    }

    /// The numbers of as many images as there are.
    pub fn draw(&self, rng: &mut impl RngCore) -> Vec<u32> {
        let all = self.sums.last().copied().unwrap_or_default();
        let one = |_| {
            // 53 bits: a number from 0 to below 1.
            let place = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * all;
            let at = self.sums.partition_point(|sum| *sum <= place);
            at.min(self.sums.len() - 1) as u32
        };
        (0..self.sums.len()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::stream;

    #[test]
    fn images_are_drawn_in_proportion_to_their_weights() {
        let weighted = Weighted::new(&[1.0, 0.0, 3.0, 0.0], 4).unwrap();
        let mut counts = [0; 4];
        let mut rng = stream(3, 0);
        for _ in 0..1000 {
            weighted.draw(&mut rng).into_iter().for_each(|image| counts[image as usize] += 1);
        }
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!((2850..3150).contains(&counts[2]), "{counts:?}");
        assert_eq!(weighted.draw(&mut stream(3, 7)), weighted.draw(&mut stream(3, 7)));
    }

    #[test]
    fn weights_that_say_nothing_are_refused() {
        for (weights, word) in [
            (&[1.0][..], "one an image"),
            (&[1.0, -1.0], "image 1 is -1"),
            (&[f64::NAN, 1.0], "image 0"),
            (&[0.0; 2], "above 0"),
        ] {
            let error = Weighted::new(weights, 2).err().unwrap();
            assert!(error.contains(word), "{error}");
        }
    }
}
