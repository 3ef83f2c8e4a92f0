//! All figures of predictions of several classes an image.

use std::collections::BTreeMap;

use super::Counts;
use crate::{
    data::Label,
    metrics::{Interval, bootstrap, ratio},
    tasks::{Mistake, Predictions},
};

/// Times that images are drawn to say how sure figures are.
const RESAMPLES: usize = 1000;
/// Images that are drawn for that in all, at most.
const MOST_DRAWN: usize = 50_000_000;
/// Images that are named.
const NAMED: usize = 20;
/// Between the classes of an image.
const SEPARATOR: &str = ", ";

/// How sure the figures are that are counts of decisions.
pub(super) fn intervals(predictions: &Predictions) -> BTreeMap<String, Interval> {
    let of_image = |(answer, label): (&[f32], Label<'_>)| {
        let decision =
            |(class, probability): (usize, &f32)| (predictions.are_of(class, *probability), label.is_of(class));
        Counts::of(answer.iter().enumerate().map(decision))
    };
    let images: Vec<Counts> = predictions.iter().map(of_image).collect();
    let resamples = (MOST_DRAWN / images.len().max(1)).clamp(100, RESAMPLES);
    let figures = |drawn: &[Counts]| {
        let mut total = Counts::default();
        drawn.iter().for_each(|counts| total.add(counts));
        let exact = drawn.iter().filter(|counts| counts.are_right()).count();
        vec![total.accuracy(), ratio(exact as f64, drawn.len() as f64), total.f1()]
    };
    let found = bootstrap(&images, resamples, 0, figures);
    let names = ["accuracy", "exact_match", "micro_f1"];
    names.into_iter().zip(found).filter_map(|(name, interval)| Some((name.to_string(), interval?))).collect()
}

/// The images of the largest loss of which not every class was told right. The probability is that of the decision that is most
/// wrong.
pub(super) fn mistakes(predictions: &Predictions) -> Vec<Mistake> {
    let right = predictions.are_right();
    let loss = |at: &usize| predictions.losses.get(*at).copied().unwrap_or_default();
    let mut wrong: Vec<usize> = (0..predictions.len()).filter(|at| !right[*at]).collect();
    wrong.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
    let mistake = |at: usize| {
        let (answer, label) = (predictions.answer(at), predictions.labels.get(at));
        let named = |is: &dyn Fn(usize) -> bool| {
            let names: Vec<String> =
                (0..answer.len()).filter(|class| is(*class)).map(|class| predictions.class(class)).collect();
            if names.is_empty() { "none".to_string() } else { names.join(SEPARATOR) }
        };
        let off = |class: usize| (answer[class] - if label.is_of(class) { 1.0 } else { 0.0 }).abs();
        let worst = (0..answer.len()).max_by(|a, b| off(*a).total_cmp(&off(*b)));
        Mistake {
            image: predictions.images[at].clone(),
            class: named(&|class| label.is_of(class)),
            taken_for: named(&|class| predictions.are_of(class, answer[class])),
            probability: worst.map_or(f32::NAN, |class| answer[class]),
            loss: loss(&at),
            index: at,
        }
    };
    wrong.into_iter().take(NAMED).map(mistake).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Labels,
        tasks::{MultiLabel, Task},
    };

    fn predictions(images: usize) -> Predictions {
        Predictions {
            classes: vec!["cat".into(), "dog".into()],
            images: (0..images).map(|at| format!("{at}.png")).collect(),
            answers: [0.9, 0.2, 0.4, 0.1, 0.8, 0.7].into_iter().cycle().take(2 * images).collect(),
            labels: Labels::Rows {
                width: 2,
                values: [1.0, 0.0, 1.0, 0.0, 0.0, 1.0].into_iter().cycle().take(2 * images).collect(),
            },
            losses: [0.1, 0.5, 0.9].into_iter().cycle().take(images).collect(),
            ..Predictions::default()
        }
    }

    #[test]
    fn the_worst_mistakes_come_first() {
        let evaluation = MultiLabel::new(2).judge(&predictions(3));
        let mistakes = evaluation.mistakes;
        assert_eq!(mistakes.iter().map(|mistake| mistake.index).collect::<Vec<_>>(), [2, 1]);
        let said = |at: usize| (mistakes[at].class.as_str(), mistakes[at].taken_for.as_str(), mistakes[at].probability);
        assert_eq!(said(0), ("dog", "cat, dog", 0.8));
        assert_eq!(said(1), ("cat", "none", 0.4));
    }

    /// The standard deviation of a share p of n images is sqrt(p (1 - p) / n), and 95% are within 1.96 of it.
    #[test]
    fn a_range_is_as_wide_as_it_should_be() {
        let evaluation = MultiLabel::new(2).judge(&predictions(900));
        let exact = evaluation.intervals["exact_match"];
        let half = 1.96 * (1.0 / 3.0 * 2.0 / 3.0 / 900f64).sqrt();
        assert!((exact.low - (1.0 / 3.0 - half)).abs() < 5e-3 && (exact.high - (1.0 / 3.0 + half)).abs() < 5e-3);
        let accuracy = evaluation.intervals["accuracy"];
        let value = evaluation.metric("accuracy").unwrap();
        assert!(accuracy.low < value && value < accuracy.high && accuracy.high - accuracy.low < exact.high - exact.low);
        assert_eq!(MultiLabel::new(2).judge(&predictions(0)).intervals.len(), 0);
    }
}
