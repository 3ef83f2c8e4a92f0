//! What follows a figure from epoch to epoch: when to stop, when to lower the learning rate, which weights to keep.
//!
//! Each is an observer of a [`Trainer`](super::Trainer), and works alone in a loop of one's own by its `update`. The trainer
//! follows its recipe with the same ones.

use serde::{Deserialize, Serialize};

use super::{Control, EpochReport, Observer, TrainError};
use crate::tasks::Metric;

/// A figure by which epochs are compared: its value, and which way it becomes better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Its value.
    pub value: f64,
    larger_is_better: bool,
}

impl Measure {
    /// A figure that is to become small, as a loss.
    pub fn minimised(value: f64) -> Self {
        Self { value, larger_is_better: false }
    }

    /// A figure that is to become large, as an accuracy.
    pub fn maximised(value: f64) -> Self {
        Self { value, larger_is_better: true }
    }

    /// The figure called `monitor`: `loss`, which is to become small, or one of `metrics`, which is to become large. Without a
    /// name it is the first metric, or the loss where there is none.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn of(monitor: Option<&str>, loss: f64, metrics: &[Metric]) -> Result<Self, TrainError> {
        let of = |metric: &Metric| Self::maximised(metric.value);
        match monitor {
            Some("loss") => Ok(Self::minimised(loss)),
            None => Ok(metrics.first().map_or(Self::minimised(loss), of)),
            Some(name) => {
                let named = metrics.iter().find(|metric| metric.name == name || metric.key() == name);
                named.map(of).ok_or_else(|| {
                    let names: Vec<String> = metrics.iter().map(Metric::key).collect();
                    TrainError::Setting(format!("`monitor` is {name}, and an epoch has loss, {}", names.join(", ")))
                })
            }
        }
    }

    /// As [`Measure::of`], of an epoch's validation images where there are any, else of its training images.
    ///
    /// # Errors
    /// As [`Measure::of`].
    pub fn of_epoch(monitor: Option<&str>, report: &EpochReport) -> Result<Self, TrainError> {
        match &report.validation {
            Some(validation) => Self::of(monitor, validation.loss, &validation.metrics),
            None => Self::of(monitor, report.train_loss, &report.train_metrics),
        }
    }

    /// Whether it is finite, and better than `other` by more than `by` where there is another.
    pub fn is_better_than(self, other: Option<f64>, by: f64) -> bool {
        let better = |other| if self.larger_is_better { self.value > other + by } else { self.value < other - by };
        self.value.is_finite() && other.is_none_or(better)
    }
}

/// Ends a run after so many epochs without a better one, as Keras's `EarlyStopping`.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    /// The figure, as [`Measure::of`] finds it.
    pub monitor: Option<String>,
    /// Epochs without a better one.
    pub patience: u64,
    /// How much better an epoch must be to count as that.
    pub min_delta: f64,
    /// Best value so far that was better than the one before by `min_delta`.
    pub best: Option<f64>,
    /// Epochs since then.
    pub waited: u64,
}

impl EarlyStopping {
    /// After `patience` epochs without a better one.
    pub fn new(patience: u64) -> Self {
        Self { monitor: None, patience, min_delta: 0.0, best: None, waited: 0 }
    }

    /// Takes in an epoch; true once patience has run out.
    pub fn update(&mut self, measure: Measure) -> bool {
        if measure.is_better_than(self.best, self.min_delta) {
            (self.best, self.waited) = (Some(measure.value), 0);
        } else {
            self.waited += 1;
        }
        self.waited >= self.patience
    }
}

impl Observer for EarlyStopping {
    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        if self.update(Measure::of_epoch(self.monitor.as_deref(), report)?) {
            control.stop();
        }
        Ok(())
    }
}

/// Lowers the learning rate after so many epochs without a better one, as Keras's `ReduceLROnPlateau`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceLrOnPlateau {
    /// The figure, as [`Measure::of`] finds it.
    pub monitor: Option<String>,
    /// Epochs without a better one, counted anew each time that the rate was lowered.
    pub patience: u64,
    /// How much better an epoch must be to count as that.
    pub min_delta: f64,
    /// What the learning rate is multiplied by each time.
    pub factor: f64,
    /// The least that all of it comes to, as a factor of the learning rate.
    pub least: f64,
    /// Best value so far that was better than the one before by `min_delta`.
    pub best: Option<f64>,
    /// Epochs since then, or since the rate was lowered.
    pub waited: u64,
    /// What the learning rate is to be multiplied by.
    pub scale: f64,
}

impl ReduceLrOnPlateau {
    /// To a tenth, each time that `patience` epochs were not better.
    pub fn new(patience: u64) -> Self {
        let (monitor, best) = (None, None);
        Self { monitor, patience, min_delta: 0.0, factor: 0.1, least: 0.0, best, waited: 0, scale: 1.0 }
    }

    /// Takes in an epoch; the factor of the learning rate from now on.
    pub fn update(&mut self, measure: Measure) -> f64 {
        if measure.is_better_than(self.best, self.min_delta) {
            (self.best, self.waited) = (Some(measure.value), 0);
        } else {
            self.waited += 1;
        }
        if self.waited >= self.patience {
            self.scale = self.scale.min((self.scale * self.factor).max(self.least));
            self.waited = 0;
        }
        self.scale
    }
}

impl Observer for ReduceLrOnPlateau {
    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        let scale = self.update(Measure::of_epoch(self.monitor.as_deref(), report)?);
        control.set_learning_rate_factor(scale);
        Ok(())
    }
}

/// An epoch whose weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The value of the figure by which epochs are compared.
    pub value: f64,
}

impl Kept {
    /// The name under which its weights are kept, such as `best-12` for `best-12.safetensors`.
    pub fn name(&self) -> String {
        format!("{KEPT}{}", self.epoch)
    }

    /// The epoch that a file of kept weights is of.
    pub(super) fn epoch_of(file: &str) -> Option<u64> {
        let number = file.strip_prefix(KEPT)?.strip_suffix(".safetensors")?;
        number.parse().ok().filter(|epoch: &u64| epoch.to_string() == number)
    }
}

/// What the names of kept weights begin with.
const KEPT: &str = "best-";

/// Keeps the weights of the `count` best epochs, as timm's `CheckpointSaver` and Keras's `ModelCheckpoint`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCheckpoint {
    /// The figure, as [`Measure::of`] finds it.
    pub monitor: Option<String>,
    /// How many epochs.
    pub count: usize,
    /// Those that are kept, the best first; of equal ones the earlier.
    pub kept: Vec<Kept>,
}

impl ModelCheckpoint {
    /// Of the `count` best epochs.
    pub fn new(count: usize) -> Self {
        Self { monitor: None, count, kept: Vec::new() }
    }

    /// Takes in an epoch; whether its weights are to be kept, and the epochs whose weights are not any more.
    pub fn update(&mut self, epoch: u64, measure: Measure) -> (bool, Vec<Kept>) {
        let place = self.kept.iter().position(|kept| measure.is_better_than(Some(kept.value), 0.0));
        let place = place.unwrap_or(self.kept.len());
        if measure.value.is_finite() {
            self.kept.insert(place, Kept { epoch, value: measure.value });
        }
        let mut dropped = self.kept.split_off(self.count.min(self.kept.len()));
        dropped.retain(|kept| kept.epoch != epoch);
        (self.kept.iter().any(|kept| kept.epoch == epoch), dropped)
    }
}

impl Observer for ModelCheckpoint {
    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        let measure = Measure::of_epoch(self.monitor.as_deref(), report)?;
        let (keep, dropped) = self.update(report.epoch, measure);
        if keep {
            control.keep_weights(Kept { epoch: report.epoch, value: measure.value }.name());
        }
        dropped.iter().for_each(|kept| control.discard_weights(kept.name()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_to_become_small_and_all_else_large() {
        let metrics = [Metric::share("top-5 accuracy", 0.5), Metric::share("macro F1", 0.25)];
        let of = |monitor| Measure::of(monitor, 2.0, &metrics).unwrap();
        assert_eq!(of(None), Measure::maximised(0.5));
        assert_eq!(of(Some("loss")), Measure::minimised(2.0));
        assert_eq!(of(Some("macro_f1")), Measure::maximised(0.25));
        assert_eq!(Measure::of(None, 2.0, &[]).unwrap(), Measure::minimised(2.0));
        let error = Measure::of(Some("f2"), 2.0, &metrics).unwrap_err().to_string();
        assert!(error.contains("loss, top5_accuracy, macro_f1"), "{error}");
    }

    #[test]
    fn patience_runs_out_without_a_better_epoch() {
        let mut stopping = EarlyStopping { min_delta: 0.1, ..EarlyStopping::new(2) };
        let losses = [1.0, 0.8, 0.75, f64::NAN];
        assert_eq!(losses.map(|loss| stopping.update(Measure::minimised(loss))), [false, false, false, true]);
        assert_eq!((stopping.best, stopping.waited), (Some(0.8), 2));
    }

    /// Keras's `ReduceLROnPlateau(patience=2, factor=0.5, min_delta=0)` of the same accuracies.
    #[test]
    fn the_rate_falls_each_time_that_patience_runs_out() {
        let mut plateau = ReduceLrOnPlateau { factor: 0.5, least: 0.2, ..ReduceLrOnPlateau::new(2) };
        let accuracies = [0.5, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6];
        let scales = accuracies.map(|accuracy| plateau.update(Measure::maximised(accuracy)));
        assert_eq!(scales, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]);
    }

    #[test]
    fn the_best_epochs_are_kept_and_those_they_outdo_are_not() {
        let mut checkpoint = ModelCheckpoint::new(2);
        let mut update = |epoch, accuracy| {
            let (keep, dropped) = checkpoint.update(epoch, Measure::maximised(accuracy));
            (keep, dropped.iter().map(|kept| kept.epoch).collect::<Vec<_>>())
        };
        assert_eq!(update(1, 0.5), (true, vec![]));
        assert_eq!(update(2, 0.4), (true, vec![]));
        assert_eq!(update(3, 0.4), (false, vec![]), "the earlier of two equal ones stays");
        assert_eq!(update(4, f64::NAN), (false, vec![]));
        assert_eq!(update(5, 0.6), (true, vec![2]));
        assert_eq!(checkpoint.kept.iter().map(Kept::name).collect::<Vec<_>>(), ["best-5", "best-1"]);
        for (file, epoch) in
            [("best-5.safetensors", Some(5)), ("best.safetensors", None), ("best-05.safetensors", None)]
        {
            assert_eq!(Kept::epoch_of(file), epoch);
        }
    }
}
