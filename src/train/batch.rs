//! Batches as an executor takes them.

use super::TrainError;
use crate::{
    data::{Batch, Labels},
    models::Model,
    tensor::{Tensor, TensorData, TensorType},
};

fn labels_type(batch: &Batch) -> TensorType {
    let n = batch.weights.len();
    match &batch.labels {
        Labels::Classes(_) => TensorType::u32([n]),
        Labels::Rows { width, .. } => TensorType::f32([n, *width]),
    }
}

/// Fails where a batch's labels are not what the model's task takes.
pub(super) fn check_labels(batch: &Batch, model: &Model) -> Result<(), TrainError> {
    let given = labels_type(batch);
    match model.task.targets(batch.weights.len()) {
        Some(expected) if expected != given => Err(TrainError::Labels { task: model.task.name().into(), given }),
        _ => Ok(()),
    }
}

/// The labels of the images at these places of a batch.
pub(super) fn labels_at(batch: &Batch, places: &[usize]) -> Tensor {
    let shape = labels_type(batch).shape;
    match batch.labels.select(places.iter().copied()) {
        Labels::Classes(classes) => Tensor::u32(shape, classes),
        Labels::Rows { values, .. } => Tensor::f32(shape, values),
    }
}

/// A batch's vectors as tensors, without copies: they are taken out of the batch and put back.
pub(super) struct BatchTensors {
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
    /// Whether the task takes labels.
    takes_labels: bool,
}

impl BatchTensors {
    /// The tensors of a batch for a model.
    ///
    /// # Errors
    /// If the batch's labels are not what the model's task takes; the batch stays as it is.
    pub fn borrow(batch: &mut Batch, model: &Model) -> Result<Self, TrainError> {
        check_labels(batch, model)?;
        let [height, width, channels] = model.input;
        let n = batch.weights.len();
        let given = labels_type(batch);
        let labels = match std::mem::take(&mut batch.labels) {
            Labels::Classes(classes) => Tensor::u32(given.shape, classes),
            Labels::Rows { values, .. } => Tensor::f32(given.shape, values),
        };
        Ok(Self {
            images: Tensor::u8([n, height, width, channels], std::mem::take(&mut batch.images)),
            labels,
            weights: Tensor::f32([n], std::mem::take(&mut batch.weights)),
            takes_labels: model.task.targets(n).is_some(),
        })
    }

    pub fn feeds(&self) -> Vec<(&'static str, &Tensor)> {
        let mut feeds = vec![("images", &self.images), ("weights", &self.weights)];
        if self.takes_labels {
            feeds.push(("labels", &self.labels));
        }
        feeds
    }

    pub fn give_back(self, batch: &mut Batch) {
        let width = self.labels.shape().last();
        batch.labels = match self.labels.into_data() {
            TensorData::F32(values) => Labels::Rows { width, values },
            TensorData::U32(classes) => Labels::Classes(classes),
            TensorData::U8(_) | TensorData::I8(_) | TensorData::F16(_) => Labels::default(),
        };
        if let (TensorData::U8(images), TensorData::F32(weights)) = (self.images.into_data(), self.weights.into_data())
        {
            (batch.images, batch.weights) = (images, weights);
        }
    }
}
