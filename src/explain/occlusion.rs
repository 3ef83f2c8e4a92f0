//! Occlusion: how much less probable a class is with a part of the image hidden (Zeiler and Fergus 2014, section 4.2).

use super::{ExplainError, Map};
use crate::train::Classifier;

/// A square that slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occlusion {
    /// Pixels of a side, of what the network sees.
    pub patch: usize,
    /// Pixels from one place to the next.
    pub stride: usize,
}

impl Occlusion {
    /// A patch of a fifth of the shorter side, which moves by half of itself.
    pub fn suiting([height, width, _]: [usize; 3]) -> Self {
        let patch = (height.min(width) / 5).max(1);
        Self { patch, stride: (patch / 2).max(1) }
    }

    /// Refuses what leaves no pixel visible, or some that are never hidden.
    ///
    /// # Errors
    /// With the setting and its range.
    pub fn check(&self, [height, width, _]: [usize; 3]) -> Result<(), ExplainError> {
        let Self { patch, stride } = *self;
        if patch == 0 || patch > height.min(width) || patch == height.max(width) {
            return Err(ExplainError::Patch(format!(
                "a `patch` of {patch} pixels does not slide over images of {height}x{width}: give less than the longer side, and \
                 at most the shorter one"
            )));
        }
        if stride == 0 || stride > patch {
            let message =
                format!("a `stride` of {stride} does not hide every pixel: give 1 to the {patch} pixels of a patch");
            return Err(ExplainError::Patch(message));
        }
        Ok(())
    }

    /// How many places a patch has.
    pub fn places(&self, [height, width, _]: [usize; 3]) -> usize {
        self.starts(height).len() * self.starts(width).len()
    }

    /// Where a patch begins along a side. The last one ends at the edge.
    fn starts(&self, side: usize) -> Vec<usize> {
        let last = side.saturating_sub(self.patch);
        let mut starts: Vec<usize> = (0..last).step_by(self.stride.max(1)).collect();
        starts.push(last);
        starts
    }

    /// By how much the probability of a class drops, on average, when a patch of the mean colour that the images were normalised by
    /// covers a pixel, for each pixel of an image, u8 `[height, width, channels]`. Tells `progress` how many places are done.
    ///
    /// # Errors
    /// As [`Occlusion::check`], if the pixels are not those of one image, or the device fails.
    pub fn map(
        &self,
        classifier: &mut Classifier,
        image: &[u8],
        class: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Map, ExplainError> {
        let input @ [height, width, channels] = classifier.card().input;
        if image.len() != height * width * channels {
            return Err(ExplainError::NotOneImage { bytes: image.len(), height, width, channels });
        }
        let classes = classifier.card().classes.len();
        if class >= classes {
            return Err(ExplainError::NoClass { class, classes });
        }
        self.check(input)?;
        let colour: Vec<u8> =
            classifier.card().normalisation.mean.iter().map(|mean| (255.0 * mean).round() as u8).collect();
        let whole = probabilities(classifier, image, class)?.first().copied().unwrap_or_default();
        let columns = self.starts(width);
        let places: Vec<(usize, usize)> =
            self.starts(height).iter().flat_map(|top| columns.iter().map(|left| (*top, *left))).collect();
        let (mut sums, mut counts) = (vec![0.0; height * width], vec![0.0f32; height * width]);
        let mut done = 0;
        for places in places.chunks(classifier.batch_size()) {
            let mut hidden = image.repeat(places.len());
            for (pixels, &(top, left)) in hidden.chunks_exact_mut(image.len()).zip(places) {
                for row in top..top + self.patch {
                    let row = &mut pixels[(row * width + left) * channels..][..self.patch * channels];
                    row.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&colour));
                }
            }
            for (probability, &(top, left)) in probabilities(classifier, &hidden, class)?.into_iter().zip(places) {
                for row in top..top + self.patch {
                    for at in row * width + left..row * width + left + self.patch {
                        sums[at] += whole - probability;
                        counts[at] += 1.0;
                    }
                }
            }
            done += places.len();
            progress(done);
        }
        let values = sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1.0)).collect();
        Ok(Map { height, width, values })
    }
}

/// The probability of a class in each image.
fn probabilities(classifier: &mut Classifier, images: &[u8], class: usize) -> Result<Vec<f32>, ExplainError> {
    let classes = classifier.card().classes.len();
    let of = |all: &Vec<crate::train::Prediction>| {
        all.iter().find(|one| one.index == class).map_or(0.0, |one| one.probability)
    };
    Ok(classifier.predict(images, classes)?.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_both_edges_and_suit_the_image() {
        let occlusion = Occlusion { patch: 3, stride: 2 };
        assert_eq!((occlusion.starts(8), occlusion.starts(3)), (vec![0, 2, 4, 5], vec![0]));
        assert_eq!(occlusion.places([8, 7, 1]), 4 * 3);
        for input in [[28, 28, 1], [224, 224, 3], [2, 3, 1], [1, 9, 3]] {
            assert!(Occlusion::suiting(input).check(input).is_ok(), "{input:?}");
        }
        assert_eq!(Occlusion::suiting([224, 300, 3]), Occlusion { patch: 44, stride: 22 });
    }

    #[test]
    fn patches_that_hide_all_or_miss_pixels_are_refused() {
        for (patch, stride, word) in
            [(0, 1, "patch"), (9, 1, "patch"), (8, 1, "patch"), (4, 5, "stride"), (4, 0, "stride")]
        {
            let error = Occlusion { patch, stride }.check([8, 8, 1]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")), "{error}");
        }
    }
}
