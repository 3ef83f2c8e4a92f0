//! The loss of each training image, late in training.

use crate::train::ImageLoss;

/// The weight of the last loss of an image in the mean of its losses: by it, about the last three epochs count.
const LAST: f64 = 0.4;
/// Epochs that an image must have been in.
const EPOCHS: u32 = 4;
/// The mean loss of all images below which a network has learnt enough to be asked.
const LEARNT: f64 = 0.5;
/// The loss above which an image's label looks wrong: the network gives it a probability of less than 2%.
const HIGH: f64 = 4.0;
/// The share of the images that must look so, and the number: some are hard in any data.
const MANY: (f64, usize) = (0.01, 5);

/// The loss of each training image, averaged over the last epochs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageLosses {
    means: Vec<f64>,
    epochs: Vec<u32>,
}

impl ImageLosses {
    /// Of so many images.
    pub fn of(images: usize) -> Self {
        Self { means: vec![0.0; images], epochs: vec![0; images] }
    }

    /// Takes in the losses of a step.
    pub fn take_in(&mut self, losses: &[ImageLoss]) {
        for ImageLoss { image, loss } in losses {
            let at = *image as usize;
            let (Some(mean), Some(epochs)) = (self.means.get_mut(at), self.epochs.get_mut(at)) else { continue };
            let loss = f64::from(*loss);
            *mean = if *epochs == 0 { loss } else { (1.0 - LAST) * *mean + LAST * loss };
            *epochs += 1;
        }
    }

    /// Mean over the images that have been in a step.
    pub fn mean(&self) -> f64 {
        let seen = self.epochs.iter().filter(|epochs| **epochs > 0).count();
        self.means.iter().sum::<f64>() / seen.max(1) as f64
    }

    /// Images whose labels look wrong, those of the highest loss first; none before the network has learnt the others, or where
    /// they are few.
    pub fn suspects(&self) -> Vec<ImageLoss> {
        let mean = self.mean();
        let of = |(image, (mean, epochs)): (u32, (&f64, &u32))| {
            (*epochs >= EPOCHS && *mean > HIGH).then_some(ImageLoss { image, loss: *mean as f32 })
        };
        let mut found: Vec<ImageLoss> = (0..).zip(self.means.iter().zip(&self.epochs)).filter_map(of).collect();
        found.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        let (share, least) = MANY;
        let are_many = found.len() >= least && found.len() as f64 >= share * self.means.len() as f64;
        if mean < LEARNT && are_many { found } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The losses of 1,000 images over some epochs: of the first ones this, of the others 0.1.
    fn losses(epochs: usize, high: &[f32]) -> ImageLosses {
        let mut losses = ImageLosses::of(1000);
        for _ in 0..epochs {
            let of = |image: u32| ImageLoss { image, loss: high.get(image as usize).copied().unwrap_or(0.1) };
            losses.take_in(&(0..1000).map(of).collect::<Vec<_>>());
        }
        losses
    }

    #[test]
    fn those_that_stay_high_are_named_the_highest_first() {
        let high: Vec<f32> = (0..12).map(|image| 5.0 + image as f32).collect();
        let found = losses(4, &high).suspects();
        assert_eq!(found.iter().map(|suspect| suspect.image).collect::<Vec<_>>(), (0..12).rev().collect::<Vec<_>>());
        assert!((found[0].loss - 16.0).abs() < 1e-5);
    }

    #[test]
    fn few_high_ones_few_epochs_and_a_network_that_has_not_learnt_say_nothing() {
        assert_eq!(losses(4, &[9.0; 9]).suspects(), []);
        assert_eq!(losses(3, &[9.0; 12]).suspects(), []);
        assert_eq!(losses(4, &[9.0; 100]).suspects(), []);
        assert_eq!(losses(4, &[3.9; 12]).suspects(), []);
    }

    #[test]
    fn an_image_that_is_learnt_late_is_not_named() {
        let mut losses = losses(4, &[9.0; 12]);
        losses.take_in(&[ImageLoss { image: 0, loss: 0.1 }; 4]);
        assert!(losses.suspects().iter().all(|suspect| suspect.image != 0));
    }
}
