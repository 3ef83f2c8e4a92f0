//! The training loss of each class.

use super::ImageLoss;
use crate::data::{Dataset, Label, Labels};

/// Sums the losses of images by their class. An image of several classes counts for each of them.
pub(super) struct ClassLosses {
    /// Sum and number for each class.
    sums: Vec<(f64, u64)>,
}

impl ClassLosses {
    /// Of the classes of a data set.
    pub fn of(set: &Dataset) -> Self {
        Self { sums: vec![(0.0, 0); set.classes().len()] }
    }

    /// Adds losses of images with these labels.
    pub fn take_in(&mut self, labels: &Labels, losses: &[ImageLoss]) {
        for loss in losses {
            let label = labels.get(loss.image as usize);
            let classes = match label {
                Label::Class(class) => class as usize..class as usize + 1,
                Label::Row(_) => 0..self.sums.len(),
            };
            for class in classes.filter(|class| label.is_of(*class)) {
                let (sum, count) = &mut self.sums[class];
                *sum += f64::from(loss.loss);
                *count += 1;
            }
        }
    }

    /// The mean of each class whose images came, and begins anew.
    pub fn take(&mut self) -> Vec<Option<f64>> {
        let mean = |sum: &mut (f64, u64)| {
            let (sum, count) = std::mem::take(sum);
            (count > 0).then(|| sum / count as f64)
        };
        self.sums.iter_mut().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    #[test]
    fn a_class_without_images_has_no_loss() {
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        let set = |labels: Labels| {
            Dataset::from_pixels("three", vec![0; 3], ImageSize::new(1, 1, 1), labels, classes.clone()).unwrap()
        };
        let losses = [(0, 1.0), (1, 2.0), (0, 2.0)].map(|(image, loss)| ImageLoss { image, loss });
        let of_one = set(vec![2, 0, 1].into());
        let mut sums = ClassLosses::of(&of_one);
        sums.take_in(of_one.labels(), &losses);
        assert_eq!(sums.take(), [Some(2.0), None, Some(1.5)]);
        assert_eq!(sums.take(), [None; 3]);

        let of_several = set(Labels::Rows { width: 3, values: vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0] });
        sums.take_in(of_several.labels(), &losses);
        assert_eq!(sums.take(), [Some(1.5), None, Some(5.0 / 3.0)]);
    }
}
