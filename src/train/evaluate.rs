use std::{collections::VecDeque, path::Path};

use super::{
    Card, TrainError,
    checkpoint::{Weights, card_of},
    graphs::inference_graph,
    session::BatchTensors,
};
use crate::{
    data::{Batch, Loader},
    models::{self, Model},
    nn::Parameters,
    plan::{Executor, Outputs, Plan, PlanOptions, ProgramId},
};

/// How well a model does on a set of images.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of images whose class has the largest probability.
    pub accuracy: f64,
    /// Share of images whose class is among the five largest probabilities.
    pub top5_accuracy: f64,
    /// Number of images by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Takes in how the model does on other images.
    pub fn add(&mut self, other: &Self) {
        let (own, others) = (self.images as f64, other.images as f64);
        let all = (own + others).max(1.0);
        let mean = |a: f64, b: f64| (a * own + b * others) / all;
        self.loss = mean(self.loss, other.loss);
        self.accuracy = mean(self.accuracy, other.accuracy);
        self.top5_accuracy = mean(self.top5_accuracy, other.top5_accuracy);
        self.images += other.images;
        if self.confusion.is_empty() {
            self.confusion.clone_from(&other.confusion);
            return;
        }
        for (row, others) in self.confusion.iter_mut().zip(&other.confusion) {
            for (count, others) in row.iter_mut().zip(others) {
                *count += others;
            }
        }
    }

    /// For each class the number of its images and the share of them recognised; `None` where it has no images.
    pub fn per_class(&self) -> Vec<(u64, Option<f64>)> {
        let share = |(class, row): (usize, &Vec<u64>)| {
            let images: u64 = row.iter().sum();
            (images, (images > 0).then(|| row[class] as f64 / images as f64))
        };
        self.confusion.iter().enumerate().map(share).collect()
    }
}

/// A class with its probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Name of the class.
    pub class: String,
    /// Its number.
    pub index: usize,
    /// Its probability.
    pub probability: f32,
}

/// The inference program of a model on an executor.
pub(super) struct Inference {
    program: ProgramId,
}

impl Inference {
    pub fn new(program: ProgramId) -> Self {
        Self { program }
    }

    pub fn evaluate(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        loader: &Loader,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Evaluation, TrainError> {
        let mut tally = Tally::new(model.classes);
        let mut pending: VecDeque<Vec<u32>> = VecDeque::new();
        for batch in loader.epoch(0, 0) {
            let mut batch = batch?;
            pending.push_back(batch.labels[..batch.real].to_vec());
            self.run(executor, model, &mut batch)?;
            loader.recycle(batch);
            for outputs in executor.collect(self.program, false)? {
                tally.add(&outputs, pending.pop_front());
                progress(tally.evaluation.images);
            }
        }
        for outputs in executor.collect(self.program, true)? {
            tally.add(&outputs, pending.pop_front());
        }
        Ok(tally.finish())
    }

    fn run(&self, executor: &mut dyn Executor, model: &Model, batch: &mut Batch) -> Result<(), TrainError> {
        let inputs = BatchTensors::borrow(batch, model);
        let result = executor.run(self.program, &inputs.feeds());
        inputs.give_back(batch);
        Ok(result?)
    }
}

fn floats<'a>(outputs: &'a Outputs, name: &str) -> &'a [f32] {
    outputs.iter().find(|(given, _)| given == name).and_then(|(_, tensor)| tensor.as_f32()).unwrap_or(&[])
}

/// Sums over the images that were seen.
struct Tally {
    classes: usize,
    evaluation: Evaluation,
}

impl Tally {
    fn new(classes: usize) -> Self {
        // Row by row, so that those of many classes take memory only once they are written to.
        let confusion = (0..classes).map(|_| vec![0; classes]).collect();
        Self { classes, evaluation: Evaluation { confusion, ..Evaluation::default() } }
    }

    fn add(&mut self, outputs: &Outputs, labels: Option<Vec<u32>>) {
        let sums = &mut self.evaluation;
        let rows = floats(outputs, "probabilities").chunks(self.classes);
        let losses = floats(outputs, "losses");
        for ((label, row), loss) in labels.unwrap_or_default().into_iter().zip(rows).zip(losses) {
            let label = label as usize;
            let rank = row.iter().enumerate().filter(|(at, p)| **p > row[label] || (**p == row[label] && *at < label));
            let rank = rank.count();
            let valid = row[label].is_finite();
            sums.images += 1;
            sums.loss += f64::from(*loss);
            sums.accuracy += f64::from(u8::from(valid && rank == 0));
            sums.top5_accuracy += f64::from(u8::from(valid && rank < 5));
            sums.confusion[label][largest(row)] += 1;
        }
    }

    fn finish(self) -> Evaluation {
        let mut evaluation = self.evaluation;
        let n = evaluation.images.max(1) as f64;
        evaluation.loss /= n;
        evaluation.accuracy /= n;
        evaluation.top5_accuracy /= n;
        evaluation
    }
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// A trained model, loaded for inference.
pub struct Classifier {
    executor: Box<dyn Executor>,
    model: Model,
    card: Card,
    inference: Inference,
    batch: usize,
}

impl Classifier {
    /// Loads the weights file that a run left behind, for batches of `batch` images.
    ///
    /// # Errors
    /// If the file is missing, truncated, or its model is not in the zoo.
    pub fn load(path: &Path, executor: Box<dyn Executor>, batch: usize) -> Result<Self, TrainError> {
        let card = card_of(path)?;
        let model =
            models::build(&card.model, card.input, card.classes.len()).ok_or_else(|| TrainError::Checkpoint {
                path: path.to_path_buf(),
                message: format!(
                    "its model is {}, which is not in the zoo: load it with Classifier::with_model",
                    card.model
                ),
            })?;
        Self::with_model(path, model, executor, batch)
    }

    /// Loads the weights of a model of your own.
    ///
    /// # Errors
    /// If the file is missing, truncated, or of another model.
    pub fn with_model(
        path: &Path,
        model: Model,
        mut executor: Box<dyn Executor>,
        batch: usize,
    ) -> Result<Self, TrainError> {
        let weights = Weights::open(path)?;
        let card = weights.card.clone();
        let mut parameters = Parameters::new(executor.target().block_limit());
        let graph = inference_graph(&model, &mut parameters, batch, &card.normalisation)?;
        executor.declare(parameters.variables())?;
        executor.tune(&graph, parameters.variables(), PlanOptions::inference())?;
        let plan = Plan::new(&graph, &executor.target(), PlanOptions::inference())?;
        executor.check_memory(&plan)?;
        let program = executor.load(plan)?;
        for parameter in parameters.iter() {
            let block = &parameters.blocks()[parameter.block];
            executor.write(block.variable, parameter.offset, &weights.tensor(&parameter.name, &parameter.shape)?)?;
        }
        Ok(Self { executor, model, card, inference: Inference::new(program), batch })
    }

    /// What the weights file says of itself.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Name of the device.
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// Loss and accuracy on the loader's images; its batch size must be the one this was loaded for.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn evaluate(&mut self, loader: &Loader) -> Result<Evaluation, TrainError> {
        self.evaluate_with_progress(loader, &mut |_| ())
    }

    /// As [`Self::evaluate`], and tells `progress` how many images are done.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn evaluate_with_progress(
        &mut self,
        loader: &Loader,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Evaluation, TrainError> {
        self.inference.evaluate(self.executor.as_mut(), &self.model, loader, progress)
    }

    /// The `top` most probable classes of each image; `images` holds them as u8 `[height, width, channels]` in a row.
    ///
    /// # Errors
    /// If the device fails.
    pub fn predict(&mut self, images: &[u8], top: usize) -> Result<Vec<Vec<Prediction>>, TrainError> {
        let size: usize = self.model.input.iter().product();
        let mut predictions = Vec::new();
        for chunk in images.chunks(size * self.batch) {
            let real = chunk.len() / size;
            let mut pixels = chunk.to_vec();
            pixels.resize(size * self.batch, 0);
            let mut batch = Batch {
                images: pixels,
                labels: vec![0; self.batch],
                weights: vec![1.0; self.batch],
                real,
                ..Batch::default()
            };
            self.inference.run(self.executor.as_mut(), &self.model, &mut batch)?;
            for outputs in self.executor.collect(self.inference.program, true)? {
                let rows = floats(&outputs, "probabilities").chunks(self.model.classes).take(real);
                predictions.extend(rows.map(|row| self.ranked(row, top)));
            }
        }
        Ok(predictions)
    }

    fn ranked(&self, row: &[f32], top: usize) -> Vec<Prediction> {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let prediction = |index: usize| Prediction {
            class: self.card.classes.get(index).cloned().unwrap_or_else(|| index.to_string()),
            index,
            probability: row[index],
        };
        order.into_iter().take(top).map(prediction).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_add_up_by_their_images() {
        let first = Evaluation {
            images: 1,
            loss: 1.0,
            accuracy: 1.0,
            top5_accuracy: 1.0,
            confusion: vec![vec![1, 0], vec![0, 0]],
        };
        let second = Evaluation {
            images: 3,
            loss: 2.0,
            accuracy: 0.0,
            top5_accuracy: 1.0,
            confusion: vec![vec![0, 3], vec![0, 0]],
        };
        let mut both = Evaluation::default();
        both.add(&first);
        both.add(&second);
        let expected = Evaluation {
            images: 4,
            loss: 1.75,
            accuracy: 0.25,
            top5_accuracy: 1.0,
            confusion: vec![vec![1, 3], vec![0, 0]],
        };
        assert_eq!(both, expected);
        assert_eq!(both.per_class(), [(4, Some(0.25)), (0, None)]);
    }
}
