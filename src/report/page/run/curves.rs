//! Precision against recall, ROC and calibration.

use super::Judged;
use crate::{
    metrics::{Point, Ranking},
    report::figure::{Chart, Figure, Line, LineChart},
};

/// Classes whose curves are drawn: those of the lowest average precision.
const CLASSES: usize = 6;

/// Points of a curve, at most.
const POINTS: usize = 200;

/// The curves of the classes that are told worst, and of all confidences.
pub fn figures(judged: &Judged<'_>) -> Vec<Figure> {
    let predictions = judged.predictions;
    let mut ranked: Vec<(usize, Ranking)> =
        (0..predictions.classes.len()).map(|class| (class, predictions.ranking(class))).collect();
    ranked.retain(|(_, ranking)| ranking.positives() > 0 && ranking.negatives() > 0);
    ranked.sort_by(|(_, a), (_, b)| a.average_precision().total_cmp(&b.average_precision()));
    let all = ranked.len();
    ranked.truncate(CLASSES);
    let which = if all > ranked.len() {
        format!("of the {CLASSES} classes of the lowest average precision")
    } else {
        "of each class".into()
    };
    let mut figures = Vec::new();
    if !ranked.is_empty() {
        let line = |(class, ranking): &(usize, Ranking), figure: f64, points: Vec<(f64, f64)>| Line {
            name: format!("{} ({figure:.3})", predictions.class(*class)),
            points: thinned(points, ranking.points().len()),
        };
        let precision = ranked.iter().map(|of| line(of, of.1.average_precision(), precision_recall(&of.1))).collect();
        let roc = ranked.iter().map(|of| line(of, of.1.area_under_roc(), roc(&of.1))).collect();
        let of = |name: &str, title: &str, x: &str, y: &str, figure: &str, lines: Vec<Line>| {
            let words: Vec<&str> = lines.iter().map(|line: &Line| line.name.as_str()).collect();
            let text = format!("{title} {which}, with its {figure}: {}.", words.join(", "));
            let chart = LineChart { x: x.into(), y: y.into(), lines, shares: true, log: false };
            Figure { name: name.into(), title: title.into(), text, chart: Chart::Lines(chart) }
        };
        figures.push(of(
            "precision-recall",
            "Precision and recall",
            "recall",
            "precision",
            "average precision",
            precision,
        ));
        figures.push(of("roc", "ROC", "false positive rate", "true positive rate", "area under the curve", roc));
    }
    figures.extend(calibration(judged));
    figures
}

/// The points of a class: for each threshold, recall and precision.
fn precision_recall(ranking: &Ranking) -> Vec<(f64, f64)> {
    let positives = ranking.positives() as f64;
    let point =
        |point: &Point| (point.right as f64 / positives, point.right as f64 / (point.right + point.wrong) as f64);
    std::iter::once((0.0, 1.0)).chain(ranking.points().iter().map(point)).collect()
}

fn roc(ranking: &Ranking) -> Vec<(f64, f64)> {
    let (positives, negatives) = (ranking.positives() as f64, ranking.negatives() as f64);
    let point = |point: &Point| (point.wrong as f64 / negatives, point.right as f64 / positives);
    std::iter::once((0.0, 0.0)).chain(ranking.points().iter().map(point)).collect()
}

/// Evenly chosen points, the first and the last among them.
fn thinned(points: Vec<(f64, f64)>, count: usize) -> Vec<(f64, f64)> {
    if count < POINTS {
        return points;
    }
    let last = points.len() - 1;
    (0..POINTS).map(|at| points[at * last / (POINTS - 1)]).collect()
}

fn calibration(judged: &Judged<'_>) -> Option<Figure> {
    let reliability = judged.evaluation.reliability.as_ref()?;
    let points: Vec<(f64, f64)> =
        reliability.bins.iter().filter(|bin| bin.images > 0).map(|bin| (bin.confidence, bin.accuracy)).collect();
    let error = 100.0 * reliability.expected_error();
    let text = format!(
        "Share of right answers at each confidence, in {} ranges: accuracy is {error:.2}% off confidence in the mean.",
        points.len()
    );
    let lines = vec![Line { name: "accuracy".into(), points }];
    let chart = LineChart { x: "confidence".into(), y: "accuracy".into(), lines, shares: true, log: false };
    Some(Figure { name: "calibration".into(), title: "Calibration".into(), text, chart: Chart::Lines(chart) })
}
