//! Tasks: what a batch carries beside its images, what the network ends in, the loss, the figures by name, and what an
//! evaluation reports.
//!
//! [`Classification`] tells one class from the others, [`MultiLabel`] says of each class whether an image is of it. A task
//! of your own implements [`Task`]; a [`Model`](crate::models::Model) carries it.

mod classification;
mod evaluation;
mod metric;
mod multi_label;
mod predictions;

use std::sync::Arc;

pub use classification::Classification;
pub use evaluation::{ClassFigures, Confused, Evaluation, Mistake};
pub use metric::{Metric, Unit};
pub use multi_label::{MultiLabel, THRESHOLD};
pub use predictions::{Predictions, SEPARATOR};

use crate::{
    data::{Dataset, Label, Labels},
    graph::{Graph, GraphError, Value},
    tensor::TensorType,
};

/// What a model is for.
pub trait Task: Send + Sync {
    /// Its name, which stands in weights files.
    fn name(&self) -> &str;

    /// Type of what is to be recognised in a batch of so many images: u32 `[batch]` for data whose labels are classes, f32
    /// `[batch, width]` for rows of numbers. `None` where the images themselves are all that it takes.
    fn targets(&self, batch: usize) -> Option<TensorType>;

    /// Type that the network must end in for a batch of so many images; `None` where any will do.
    fn output(&self, batch: usize) -> Option<TensorType>;

    /// Appends the loss of each sample, and what training shows of each.
    ///
    /// # Errors
    /// If the shapes do not fit.
    fn objective(&self, graph: &mut Graph, samples: &Samples) -> Result<Objective, GraphError>;

    /// Appends what inference answers for the network's output, f32 `[batch, ...]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    fn prediction(&self, graph: &mut Graph, output: Value) -> Result<Value, GraphError>;

    /// Appends how far what the task makes of a student's output is from what it makes of a teacher's, f32 `[batch]`, both being
    /// of [`Task::output`]; only the student's has a gradient.
    ///
    /// # Errors
    /// If the task has no such distance, or the shapes do not fit.
    fn divergence(&self, _graph: &mut Graph, _student: Value, _teacher: Value) -> Result<Value, GraphError> {
        let message = format!("{} cannot be learnt from a teacher", self.name());
        Err(GraphError::Layer { layer: "loss".into(), message })
    }

    /// Begins the figures of an evaluation on data with these names of classes.
    fn tally(&self, classes: &[String]) -> Box<dyn Tally>;

    /// All figures that predictions of the task give, where [`Task::tally`] has those by which training is followed. The same, unless
    /// the task has more.
    fn judge(&self, predictions: &Predictions) -> Evaluation {
        let mut tally = self.tally(&predictions.classes);
        predictions.iter().for_each(|(answer, label)| tally.add(answer, label));
        tally.finish(predictions.len(), predictions.loss())
    }
}

/// A batch and what the network makes of it.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// Normalised images, f32 `[batch, height, width, channels]`.
    pub images: Value,
    /// What the network ends in, of [`Task::output`].
    pub output: Value,
    /// What is to be recognised, of [`Task::targets`].
    pub targets: Option<Value>,
    /// Weight of each sample, f32 `[batch]`; 0 for what only fills up the batch.
    pub weights: Value,
    /// Share of the target that is spread over all classes: [`Recipe::label_smoothing`](crate::train::Recipe), and 0 in
    /// evaluation.
    pub label_smoothing: f64,
}

impl Samples {
    /// What is to be recognised.
    ///
    /// # Errors
    /// If the task takes no targets.
    pub fn targets(&self) -> Result<Value, GraphError> {
        let missing = || GraphError::Layer { layer: "loss".into(), message: "the task takes no targets".into() };
        self.targets.ok_or_else(missing)
    }
}

/// What a task makes of a batch.
#[derive(Clone, Debug)]
pub struct Objective {
    /// The loss of each sample, f32 `[batch]`, whose weighted mean is made small.
    pub losses: Value,
    /// Figures of each sample, the most important first.
    pub metrics: Vec<SampleMetric>,
}

/// A figure of each sample, of which training shows the mean.
#[derive(Clone, Debug)]
pub struct SampleMetric {
    /// Its name in words.
    pub name: &'static str,
    /// What its values are.
    pub unit: Unit,
    /// Its values, f32 `[batch]`.
    pub values: Value,
}

/// The figures of an evaluation that is under way.
pub trait Tally {
    /// Takes in an image: what inference answered for it, and what was to be recognised.
    fn add(&mut self, prediction: &[f32], label: Label<'_>);

    /// What it came to for so many images of this mean loss. The first metric is the one by which the best epoch is chosen,
    /// larger being better; without one, it is the loss, smaller being better.
    fn finish(self: Box<Self>, images: usize, loss: f64) -> Evaluation;
}

/// The built-in task for the labels of some data. With `balance_classes`, where an image can be of several classes, those
/// that are rare count more; where it is of one, weights of the images do that
/// ([`balanced_class_weights`](Dataset::balanced_class_weights)).
pub fn for_data(data: &Dataset, balance_classes: bool) -> Arc<dyn Task> {
    let classes = data.classes().len();
    match data.labels() {
        Labels::Classes(_) => Arc::new(Classification::new(classes)),
        Labels::Rows { .. } if balance_classes => {
            Arc::new(MultiLabel::new(classes).positive_weights(data.balanced_positive_weights()))
        }
        Labels::Rows { .. } => Arc::new(MultiLabel::new(classes)),
    }
}

/// The built-in task of that name for so many classes; `None` where there is none.
pub fn build(name: &str, classes: usize) -> Option<Arc<dyn Task>> {
    match name {
        Classification::NAME => Some(Arc::new(Classification::new(classes))),
        MultiLabel::NAME => Some(Arc::new(MultiLabel::new(classes))),
        _ => None,
    }
}
