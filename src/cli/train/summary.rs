//! What a person is told about a run, and the same as JSON.

use std::fmt::Write;

use anyhow::Result;
use gabor::{
    data::Dataset,
    plan::Tuned,
    report::grouped,
    tasks::{Evaluation, Metric},
    train::{Outcome, Progress, Recipe, Session, StopReason, monitored},
};
use serde_json::{Map, Value, json};

use super::run::Job;
use crate::cli::{compare::flatten, run_folder::RunFolder};

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
    let _ = writeln!(text, "images  {}", splits.sizing);
    if !splits.skipped.is_empty() {
        let _ = writeln!(text, "        {} images that cannot be read are left out", splits.skipped.len());
    }
    let parameters = grouped(session.parameters().trained());
    let frozen = match (session.parameters().frozen(), session.recipe().unfreeze_at) {
        (0, _) => String::new(),
        (count, None) => format!(", {} of them frozen", grouped(count)),
        (count, Some(epoch)) => format!(", {} of them frozen before epoch {epoch}", grouped(count)),
    };
    let why = match job.suiting {
        true => format!("; it suits {} images of this size, and --model takes another", grouped(splits.images())),
        false => String::new(),
    };
    let _ = writeln!(text, "model   {}, {parameters} parameters{frozen}{why}", session.model().name);
    if let Some(teacher) = &session.model().teacher {
        let (weight, temperature) = (session.recipe().teacher_weight, session.recipe().teacher_temperature);
        let _ = writeln!(text, "teacher {}, of weight {weight} at temperature {temperature}", teacher.model.name);
    }
    if let Some(begun) = &job.begun {
        let _ = writeln!(text, "weights {begun}");
    }
    let (batch, images) = (session.recipe().batch_size(), splits.train.len());
    let _ = write!(text, "batches {} an epoch, of {batch} images", grouped(images.div_ceil(batch)));
    let _ = match job.batch_suits && batch != Recipe::default().batch_size() {
        true => writeln!(text, "; that suits {} training images, and --batch-size takes another", grouped(images)),
        false => writeln!(text),
    };
    let _ = writeln!(text, "augment {}", session.augmentation());
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

/// The same as JSON, with the settings.
pub fn begun(job: &Job, session: &Session, folder: &RunFolder, resumed: Option<&Progress>) -> Result<Value> {
    let splits = &job.splits;
    let images = |set: &Option<Dataset>| set.as_ref().map(Dataset::len);
    let mut settings = Map::new();
    flatten("", &serde_json::to_value(&job.config)?, &mut settings);
    Ok(json!({
        "run": folder.path(),
        "data": job.config.data_name(),
        "classes": splits.classes(),
        "images": {"train": splits.train.len(), "val": images(&splits.val), "test": images(&splits.test)},
        "findings": splits.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "model": session.model().name,
        "parameters": session.parameters().trained(),
        "device": session.device(),
        "after_step": resumed.map(|progress| progress.step),
        "settings": settings,
    }))
}

/// How the run ended.
pub fn of_outcome(
    job: &Job,
    session: &Session,
    folder: &RunFolder,
    outcome: &Outcome,
    test: Option<&Evaluation>,
) -> String {
    let folder = folder.path().display();
    let progress = &outcome.progress;
    if outcome.reason == StopReason::Stopped {
        return format!("stopped after step {}; go on with gabor train --resume {folder}\n", progress.step);
    }
    let images = if job.splits.val.is_some() { "validation images" } else { "training images, as there are no others" };
    let mut text = String::new();
    if outcome.reason == StopReason::NotBetter {
        let epochs = progress.epochs_without_better;
        let _ = writeln!(text, "ended after epoch {}: no better one for {epochs} epochs", progress.epochs());
    }
    if let Some(test) = test {
        let _ =
            writeln!(text, "test {test}, with the weights of epoch {}, the best on the {images}", progress.best_epoch);
    } else if let Some(best) = progress.best {
        let _ = writeln!(
            text,
            "best {} on the {images}, in epoch {}",
            monitored(session, job.splits.val.as_ref(), best),
            progress.best_epoch
        );
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
        "findings": job.splits.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "model": session.model().name,
        "parameters": session.parameters().trained(),
        "pretrained": job.begun,
        "device": session.device(),
        "tuning": {
            "calls": tuned.calls, "timed": tuned.timed, "faster": tuned.faster, "seconds": tuned.time.as_secs_f64(),
        },
        "memory": {
            "planned": session.memory().planned, "resident": session.memory().resident,
            "recomputation_saves": session.recomputation_saves(),
        },
        "finished": outcome.reason != StopReason::Stopped,
        "epochs": progress.epochs(),
        "steps": progress.step,
        "task": session.model().task.name(),
        "train": last.map(|report| by_key(report.train_loss, &report.train_metrics)),
        "val": last.and_then(|report| report.validation.as_ref()).map(|val| by_key(val.loss, &val.metrics)),
        "best": progress.best.map(|best| {
            let metric = monitored(session, job.splits.val.as_ref(), best);
            json!({metric.key(): metric.value, "epoch": progress.best_epoch})
        }),
        "kept": progress.kept,
        "test": test.map(|test| {
            let mut figures = by_key(test.loss, &test.metrics);
            figures["images"] = test.images.into();
            figures
        }),
        "seconds": outcome.seconds,
        "images_per_second": last.map(|report| report.images_per_second),
    })
}

/// A loss and other figures as fields.
fn by_key(loss: f64, metrics: &[Metric]) -> Value {
    let mut figures = json!({"loss": loss});
    metrics.iter().for_each(|metric| figures[metric.key()] = metric.value.into());
    figures
}
