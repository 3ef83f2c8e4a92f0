//! What is fitted to images and kept in the weights file.

use anyhow::{Context, Result, ensure};
use gabor::{
    tasks::{Classification, Evaluation, MultiLabel, Predictions, Task},
    train::{Card, keep_temperature, keep_thresholds},
};

use super::Measured;
use crate::cli::console::Console;

/// The model with what suits the images, which its file has from now on: a temperature, or thresholds.
pub fn calibrated(measured: Measured, console: Console) -> Result<Measured> {
    ensure!(!measured.predictions.is_empty(), "there are no images to fit a model to");
    match measured.predictions.labels.classes() {
        Some(labels) => at_temperature(&measured, labels, console),
        None => with_thresholds(&measured, console),
    }
}

fn at_temperature(measured: &Measured, labels: &[u32], console: Console) -> Result<Measured> {
    let Measured { weights, card, predictions, .. } = measured;
    let factor = gabor::metrics::temperature(&predictions.answers, predictions.width(), labels).with_context(|| {
        format!("no temperature suits {} images of which all are told right, or none: take others", predictions.len())
    })?;
    let kept = card.temperature.unwrap_or(1.0) * factor;
    keep_temperature(weights, kept)?;
    let predictions = predictions.clone().at_temperature(factor);
    let evaluation = Classification::new(predictions.width()).judge(&predictions);
    console.note(format_args!(
        "temperature {kept:.4}, by {} images: calibration error {:.2}% in place of {:.2}%; it is kept in {}",
        predictions.len(),
        percent(&evaluation, "calibration error"),
        percent(&measured.evaluation, "calibration error"),
        weights.display()
    ))?;
    let card = Card { temperature: Some(kept), ..card.clone() };
    Ok(Measured { predictions, evaluation, card, ..measured.clone() })
}

fn with_thresholds(measured: &Measured, console: Console) -> Result<Measured> {
    let Measured { weights, card, predictions, .. } = measured;
    let of_class = |class: usize| predictions.ranking(class).best_cut();
    let found: Vec<Option<f32>> = (0..predictions.width()).map(of_class).collect();
    let thresholds: Vec<f32> =
        found.iter().enumerate().map(|(class, cut)| cut.unwrap_or(predictions.threshold(class))).collect();
    keep_thresholds(weights, &thresholds)?;
    let card = Card { thresholds: Some(thresholds.clone()), ..card.clone() };
    let predictions = Predictions { thresholds, ..predictions.clone() };
    let evaluation = MultiLabel::new(predictions.width()).judge(&predictions);
    let without = found.iter().filter(|cut| cut.is_none()).count();
    console.note(format_args!(
        "a threshold for each class, by {} images{}: macro F1 {:.2}% in place of {:.2}%; they are kept in {}",
        predictions.len(),
        if without > 0 { format!(" ({without} classes have none and keep theirs)") } else { String::new() },
        percent(&evaluation, "macro F1"),
        percent(&measured.evaluation, "macro F1"),
        weights.display()
    ))?;
    Ok(Measured { predictions, evaluation, card, ..measured.clone() })
}

fn percent(evaluation: &Evaluation, name: &str) -> f64 {
    100.0 * evaluation.metric(name).unwrap_or(f64::NAN)
}
