//! The errors of training.

use std::path::PathBuf;

use thiserror::Error;

use crate::{
    data::DataError,
    graph::GraphError,
    plan::{ExecutorError, PlanError},
    tensor::TensorType,
    weights::WeightsError,
};

/// Why a run could not be set up, or ended.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The model cannot be built for this input.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The graph does not fit the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// Pretrained weights cannot be read, or are of another model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
    /// The data's labels are not what the task takes.
    #[error(
        "{task} does not take labels of the type {given}: {}",
        match .given.shape.len() {
            1 => "these are one class an image",
            _ => "these are a row of numbers an image, as of images of several classes each",
        }
    )]
    Labels {
        /// Name of the task.
        task: String,
        /// Type of the labels of a batch.
        given: TensorType,
    },
    /// The batch is too large for the device.
    #[error(
        "a batch of {batch} images needs {bytes} bytes, and the limit of {device} is {limit}: {}",
        match (.largest, .on_cpu) {
            (Some(largest), _) => format!("the largest batch that fits is {largest}; use this `batch_size`"),
            (None, true) => "not even a single image fits; use smaller images or a smaller model".to_string(),
            (None, false) => "not even a single image fits; use smaller images, a smaller model or the `device` cpu".to_string(),
        }
    )]
    BatchTooLarge {
        /// Images a step that were asked for.
        batch: usize,
        /// Bytes that they need.
        bytes: u64,
        /// Bytes that there may be.
        limit: u64,
        /// Name of the device.
        device: String,
        /// The largest batch that fits.
        largest: Option<usize>,
        /// Whether the device is the CPU.
        on_cpu: bool,
    },
    /// The loss stopped being a number.
    #[error(
        "the loss became {loss} at step {step} (epoch {epoch}); the first value that is not finite appeared in {place}. \
         The weights are those before that step. A lower `learning_rate`, gradient clipping by a \
         `clip_norm` of 1 or `warmup_steps` usually help"
    )]
    NotFinite {
        /// The loss: NaN or infinite.
        loss: f32,
        /// The step, counted from 1.
        step: u64,
        /// The epoch, counted from 1.
        epoch: u64,
        /// Layer and operation.
        place: String,
    },
    /// Weights stopped being numbers, which the loss did not show.
    #[error(
        "the parameter {parameter} is not finite after step {step}, though the loss still was. The last checkpoint before that \
         is whole, where there is one. A lower `learning_rate`, gradient clipping by a `clip_norm` of 1 or `warmup_steps` \
         usually help"
    )]
    WeightsNotFinite {
        /// Its name.
        parameter: String,
        /// The step after which that was seen, counted from 1.
        step: u64,
    },
    /// The device went away during a run.
    #[error(
        "the device was lost: {reason}. {}",
        match .checkpoint {
            Some(folder) => format!("The last checkpoint is whole: `resume` from {}", folder.display()),
            None => "There is no checkpoint yet: begin anew".to_string(),
        }
    )]
    DeviceLost {
        /// What the driver says.
        reason: String,
        /// The run folder, where it has a checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// An image that could be read when the run began cannot be any more.
    #[error(
        "{source}. {}",
        match .checkpoint {
            Some(folder) => format!(
                "The run has a checkpoint; once the image is there again `resume` from {}",
                folder.display()
            ),
            None => "There is no checkpoint: begin anew".to_string(),
        }
    )]
    ImageLost {
        /// What is wrong with the image.
        source: DataError,
        /// The run folder, where a checkpoint was written.
        checkpoint: Option<PathBuf>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A checkpoint is broken, or of another model.
    #[error("{}: {message}", .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}
