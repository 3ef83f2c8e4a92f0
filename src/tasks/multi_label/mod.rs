//! Several classes an image: binary cross-entropy of each class.

mod judge;

use super::{ClassFigures, Evaluation, Metric, Objective, Predictions, SampleMetric, Samples, Tally, Task, Unit};
use crate::{
    data::Label,
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    metrics::{Ranking, mean_of_defined, ratio},
    tensor::{Tensor, TensorType},
};

/// Probability above which a class is said to be there, unless the model keeps another
/// ([`Card::thresholds`](crate::train::Card)).
pub const THRESHOLD: f32 = 0.5;

/// Images are of any number of some classes each. The network ends in logits, f32 `[batch, classes]`; the loss is the mean
/// over the classes of the binary cross-entropy of their logistic function; inference answers with a probability for each
/// class by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiLabel {
    classes: usize,
    positive_weights: Option<Vec<f32>>,
}

impl MultiLabel {
    /// Its name in weights files.
    pub const NAME: &'static str = "multi-label";

    /// Of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, positive_weights: None }
    }

    /// With a factor for each class of the part of the loss that is of its own images, to balance those that are rare.
    pub fn positive_weights(self, weights: Vec<f32>) -> Self {
        Self { positive_weights: Some(weights), ..self }
    }
}

impl Task for MultiLabel {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn targets(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::f32([batch, self.classes]))
    }

    fn output(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::f32([batch, self.classes]))
    }

    fn objective(&self, graph: &mut Graph, samples: &Samples) -> Result<Objective, GraphError> {
        let (logits, targets) = (samples.output, samples.targets()?);
        let mut smooth = targets;
        if samples.label_smoothing > 0.0 {
            let kept = 1.0 - samples.label_smoothing;
            let spread = Expr::Input(0) * kept + 0.5 * samples.label_smoothing;
            smooth = graph.pointwise("smooth", spread, &[targets])?;
        }
        let weights = match &self.positive_weights {
            Some(weights) => Tensor::f32([weights.len()], weights.clone()),
            None => Tensor::scalar(1.0),
        };
        let weights = graph.constant(weights);
        let losses = graph.sigmoid_cross_entropy(logits, smooth, weights)?;
        let losses = graph.mean(losses, &[1])?;
        // A probability is above 1/2 where the logit is above 0.
        let right = (Expr::Input(0) * (Expr::Input(1) - f64::from(THRESHOLD))).select(1.0, 0.0);
        let right = graph.pointwise("right", right, &[logits, targets])?;
        let right = graph.mean(right, &[1])?;
        Ok(Objective { losses, metrics: vec![SampleMetric { name: "accuracy", unit: Unit::Share, values: right }] })
    }

    fn prediction(&self, graph: &mut Graph, output: Value) -> Result<Value, GraphError> {
        graph.sigmoid(output)
    }

    /// The mean over the classes of the divergence KL(teacher || student) of the logistic function of both.
    fn divergence(&self, graph: &mut Graph, student: Value, teacher: Value) -> Result<Value, GraphError> {
        let wanted = graph.sigmoid(teacher)?;
        let one = graph.constant(Tensor::scalar(1.0));
        let crossed = graph.sigmoid_cross_entropy(student, wanted, one)?;
        let least = graph.sigmoid_cross_entropy(teacher, wanted, one)?;
        let divergence = graph.subtract(crossed, least)?;
        graph.mean(divergence, &[1])
    }

    fn tally(&self, classes: &[String]) -> Box<dyn Tally> {
        Box::new(Scores::new(classes, vec![THRESHOLD; self.classes]))
    }

    fn judge(&self, predictions: &Predictions) -> Evaluation {
        let thresholds = (0..self.classes).map(|class| predictions.threshold(class)).collect();
        let mut scores = Box::new(Scores::new(&predictions.classes, thresholds));
        predictions.iter().for_each(|(answer, label)| scores.add(answer, label));
        Evaluation {
            intervals: judge::intervals(predictions),
            mistakes: judge::mistakes(predictions),
            ..scores.finish(predictions.len(), predictions.loss())
        }
    }
}

/// For each class the probability that each image was given, and whether it is of the class.
struct Scores {
    classes: Vec<String>,
    /// For each class the probability above which an image is said to be of it.
    thresholds: Vec<f32>,
    scores: Vec<Vec<(f32, bool)>>,
    /// Images of which every class was told right.
    exact: u64,
}

impl Scores {
    fn new(classes: &[String], thresholds: Vec<f32>) -> Self {
        Self { classes: classes.to_vec(), scores: vec![Vec::new(); thresholds.len()], thresholds, exact: 0 }
    }
}

impl Tally for Scores {
    fn add(&mut self, prediction: &[f32], label: Label<'_>) {
        let Label::Row(row) = label else { return };
        let mut exact = true;
        for (at, (probability, target)) in prediction.iter().zip(row).enumerate() {
            let is = *target > 0.5;
            self.scores[at].push((*probability, is));
            exact &= (*probability > self.thresholds[at]) == is;
        }
        self.exact += u64::from(exact);
    }

    fn finish(self: Box<Self>, images: usize, loss: f64) -> Evaluation {
        let mut per_class = Vec::new();
        let mut total = Counts::default();
        for (at, scores) in self.scores.into_iter().enumerate() {
            let threshold = self.thresholds[at];
            let counts = Counts::of(scores.iter().map(|(probability, is)| (*probability > threshold, *is)));
            total.add(&counts);
            let ranking = Ranking::of(scores);
            let (best_threshold, best) = ranking.best_threshold().unwrap_or((f32::NAN, f64::NAN));
            let metrics = vec![
                Metric::share("average precision", ranking.average_precision()),
                Metric::share("AUC", ranking.area_under_roc()),
                Metric::share("precision", counts.precision()),
                Metric::share("recall", counts.recall()),
                Metric::share("F1", counts.f1()),
                Metric::number("threshold", threshold.into()),
                Metric::number("best threshold", best_threshold.into()),
                Metric::share("F1 there", best),
            ];
            let class = self.classes.get(at).cloned().unwrap_or_else(|| at.to_string());
            per_class.push(ClassFigures { class, images: counts.positives(), metrics });
        }
        // Classes without images have no average precision.
        let mean = |at: usize| mean_of_defined(per_class.iter().map(|class: &ClassFigures| class.metrics[at].value));
        let metrics = vec![
            Metric::share("mean average precision", mean(0)),
            Metric::share("accuracy", total.accuracy()),
            Metric::share("exact match", ratio(self.exact as f64, images as f64)),
            Metric::share("micro F1", total.f1()),
            Metric::share("macro F1", mean(4)),
            Metric::share("macro AUC", mean(1)),
        ];
        Evaluation { images, loss, metrics, per_class, ..Evaluation::default() }
    }
}

/// Decisions, by what was decided and what is.
#[derive(Clone, Copy, Default)]
struct Counts {
    true_positive: u64,
    false_positive: u64,
    false_negative: u64,
    true_negative: u64,
}

impl Counts {
    /// Of what was decided and what is.
    fn of(decisions: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for decision in decisions {
            *match decision {
                (true, true) => &mut counts.true_positive,
                (true, false) => &mut counts.false_positive,
                (false, true) => &mut counts.false_negative,
                (false, false) => &mut counts.true_negative,
            } += 1;
        }
        counts
    }

    fn add(&mut self, other: &Self) {
        self.true_positive += other.true_positive;
        self.false_positive += other.false_positive;
        self.false_negative += other.false_negative;
        self.true_negative += other.true_negative;
    }

    /// Whether no decision is wrong.
    fn are_right(&self) -> bool {
        self.false_positive + self.false_negative == 0
    }

    fn positives(&self) -> u64 {
        self.true_positive + self.false_negative
    }

    fn accuracy(&self) -> f64 {
        let right = self.true_positive + self.true_negative;
        ratio(right as f64, (right + self.false_positive + self.false_negative) as f64)
    }

    fn precision(&self) -> f64 {
        ratio(self.true_positive as f64, (self.true_positive + self.false_positive) as f64)
    }

    fn recall(&self) -> f64 {
        ratio(self.true_positive as f64, self.positives() as f64)
    }

    /// Undefined where there is neither an image of the class nor one that was taken for it.
    fn f1(&self) -> f64 {
        let twice = 2 * self.true_positive;
        ratio(twice as f64, (twice + self.false_positive + self.false_negative) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are scikit-learn's: `average_precision_score`, `precision_score`, `recall_score`, `f1_score`,
    /// `hamming_loss` and `accuracy_score`.
    #[test]
    fn figures_of_scikit_learn() {
        let classes: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let mut tally = MultiLabel::new(3).tally(&classes);
        let images = [
            ([0.9, 0.2, 0.6], [1.0, 0.0, 1.0]),
            ([0.8, 0.7, 0.4], [0.0, 1.0, 0.0]),
            ([0.8, 0.1, 0.6], [1.0, 0.0, 0.0]),
            ([0.3, 0.6, 0.6], [1.0, 1.0, 1.0]),
            ([0.45, 0.55, 0.2], [0.0, 0.0, 0.0]),
            ([0.1, 0.3, 0.9], [0.0, 1.0, 1.0]),
        ];
        images.iter().for_each(|(prediction, label)| tally.add(prediction, Label::Row(label)));
        let evaluation = tally.finish(6, 0.5);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for (name, value) in [
            ("mean average precision", 0.8351851851851851),
            ("accuracy", 1.0 - 5.0 / 18.0),
            ("exact match", 1.0 / 6.0),
            ("micro F1", 0.7368421052631579),
            ("macro F1", 0.7301587301587301),
        ] {
            let found = evaluation.metric(name).unwrap();
            assert!(close(found, value), "{name}: {found}");
        }
        let expected = [
            [0.7555555555555555, 0.7222222222222222, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
            [0.9166666666666665, 0.888888888888889, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0],
            [0.8333333333333333, 0.888888888888889, 0.75, 1.0, 6.0 / 7.0],
        ];
        for (class, expected) in evaluation.per_class.iter().zip(expected) {
            assert_eq!(class.images, 3);
            for (metric, value) in class.metrics.iter().zip(expected) {
                assert!(close(metric.value, value), "{metric} of {}", class.class);
            }
        }
    }

    #[test]
    fn a_class_without_images_does_not_count() {
        let mut tally = MultiLabel::new(2).tally(&["a".into(), "b".into()]);
        tally.add(&[0.9, 0.1], Label::Row(&[1.0, 0.0]));
        tally.add(&[0.2, 0.1], Label::Row(&[0.0, 0.0]));
        let evaluation = tally.finish(2, 0.5);
        let figures = evaluation.per_class[1].metrics.iter().filter(|metric| metric.key() != "threshold");
        assert!(figures.clone().count() == 7 && figures.clone().all(|metric| metric.value.is_nan()));
        assert_eq!(
            (evaluation.metric("mean average precision"), evaluation.metric("exact match")),
            (Some(1.0), Some(1.0))
        );
    }
}
