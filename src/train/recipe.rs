//! The recipe of a run: all settings that determine its result.

use super::Schedule;
use crate::{
    augment::Augmentation,
    data::Sampling,
    graph::GraphError,
    models::Model,
    nn::{GroupRule, Groups},
    ops::Optimizer,
    settings::{self, above, between},
};

/// Epochs of a run, at most.
const MOST_EPOCHS: usize = 1_000_000;

/// Images of a step, at most: far more than any device holds.
const MOST_IMAGES: usize = 1 << 20;

/// Images of a step where none are given.
const BATCH: usize = 128;

/// Images of a step that suit few images, at least: a batch norm of fewer is of hardly any use.
const SMALLEST_BATCH: usize = 8;

/// Steps of an epoch for which batches become smaller than [`BATCH`].
const FEWEST_STEPS: usize = 8;

crate::settings! {
    /// How a model is trained: everything that, with the data and the device, determines the result.
    #[command(next_help_heading = "Training")]
    pub struct Recipe {
        /// How many times to go through the training images.
        #[arg(long, value_name = "N", group = "with_resume")]
        pub epochs: usize = 20, in 1..=MOST_EPOCHS;
        /// Images a step [default: 128, or less where that makes 8 steps of an epoch, and 8 at least].
        #[arg(long, value_name = "N")]
        pub batch_size: Option<usize> = None, in 1..=MOST_IMAGES;
        /// Batches whose gradients are added up for a step: as batches of N times the size, in the memory of one.
        #[arg(long, value_name = "N")]
        pub accumulate: usize = 1, in 1..=MOST_IMAGES;
        /// Learning rate, whatever the optimizer.
        #[arg(long = "lr", value_name = "RATE")]
        pub learning_rate: f64 = 1e-3, in 0.0..;
        /// How the learning rate varies over the run; step is a tenth after each third.
        #[arg(long, value_name = "NAME")]
        pub schedule: Schedule = Schedule::Cosine, check Schedule::check;
        /// Steps over which the learning rate rises at the start.
        #[arg(long, value_name = "N")]
        pub warmup_steps: u64 = 0, in 0..;
        /// The rule by which weights follow gradients.
        #[arg(long, value_name = "NAME")]
        pub optimizer: Optimizer = Optimizer::default(), check Optimizer::check;
        /// Weight decay: L2 in the gradient, decoupled in adamw, lion, lamb and muon; not of biases and norms.
        #[arg(long, value_name = "X")]
        pub weight_decay: f64 = 0.0, in 0.0..;
        /// Parameters that are trained differently, by their names.
        #[arg(skip)]
        pub groups: Vec<GroupRule> = Vec::new(), check check_groups;
        /// Train the last dense layer alone before this epoch, and all that is not frozen from it on [default: all from the
        /// first on].
        #[arg(long, value_name = "EPOCH")]
        pub unfreeze_at: Option<usize> = None, in 2..=MOST_EPOCHS;
        /// Drop elements of what the last dense layer is given with this probability, besides what the model drops itself.
        #[arg(long, value_name = "RATE")]
        pub dropout: f64 = 0.0, in 0.0..1.0;
        /// Share of the target that is spread over all classes.
        #[arg(long, value_name = "X")]
        pub label_smoothing: f64 = 0.0, in 0.0..1.0;
        /// Weigh each image's loss by (1 - p)^X, p being the probability of its label: hard images count more (focal loss).
        #[arg(long, value_name = "X")]
        pub focal: Option<f64> = None, in above(0.0);
        /// Scale gradients down to this Euclidean norm.
        #[arg(long, value_name = "X")]
        pub clip_norm: Option<f64> = None, in above(0.0);
        /// Cut elements of gradients to this magnitude.
        #[arg(long, value_name = "X")]
        pub clip_value: Option<f64> = None, in above(0.0);
        /// Weigh classes by the inverse of their frequency in the loss.
        #[arg(long)]
        pub balance_classes: bool = false;
        /// Share of the loss that is of imitating the teacher, where there is one; the rest is that of the labels.
        #[arg(long, value_name = "X")]
        pub teacher_weight: f64 = 0.5, in 0.0..=1.0;
        /// What the outputs of teacher and student are divided by before they are compared: the higher, the more the classes
        /// count that are not the likeliest.
        #[arg(long, value_name = "T")]
        pub teacher_temperature: f64 = 4.0, in above(0.0);
        /// How the images of an epoch are drawn.
        #[arg(long, value_name = "HOW")]
        pub sample: Sampling = Sampling::Shuffled;
        /// How far running statistics move towards those of a batch.
        #[arg(skip)]
        pub statistics_momentum: f64 = 0.1, in 0.0..=1.0;
        /// Evaluate and keep a moving average of the weights that keeps this share of itself a step, such as 0.999
        /// [default: the weights themselves].
        #[arg(long, value_name = "SHARE")]
        pub ema: Option<f64> = None, in between(0.0, 1.0);
        /// Every N steps go back to a second set of weights, which moves towards the trained ones at that time, and evaluate and
        /// keep that one (lookahead) [default: the weights themselves].
        #[arg(long, value_name = "N")]
        pub lookahead: Option<u64> = None, in 1..;
        /// How far --lookahead moves towards the trained weights.
        #[arg(long, value_name = "SHARE")]
        pub lookahead_alpha: f64 = 0.5, in 0.0..=1.0;
        /// Let --lookahead move all the way at first, and less with this power of the share of the run that is done.
        #[arg(long, value_name = "POWER")]
        pub lookahead_ramp: f64 = 0.0, in 0.0..;
        /// The figure by which epochs are compared, of the validation images where there are any: loss, which is to become
        /// small, or the name of another, which is to become large [default: accuracy, or the first that the task has].
        #[arg(long, value_name = "NAME")]
        pub monitor: Option<String> = None;
        /// End after so many epochs without a better one [default: go through all].
        #[arg(long, value_name = "EPOCHS")]
        pub patience: Option<u64> = None, in 1..;
        /// How much better an epoch must be to count as that for --patience and --plateau.
        #[arg(long, value_name = "X")]
        pub min_delta: f64 = 0.0, in 0.0..;
        /// Lower the learning rate after so many epochs without a better one [default: never].
        #[arg(long, value_name = "EPOCHS")]
        pub plateau: Option<u64> = None, in 1..;
        /// Factor by which --plateau lowers the learning rate.
        #[arg(long, value_name = "X")]
        pub plateau_factor: f64 = 0.1, in between(0.0, 1.0);
        /// Learning rate below which --plateau does not go.
        #[arg(long, value_name = "RATE")]
        pub min_lr: f64 = 0.0, in 0.0..;
        /// Seed of initial weights, order of images and dropout.
        #[arg(long, value_name = "N")]
        pub seed: u64 = 0, in 0..;
        /// Compute cheap values again in the backward pass instead of keeping them: less memory, more time.
        #[arg(long, help_heading = "Model and device")]
        pub recompute: bool = false;
        /// End after this many steps.
        #[arg(long, value_name = "N", group = "with_resume")]
        pub max_steps: Option<u64> = None, in 1..;
        /// How training images are varied.
        #[command(flatten)]
        pub augment: Augmentation = Augmentation::default(), check Augmentation::check;
    }
}

/// Checks the numbers of each rule.
fn check_groups(groups: &[GroupRule]) -> Result<(), String> {
    for GroupRule { pattern, learning_rate, weight_decay, .. } in groups {
        for (name, value) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
            settings::check(name, value, &(0.0..)).map_err(|message| format!("{message}, for {pattern}"))?;
        }
    }
    Ok(())
}

impl Recipe {
    /// Images a step: as given, else 128.
    pub fn batch_size(&self) -> usize {
        self.batch_size.unwrap_or(BATCH)
    }

    /// The size of batches, where none is given, that suits so many training images: 128, or for fewer than 1,024 images the
    /// largest power of two that makes 8 steps of an epoch, and 8 at least.
    pub fn suit_batch_size(&mut self, images: usize) {
        self.batch_size.get_or_insert_with(|| {
            let most = (images / FEWEST_STEPS).max(1);
            (1 << most.ilog2()).clamp(SMALLEST_BATCH, BATCH)
        });
    }

    /// Which parameters of a model are trained how.
    ///
    /// # Errors
    /// If its last dense layer is to be trained alone at first, and it cannot take its input or has none.
    pub fn parameter_groups(&self, model: &Model) -> Result<Groups, GraphError> {
        let (weight_decay, rules) = (self.weight_decay, self.groups.clone());
        let mut groups = Groups { weight_decay, rules, ..Groups::default() };
        if matches!(self.optimizer, Optimizer::Muon { .. }) {
            groups.orthogonal = model.parameters()?.hidden_matrices();
        }
        if self.unfreeze_at.is_some() {
            let parameters = model.parameters()?;
            let message = "it has no dense layer to train alone before `unfreeze_at`".to_string();
            let head = parameters.last_dense().ok_or(GraphError::Layer { layer: model.name.clone(), message })?;
            groups.head = Some(head.to_string());
        }
        Ok(groups)
    }

    /// Steps before those that train all, with `steps` steps an epoch.
    pub fn held_back_steps(&self, steps: usize) -> u64 {
        self.unfreeze_at.map_or(0, |epoch| (epoch as u64 - 1).saturating_mul(steps as u64))
    }

    /// Steps of an epoch of `batches` batches.
    pub fn steps_an_epoch(&self, batches: usize) -> usize {
        batches.div_ceil(self.accumulate)
    }

    /// Steps of the whole run, with `batches` batches an epoch; at most 4,294,967,295.
    pub fn total_steps(&self, batches: usize) -> u64 {
        let steps = self.steps_an_epoch(batches) as u64;
        let all = (self.epochs as u64).saturating_mul(steps).min(u32::MAX.into());
        self.max_steps.map_or(all, |max| max.min(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_suit_the_number_of_images() {
        for (images, expected) in
            [(0, 8), (1, 8), (50, 8), (127, 8), (128, 16), (500, 32), (1023, 64), (1024, 128), (60_000, 128)]
        {
            let mut recipe = Recipe::default();
            assert_eq!(recipe.batch_size(), 128);
            recipe.suit_batch_size(images);
            assert_eq!(recipe.batch_size(), expected, "{images}");
        }
        let mut given = Recipe { batch_size: Some(3), ..Recipe::default() };
        given.suit_batch_size(60_000);
        assert_eq!(given.batch_size(), 3);
    }
}
