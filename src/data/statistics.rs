//! Mean and standard deviation of the channels, by which images are normalised.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, Dataset};

/// Per-channel mean and standard deviation of pixels scaled to 0..=1. The network sees `(pixel / 255 - mean) / std`;
/// images stay u8 until the first kernel of a step does this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, never 0.
    pub std: Vec<f32>,
}

/// How much of a large data set the statistics are computed over.
const SAMPLE_BYTES: usize = 256 << 20;

impl Normalisation {
    /// The statistics of `set`: of all its images if they have up to 256 MiB of pixels together (whole MNIST and
    /// CIFAR-10 do), else of as many as that holds, but at least 1,000, taken at even distances. The sums are integers,
    /// so the result does not depend on the number of threads.
    ///
    /// # Errors
    /// If the set is empty or an image cannot be read.
    pub fn of(set: &Dataset) -> Result<Self, DataError> {
        if set.is_empty() {
            return Err(DataError::Option(format!("{} has no images to compute statistics of", set.name())));
        }
        let size = set.image_size();
        let sample = set.len().min((SAMPLE_BYTES / size.bytes()).max(1000));
        let zero = || vec![(0u64, 0u64); size.channels];
        let sums = (0..sample)
            .into_par_iter()
            .try_fold(
                || (zero(), vec![0; size.bytes()]),
                |(mut sums, mut pixels), number| {
                    set.read(number * set.len() / sample, &mut pixels)?;
                    for pixel in pixels.chunks_exact(size.channels) {
                        for (sum, &value) in sums.iter_mut().zip(pixel) {
                            sum.0 += u64::from(value);
                            sum.1 += u64::from(value) * u64::from(value);
                        }
                    }
                    Ok((sums, pixels))
                },
            )
            .map(|folded| folded.map(|(sums, _)| sums))
            .try_reduce(zero, |a, b| Ok(a.iter().zip(&b).map(|(a, b)| (a.0 + b.0, a.1 + b.1)).collect()))?;
        let count = (sample * size.height * size.width) as f64;
        let (mean, std) = sums
            .into_iter()
            .map(|(sum, sum_of_squares)| {
                let mean = sum as f64 / count;
                let variance = (sum_of_squares as f64 / count - mean * mean).max(0.0);
                // A channel without contrast would be divided by 0: one grey level is the least that counts.
                ((mean / 255.0) as f32, (variance.sqrt().max(1.0) / 255.0) as f32)
            })
            .unzip();
        Ok(Self { mean, std })
    }

    /// ImageNet's statistics, which most published weights expect.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Checks given statistics for images of `channels` channels.
    ///
    /// # Errors
    /// If there is not one mean and one standard deviation a channel, or one of them is no usable number.
    pub fn check(&self, channels: usize) -> Result<(), DataError> {
        if self.mean.len() != channels || self.std.len() != channels {
            return Err(DataError::Option(format!(
                "the normalisation has {} means and {} standard deviations, but the images have {channels} channels: \
                 give one of each a channel",
                self.mean.len(),
                self.std.len()
            )));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) || !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(DataError::Option(format!(
                "the normalisation {:?} / {:?} does not work: means are finite and standard deviations above 0, of \
                 pixels scaled to 0..1",
                self.mean, self.std
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    fn set(pixels: Vec<u8>, size: ImageSize) -> Dataset {
        let labels = vec![0; pixels.len() / size.bytes()];
        Dataset::from_pixels("set", pixels, size, labels, vec!["a".into()]).unwrap()
    }

    #[test]
    fn channels_are_kept_apart() {
        let pixels = [0, 10, 255].into_iter().chain([255, 10, 255]).collect();
        let statistics = Normalisation::of(&set(pixels, ImageSize::new(1, 1, 3))).unwrap();
        assert_eq!(statistics.mean, [0.5, 10.0 / 255.0, 1.0]);
        assert_eq!(statistics.std, [0.5, 1.0 / 255.0, 1.0 / 255.0]);
        assert!(statistics.check(3).is_ok());
    }

    #[test]
    fn unusable_statistics_are_refused() {
        assert!(Normalisation::imagenet().check(3).is_ok());
        assert!(Normalisation::imagenet().check(1).unwrap_err().to_string().contains("1 channels"));
        for std in [0.0, -1.0, f32::NAN] {
            assert!(Normalisation { mean: vec![0.5], std: vec![std] }.check(1).is_err());
        }
        assert!(Normalisation::of(&set(Vec::new(), ImageSize::new(1, 1, 1))).is_err());
    }
}
