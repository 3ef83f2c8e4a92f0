//! All figures of predictions of one class an image.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{TOP, rank};
use crate::{
    data::Label,
    metrics::{Confusion, Interval, Ranking, Reliability, bootstrap, mean_of_defined},
    tasks::{ClassFigures, Confused, Evaluation, Metric, Mistake, Predictions},
};

/// Bins of confidence.
const BINS: usize = 15;
/// Times that images are drawn to say how sure figures are.
const RESAMPLES: usize = 1000;
/// Images that are drawn for that in all, at most: of many images fewer draws say as much.
const MOST_DRAWN: usize = 50_000_000;
/// Pairs of classes, and images, that are named.
const NAMED: usize = 20;

/// The figures of predictions of so many classes.
pub(super) fn all(predictions: &Predictions, classes: usize) -> Evaluation {
    let images: Vec<Judged> =
        predictions.iter().enumerate().filter_map(|(at, (row, label))| judged(at, row, label)).collect();
    let mut confusion = Confusion::new(classes);
    images.iter().for_each(|image| confusion.add(image.class, image.taken_for));
    let in_top = images.iter().filter(|image| image.is_in_top).count();
    let reliability = Reliability::of(images.iter().map(|image| (image.confidence, image.is_right())), BINS);

    let per_class = confusion.per_class().into_par_iter().enumerate().map(|(class, scores)| {
        let width = predictions.width();
        let of_class = |image: &Judged| (predictions.answers[image.index * width + class], image.class == class);
        let ranking = Ranking::of(images.iter().map(of_class).collect());
        let metrics = vec![
            Metric::share("precision", scores.precision),
            Metric::share("recall", scores.recall),
            Metric::share("F1", scores.f1),
            Metric::share("AUC", ranking.area_under_roc()),
            Metric::share("average precision", ranking.average_precision()),
        ];
        ClassFigures { class: predictions.class(class), images: scores.support, metrics }
    });
    let per_class: Vec<ClassFigures> = per_class.collect();
    let mean = |at: usize| mean_of_defined(per_class.iter().map(|class| class.metrics[at].value));
    let (plain, weighted) = (confusion.macro_average(), confusion.weighted_average());
    let share_of_top = in_top as f64 / predictions.len().max(1) as f64;
    let of_all = images.len() as f64 / predictions.len().max(1) as f64;
    let mut metrics = vec![Metric::share("accuracy", confusion.accuracy() * of_all)];
    if classes > TOP {
        metrics.push(Metric::share("top-5 accuracy", share_of_top));
    }
    metrics.extend([
        Metric::share("balanced accuracy", confusion.balanced_accuracy()),
        Metric::share("macro precision", plain.precision),
        Metric::share("macro recall", plain.recall),
        Metric::share("macro F1", plain.f1),
        Metric::share("weighted precision", weighted.precision),
        Metric::share("weighted recall", weighted.recall),
        Metric::share("weighted F1", weighted.f1),
        Metric::share("macro AUC", mean(3)),
        Metric::share("macro average precision", mean(4)),
        Metric::number("Matthews correlation", confusion.matthews()),
        Metric::number("Cohen kappa", confusion.kappa()),
        Metric::share("calibration error", reliability.expected_error()),
    ]);
    let pairs = confusion.most_confused(NAMED).into_iter();
    let most_confused = pairs.map(|pair| Confused {
        class: predictions.class(pair.class),
        taken_for: predictions.class(pair.taken_for),
        images: pair.images,
    });
    Evaluation {
        images: predictions.len(),
        loss: predictions.loss(),
        metrics,
        per_class,
        intervals: intervals(&images, classes),
        most_confused: most_confused.collect(),
        reliability: Some(reliability),
        mistakes: mistakes(&images, predictions),
        confusion: Some(confusion.into_counts()),
    }
}

/// An image with what was said of it.
#[derive(Clone, Copy)]
struct Judged {
    index: usize,
    class: usize,
    taken_for: usize,
    confidence: f32,
    is_in_top: bool,
}

impl Judged {
    fn is_right(&self) -> bool {
        self.class == self.taken_for
    }
}

/// `None` for an image of a class that the model does not tell apart, or of which it says nothing that is a number.
fn judged(index: usize, row: &[f32], label: Label<'_>) -> Option<Judged> {
    let Label::Class(label) = label else { return None };
    let class = label as usize;
    if class >= row.len() || row.iter().any(|p| p.is_nan()) {
        return None;
    }
    let taken_for = Predictions::likeliest(row);
    Some(Judged { index, class, taken_for, confidence: row[taken_for], is_in_top: rank(row, class) < TOP })
}

/// How sure the figures are that are most looked at.
fn intervals(images: &[Judged], classes: usize) -> BTreeMap<String, Interval> {
    let names = ["accuracy", "balanced_accuracy", "macro_f1"];
    let decisions: Vec<(usize, usize)> = images.iter().map(|image| (image.class, image.taken_for)).collect();
    let resamples = (MOST_DRAWN / decisions.len().max(1)).clamp(100, RESAMPLES);
    let figures = |drawn: &[(usize, usize)]| {
        // By hand and not of a matrix, which for many classes is much larger than what was drawn.
        let mut counts = vec![[0u32; 3]; classes];
        for (class, taken_for) in drawn {
            counts[*class][0] += 1;
            counts[*taken_for][1] += 1;
            counts[*class][2] += u32::from(class == taken_for);
        }
        let right: u32 = counts.iter().map(|[.., right]| right).sum();
        let present = || counts.iter().filter(|[images, ..]| *images > 0);
        let recall = |[images, _, right]: &[u32; 3]| f64::from(*right) / f64::from(*images);
        let f1 = |[images, taken, right]: &[u32; 3]| 2.0 * f64::from(*right) / f64::from(images + taken);
        let accuracy = f64::from(right) / drawn.len() as f64;
        vec![accuracy, mean_of_defined(present().map(recall)), mean_of_defined(present().map(f1))]
    };
    let found = bootstrap(&decisions, resamples, 0, figures);
    names.into_iter().zip(found).filter_map(|(name, interval)| Some((name.to_string(), interval?))).collect()
}

fn mistakes(images: &[Judged], predictions: &Predictions) -> Vec<Mistake> {
    let loss = |image: &Judged| predictions.losses.get(image.index).copied().unwrap_or_default();
    let mut wrong: Vec<&Judged> = images.iter().filter(|image| !image.is_right()).collect();
    wrong.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
    let mistake = |image: &Judged| Mistake {
        image: predictions.images[image.index].clone(),
        class: predictions.class(image.class),
        taken_for: predictions.class(image.taken_for),
        probability: image.confidence,
        loss: loss(image),
        index: image.index,
    };
    wrong.into_iter().take(NAMED).map(mistake).collect()
}
