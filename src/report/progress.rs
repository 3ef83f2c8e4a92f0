//! The progress of a run, for a person.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::ProgressStyle;

use crate::{
    tasks::Metric,
    train::{Control, EpochReport, Observer, StepReport, TrainError},
};

/// Shows a run to a person: a bar with loss, the task's first figure, images a second and the time left while an epoch runs, where
/// standard error is a terminal, and one line for each epoch that is done.
pub struct ProgressBar<W> {
    bar: indicatif::ProgressBar,
    lines: W,
    epochs: u64,
    batches: u64,
    epoch: u64,
    loss: f64,
    /// The task's first figure, summed.
    metric: f64,
    images: usize,
    started: Instant,
    first_step: u64,
}

impl<W: Write> ProgressBar<W> {
    /// A bar for a run of `epochs` epochs of `batches` steps each, which writes the lines of finished epochs to
    /// `lines`.
    pub fn new(epochs: u64, batches: usize, lines: W) -> Self {
        let bar = indicatif::ProgressBar::new(batches as u64);
        // The template is fixed, so it can only be right or wrong for everyone.
        let style = ProgressStyle::with_template("epoch {prefix} {bar:24} {pos}/{len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸ "));
        Self {
            bar,
            lines,
            epochs,
            batches: batches as u64,
            epoch: 0,
            loss: 0.0,
            metric: 0.0,
            images: 0,
            started: Instant::now(),
            first_step: 0,
        }
    }

    /// Time that the run still takes at the speed so far, once that is known.
    fn left(&self, report: &StepReport) -> Option<Duration> {
        let done = report.step.checked_sub(self.first_step).filter(|steps| *steps > 0)?;
        let a_step = self.started.elapsed().as_secs_f64() / done as f64;
        Some(Duration::from_secs_f64(a_step * report.total_steps.saturating_sub(report.step) as f64))
    }
}

impl<W: Write> Observer for ProgressBar<W> {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        if self.epoch == 0 {
            (self.started, self.first_step) = (Instant::now(), report.step);
        }
        if self.epoch != report.epoch {
            (self.epoch, self.loss, self.metric, self.images) = (report.epoch, 0.0, 0.0, 0);
            self.bar.set_prefix(format!("{}/{}", report.epoch, self.epochs));
            self.bar.reset();
        }
        self.loss += f64::from(report.loss) * report.losses.len() as f64;
        self.images += report.losses.len();
        let images = self.images.max(1) as f64;
        let metric = report.metrics.first().map(|metric| {
            self.metric += metric.value * report.losses.len() as f64;
            Metric { value: self.metric / images, ..metric.clone() }
        });
        self.bar.set_message(format!(
            "loss {:.4}{}  {:.0} images/s{}",
            self.loss / images,
            shown("", metric.as_ref()),
            report.images_per_second,
            self.left(report).map_or(String::new(), |left| format!("  {} left", clock(left))),
        ));
        self.bar.set_position((report.step - 1) % self.batches.max(1) + 1);
        Ok(())
    }

    fn on_evaluation(&mut self, done: usize, total: usize) {
        self.bar.set_message(format!("validating {done} of {total}"));
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        let mut line = format!(
            "epoch {}/{}  loss {:.4}{}",
            report.epoch,
            self.epochs,
            report.train_loss,
            shown("", report.train_metrics.first())
        );
        if let Some(validation) = &report.validation {
            let metric = shown("val ", validation.metrics.first());
            // Writing to a string cannot fail.
            let _ = write!(line, "  val loss {:.4}{metric}", validation.loss);
        }
        for metric in &report.logged {
            line.push_str(&shown("", Some(metric)));
        }
        let seconds = report.seconds;
        let _ = write!(line, "  {:.0} images/s  {seconds:.1} s", report.images_per_second);
        if report.best {
            line.push_str("  best so far");
        }
        let lines = &mut self.lines;
        let written = self.bar.suspend(|| writeln!(lines, "{line}").and_then(|()| lines.flush()));
        match written {
            // Nobody reads the lines any more; the run is worth finishing all the same.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(|source| TrainError::File { path: "standard output".into(), source })?,
        }
        if report.epoch >= self.epochs {
            self.bar.finish_and_clear();
        }
        Ok(())
    }
}

impl<W> Drop for ProgressBar<W> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A figure in a line of figures, where there is one.
fn shown(prefix: &str, metric: Option<&Metric>) -> String {
    metric.map_or(String::new(), |metric| format!("  {prefix}{metric}"))
}

/// A duration as `m:ss` or `h:mm:ss`.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Evaluation;

    #[test]
    fn an_epoch_leaves_a_line() {
        let mut lines = Vec::new();
        let mut bar = ProgressBar::new(3, 10, &mut lines);
        let metrics = vec![Metric::share("accuracy", 0.95)];
        let report = EpochReport {
            epoch: 2,
            step: 20,
            train_loss: 0.123_45,
            train_metrics: vec![Metric::share("accuracy", 0.987_6)],
            validation: Some(Evaluation { loss: 0.2, metrics, ..Evaluation::default() }),
            learning_rate: 1e-3,
            images_per_second: 1234.5,
            seconds: 7.25,
            logged: Vec::new(),
            best: true,
        };
        bar.on_epoch(&report, &mut Control::default()).unwrap();
        drop(bar);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "epoch 2/3  loss 0.1235  accuracy 98.76%  val loss 0.2000  val accuracy 95.00%  1234 images/s  7.2 s  \
             best so far\n"
        );
    }

    #[test]
    fn times_are_read_as_on_a_clock() {
        assert_eq!(clock(Duration::from_secs(75)), "1:15");
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 62)), "3:01:02");
    }
}
