//! Which learning rates a model can be trained with: the loss as the rate rises (Smith 2017, "Cyclical learning rates for
//! training neural networks").

use super::{Session, TrainError};
use crate::{data::Loader, settings::above};

crate::settings! {
    /// How the learning rate rises over a range test.
    #[command(next_help_heading = "Range")]
    pub struct RangeTest {
        /// Learning rate of the first step.
        #[arg(long, value_name = "RATE")]
        pub from: f64 = 1e-7, in above(0.0);
        /// Learning rate of the last step.
        #[arg(long, value_name = "RATE")]
        pub to: f64 = 10.0, in above(0.0);
        /// Steps between them, the rate rising by the same factor in each.
        #[arg(long, value_name = "N")]
        pub steps: usize = 100, in 10..=100_000;
    }
}

/// One step of a range test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangePoint {
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Loss of its batch, before the weights change by it.
    pub loss: f64,
    /// The losses so far, smoothed: their exponential moving average without its bias towards 0.
    pub smoothed: f64,
}

/// What a range test came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeReport {
    /// The steps, to where the loss left its range.
    pub points: Vec<RangePoint>,
    /// The learning rate at which the loss falls most steeply; none where it does not fall.
    pub suggestion: Option<f64>,
    /// The loss left its range before the last step.
    pub diverged: bool,
}

/// Share of itself that the smoothed loss keeps a step.
const SMOOTHING: f64 = 0.9;

/// The test ends where the smoothed loss is so many times its least, as in fastai.
const DIVERGED: f64 = 4.0;

impl RangeTest {
    /// Learning rate of step `at`, counted from 0.
    fn rate(&self, at: usize) -> f64 {
        self.from * (self.to / self.from).powf(at as f64 / (self.steps - 1) as f64)
    }

    /// Trains `session` on the images of `loader`, at a rate that rises exponentially, until the smoothed loss is 4 times its
    /// least or no number. `progress` is told how many steps are done. The session is not for training on afterwards.
    ///
    /// # Errors
    /// If a setting is out of its range, an image cannot be read or the device fails.
    pub fn run(
        &self,
        session: &mut Session,
        loader: &Loader,
        progress: &mut dyn FnMut(usize),
    ) -> Result<RangeReport, TrainError> {
        self.check().map_err(TrainError::Setting)?;
        if self.from >= self.to {
            let message = format!("`from` is {:e} and must be below `to`, {:e}", self.from, self.to);
            return Err(TrainError::Setting(message));
        }
        session.set_total_steps(self.steps as u64);
        session.begin_from(loader)?;
        let accumulate = session.recipe().accumulate;
        let mut points: Vec<RangePoint> = Vec::new();
        let (mut average, mut least) = (0.0, f64::INFINITY);
        let mut group = Vec::new();
        for epoch in 0.. {
            let mut batches = loader.epoch(epoch, 0).peekable();
            while let Some(batch) = batches.next() {
                group.push(batch?);
                if group.len() < accumulate && batches.peek().is_some() {
                    continue;
                }
                let learning_rate = self.rate(points.len());
                let mut finished = session.train_step_on(&mut group, learning_rate)?;
                group.drain(..).for_each(|batch| loader.recycle(batch));
                finished.extend(session.finish_steps()?);
                for figures in finished {
                    let loss = f64::from(figures.loss);
                    average += (1.0 - SMOOTHING) * (loss - average);
                    let smoothed = average / (1.0 - SMOOTHING.powi(points.len() as i32 + 1));
                    let diverged = !loss.is_finite() || smoothed > DIVERGED * least;
                    least = least.min(smoothed);
                    if loss.is_finite() {
                        points.push(RangePoint { learning_rate, loss, smoothed });
                    }
                    progress(points.len());
                    if diverged || points.len() == self.steps {
                        return Ok(RangeReport { suggestion: steepest(&points), points, diverged });
                    }
                }
            }
        }
        Ok(RangeReport { points, suggestion: None, diverged: false })
    }
}

/// The rate at which the loss falls most steeply with the logarithm of the rate, before its least: by the line that fits best
/// through the losses on both sides of it, which a smoothed loss, of those before it alone, would show too late.
fn steepest(points: &[RangePoint]) -> Option<f64> {
    let reach = (points.len() / 10).max(2);
    let least = points.iter().enumerate().min_by(|(_, a), (_, b)| a.smoothed.total_cmp(&b.smoothed))?.0;
    let slope = |at: usize| {
        let near = &points[at - reach..=at + reach];
        let mean = near.iter().map(|point| point.loss).sum::<f64>() / near.len() as f64;
        let along = |at: usize| at as f64 - reach as f64;
        near.iter().enumerate().map(|(at, point)| along(at) * (point.loss - mean)).sum::<f64>()
    };
    let inner = reach..points.len().saturating_sub(reach);
    let slopes = inner.filter(|at| *at <= least).map(|at| (slope(at), points[at].learning_rate));
    slopes.min_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(slope, _)| *slope < 0.0).map(|(_, rate)| rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_by_the_same_factor_from_first_to_last() {
        let test = RangeTest { from: 1e-4, to: 1.0, steps: 11 };
        assert_eq!((test.rate(0), test.rate(10)), (1e-4, 1.0));
        assert!((test.rate(5) / 1e-2 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_most_steeply() {
        // A logistic fall around the rate 1e-3, and a rise from 0.1 on.
        let test = RangeTest { from: 1e-6, to: 1.0, steps: 61 };
        let loss = |log: f64| 2.0 - 1.0 / (1.0 + (-4.0 * (log + 3.0)).exp()) + (20.0 * (log + 1.0)).max(0.0);
        let points: Vec<RangePoint> = (0..test.steps)
            .map(|at| {
                let (learning_rate, loss) = (test.rate(at), loss(test.rate(at).log10()));
                RangePoint { learning_rate, loss, smoothed: loss }
            })
            .collect();
        let found = steepest(&points).unwrap();
        assert!((found.log10() + 3.0).abs() < 0.11, "{found}");
        let rising = |at: usize| RangePoint { learning_rate: test.rate(at), loss: at as f64, smoothed: at as f64 };
        assert_eq!(steepest(&(0..20).map(rising).collect::<Vec<_>>()), None);
        assert_eq!(steepest(&points[..3]), None);
    }
}
