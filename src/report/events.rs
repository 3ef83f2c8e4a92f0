//! A run as a stream of events for other programs: a JSON object a line.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::{
    tasks::Metric,
    train::{Control, EpochReport, Observer, Progress, StepReport, TrainError, Vitals},
};

/// Writes what happens in a run as it happens, an object a line, each with the name of its `event`:
///
/// - `step`: `step`, `epoch`, `loss`, `learning_rate`, `images_per_second` and the task's figures of the batch;
/// - `vitals`: the fields of [`Vitals`];
/// - `epoch`: `epoch`, `step`, `train` and `val` with `loss` and the task's figures each, `learning_rate`, `images_per_second`,
///   `seconds`, `best`, and what observers log;
/// - `checkpoint`: the `step` and the number of whole `epochs` that it holds.
///
/// Others write events of their own by [`EventLog::write`]. What is not finite is null. Once nobody reads the events, the run goes
/// on without them.
pub struct EventLog<W>(W);

impl<W: Write> EventLog<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self(out)
    }

    /// Writes an event of this name with these fields.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, event: &str, mut fields: Value) -> Result<(), TrainError> {
        fields["event"] = event.into();
        let written = writeln!(self.0, "{fields}").and_then(|()| self.0.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|source| TrainError::File { path: "standard output".into(), source }),
        }
    }
}

/// `fields` with figures by their keys.
fn with(mut fields: Value, metrics: &[Metric]) -> Value {
    metrics.iter().for_each(|metric| fields[metric.key()] = metric.value.into());
    fields
}

impl<W: Write> Observer for EventLog<W> {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        let fields = json!({
            "step": report.step, "epoch": report.epoch, "loss": report.loss, "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
        });
        self.write("step", with(fields, &report.metrics))
    }

    fn on_vitals(&mut self, vitals: &Vitals, _: &mut Control) -> Result<(), TrainError> {
        self.write("vitals", json!(vitals))
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        let of = |loss: f64, metrics: &[Metric]| with(json!({"loss": loss}), metrics);
        let fields = json!({
            "epoch": report.epoch, "step": report.step, "train": of(report.train_loss, &report.train_metrics),
            "val": report.validation.as_ref().map(|validation| of(validation.loss, &validation.metrics)),
            "learning_rate": report.learning_rate, "images_per_second": report.images_per_second,
            "seconds": report.seconds, "best": report.best,
        });
        self.write("epoch", with(fields, &report.logged))
    }

    fn on_checkpoint(&mut self, progress: &Progress) -> Result<(), TrainError> {
        self.write("checkpoint", json!({"step": progress.step, "epochs": progress.epochs()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(out: &[u8]) -> Vec<Value> {
        out.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn each_event_is_a_line() {
        let mut out = Vec::new();
        let mut log = EventLog::new(&mut out);
        let control = &mut Control::default();
        let step = StepReport {
            step: 3,
            epoch: 1,
            total_steps: 8,
            loss: 0.5,
            losses: Vec::new(),
            metrics: vec![Metric::share("top-5 accuracy", 0.75)],
            learning_rate: 0.25,
            images_per_second: f64::NAN,
        };
        log.on_step(&step, control).unwrap();
        let epoch = EpochReport {
            epoch: 1,
            step: 4,
            train_loss: 0.5,
            train_metrics: vec![Metric::share("accuracy", 0.75)],
            validation: None,
            learning_rate: 0.25,
            images_per_second: 8.0,
            seconds: 1.5,
            logged: vec![Metric::number("spread", 2.0)],
            best: true,
        };
        log.on_epoch(&epoch, control).unwrap();
        log.write("finding", json!({"text": "two\nlines"})).unwrap();
        assert_eq!(
            lines(&out),
            [
                json!({
                    "event": "step", "step": 3, "epoch": 1, "loss": 0.5, "top5_accuracy": 0.75, "learning_rate": 0.25,
                    "images_per_second": null,
                }),
                json!({
                    "event": "epoch", "epoch": 1, "step": 4, "train": {"loss": 0.5, "accuracy": 0.75}, "val": null,
                    "learning_rate": 0.25, "images_per_second": 8.0, "seconds": 1.5, "best": true, "spread": 2.0,
                }),
                json!({"event": "finding", "text": "two\nlines"}),
            ]
        );
    }

    #[test]
    fn a_run_goes_on_when_nobody_reads() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        EventLog::new(Closed).write("step", json!({"step": 1})).unwrap();
    }
}
