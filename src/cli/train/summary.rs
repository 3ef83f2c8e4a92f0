//! What a person is told about a run, and the same as JSON.

use std::fmt::Write;

use gabor::{
    plan::Tuned,
    train::{EpochReport, Evaluation, Outcome, Progress, Session, StopReason},
};
use serde_json::{Value, json};

use super::run::Job;
use crate::cli::{console::grouped, run_folder::RunFolder};

const MIB: f64 = (1 << 20) as f64;

/// What will be trained, on what and where.
pub fn of_run(job: &Job, session: &Session, folder: &RunFolder, resumed: Option<&Progress>) -> String {
    let splits = &job.splits;
    let mut images = format!("{} training", grouped(splits.train.len()));
    for (set, name) in [(&splits.val, "validation"), (&splits.test, "test")] {
        if let Some(set) = set {
            // Writing to a string cannot fail.
            let _ = write!(images, ", {} {name}", grouped(set.len()));
        }
    }
    let mut text = format!(
        "data    {}: {images} images of {}, {} classes\n",
        job.config.data_name(),
        splits.image_size(),
        splits.classes().len()
    );
    if !splits.skipped.is_empty() {
        let _ = writeln!(text, "        {} images that cannot be read are left out", splits.skipped.len());
    }
    let parameters = grouped(session.parameters().trained());
    let frozen = match session.parameters().frozen() {
        0 => String::new(),
        count => format!(", {} of them frozen", grouped(count)),
    };
    let _ = writeln!(text, "model   {}, {parameters} parameters{frozen}", session.model().name);
    let _ = writeln!(text, "device  {}", session.device());
    if let Tuned { calls, timed: 1.., faster, time, .. } = session.tuned() {
        let seconds = time.as_secs_f64();
        let _ = writeln!(text, "kernels {calls} with a choice; timed for {seconds:.1} s, {faster} changed");
    }
    if session.recipe().recompute {
        let [planned, saved] = [session.memory().planned, session.recomputation_saves()].map(|b| b as f64 / MIB);
        let _ = writeln!(text, "memory  {planned:.1} MiB a step; recomputation saves {saved:.1} MiB");
    }
    let _ = write!(text, "run     {}", folder.path().display());
    if let Some(progress) = resumed {
        let _ = write!(text, ", resumed after step {}", progress.step);
    }
    text
}

/// How the run ended.
pub fn of_outcome(folder: &RunFolder, outcome: &Outcome, test: Option<&Evaluation>) -> String {
    let folder = folder.path().display();
    let progress = &outcome.progress;
    if outcome.reason == StopReason::Stopped {
        return format!("stopped after step {}; go on with gabor train --resume {folder}\n", progress.step);
    }
    let validated = outcome.last_epoch.as_ref().is_some_and(|report| report.validation.is_some());
    let images = if validated { "validation images" } else { "training images, as there are no others" };
    let mut text = String::new();
    if let Some(test) = test {
        let _ = writeln!(
            text,
            "test accuracy {:.2}%, loss {:.4} on {} images, with the weights of epoch {}, the best on the {images}",
            100.0 * test.accuracy,
            test.loss,
            test.images,
            progress.best_epoch
        );
    } else if let Some(best) = progress.best {
        let accuracy = 100.0 * best;
        let _ = writeln!(text, "best accuracy {accuracy:.2}% on the {images}, in epoch {}", progress.best_epoch);
    }
    let _ = writeln!(text, "the run is in {folder}");
    text
}

/// The same as JSON, with more figures.
pub fn figures(
    job: &Job,
    session: &Session,
    folder: &RunFolder,
    outcome: &Outcome,
    test: Option<&Evaluation>,
) -> Value {
    let progress = &outcome.progress;
    let last = outcome.last_epoch.as_ref();
    let tuned = session.tuned();
    json!({
        "run": folder.path(),
        "data": job.config.data_name(),
        "model": session.model().name,
        "parameters": session.parameters().trained(),
        "device": session.device(),
        "tuning": {
            "calls": tuned.calls, "timed": tuned.timed, "faster": tuned.faster, "seconds": tuned.time.as_secs_f64(),
        },
        "memory": {
            "planned": session.memory().planned, "resident": session.memory().resident,
            "recomputation_saves": session.recomputation_saves(),
        },
        "finished": outcome.reason == StopReason::Finished,
        "epochs": progress.epochs(),
        "steps": progress.step,
        "train": last.map(|report| json!({"loss": report.train_loss, "accuracy": report.train_accuracy})),
        "val": last.and_then(validation),
        "best": progress.best.map(|accuracy| json!({"accuracy": accuracy, "epoch": progress.best_epoch})),
        "test": test.map(|test| json!({
            "images": test.images, "loss": test.loss, "accuracy": test.accuracy, "top5_accuracy": test.top5_accuracy,
        })),
        "seconds": outcome.seconds,
        "images_per_second": last.map(|report| report.images_per_second),
    })
}

fn validation(report: &EpochReport) -> Option<Value> {
    report.validation.map(|(loss, accuracy)| json!({"loss": loss, "accuracy": accuracy}))
}
