//! What is wrong with data, settings and how a run goes, as it is told.

use std::path::PathBuf;

use gabor::{
    report::Diagnosis,
    train::{Control, EpochReport, Observer, StepReport, TrainError, Vitals},
};
use serde_json::json;

use crate::cli::{
    console::{Console, Flags},
    report,
};

/// Tells what is wrong with how a run goes, as soon as it is found.
pub struct Doctor {
    diagnosis: Diagnosis,
    told: usize,
    /// The run's, which keeps it.
    folder: PathBuf,
    console: Console,
}

impl Doctor {
    pub fn new(diagnosis: Diagnosis, folder: PathBuf, console: Console) -> Self {
        Self { diagnosis, told: 0, folder, console }
    }

    /// Looks back over a run that has ended, and gives all that was found.
    pub fn end(mut self) -> Result<Vec<String>, TrainError> {
        self.diagnosis.on_end();
        self.tell()?;
        Ok(self.diagnosis.found().iter().map(ToString::to_string).collect())
    }

    fn tell(&mut self) -> Result<(), TrainError> {
        let new: Vec<String> = self.diagnosis.found()[self.told..].iter().map(ToString::to_string).collect();
        if new.is_empty() {
            return Ok(());
        }
        if let Some(mut events) = self.console.events() {
            new.iter().try_for_each(|text| events.write("finding", json!({"text": text})))?;
        }
        if let Err(error) = report::add_findings(&self.folder, &new) {
            tracing::warn!("{error:#}");
        }
        warn(new);
        self.told = self.diagnosis.found().len();
        Ok(())
    }
}

impl Observer for Doctor {
    fn on_step(&mut self, report: &StepReport, control: &mut Control) -> Result<(), TrainError> {
        self.diagnosis.on_step(report, control)?;
        self.tell()
    }

    fn on_vitals(&mut self, vitals: &Vitals, control: &mut Control) -> Result<(), TrainError> {
        self.diagnosis.on_vitals(vitals, control)?;
        self.tell()
    }

    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        self.diagnosis.on_epoch(report, control)?;
        self.tell()
    }
}

/// Says on standard error what is odd about data or settings.
pub fn warn(findings: impl IntoIterator<Item = String>) {
    let flags = Flags::of(crate::cli::command().find_subcommand("train"));
    findings.into_iter().for_each(|finding| tracing::warn!("{}", flags.named(&finding)));
}
