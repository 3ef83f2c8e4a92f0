//! What a run tells those who follow it.

use super::{ImageLoss, Progress, TrainError, Vitals};
use crate::tasks::{Evaluation, Metric};

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The step, counted from 1 over the whole run.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Weighted mean loss of the batch.
    pub loss: f32,
    /// The images of the batch that count, each with its loss.
    pub losses: Vec<ImageLoss>,
    /// The task's figures of these images, the most important first.
    pub metrics: Vec<Metric>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Images a second, over the last second or so.
    pub images_per_second: f64,
}

/// What one epoch did.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The last step, counted from 1 over the whole run.
    pub step: u64,
    /// Mean loss over the epoch's training images, as they came.
    pub train_loss: f64,
    /// The task's figures of the epoch's training images, as they came.
    pub train_metrics: Vec<Metric>,
    /// What the validation images came to, where there are any.
    pub validation: Option<Evaluation>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Images a second over the epoch's training steps.
    pub images_per_second: f64,
    /// Seconds that the epoch took, validation included.
    pub seconds: f64,
    /// Figures that observers logged since the last epoch ([`Control::log`]).
    pub logged: Vec<Metric>,
    /// The first figure (of the validation images, where there are any) is the best so far.
    pub best: bool,
}

/// How an observer steers the run that it follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    pub(super) stop: bool,
    pub(super) learning_rate_factor: Option<f64>,
    pub(super) keep: Vec<String>,
    pub(super) discard: Vec<String>,
    pub(super) logged: Vec<Metric>,
}

impl Control {
    /// Ends the run after the present step, with a checkpoint; a run can go on from there.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Multiplies the learning rate of the recipe and its schedule by this from the next step on, also of a resumed run.
    pub fn set_learning_rate_factor(&mut self, factor: f64) {
        self.learning_rate_factor = Some(factor);
    }

    /// Keeps the present weights as `NAME.safetensors` in the run folder.
    pub fn keep_weights(&mut self, name: impl Into<String>) {
        self.keep.push(name.into());
    }

    /// Removes `NAME.safetensors`, which was kept before, from the run folder, after the next checkpoint.
    pub fn discard_weights(&mut self, name: impl Into<String>) {
        self.discard.push(name.into());
    }

    /// Logs a figure with the epoch, in place of one of the same name: the observers after this one, and with the next
    /// epoch those before it, find it in [`EpochReport::logged`].
    pub fn log(&mut self, metric: Metric) {
        self.logged.retain(|known| known.name != metric.name);
        self.logged.push(metric);
    }
}

/// Something that follows a run, as a progress bar, a log or a plot do, and may steer it. Every method does nothing by
/// default. A closure of an [`EpochReport`] and a [`Control`] is an observer of epochs.
pub trait Observer {
    /// After a step's figures came back; some steps later than it ran, how many depends on the device. What is to happen
    /// alike in each run belongs into [`Observer::on_epoch`].
    ///
    /// # Errors
    /// Ends the run; likewise in the other methods.
    fn on_step(&mut self, _report: &StepReport, _control: &mut Control) -> Result<(), TrainError> {
        Ok(())
    }

    /// After a step that the trainer looked into ([`Trainer::look_every`](super::Trainer::look_every)).
    ///
    /// # Errors
    /// Ends the run.
    fn on_vitals(&mut self, _vitals: &Vitals, _control: &mut Control) -> Result<(), TrainError> {
        Ok(())
    }

    /// While the validation images after an epoch are gone through: how many are done, and how many there are.
    fn on_evaluation(&mut self, _done: usize, _total: usize) {}

    /// After an epoch and its validation.
    ///
    /// # Errors
    /// Ends the run.
    fn on_epoch(&mut self, _report: &EpochReport, _control: &mut Control) -> Result<(), TrainError> {
        Ok(())
    }

    /// After a checkpoint was written.
    ///
    /// # Errors
    /// Ends the run.
    fn on_checkpoint(&mut self, _progress: &Progress) -> Result<(), TrainError> {
        Ok(())
    }
}

impl<F> Observer for F
where
    F: FnMut(&EpochReport, &mut Control) -> Result<(), TrainError>,
{
    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        self(report, control)
    }
}
