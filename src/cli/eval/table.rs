//! An evaluation as a person reads it.

use std::{fmt::Write, iter};

use gabor::{
    metrics::{Interval, McNemar},
    report::Table,
    tasks::{Confused, Evaluation, Metric, Mistake},
};

use super::{Measured, Split, between};

/// Pairs of classes, and mistakes, that are shown; `--json` has more of them.
const MOST_SHOWN: usize = 5;

/// Confusion matrices of more classes than this are not for reading.
const MOST_CLASSES_SHOWN: usize = 20;

/// The figures of a model.
pub fn of(split: Split, evaluation: &Evaluation) -> String {
    let mut text = String::new();
    let names = evaluation.metrics.iter().map(|metric| metric.name.chars().count()).max().unwrap_or(0).max(14);
    let head = |text: &mut String, name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<names$}  {value}");
    };
    head(&mut text, "images", &format!("{} ({})", evaluation.images, split.name()));
    for metric in &evaluation.metrics {
        let range = match evaluation.intervals.get(&metric.key()) {
            Some(Interval { low, high }) => format!("  ({} to {})", shown(metric, *low), shown(metric, *high)),
            None => String::new(),
        };
        head(&mut text, &metric.name, &format!("{}{range}", shown(metric, metric.value)));
    }
    head(&mut text, "loss", &format!("{:.4}", evaluation.loss));
    let Some(first) = evaluation.per_class.first() else { return text };

    let matrix = evaluation.confusion.as_ref().filter(|matrix| matrix.len() <= MOST_CLASSES_SHOWN);
    let cell = matrix.and_then(|m| m.iter().flatten().max()).map_or(1, |most| most.to_string().len()).max(3);
    let width = evaluation.per_class.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(5);
    let columns: Vec<usize> = first.metrics.iter().map(|metric| metric.name.chars().count().max(8)).collect();
    let _ = write!(text, "\n{:<width$}  {:>7}", "class", "images");
    for (metric, column) in first.metrics.iter().zip(&columns) {
        let _ = write!(text, "  {:>column$}", metric.name);
    }
    text.push_str(if matrix.is_some() { "  predicted as (columns in the order of the rows)\n" } else { "\n" });
    for (at, class) in evaluation.per_class.iter().enumerate() {
        let _ = write!(text, "{:<width$}  {:>7}", class.class, class.images);
        for (metric, column) in class.metrics.iter().zip(&columns) {
            let _ = write!(text, "  {:>column$}", shown(metric, metric.value));
        }
        if let Some(matrix) = matrix {
            text.push(' ');
            for count in &matrix[at] {
                let _ = write!(text, " {count:>cell$}");
            }
        }
        text.push('\n');
    }
    if !evaluation.most_confused.is_empty() {
        text.push_str("\nmost often confused\n");
        for Confused { class, taken_for, images } in evaluation.most_confused.iter().take(MOST_SHOWN) {
            let _ = writeln!(text, "{images:>7}  {class} taken for {taken_for}");
        }
    }
    if !evaluation.mistakes.is_empty() {
        text.push_str("\nworst mistakes\n");
        for Mistake { image, class, taken_for, probability, .. } in evaluation.mistakes.iter().take(MOST_SHOWN) {
            let probability = 100.0 * probability;
            let _ = writeln!(text, "{probability:>6.2}%  {taken_for}, and is {class}: {image}");
        }
    }
    text
}

/// A value of a figure.
fn shown(metric: &Metric, value: f64) -> String {
    Metric { value, ..metric.clone() }.shown()
}

/// A model and others on the same images; nothing where there are no others.
pub fn of_several(first: &Measured, others: &[Measured]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["<weights", "first figure", "loss", "right alone", "first right alone", "p"]);
    for (at, measured) in iter::once(first).chain(others).enumerate() {
        let weights = measured.weights.display().to_string();
        let figure = measured.evaluation.metrics.first().map_or("-".into(), ToString::to_string);
        let loss = format!("{:.4}", measured.evaluation.loss);
        table.row(match at {
            0 => [weights, figure, loss, "-".into(), "-".into(), "-".into()],
            _ => {
                let McNemar { only_first, only_second, p } = between(first, measured);
                [weights, figure, loss, only_second.to_string(), only_first.to_string(), format!("{p:.2e}")]
            }
        });
    }
    format!(
        "\nalone: images that only one of the two tells right; p: the probability of a difference as large, if they were alike\n\
         {table}"
    )
}
