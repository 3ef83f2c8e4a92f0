//! One class an image: cross-entropy of the softmax of logits.

mod judge;

use super::{ClassFigures, Evaluation, Metric, Objective, Predictions, SampleMetric, Samples, Tally, Task, Unit};
use crate::{
    data::Label,
    graph::{Graph, GraphError, Value},
    metrics::{ClassScores, Confusion},
    tensor::TensorType,
};

/// Classes that an image may be taken for and still count in the top-5 accuracy, which needs more classes than that.
const TOP: usize = 5;

/// Images are of one of some classes each. The network ends in logits, f32 `[batch, classes]`; the loss is the
/// cross-entropy of their softmax; inference answers with probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    classes: usize,
}

impl Classification {
    /// Its name in weights files.
    pub const NAME: &'static str = "classification";

    /// Into so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes }
    }
}

impl Task for Classification {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn targets(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::u32([batch]))
    }

    fn output(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::f32([batch, self.classes]))
    }

    fn objective(&self, graph: &mut Graph, samples: &Samples) -> Result<Objective, GraphError> {
        let labels = samples.targets()?;
        let losses = graph.softmax_cross_entropy(samples.output, labels, samples.label_smoothing)?;
        let hits = graph.top_k_correct(samples.output, labels, 1)?;
        let accuracy = SampleMetric { name: "accuracy", unit: Unit::Share, values: hits };
        Ok(Objective { losses, metrics: vec![accuracy] })
    }

    fn prediction(&self, graph: &mut Graph, output: Value) -> Result<Value, GraphError> {
        graph.softmax(output)
    }

    /// The divergence KL(teacher || student) of the softmax of both, as the difference of cross-entropies.
    fn divergence(&self, graph: &mut Graph, student: Value, teacher: Value) -> Result<Value, GraphError> {
        let wanted = graph.softmax(teacher)?;
        let crossed = graph.softmax_cross_entropy(student, wanted, 0.0)?;
        let least = graph.softmax_cross_entropy(teacher, wanted, 0.0)?;
        graph.subtract(crossed, least)
    }

    fn tally(&self, classes: &[String]) -> Box<dyn Tally> {
        Box::new(Hits { classes: classes.to_vec(), correct: 0, in_top5: 0, confusion: Confusion::new(self.classes) })
    }

    fn judge(&self, predictions: &Predictions) -> Evaluation {
        judge::all(predictions, self.classes)
    }
}

/// Counts of images that were recognised.
struct Hits {
    classes: Vec<String>,
    correct: u64,
    in_top5: u64,
    confusion: Confusion,
}

impl Tally for Hits {
    fn add(&mut self, row: &[f32], label: Label<'_>) {
        let Label::Class(label) = label else { return };
        let label = label as usize;
        // Of a class that the model does not tell apart: not recognised.
        let Some(&own) = row.get(label) else { return };
        let taken_for = Predictions::likeliest(row);
        self.correct += u64::from(own.is_finite() && taken_for == label);
        self.in_top5 += u64::from(own.is_finite() && rank(row, label) < TOP);
        self.confusion.add(label, taken_for);
    }

    fn finish(self: Box<Self>, images: usize, loss: f64) -> Evaluation {
        let share = |count: u64| count as f64 / images.max(1) as f64;
        let of_class = |(at, scores): (usize, ClassScores)| {
            let class = self.classes.get(at).cloned().unwrap_or_else(|| at.to_string());
            ClassFigures { class, images: scores.support, metrics: vec![Metric::share("recall", scores.recall)] }
        };
        let per_class: Vec<ClassFigures> = self.confusion.per_class().into_iter().enumerate().map(of_class).collect();
        let mut metrics = vec![Metric::share("accuracy", share(self.correct))];
        if per_class.len() > TOP {
            metrics.push(Metric::share("top-5 accuracy", share(self.in_top5)));
        }
        let confusion = Some(self.confusion.into_counts());
        Evaluation { images, loss, metrics, per_class, confusion, ..Evaluation::default() }
    }
}

/// How many classes come before one in a row of probabilities. Of those that are alike, the last comes first, as for
/// scikit-learn's `top_k_accuracy_score`.
fn rank(row: &[f32], class: usize) -> usize {
    let own = row[class];
    row.iter().enumerate().filter(|(at, p)| **p > own || (**p == own && *at > class)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_counted_by_their_class() {
        let classes: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec();
        let mut tally = Classification::new(6).tally(&classes);
        tally.add(&[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], Label::Class(0));
        tally.add(&[0.4, 0.2, 0.1, 0.1, 0.1, 0.1], Label::Class(5));
        tally.add(&[0.4, 0.3, 0.1, 0.1, 0.1, 0.0], Label::Class(1));
        tally.add(&[f32::NAN; 6], Label::Class(1));
        tally.add(&[0.4, 0.3, 0.1, 0.1, 0.1, 0.0], Label::Class(9));
        let evaluation = tally.finish(5, 1.0);
        assert_eq!((evaluation.metric("accuracy"), evaluation.metric("top-5 accuracy")), (Some(0.2), Some(0.6)));
        assert_eq!(evaluation.confusion.unwrap()[1], [2, 0, 0, 0, 0, 0]);
        let figures: Vec<(u64, f64)> = evaluation.per_class.iter().map(|c| (c.images, c.metrics[0].value)).collect();
        assert_eq!((figures[0], figures[1], figures[5]), ((1, 1.0), (2, 0.0), (1, 0.0)));
        assert!(figures[2].1.is_nan() && evaluation.per_class[5].class == "f");
    }
}
