//! How the model of a run does at its end.

use anyhow::Result;
use gabor::{
    data::Dataset,
    report::page,
    tasks::{Evaluation, Predictions},
    train::{Progress, Session},
};

use super::run::Job;
use crate::cli::{console::Console, eval, report, run_folder::RunFolder};

/// How the model of a run does at its end.
pub struct Judged {
    /// Whether the images are those for testing, and not for validation.
    pub is_test: bool,
    pub evaluation: Evaluation,
    predictions: Predictions,
    images: Dataset,
}

impl Judged {
    pub fn shown(&self) -> page::Judged<'_> {
        let Self { is_test, evaluation, predictions, images } = self;
        page::Judged { part: if *is_test { "test" } else { "val" }, evaluation, predictions, images }
    }
}

impl Job {
    /// Writes the page of the run. The run is whole without it: what hinders it is only told.
    pub(super) fn report(&self, session: &Session, folder: &RunFolder, progress: &Progress, judged: &Judged) {
        let part = if judged.is_test { "test" } else { "validation" };
        let written = report::write(
            folder.path(),
            &report::Told {
                card: &session.card(&self.splits.train, progress),
                config: &self.config,
                device: &session.device(),
                images: &eval::counts(&self.splits),
                judged: Some((part, &judged.evaluation, &judged.predictions, &judged.images)),
            },
        );
        if let Err(error) = written {
            tracing::warn!(
                "the report was not written: {error:#}. The run is whole without it; gabor report {} writes it",
                folder.path().display()
            );
        }
    }

    /// How the weights of the best epoch do on the test images, or the validation images where there are none.
    pub(super) fn judge(
        &self,
        session: &mut Session,
        folder: &RunFolder,
        progress: &Progress,
        console: Console,
    ) -> Result<Option<Judged>> {
        let is_test = self.splits.test.is_some();
        let Some(images) = self.splits.test.clone().or_else(|| self.splits.val.clone()) else { return Ok(None) };
        if progress.best.is_some() && progress.best_epoch < progress.step.div_ceil(progress.batches.max(1) as u64) {
            session.load_weights(&folder.best())?;
        }
        let bar = console.bar(if is_test { "testing" } else { "judging" }, images.len());
        let loader = self.loader(images.clone())?;
        let predictions = session.predictions(&loader, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let evaluation = session.model().task.judge(&predictions);
        Ok(Some(Judged { is_test, evaluation, predictions, images }))
    }
}
