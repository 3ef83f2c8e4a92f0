//! What an evaluation reports.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

use super::Metric;
use crate::metrics::{Interval, Reliability};

/// Figures that are named in a line.
const IN_A_LINE: usize = 2;

/// How well a model does on a set of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Mean loss.
    pub loss: f64,
    /// Figures of all images, the most important first.
    #[serde(flatten, serialize_with = "by_key")]
    pub metrics: Vec<Metric>,
    /// Figures of each class, in the order of their numbers; empty where a task has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_class: Vec<ClassFigures>,
    /// Number of images by true class (row) and predicted class (column), where each image is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// For some figures, by their keys, the range that holds them with a probability of 95%.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, Interval>,
    /// Classes that were mistaken most often for another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub most_confused: Vec<Confused>,
    /// How many images were right at which confidence; `None` where a task has no confidences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reliability: Option<Reliability>,
    /// Images of the largest loss that were not recognised, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// Images of a class that were taken for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confused {
    /// The class that they are of.
    pub class: String,
    /// The class that they were taken for.
    pub taken_for: String,
    /// How many.
    pub images: u64,
}

/// An image that was not recognised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// The image.
    pub image: String,
    /// The class that it is of.
    pub class: String,
    /// The class that it was taken for.
    pub taken_for: String,
    /// With which probability.
    pub probability: f32,
    /// Its loss.
    pub loss: f32,
    /// Its place among the images that were measured.
    pub index: usize,
}

/// How well a model does on the images of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Name of the class.
    pub class: String,
    /// Number of its images.
    pub images: u64,
    /// Figures, the same for each class and in the same order; a value that is not a number is undefined, as the share of
    /// recognised images of a class without any.
    #[serde(flatten, serialize_with = "by_key")]
    pub metrics: Vec<Metric>,
}

/// Metrics as fields, one each; those that are undefined are null.
fn by_key<S: Serializer>(metrics: &[Metric], serializer: S) -> Result<S::Ok, S::Error> {
    let value = |metric: &Metric| metric.value.is_finite().then_some(metric.value);
    serializer.collect_map(metrics.iter().map(|metric| (metric.key(), value(metric))))
}

impl Evaluation {
    /// The figure of that name, such as `accuracy`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }
}

impl fmt::Display for Evaluation {
    /// The most important figures in a line.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let defined = self.metrics.iter().filter(|metric| !metric.value.is_nan());
        defined.take(IN_A_LINE).try_for_each(|metric| write!(f, "{metric}, "))?;
        write!(f, "loss {:.4} on {} images", self.loss, self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_fields() {
        let metrics = vec![
            Metric::share("accuracy", 0.5),
            Metric::share("top-5 accuracy", 1.0),
            Metric::share("balanced accuracy", 0.25),
        ];
        let of_class = vec![Metric::share("accuracy", f64::NAN)];
        let per_class = vec![ClassFigures { class: "cat".into(), images: 0, metrics: of_class }];
        let evaluation = Evaluation { images: 2, loss: 0.25, metrics, per_class, ..Evaluation::default() };
        assert_eq!(evaluation.to_string(), "accuracy 50.00%, top-5 accuracy 100.00%, loss 0.2500 on 2 images");
        assert_eq!(
            serde_json::to_string(&evaluation).unwrap(),
            r#"{"images":2,"loss":0.25,"accuracy":0.5,"top5_accuracy":1.0,"balanced_accuracy":0.25,"per_class":[{"class":"cat","images":0,"accuracy":null}]}"#
        );
    }
}
