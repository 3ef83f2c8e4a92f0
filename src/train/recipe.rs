//! The recipe of a run: all settings that determine its result.

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::{
    nn::{GroupRule, Groups},
    ops::Optimizer,
};

/// Epochs of a run, at most.
const MOST_EPOCHS: usize = 1_000_000;

/// Images of a step, at most: far more than any device holds.
const MOST_IMAGES: usize = 1 << 20;

/// How a model is trained: everything that, with the data and the device, determines the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Times that the training set is gone through.
    pub epochs: usize,
    /// Images that go through the network together.
    pub batch_size: usize,
    /// Batches a step: their gradients are added up before the parameters change, as for one batch of all of them (batch
    /// norm aside, which takes its statistics from each). A shorter last step of an epoch is possible.
    pub accumulate: usize,
    /// Learning rate, at its largest where a schedule varies it.
    pub learning_rate: f64,
    /// How the learning rate varies over the run.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0 at the start.
    pub warmup_steps: u64,
    /// Which rule the parameters follow.
    pub optimizer: Optimizer,
    /// Strength of the decay of weights: L2 in the gradient, decoupled in AdamW. Biases, and what scales and shifts a
    /// norm, do not decay.
    pub weight_decay: f64,
    /// Parameters that are trained differently, by their names.
    pub groups: Vec<GroupRule>,
    /// Largest Euclidean norm of the gradient of all parameters; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Largest magnitude of an element of the gradient; larger ones are cut.
    pub clip_value: Option<f64>,
    /// Share of the target that is spread evenly over all classes (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// Weigh classes by the inverse of their frequency.
    pub balance_classes: bool,
    /// How far running statistics move towards those of a batch.
    pub statistics_momentum: f64,
    /// Seed of initial weights, shuffling and dropout.
    pub seed: u64,
    /// Compute pointwise values again in the backward pass instead of keeping them: less memory, more time.
    pub recompute: bool,
    /// End after this many steps, whatever the number of epochs.
    pub max_steps: Option<u64>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 128,
            accumulate: 1,
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            optimizer: Optimizer::default(),
            weight_decay: 0.0,
            groups: Vec::new(),
            clip_norm: None,
            clip_value: None,
            label_smoothing: 0.0,
            balance_classes: false,
            statistics_momentum: 0.1,
            seed: 0,
            recompute: false,
            max_steps: None,
        }
    }
}

impl Recipe {
    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// With a message that names the field, its value and the range.
    pub fn check(&self) -> Result<(), String> {
        let rule = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        let within = |name: &str, value: usize, most: usize| {
            rule((1..=most).contains(&value), format!("{name} is {value} and must be from 1 to {most}"))
        };
        within("epochs", self.epochs, MOST_EPOCHS)?;
        within("batch_size", self.batch_size, MOST_IMAGES)?;
        within("accumulate", self.accumulate, MOST_IMAGES)?;
        for GroupRule { pattern, learning_rate, weight_decay, .. } in &self.groups {
            for (name, value) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
                let good = value.is_none_or(|value| value >= 0.0 && value.is_finite());
                let value = value.unwrap_or_default();
                rule(good, format!("{name} {value} of the group {pattern} must be a number of at least 0"))?;
            }
        }
        rule(
            self.learning_rate >= 0.0 && self.learning_rate.is_finite(),
            format!("learning_rate {} must be a number of at least 0", self.learning_rate),
        )?;
        rule(
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            format!("weight_decay {} must be a number of at least 0", self.weight_decay),
        )?;
        for (name, value) in [("clip_norm", self.clip_norm), ("clip_value", self.clip_value)] {
            rule(
                value.is_none_or(|v| v > 0.0),
                format!("{name} {} must be above 0; leave it out to not clip", value.unwrap_or_default()),
            )?;
        }
        rule(
            (0.0..1.0).contains(&self.label_smoothing),
            format!("label_smoothing {} must be at least 0 and below 1", self.label_smoothing),
        )?;
        rule(
            (0.0..=1.0).contains(&self.statistics_momentum),
            format!("statistics_momentum {} must be between 0 and 1", self.statistics_momentum),
        )?;
        rule(self.max_steps != Some(0), "max_steps must be at least 1".into())?;
        self.optimizer.check()
    }

    /// Which parameters are trained how.
    pub fn parameter_groups(&self) -> Groups {
        Groups { weight_decay: self.weight_decay, rules: self.groups.clone() }
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
