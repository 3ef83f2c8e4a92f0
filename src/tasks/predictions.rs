//! What a model said of images.

use super::THRESHOLD;
use crate::{
    data::{Label, Labels},
    metrics::Ranking,
};

/// What stands between the classes of an image that is of several, in tables.
pub const SEPARATOR: &str = "|";

/// What a model said of images, with what they are.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Names of the images.
    pub images: Vec<String>,
    /// What inference answered, f32 `[images, width]`.
    pub answers: Vec<f32>,
    /// What was to be recognised.
    pub labels: Labels,
    /// The loss of each image.
    pub losses: Vec<f32>,
    /// For each class the probability above which an image is said to be of it, where images are of several; [`THRESHOLD`] where
    /// there is none.
    pub thresholds: Vec<f32>,
    /// The embedding of each image, f32 `[images, width]`; empty where they were not asked for.
    pub embeddings: Vec<f32>,
}

impl Predictions {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Numbers that inference answers for an image.
    pub fn width(&self) -> usize {
        (self.answers.len() / self.images.len().max(1)).max(1)
    }

    /// What was answered for each image, and what it is.
    pub fn iter(&self) -> impl Iterator<Item = (&[f32], Label<'_>)> {
        self.answers.chunks_exact(self.width()).zip((0..self.len()).map(|at| self.labels.get(at)))
    }

    /// What was answered for an image.
    pub fn answer(&self, at: usize) -> &[f32] {
        &self.answers[at * self.width()..][..self.width()]
    }

    /// The images by how probable a class is said to be.
    pub fn ranking(&self, class: usize) -> Ranking {
        Ranking::of(self.iter().filter_map(|(answer, label)| Some((*answer.get(class)?, label.is_of(class)))).collect())
    }

    /// Mean loss; 0 without images.
    pub fn loss(&self) -> f64 {
        self.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / self.len().max(1) as f64
    }

    /// The same, where each image is of one class, with the logits of the probabilities divided by a temperature.
    pub fn at_temperature(mut self, temperature: f64) -> Self {
        let width = self.width();
        for row in self.answers.chunks_exact_mut(width) {
            let powers = row.iter().map(|p| (f64::from(p.max(f32::MIN_POSITIVE)).ln() / temperature).exp());
            let powers: Vec<f64> = powers.collect();
            let sum: f64 = powers.iter().sum();
            row.iter_mut().zip(powers).for_each(|(p, power)| *p = (power / sum) as f32);
        }
        for (at, loss) in self.losses.iter_mut().enumerate() {
            if let Label::Class(class) = self.labels.get(at)
                && let Some(p) = self.answers.get(at * width + class as usize)
            {
                *loss = -p.max(f32::MIN_POSITIVE).ln();
            }
        }
        self
    }

    /// Whether each image is told right: the likeliest class is its own, or of each class it is told whether the image is of it.
    pub fn are_right(&self) -> Vec<bool> {
        let is_right = |(answer, label): (&[f32], Label<'_>)| match label {
            Label::Class(class) => Self::likeliest(answer) == class as usize,
            Label::Row(row) => row.iter().enumerate().all(|(at, is)| self.are_of(at, answer[at]) == (*is > 0.5)),
        };
        self.iter().map(is_right).collect()
    }

    /// Whether images of such a probability are said to be of a class, where images are of several.
    pub fn are_of(&self, class: usize, probability: f32) -> bool {
        probability > self.threshold(class)
    }

    /// The probability above which that is said.
    pub fn threshold(&self, class: usize) -> f32 {
        self.thresholds.get(class).copied().unwrap_or(THRESHOLD)
    }

    /// The likeliest class of an answer; of several the first.
    pub fn likeliest(answer: &[f32]) -> usize {
        (0..answer.len()).fold(0, |best, at| if answer[at] > answer[best] { at } else { best })
    }

    /// The name of a class, or its number where it has none.
    pub fn class(&self, at: usize) -> String {
        self.classes.get(at).cloned().unwrap_or_else(|| at.to_string())
    }
}
