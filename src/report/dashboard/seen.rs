//! What a dashboard has seen of a run.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::About;
use crate::{
    data::Label,
    train::{EpochReport, StepReport},
};

/// Points of a curve, at most.
const POINTS: usize = 240;

/// Images that are kept, and those of a step.
const HARDEST: usize = 40;
const OF_A_STEP: usize = 3;

/// Lines of epochs that are kept, and speeds.
const EPOCHS: usize = 40;
const SPEEDS: usize = 400;

/// A curve, whose neighbouring points are averaged once there are many.
#[derive(Clone, Debug)]
pub struct Series {
    points: Vec<(f64, f64)>,
    /// Points that came for each one.
    stride: usize,
    /// Sums and number of those that are not among the points yet.
    waiting: (f64, f64, usize),
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, waiting: (0.0, 0.0, 0) }
    }
}

impl Series {
    pub fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        let (sum_x, sum_y, count) = &mut self.waiting;
        (*sum_x, *sum_y, *count) = (*sum_x + x, *sum_y + y, *count + 1);
        if *count < self.stride {
            return;
        }
        let count = *count as f64;
        self.points.push((*sum_x / count, *sum_y / count));
        self.waiting = (0.0, 0.0, 0);
        if self.points.len() >= POINTS {
            let mean = |pair: &[(f64, f64)]| {
                let [first, last] = [pair[0], pair[pair.len() - 1]];
                ((first.0 + last.0) / 2.0, (first.1 + last.1) / 2.0)
            };
            self.points = self.points.chunks(2).map(mean).collect();
            self.stride *= 2;
        }
    }

    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// A training image whose loss was high.
pub struct Hard {
    pub name: String,
    pub class: String,
    pub loss: f32,
}

pub struct Seen {
    pub about: About,
    pub step: u64,
    pub total: u64,
    pub epoch: u64,
    /// Of the last step.
    pub loss: f64,
    pub learning_rate: f64,
    /// How many of the validation images are done, while that goes on.
    pub validating: Option<(usize, usize)>,
    /// Over epochs: training and validation.
    pub losses: [Series; 2],
    pub metrics: [Series; 2],
    /// The task's first figure, as it is called.
    pub metric: Option<String>,
    /// Images a second, of late.
    pub speeds: VecDeque<u64>,
    /// A line an epoch, the last one first.
    pub epochs: VecDeque<String>,
    /// Those of the last steps first.
    pub hardest: VecDeque<Hard>,
    pub class_losses: Vec<Option<f64>>,
    /// When the first step was seen, and which.
    began: Option<(Instant, u64)>,
}

impl Seen {
    pub fn of(about: About) -> Self {
        Self {
            about,
            step: 0,
            total: 0,
            epoch: 0,
            loss: f64::NAN,
            learning_rate: f64::NAN,
            validating: None,
            losses: Default::default(),
            metrics: Default::default(),
            metric: None,
            speeds: VecDeque::new(),
            epochs: VecDeque::new(),
            hardest: VecDeque::new(),
            class_losses: Vec::new(),
            began: None,
        }
    }

    pub fn step(&mut self, report: &StepReport) {
        self.validating = None;
        self.began.get_or_insert_with(|| (Instant::now(), report.step));
        (self.step, self.total, self.epoch) = (report.step, report.total_steps, report.epoch);
        (self.loss, self.learning_rate) = (report.loss.into(), report.learning_rate);
        let at = report.step as f64 / self.about.batches.max(1) as f64;
        self.losses[0].push(at, report.loss.into());
        if let Some(metric) = report.metrics.first() {
            self.metric.get_or_insert_with(|| metric.name.to_string());
            self.metrics[0].push(at, metric.value);
        }
        self.speeds.push_back(report.images_per_second.max(0.0) as u64);
        if self.speeds.len() > SPEEDS {
            self.speeds.pop_front();
        }
        let mut losses = report.losses.clone();
        losses.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        let set = &self.about.images;
        for hard in losses.iter().take(OF_A_STEP).rev().filter(|hard| (hard.image as usize) < set.len()) {
            let class = match set.labels().get(hard.image as usize) {
                Label::Class(class) => set.classes().get(class as usize).cloned().unwrap_or_default(),
                Label::Row(_) => String::new(),
            };
            self.hardest.push_front(Hard { name: set.image_name(hard.image as usize), class, loss: hard.loss });
        }
        self.hardest.truncate(HARDEST);
    }

    pub fn epoch(&mut self, report: &EpochReport) {
        self.validating = None;
        let at = report.step as f64 / self.about.batches.max(1) as f64;
        let mut line = format!("{:>4}  {:.4}", report.epoch, report.train_loss);
        if let Some(metric) = report.train_metrics.first() {
            line += &format!("  {}", metric.shown());
        }
        if let Some(validation) = &report.validation {
            self.losses[1].push(at, validation.loss);
            line += &format!("  val {:.4}", validation.loss);
            if let Some(metric) = validation.metrics.first() {
                self.metrics[1].push(at, metric.value);
                line += &format!("  {}", metric.shown());
            }
        }
        if report.best {
            line += "  best";
        }
        self.epochs.push_front(line);
        self.epochs.truncate(EPOCHS);
    }

    /// Time that the run still takes at the speed so far, once that is known.
    pub fn left(&self) -> Option<Duration> {
        let (began, first) = self.began?;
        let done = self.step.checked_sub(first).filter(|steps| *steps > 0)?;
        let a_step = began.elapsed().as_secs_f64() / done as f64;
        Some(Duration::from_secs_f64(a_step * self.total.saturating_sub(self.step) as f64))
    }

    /// The classes of the highest loss at the last look.
    pub fn worst_classes(&self) -> Vec<(&str, f64)> {
        let classes = self.about.images.classes().iter().zip(&self.class_losses);
        let mut worst: Vec<(&str, f64)> =
            classes.filter_map(|(class, loss)| Some((class.as_str(), (*loss)?))).collect();
        worst.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_course_in_few_points() {
        let mut series = Series::default();
        (0..100_000).for_each(|at| series.push(f64::from(at), 2.0 * f64::from(at)));
        series.push(0.0, f64::NAN);
        let points = series.points();
        assert!(points.len() < POINTS && points.len() > POINTS / 3, "{}", points.len());
        assert!(points.iter().all(|(x, y)| (y - 2.0 * x).abs() < 1e-6) && points.is_sorted_by(|a, b| a.0 < b.0));
        assert!(points[points.len() - 1].0 > 98_000.0);
    }
}
