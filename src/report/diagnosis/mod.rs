//! What is wrong with how a run goes, in words.

mod losses;
mod symptom;

pub use losses::ImageLosses;
pub use symptom::Symptom;

use crate::{
    data::{Dataset, Label},
    tasks::ClassFigures,
    train::{Control, EpochReport, Observer, ParameterVitals, StepReport, TrainError, Vitals},
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
/// And so many times are, where the training images are known by heart: their loss is this share of the validation loss, and by
/// this share of the loss of guessing below it.
const BY_HEART: (f64, f64, f64) = (1.05, 0.25, 0.1);
/// Epochs in a row in which no image of a class is told right.
const STARVED: u64 = 5;
/// Validation images that say so much of a class.
const ENOUGH: u64 = 5;
/// The share of the largest gradient's root mean square below which that of the first layer vanishes.
const VANISHING: f64 = 1e-6;
/// So many times the norm of the weights is too much of a change for a step.
const EXPLODING: f64 = 1.0;
/// And so few are hardly any.
const STILL: f64 = 1e-8;
/// The share of a rectifier's channels above which those that are dead are told, where it has so many channels.
const DEAD: (f64, usize) = (0.95, 4);
/// How many images a symptom names.
const NAMED: usize = 5;

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
    /// The training images, where they are known, and the losses of each.
    images: Option<(Dataset, ImageLosses)>,
    highest_rate: f64,
    found: Vec<Symptom>,
}

impl Diagnosis {
    /// Of a run whose learning rate rises for so many steps at first. `guessing` is the loss of an untrained network, where it is
    /// known: the logarithm of the number of classes, where each image is of one.
    pub fn new(guessing: Option<f64>, warmup_steps: u64) -> Self {
        Self { guessing, warmup_steps, ..Self::default() }
    }

    /// With the training images, of which it tells those whose labels look wrong.
    pub fn images(mut self, set: Dataset) -> Self {
        let losses = ImageLosses::of(set.len());
        self.images = Some((set, losses));
        self
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
                let (known_times, part, gap) = BY_HEART;
                let least = gap * self.guessing.unwrap_or(1.0);
                let is_known = report.train_loss < part * loss && loss - report.train_loss > least;
                let times = if is_known { known_times } else { times };
                self.above = if loss > times * lowest { self.above + 1 } else { 0 };
                if self.above >= epochs && report.train_loss < then {
                    let (validation, training) = ([lowest, loss], [then, report.train_loss]);
                    self.tell(Symptom::Overfitting { since, validation, training });
                }
            }
            _ => (self.lowest, self.above) = (Some((report.epoch, loss, report.train_loss)), 0),
        }
    }

    fn look_at_gradients(&mut self, vitals: &Vitals) {
        let weights = || vitals.parameters.iter().filter(|parameter| parameter.shape.rank() > 1);
        let named = |parameter: &ParameterVitals| (parameter.name.clone(), parameter.gradient_rms());
        let largest = weights().max_by(|a, b| a.gradient_rms().total_cmp(&b.gradient_rms()));
        if let (Some(first), Some(largest)) = (weights().next(), largest) {
            // Behind what is 0 throughout there is no gradient at all.
            let is_cut_off = vitals.rectifiers.iter().any(|rectifier| rectifier.dead == rectifier.channels);
            if first.gradient_rms() < VANISHING * largest.gradient_rms() && !is_cut_off {
                self.tell(Symptom::Vanishing { step: vitals.step, first: named(first), largest: named(largest) });
            }
        }
        let ratio = vitals.update_ratio();
        if ratio > EXPLODING {
            let of = |parameter: &ParameterVitals| parameter.update / parameter.weight.max(f64::MIN_POSITIVE);
            if let Some(most) = weights().filter(|weight| weight.weight > 0.0).max_by(|a, b| of(a).total_cmp(&of(b))) {
                let (parameter, gradient) = (most.name.clone(), most.gradient);
                self.tell(Symptom::Exploding { step: vitals.step, parameter, ratio: of(most), gradient });
            }
        }
        self.highest_rate = self.highest_rate.max(vitals.learning_rate);
        // At the end of a schedule, steps are meant to be small.
        let is_at_full_rate = vitals.step > self.warmup_steps && vitals.learning_rate > self.highest_rate / 2.0;
        if ratio < STILL && is_at_full_rate {
            self.tell(Symptom::Still { step: vitals.step, ratio, learning_rate: vitals.learning_rate });
        }
    }

    fn look_at_rectifiers(&mut self, vitals: &Vitals) {
        let (share, least) = DEAD;
        let is_dead = |dead: usize, channels: usize| channels >= least && dead as f64 > share * channels as f64;
        if let Some(rectifier) = vitals.rectifiers.iter().find(|found| is_dead(found.dead, found.channels)) {
            let (layer, channels) = (rectifier.layer.clone(), [rectifier.dead, rectifier.channels]);
            self.tell(Symptom::Dead { step: vitals.step, layer, channels });
        }
    }

    /// Looks back over a run that has ended.
    pub fn on_end(&mut self) {
        let Some((set, losses)) = &self.images else { return };
        let suspects = losses.suspects();
        if suspects.is_empty() {
            return;
        }
        let named = suspects.iter().take(NAMED).map(|suspect| {
            let image = suspect.image as usize;
            let class = match set.labels().get(image) {
                Label::Class(class) => set.classes().get(class as usize).cloned().unwrap_or_default(),
                Label::Row(_) => String::new(),
            };
            (set.image_name(image), class, suspect.loss)
        });
        let (images, count, mean) = (named.collect(), suspects.len(), losses.mean());
        self.tell(Symptom::Mislabelled { images, count, mean });
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
        if let Some((_, losses)) = &mut self.images {
            losses.take_in(&report.losses);
        }
        Ok(())
    }

    fn on_vitals(&mut self, vitals: &Vitals, _: &mut Control) -> Result<(), TrainError> {
        self.look_at_gradients(vitals);
        self.look_at_rectifiers(vitals);
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
