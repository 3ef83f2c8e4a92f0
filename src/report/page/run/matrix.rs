//! The classes, and which of them is taken for which.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Judged, Section, mistakes::Pair};
use crate::{
    report::figure::{Chart, Figure, HeatMap},
    tasks::Evaluation,
};

/// Classes up to which a matrix is a table, whose cells can be followed.
const TABLE: usize = 40;

/// Shares of the images of each class (row) that are taken for each class (column).
fn shares(matrix: &[Vec<u64>]) -> Vec<Vec<f64>> {
    let share = |row: &Vec<u64>| {
        let images = row.iter().sum::<u64>().max(1) as f64;
        row.iter().map(|count| *count as f64 / images).collect()
    };
    matrix.iter().map(share).collect()
}

/// The confusion matrix, where there is one.
pub fn figure(judged: &Judged<'_>) -> Option<Figure> {
    let matrix = judged.evaluation.confusion.as_ref()?;
    let chart = HeatMap { x: "predicted class".into(), y: "true class".into(), values: shares(matrix) };
    let right: u64 = matrix.iter().enumerate().map(|(at, row)| row[at]).sum();
    let most = judged.evaluation.most_confused.iter().take(3);
    let most: Vec<String> =
        most.map(|pair| format!("{} for {} ({})", pair.class, pair.taken_for, pair.images)).collect();
    let mut text =
        format!("{right} of {} images are on the diagonal, taken for what they are", judged.evaluation.images);
    if !most.is_empty() {
        text += &format!("; taken most often for another: {}", most.join(", "));
    }
    Some(Figure {
        name: "confusion".into(),
        title: "Confusion matrix, shares of each true class".into(),
        text: text + ".",
        chart: Chart::Heat(chart),
    })
}

/// The matrix as a table whose cells lead to the mistakes, or drawn where there are many classes.
pub fn section(judged: &Judged<'_>, figure: &Figure, pairs: &BTreeMap<(usize, usize), Pair>) -> Option<Section> {
    let matrix = judged.evaluation.confusion.as_ref()?;
    let classes = &judged.predictions.classes;
    let content = html! {
        @if matrix.len() <= TABLE {
            p { (figure.text) " A row is a true class, a column what its images were taken for; a darker cell is a larger share of the
                row." }
            div.wide tabindex="0" role="region" aria-label="Confusion matrix" {
                table {
                    caption { "Number of images by true class (row) and predicted class (column)" }
                    thead { tr { th scope="col" { "true" } @for class in classes { th scope="col" { (class) } } } }
                    tbody {
                        @for (row, (counts, shares)) in matrix.iter().zip(shares(matrix)).enumerate() {
                            tr {
                                th scope="row" { (judged.predictions.class(row)) }
                                @for (column, (count, share)) in counts.iter().zip(shares).enumerate() {
                                    @let strength = (70.0 * share).round();
                                    td style={ "background: color-mix(in srgb, var(--accent) " (strength) "%, transparent)" } {
                                        @if let Some(pair) = pairs.get(&(row, column)) {
                                            a href={ "#" (pair.anchor()) } { (count) }
                                        } @else if *count == 0 {
                                            span.faint { "0" }
                                        } @else {
                                            (count)
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        } @else {
            (figure.html())
        }
        @if !judged.evaluation.most_confused.is_empty() {
            table {
                caption { "Most confused" }
                thead { tr { th scope="col" { "class" } th.words scope="col" { "taken for" } th scope="col" { "images" } } }
                tbody {
                    @for pair in &judged.evaluation.most_confused {
                        tr { th scope="row" { (pair.class) } td.words { (pair.taken_for) } td { (pair.images) } }
                    }
                }
            }
        }
    };
    Some(Section::new("confusion", "Confusion matrix", content))
}

/// The figures of each class.
pub fn classes(evaluation: &Evaluation) -> Markup {
    let names = evaluation.per_class.first().map_or(&[][..], |class| &class.metrics);
    html! {
        div.wide tabindex="0" role="region" aria-label="Figures of each class" {
            table {
                caption { "Figures of each class" }
                thead {
                    tr {
                        th scope="col" { "class" }
                        th scope="col" { "images" }
                        @for metric in names { th scope="col" { (metric.name) } }
                    }
                }
                tbody {
                    @for class in &evaluation.per_class {
                        tr {
                            th scope="row" { (class.class) }
                            td { @if class.images == 0 { "no such image" } @else { (class.images) } }
                            @for metric in &class.metrics { td { (metric.shown()) } }
                        }
                    }
                }
            }
        }
    }
}
