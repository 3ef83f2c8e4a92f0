//! Logs as CSV files.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::train::{Control, EpochReport, Observer, Progress, StepReport, TrainError, write_whole};

/// A CSV file to which each row goes as soon as it is known.
struct CsvFile {
    path: PathBuf,
    writer: csv::Writer<File>,
    /// Names of the columns; those of the first row, where there is none yet.
    columns: Option<Vec<String>>,
}

/// Name and value of a column.
type Cell = (String, String);

/// A cell of a number.
fn number(name: impl Into<String>, value: f64) -> Cell {
    (name.into(), format!("{value:?}"))
}

impl CsvFile {
    /// An empty file at `path`, in place of one that is there. Its first row will be preceded by the names of the
    /// columns.
    fn create(path: &Path) -> Result<Self, TrainError> {
        let file = File::create(path).map_err(|source| TrainError::File { path: path.into(), source })?;
        Ok(Self { path: path.into(), writer: csv::Writer::from_writer(file), columns: None })
    }

    /// The file at `path`, which has these columns among others, without the rows whose first column is above `last`, which a run
    /// that was killed wrote after its last checkpoint. Of one that is damaged a copy is kept, and the rows that are whole.
    ///
    /// With `up_to_last` it must hold that row, unless that is 0: it is damaged without it.
    fn resume(path: &Path, last: u64, up_to_last: bool, columns: &[&str]) -> Result<Self, TrainError> {
        let failed = |source| TrainError::File { path: path.into(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            // It is no text.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                put_aside(path)?;
                return Self::create(path);
            }
            Err(error) => return Err(failed(error)),
        };
        let number = |row: &str| row.split(',').next().and_then(|column| column.parse::<u64>().ok());
        // A row without its end is one that was being written when the run was killed.
        let whole = |row: &&str| row.ends_with('\n');
        let mut rows = text.split_inclusive('\n').filter(whole);
        let is_wanted = up_to_last && last > 0;
        let Some(head) = rows.next() else {
            if is_wanted {
                put_aside(path)?;
            }
            return Self::create(path);
        };
        let names: Vec<String> = head.trim_end().split(',').map(String::from).collect();
        if names.first().map(String::as_str) != columns.first().copied()
            || !columns.iter().all(|column| names.iter().any(|name| name == column))
        {
            put_aside(path)?;
            return Self::create(path);
        }
        let is_cell = |cell: &str| cell.is_empty() || cell.parse::<f64>().is_ok();
        let sound = |row: &&str| {
            let cells = || row.trim_end().split(',');
            number(row).is_some() && cells().count() == names.len() && cells().all(is_cell)
        };
        let (sound, damaged): (Vec<&str>, Vec<&str>) = rows.partition(sound);
        let has_last = sound.iter().any(|row| number(row) == Some(last));
        if !damaged.is_empty() || is_wanted && !has_last {
            put_aside(path)?;
        }
        let kept = sound.into_iter().filter(|row| number(row).is_some_and(|number| number <= last));
        let kept: String = std::iter::once(head).chain(kept).collect();
        write_whole(path, kept.as_bytes())?;
        let file = File::options().append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.into(), writer: csv::Writer::from_writer(file), columns: Some(names) })
    }

    /// Writes a row. Each cell goes to the column of its name; one without a column is left out, so that a file keeps the
    /// columns that it began with.
    fn write(&mut self, row: &[Cell]) -> Result<(), TrainError> {
        let mut write = || {
            if self.columns.is_none() {
                self.writer.write_record(row.iter().map(|(name, _)| name))?;
            }
            let columns = self.columns.get_or_insert_with(|| row.iter().map(|(name, _)| name.clone()).collect());
            let cell = |column: &String| row.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value);
            self.writer.write_record(columns.iter().map(cell))?;
            self.writer.flush()
        };
        let written: io::Result<()> = write();
        written.map_err(|source| TrainError::File { path: self.path.clone(), source })
    }
}

/// Keeps what is damaged at `path` under another name.
fn put_aside(path: &Path) -> Result<(), TrainError> {
    let aside = aside(path);
    fs::rename(path, &aside).map_err(|source| TrainError::File { path: path.into(), source })?;
    tracing::warn!(
        "{} is damaged: it is now {}, and goes on with the rows that are whole",
        path.display(),
        aside.display()
    );
    Ok(())
}

/// A name beside `path` that is free, such as `metrics.csv.damaged-1`.
fn aside(path: &Path) -> PathBuf {
    let name = |number: usize| {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    (1..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

/// Logs each epoch as a row of a CSV file: `epoch`, `step`, `train_loss` and `train_NAME` for each of the task's figures,
/// `val_loss` and `val_NAME` likewise (empty without validation), `learning_rate`, `images_per_second`, `seconds`, and what
/// observers before this one log in the first epoch.
pub struct EpochLog(CsvFile);

impl EpochLog {
    /// Begins a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        CsvFile::create(path).map(Self)
    }

    /// Goes on with the file of a run that is resumed at `progress`; rows of epochs that will be done again are
    /// dropped.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, progress: &Progress) -> Result<Self, TrainError> {
        CsvFile::resume(path, progress.epochs(), true, &["epoch", "step", "train_loss"]).map(Self)
    }
}

impl Observer for EpochLog {
    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        let mut row = vec![("epoch".into(), report.epoch.to_string()), ("step".into(), report.step.to_string())];
        row.push(number("train_loss", report.train_loss));
        row.extend(report.train_metrics.iter().map(|metric| number(format!("train_{}", metric.key()), metric.value)));
        match &report.validation {
            Some(validation) => {
                row.push(number("val_loss", validation.loss));
                let metrics = validation.metrics.iter();
                row.extend(metrics.map(|metric| number(format!("val_{}", metric.key()), metric.value)));
            }
            None => {
                row.push(("val_loss".into(), String::new()));
                let metrics = report.train_metrics.iter();
                row.extend(metrics.map(|metric| (format!("val_{}", metric.key()), String::new())));
            }
        }
        row.push(number("learning_rate", report.learning_rate));
        row.push(number("images_per_second", report.images_per_second));
        row.push(number("seconds", report.seconds));
        row.extend(report.logged.iter().map(|metric| number(metric.key(), metric.value)));
        self.0.write(&row)
    }
}

/// Logs each step as a row of a CSV file: `step`, `loss`, `learning_rate`, `images_per_second`.
pub struct StepLog(CsvFile);

impl StepLog {
    /// Begins a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        CsvFile::create(path).map(Self)
    }

    /// Goes on with the file of a run that is resumed at `progress`; rows of steps that will be done again are dropped.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, progress: &Progress) -> Result<Self, TrainError> {
        CsvFile::resume(path, progress.step, false, &["step", "loss"]).map(Self)
    }
}

impl Observer for StepLog {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        self.0.write(&[
            ("step".into(), report.step.to_string()),
            ("loss".into(), format!("{:?}", report.loss)),
            number("learning_rate", report.learning_rate),
            number("images_per_second", report.images_per_second),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Evaluation, Metric};

    fn step(step: u64) -> StepReport {
        StepReport {
            step,
            epoch: 1,
            total_steps: 10,
            loss: 0.5,
            losses: Vec::new(),
            metrics: Vec::new(),
            learning_rate: 0.001,
            images_per_second: 100.0,
        }
    }

    #[test]
    fn rows_are_in_the_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        let mut log = StepLog::create(&path).unwrap();
        log.on_step(&step(1), &mut Control::default()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "step,loss,learning_rate,images_per_second\n1,0.5,0.001,100.0\n");
    }

    #[test]
    fn a_resumed_log_loses_what_will_be_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        fs::write(&path, "step,loss\n1,0.5\n2,0.4\n3,0.3\n1").unwrap();
        let mut log = StepLog::resume(&path, &Progress { step: 2, ..Progress::default() }).unwrap();
        log.on_step(&step(3), &mut Control::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "step,loss\n1,0.5\n2,0.4\n3,0.5\n");
    }

    #[test]
    fn a_log_of_other_columns_or_rows_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        let progress = Progress { step: 3, ..Progress::default() };
        let cases = [
            ("garbage\n1,2\n", "step,loss,learning_rate,images_per_second\n4,0.5,0.001,100.0\n"),
            ("loss,step\n1,2\n", "step,loss,learning_rate,images_per_second\n4,0.5,0.001,100.0\n"),
            ("step,loss\n1,0.5\n2,gar\nbage\n3,0.25,1\n3,0.25\n", "step,loss\n1,0.5\n3,0.25\n4,0.5\n"),
        ];
        for (number, (text, expected)) in cases.into_iter().enumerate() {
            fs::write(&path, text).unwrap();
            StepLog::resume(&path, &progress).unwrap().on_step(&step(4), &mut Control::default()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
            let aside = folder.path().join(format!("steps.csv.damaged-{}", number + 1));
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_log_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        for number in [1, 2] {
            fs::write(&path, b"step,loss\n1,\xff\n").unwrap();
            StepLog::resume(&path, &Progress::default()).unwrap().on_step(&step(1), &mut Control::default()).unwrap();
            let damaged = folder.path().join(format!("steps.csv.damaged-{number}"));
            assert_eq!(fs::read(damaged).unwrap(), b"step,loss\n1,\xff\n");
            assert!(fs::read_to_string(&path).unwrap().ends_with("1,0.5,0.001,100.0\n"));
        }
    }

    #[test]
    fn an_epoch_that_was_cut_short_is_logged_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let report = |epoch, validation| EpochReport {
            epoch,
            step: 10 * epoch,
            train_loss: 1.0,
            train_metrics: vec![Metric::share("accuracy", 0.5)],
            validation,
            learning_rate: 0.1,
            images_per_second: 50.0,
            seconds: 2.0,
            logged: Vec::new(),
            best: false,
        };
        let mut log = EpochLog::create(&path).unwrap();
        log.on_epoch(&report(1, None), &mut Control::default()).unwrap();
        let metrics = vec![Metric::share("accuracy", 0.75)];
        log.on_epoch(
            &report(2, Some(Evaluation { loss: 0.25, metrics, ..Evaluation::default() })),
            &mut Control::default(),
        )
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().last(), Some("2,20,1.0,0.5,0.25,0.75,0.1,50.0,2.0"));
        drop(log);
        let progress = Progress { step: 15, batches: 10, ..Progress::default() };
        EpochLog::resume(&path, &progress).unwrap().on_epoch(&report(2, None), &mut Control::default()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(rows, ["1,10,1.0,0.5,,,0.1,50.0,2.0", "2,20,1.0,0.5,,,0.1,50.0,2.0"]);
    }
}
