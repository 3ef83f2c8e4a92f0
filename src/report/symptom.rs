//! What is wrong with how a run goes, in words.

use std::fmt;

use crate::{
    tasks::ClassFigures,
    train::{Control, EpochReport, Observer, StepReport, TrainError},
};

/// So many times the loss of guessing, and 1, is far from it.
const FAR: f64 = 3.0;
/// So many times the first loss is a rise.
const RISE: f64 = 1.5;
/// Epochs and steps after which a loss that hardly falls is told.
const SLOW: (u64, u64) = (3, 50);
/// The share of the first epoch's loss that it has fallen by then, else.
const FALL: f64 = 0.02;
/// And the share of the loss of guessing that it is above: a network that has learnt may fall as slowly.
const STUCK: f64 = 0.9;
/// So many times the lowest validation loss, for so many epochs, is overfitting.
const OVERFIT: (f64, u64) = (1.25, 3);
/// Epochs in a row in which no image of a class is told right.
const STARVED: u64 = 5;
/// Validation images that say so much of a class.
const ENOUGH: u64 = 5;

/// Something about how a run goes that a person should know. Its text names the figure and what to try.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Symptom {
    /// The first loss is far above that of guessing.
    FarFromGuessing {
        /// The loss of the first step.
        loss: f64,
        /// That of guessing.
        guessing: f64,
    },
    /// The training loss rises.
    Rising {
        /// The epoch, from 1 on.
        epoch: u64,
        /// The loss of the first step.
        first: f64,
        /// That of the epoch.
        loss: f64,
    },
    /// The training loss hardly falls.
    Slow {
        /// Epochs so far.
        epochs: u64,
        /// The loss of the first one.
        first: f64,
        /// That of the last epoch.
        loss: f64,
    },
    /// The validation loss rises while the training loss falls.
    Overfitting {
        /// The epoch of the lowest validation loss, from 1 on.
        since: u64,
        /// Validation loss then and now.
        validation: [f64; 2],
        /// Training loss then and now.
        training: [f64; 2],
    },
    /// Classes of which no validation image is told right.
    Starved {
        /// Their names.
        classes: Vec<String>,
        /// For so many epochs.
        epochs: u64,
    },
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::FarFromGuessing { loss, guessing } => write!(
                f,
                "the loss begins at {loss:.3}, and that of guessing is {guessing:.3}: the weights begin too large, or images are \
                 not normalised as the network wants them"
            ),
            Self::Rising { epoch, first, loss } => write!(
                f,
                "the training loss rose from {first:.3} at first to {loss:.3} in epoch {epoch}: a lower `learning_rate`, \
                 `warmup_steps` or a `clip_norm` of 1 usually help"
            ),
            Self::Slow { epochs, first, loss } => write!(
                f,
                "the training loss hardly falls, from {first:.3} in the first epoch to {loss:.3} after {epochs}: try a higher \
                 `learning_rate` (gabor lr-range finds one), and look whether the labels are those of the images"
            ),
            Self::Overfitting { since, validation: [lowest, now], training: [then, later] } => write!(
                f,
                "overfitting since epoch {since}: the validation loss rose from {lowest:.3} to {now:.3} while the training loss \
                 fell from {then:.3} to {later:.3}. More images, a stronger `augment`, `dropout`, `weight_decay` or an end by \
                 `patience` usually help"
            ),
            Self::Starved { classes, epochs } => write!(
                f,
                "no validation image of {} was told right in the last {epochs} epochs: add images of that kind, or try \
                 `balance_classes`",
                classes.join(", ")
            ),
        }
    }
}

/// Looks at the reports of a run for [`Symptom`]s, each of which it finds once.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    guessing: Option<f64>,
    warmup_steps: u64,
    /// The loss of the first step.
    first: Option<f64>,
    /// That of the first epoch.
    first_epoch: Option<f64>,
    /// The epoch of the lowest validation loss, that loss, and the training loss then.
    lowest: Option<(u64, f64, f64)>,
    /// Epochs in a row whose validation loss is far above it.
    above: u64,
    /// For each class, epochs in a row in which none of its images was told right.
    starving: Vec<u64>,
    found: Vec<Symptom>,
}

impl Diagnosis {
    /// Of a run whose learning rate rises for so many steps at first. `guessing` is the loss of an untrained network, where it is
    /// known: the logarithm of the number of classes, where each image is of one.
    pub fn new(guessing: Option<f64>, warmup_steps: u64) -> Self {
        Self { guessing, warmup_steps, ..Self::default() }
    }

    /// What was found so far.
    pub fn found(&self) -> &[Symptom] {
        &self.found
    }

    fn tell(&mut self, symptom: Symptom) {
        let is_known = |known: &Symptom| std::mem::discriminant(known) == std::mem::discriminant(&symptom);
        if !self.found.iter().any(is_known) {
            self.found.push(symptom);
        }
    }

    fn look_at_training(&mut self, report: &EpochReport) {
        let Some(first) = self.first else { return };
        let loss = report.train_loss;
        if loss > RISE * self.guessing.map_or(first, |guessing| first.max(guessing)) {
            self.tell(Symptom::Rising { epoch: report.epoch, first, loss });
        }
        // Of whole epochs, as the loss of one batch is that of chance.
        let begun = *self.first_epoch.get_or_insert(loss);
        let (epochs, steps) = SLOW;
        let is_late = report.epoch >= epochs && report.step >= steps + self.warmup_steps;
        let is_stuck = self.guessing.is_some_and(|guessing| loss > STUCK * guessing);
        if is_late && is_stuck && loss > (1.0 - FALL) * begun {
            self.tell(Symptom::Slow { epochs: report.epoch, first: begun, loss });
        }
    }

    fn look_at_validation(&mut self, report: &EpochReport, loss: f64) {
        let (times, epochs) = OVERFIT;
        match self.lowest {
            Some((since, lowest, then)) if loss >= lowest => {
                self.above = if loss > times * lowest { self.above + 1 } else { 0 };
                if self.above >= epochs && report.train_loss < then {
                    let (validation, training) = ([lowest, loss], [then, report.train_loss]);
                    self.tell(Symptom::Overfitting { since, validation, training });
                }
            }
            _ => (self.lowest, self.above) = (Some((report.epoch, loss, report.train_loss)), 0),
        }
    }

    fn look_at_classes(&mut self, classes: &[ClassFigures]) {
        let recall =
            |class: &ClassFigures| class.metrics.iter().find(|metric| metric.name == "recall").map(|m| m.value);
        self.starving.resize(classes.len(), 0);
        for (epochs, class) in self.starving.iter_mut().zip(classes) {
            *epochs = if class.images >= ENOUGH && recall(class) == Some(0.0) { *epochs + 1 } else { 0 };
        }
        let starved = classes.iter().zip(&self.starving).filter(|(_, epochs)| **epochs >= STARVED);
        let names: Vec<String> = starved.map(|(class, _)| class.class.clone()).collect();
        if !names.is_empty() {
            self.tell(Symptom::Starved { classes: names, epochs: STARVED });
        }
    }
}

impl Observer for Diagnosis {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        if report.step == 1 {
            let loss = f64::from(report.loss);
            self.first = Some(loss);
            if let Some(guessing) = self.guessing.filter(|guessing| loss > FAR * guessing + 1.0) {
                self.tell(Symptom::FarFromGuessing { loss, guessing });
            }
        }
        Ok(())
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        self.look_at_training(report);
        if let Some(validation) = &report.validation {
            self.look_at_validation(report, validation.loss);
            self.look_at_classes(&validation.per_class);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Evaluation, Metric};

    /// What is found in a run of 30 steps an epoch with this first loss, and these training and validation losses.
    fn found(first: f32, epochs: &[(f64, f64)], recalls: &[f64]) -> Vec<Symptom> {
        let mut diagnosis = Diagnosis::new(Some(10f64.ln()), 0);
        let control = &mut Control::default();
        let step = StepReport {
            step: 1,
            epoch: 1,
            total_steps: 100,
            loss: first,
            losses: Vec::new(),
            metrics: Vec::new(),
            learning_rate: 0.1,
            images_per_second: 1.0,
        };
        diagnosis.on_step(&step, control).unwrap();
        for (at, (train_loss, loss)) in (1..).zip(epochs) {
            let class = |(number, recall): (usize, &f64)| ClassFigures {
                class: format!("class {number}"),
                images: 9,
                metrics: vec![Metric::share("recall", *recall)],
            };
            let per_class = recalls.iter().enumerate().map(class).collect();
            let validation = Evaluation { images: 9, loss: *loss, per_class, ..Evaluation::default() };
            let report = EpochReport {
                epoch: at,
                step: 30 * at,
                train_loss: *train_loss,
                train_metrics: Vec::new(),
                validation: Some(validation),
                learning_rate: 0.1,
                images_per_second: 1.0,
                seconds: 1.0,
                logged: Vec::new(),
                best: false,
            };
            diagnosis.on_epoch(&report, control).unwrap();
        }
        diagnosis.found().to_vec()
    }

    #[test]
    fn a_healthy_run_has_none() {
        let falling = [(1.9, 1.7), (1.2, 1.1), (0.8, 0.9), (0.5, 0.8), (0.3, 0.85), (0.2, 0.9), (0.1, 0.82)];
        assert_eq!(found(2.4, &falling, &[0.9, 0.3]), []);
        // A loss that begins high and falls, and one that rises for two epochs.
        assert_eq!(found(6.0, &[(2.0, 2.0), (1.5, 3.0), (1.0, 3.0), (0.9, 1.0)], &[0.1]), []);
    }

    #[test]
    fn each_is_found_once_and_says_what_to_try() {
        type Case = (f32, &'static [(f64, f64)], &'static [f64], &'static str);
        let cases: [Case; 5] = [
            (9.0, &[(2.0, 2.0), (1.0, 1.0)], &[0.5], "the loss begins at 9.000, and that of guessing is 2.303"),
            (2.4, &[(40.0, 50.0), (30.0, 40.0)], &[0.5], "rose from 2.400 at first to 40.000 in epoch 1"),
            (
                2.303,
                &[(2.303, 2.3), (2.302, 2.3), (2.301, 2.3), (2.3, 2.3)],
                &[0.5],
                "from 2.303 in the first epoch to 2.301 after 3",
            ),
            (
                2.4,
                &[(1.0, 1.0), (0.5, 0.8), (0.3, 1.1), (0.2, 1.2), (0.1, 1.3), (0.05, 1.5)],
                &[0.5],
                "overfitting since epoch 2: the validation loss rose from 0.800 to 1.300",
            ),
            (2.4, &[(1.0, 1.0); 6], &[0.5, 0.0], "no validation image of class 1 was told right in the last 5 epochs"),
        ];
        for (first, epochs, recalls, words) in cases {
            let found = found(first, epochs, recalls);
            assert!(found.len() == 1 && found[0].to_string().contains(words), "{words}: {found:?}");
        }
    }
}
