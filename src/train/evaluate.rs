//! Inference: a model's figures on images, and its predictions.

use std::{collections::VecDeque, path::Path};

use super::{
    Card, TrainError,
    batch::BatchTensors,
    checkpoint::open_model,
    forward::{Inferred, inference_graph_of},
    weights::Weights,
};
use crate::{
    data::{Batch, Label, Labels, Loader},
    models::Model,
    nn::Parameters,
    plan::{Executor, Outputs, Plan, PlanOptions, ProgramId},
    tasks::{Evaluation, MultiLabel, Predictions, THRESHOLD},
    tensor::DType,
};

/// A class with its probability.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Name of the class.
    pub class: String,
    /// Its number.
    pub index: usize,
    /// Its probability.
    pub probability: f32,
    /// Whether the image is said to be of it: the likeliest class is, or where images are of several each that is above its
    /// [threshold](Card::thresholds).
    pub chosen: bool,
}

/// The inference program of a model on an executor.
pub(super) struct Inference {
    program: ProgramId,
}

impl Inference {
    pub fn new(program: ProgramId) -> Self {
        Self { program }
    }

    /// The figures by which training is followed, on the images of a loader.
    pub fn evaluate(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        loader: &Loader,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Evaluation, TrainError> {
        let mut tally = model.task.tally(loader.dataset().classes());
        let (mut images, mut loss) = (0, 0.0);
        self.each(executor, model, loader, &mut |answered| {
            tally.add(answered.answer, answered.label);
            images += 1;
            loss += f64::from(answered.loss);
            progress(images);
        })?;
        Ok(tally.finish(images, loss / images.max(1) as f64))
    }

    /// What is said of the images of some loaders together, which have the same classes.
    pub fn predictions(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        loaders: &[Loader],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Predictions, TrainError> {
        let classes = loaders.first().map_or(&[][..], |loader| loader.dataset().classes()).to_vec();
        let mut all = Predictions { classes, ..Predictions::default() };
        for loader in loaders {
            self.each(executor, model, loader, &mut |answered| {
                all.answers.extend_from_slice(answered.answer);
                all.labels.push(answered.label);
                all.losses.push(answered.loss);
                all.embeddings.extend_from_slice(answered.embedding);
                all.images.push(loader.dataset().image_name(answered.index));
                progress(all.images.len());
            })?;
        }
        Ok(all)
    }

    /// Tells `take` what is said of each image of a loader, in its order.
    fn each(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        loader: &Loader,
        take: &mut dyn FnMut(Answered<'_>),
    ) -> Result<(), TrainError> {
        let mut pending: VecDeque<(Labels, Vec<u32>)> = VecDeque::new();
        let mut tell = |outputs: &Outputs, (labels, indices): (Labels, Vec<u32>)| {
            let (answers, width) = floats(outputs, "predictions");
            let (losses, _) = floats(outputs, "losses");
            let (embeddings, numbers) = floats(outputs, "embeddings");
            for (((at, index), answer), loss) in indices.into_iter().enumerate().zip(answers.chunks(width)).zip(losses)
            {
                let embedding = embeddings.chunks(numbers).nth(at).unwrap_or_default();
                take(Answered { index: index as usize, answer, label: labels.get(at), loss: *loss, embedding });
            }
        };
        for batch in loader.epoch(0, 0) {
            let mut batch = batch?;
            pending.push_back((batch.labels.select(0..batch.real), batch.indices[..batch.real].to_vec()));
            self.run(executor, model, &mut batch)?;
            loader.recycle(batch);
            for outputs in executor.collect(self.program, false)? {
                tell(&outputs, pending.pop_front().unwrap_or_default());
            }
        }
        for outputs in executor.collect(self.program, true)? {
            tell(&outputs, pending.pop_front().unwrap_or_default());
        }
        Ok(())
    }

    fn run(&self, executor: &mut dyn Executor, model: &Model, batch: &mut Batch) -> Result<(), TrainError> {
        let inputs = BatchTensors::borrow(batch, model)?;
        let result = executor.run(self.program, &inputs.feeds());
        inputs.give_back(batch);
        Ok(result?)
    }
}

/// The values of an output, and how many there are of each image of a batch of `batch`.
fn floats<'a>(outputs: &'a Outputs, name: &str) -> (&'a [f32], usize) {
    let found = outputs.iter().find(|(given, _)| given == name).map(|(_, tensor)| tensor);
    let values = found.and_then(|tensor| tensor.as_f32()).unwrap_or(&[]);
    let batch = found.and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
    (values, (values.len() / batch.max(1)).max(1))
}

/// What is said of an image.
struct Answered<'a> {
    /// Its place in its data set.
    index: usize,
    answer: &'a [f32],
    label: Label<'a>,
    loss: f32,
    /// Empty where embeddings were not asked for.
    embedding: &'a [f32],
}

/// A trained model, loaded for inference.
pub struct Classifier {
    executor: Box<dyn Executor>,
    model: Model,
    card: Card,
    /// For each class the probability above which an image is said to be of it; none where images are of one class.
    thresholds: Vec<f32>,
    inference: Inference,
    batch: usize,
}

impl Classifier {
    /// Loads the weights file that a run left behind, for batches of `batch` images.
    ///
    /// # Errors
    /// If the file is missing, truncated, or its model or task is not built in.
    pub fn load(path: &Path, executor: Box<dyn Executor>, batch: usize) -> Result<Self, TrainError> {
        Self::load_for(path, executor, &Inferred { batch, ..Inferred::default() })
    }

    /// As [`Self::load`], for what is asked for.
    ///
    /// # Errors
    /// As [`Self::load`], and if the network has no embeddings and they are asked for.
    pub fn load_for(path: &Path, executor: Box<dyn Executor>, inferred: &Inferred) -> Result<Self, TrainError> {
        let (model, _) = open_model(path)?;
        Self::of_model(path, model, executor, inferred)
    }

    /// Loads the weights of a model of your own.
    ///
    /// # Errors
    /// If the file is missing, truncated, or of another model.
    pub fn with_model(
        path: &Path,
        model: Model,
        executor: Box<dyn Executor>,
        batch: usize,
    ) -> Result<Self, TrainError> {
        Self::of_model(path, model, executor, &Inferred { batch, ..Inferred::default() })
    }

    fn of_model(
        path: &Path,
        model: Model,
        mut executor: Box<dyn Executor>,
        inferred: &Inferred,
    ) -> Result<Self, TrainError> {
        let weights = Weights::open(path)?;
        let card = weights.card.clone();
        let mut parameters = Parameters::for_inference(executor.target().block_limit());
        let temperature = card.temperature.unwrap_or(1.0);
        let graph = inference_graph_of(&model, &mut parameters, &card.normalisation, inferred, temperature)?;
        executor.declare(parameters.variables())?;
        executor.tune(&graph, parameters.variables(), PlanOptions::inference())?;
        let plan = Plan::new(&graph, &executor.target(), PlanOptions::inference())?;
        executor.check_memory(&plan)?;
        let program = executor.load(plan)?;
        weights.fill(&parameters, executor.as_mut())?;
        executor.freeze(program)?;
        let thresholds = match &card.thresholds {
            _ if model.task.name() != MultiLabel::NAME => Vec::new(),
            Some(thresholds) => thresholds.clone(),
            None => vec![THRESHOLD; card.classes.len()],
        };
        Ok(Self { executor, model, card, thresholds, inference: Inference::new(program), batch: inferred.batch })
    }

    /// What the weights file says of itself.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Images a step.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Name of the device.
    pub fn device(&self) -> String {
        self.executor.device()
    }

    /// The task's figures ([`Task::judge`](crate::tasks::Task::judge)) on the images of some loaders together, which have the same
    /// classes and the batch size that this was loaded for. Tells `progress` how many images are done.
    ///
    /// # Errors
    /// If an image cannot be read or the device fails.
    pub fn evaluate(&mut self, loaders: &[Loader], progress: &mut dyn FnMut(usize)) -> Result<Evaluation, TrainError> {
        let predictions = self.predictions(loaders, progress)?;
        Ok(self.judge(&predictions))
    }

    /// What it says of the images of some loaders together, likewise.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn predictions(
        &mut self,
        loaders: &[Loader],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Predictions, TrainError> {
        let predictions = self.inference.predictions(self.executor.as_mut(), &self.model, loaders, progress)?;
        Ok(Predictions { thresholds: self.thresholds.clone(), ..predictions })
    }

    /// The figures of predictions.
    pub fn judge(&self, predictions: &Predictions) -> Evaluation {
        self.model.task.judge(predictions)
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
                labels: self.blank_labels(),
                weights: vec![1.0; self.batch],
                real,
                ..Batch::default()
            };
            self.inference.run(self.executor.as_mut(), &self.model, &mut batch)?;
            for outputs in self.executor.collect(self.inference.program, true)? {
                let (values, width) = floats(&outputs, "predictions");
                predictions.extend(values.chunks(width).take(real).map(|row| self.ranked(row, top)));
            }
        }
        Ok(predictions)
    }

    /// Labels of a batch of which only the predictions are wanted.
    fn blank_labels(&self) -> Labels {
        match self.model.task.targets(self.batch) {
            Some(ty) if ty.dtype == DType::F32 => {
                Labels::Rows { width: ty.shape.last(), values: vec![0.0; ty.elements()] }
            }
            _ => Labels::Classes(vec![0; self.batch]),
        }
    }

    fn ranked(&self, row: &[f32], top: usize) -> Vec<Prediction> {
        let best = Predictions::likeliest(row);
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let prediction = |index: usize| Prediction {
            class: self.card.classes.get(index).cloned().unwrap_or_else(|| index.to_string()),
            index,
            probability: row[index],
            chosen: self.thresholds.get(index).map_or(index == best, |threshold| row[index] > *threshold),
        };
        order.into_iter().take(top).map(prediction).collect()
    }
}
