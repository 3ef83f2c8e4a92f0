//! Training steps on a GPU against the CPU.

use std::sync::Arc;

use serde::Serialize;

use super::random;
use crate::{
    cpu::CpuExecutor,
    data::{Batch, Normalisation},
    gpu::{Gpu, GpuExecutor},
    graph::Value,
    models::Model,
    nn::{Activation, BatchNorm, Builder, Conv2d, Dense, Dropout, Flatten, GlobalAveragePool, MaxPool2d, Sequential},
    ops::{Optimizer, Padding},
    plan::Executor,
    train::{Recipe, Session, TrainError},
};

/// Steps that a network is trained for.
pub const STEPS: usize = 20;

/// Rounding that a loss has from its own sums.
const ROUNDING: f64 = 1e-6;

/// How much more than the CPU's, or than a rounding of the input, a GPU's roundings may do: it rounds other values, and
/// the inputs are one of some dozen values that each step rounds.
const MAGNIFICATION: f64 = 16.0;

/// How the losses of a network's first [`STEPS`] steps on a GPU compare with those in double precision.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingReport {
    /// The network.
    pub network: String,
    /// The largest relative error of a loss.
    pub worst_error: f64,
    /// The largest error as a share of what rounding accounts for; above 1 it is wrong.
    pub worst_share: f64,
    /// What is wrong, if anything is.
    pub failure: Option<String>,
}

/// A network, and how it is trained.
pub struct Network {
    /// What it is called, with its optimizer.
    pub name: &'static str,
    build: fn() -> Model,
    optimizer: Optimizer,
}

/// The networks whose training is compared: one of convolutions, pooling and dense layers, and a residual one with batch
/// norm and dropout.
pub fn networks() -> [Network; 2] {
    let momentum = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    [
        Network { name: "a plain CNN, adam", build: plain, optimizer: Optimizer::default() },
        Network { name: "a residual CNN, sgd", build: residual, optimizer: momentum },
    ]
}

fn plain() -> Model {
    let network = Sequential::new()
        .add(Conv2d::new(32, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(64, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dense::new(128).relu())
        .add(Dense::new(10));
    Model::new("plain", [28, 28, 1], 10, network)
}

fn residual() -> Model {
    let conv = |channels, stride| Conv2d::new(channels, 3).stride(stride).padding(Padding::Same).no_bias();
    let block = move |builder: &mut Builder<'_>, x: Value| {
        let y = builder.layer("conv1", &conv(16, 1), x)?;
        let y = builder.layer("bn1", &BatchNorm::new(), y)?;
        let y = builder.graph.relu(y)?;
        let y = builder.layer("conv2", &conv(16, 1), y)?;
        let y = builder.layer("bn2", &BatchNorm::new(), y)?;
        let sum = builder.graph.add(x, y)?;
        builder.graph.relu(sum)
    };
    let network = Sequential::new()
        .add(conv(16, 1))
        .add(BatchNorm::new())
        .add(Activation::Relu)
        .named("block1", block)
        .add(conv(16, 2))
        .named("block2", block)
        .add(GlobalAveragePool)
        .add(Dropout::new(0.2))
        .add(Dense::new(10));
    Model::new("residual", [16, 16, 3], 10, network)
}

/// Trains `network` for [`STEPS`] steps on `gpu`, and on the CPU in single and in double precision.
///
/// A loss may be off from the one in double precision by what rounding accounts for: sixteen times what single precision
/// does on the CPU, or a last bit of the images in double precision, up to that step.
///
/// # Errors
/// If the network does not fit the device, or the device fails.
pub fn check_training(gpu: &Arc<Gpu>, network: &Network) -> Result<TrainingReport, TrainError> {
    let [mean, std] = [0.45, 0.25f32];
    let on_gpu = losses(Box::new(GpuExecutor::new(gpu.clone())), network, [mean, std])?;
    let single = losses(Box::new(CpuExecutor::new()), network, [mean, std])?;
    let exact = losses(Box::new(CpuExecutor::<f64>::default()), network, [mean, std])?;
    let moved = losses(Box::new(CpuExecutor::<f64>::default()), network, [mean, std.next_up()])?;
    let mut report =
        TrainingReport { network: network.name.to_string(), worst_error: 0.0, worst_share: 0.0, failure: None };
    let mut rounding = ROUNDING;
    for (at, exact) in exact.iter().map(|loss| f64::from(*loss)).enumerate() {
        let error = |losses: &[f32]| ((f64::from(losses[at]) - exact) / exact).abs();
        rounding = rounding.max(MAGNIFICATION * error(&single)).max(MAGNIFICATION * error(&moved));
        let error = error(&on_gpu);
        report.worst_error = report.worst_error.max(error);
        report.worst_share = report.worst_share.max(error / rounding);
        // Written so that a loss that is not a number is wrong too.
        let right = error <= rounding;
        if !right && report.failure.is_none() {
            report.failure = Some(format!(
                "in step {} the loss is {} on the GPU and {exact} on the CPU: off by {error:.2e}, and rounding accounts \
                 for {rounding:.2e}",
                at + 1,
                on_gpu[at],
            ));
        }
    }
    Ok(report)
}

fn losses(executor: Box<dyn Executor>, network: &Network, [mean, std]: [f32; 2]) -> Result<Vec<f32>, TrainError> {
    let model = (network.build)();
    let recipe = Recipe { batch_size: Some(16), optimizer: network.optimizer, ..Recipe::default() };
    let (input, batch_size) = (model.input, recipe.batch_size());
    let channels = model.input[2];
    let normalisation = Normalisation { mean: vec![mean; channels], std: vec![std; channels] };
    let mut session = Session::new(executor, model, recipe, normalisation)?;
    let mut figures = Vec::new();
    for step in 0..STEPS {
        figures.extend(session.train_step(&mut batch(step, batch_size, input), 1e-3)?);
    }
    figures.extend(session.finish_steps()?);
    Ok(figures.into_iter().map(|figures| figures.loss).collect())
}

/// Noise over a pattern of its class, so that there is something to learn.
fn batch(number: usize, size: usize, [height, width, channels]: [usize; 3]) -> Batch {
    let elements = height * width * channels;
    let noise = random([size, elements], number as u64);
    let labels: Vec<u32> = (0..size).map(|at| ((at * 7 + number) % 10) as u32).collect();
    let pixel = |(at, noise): (usize, &f32)| {
        let (image, position) = (at / elements, at % elements);
        let pattern = if position * 10 / elements == labels[image] as usize { 80.0 } else { 0.0 };
        (110.0 + pattern + 20.0 * noise).clamp(0.0, 255.0) as u8
    };
    Batch {
        images: noise.as_f32().unwrap_or_default().iter().enumerate().map(pixel).collect(),
        weights: vec![1.0; size],
        real: size,
        labels: labels.into(),
        ..Batch::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_train_on_the_gpu_as_on_the_cpu() {
        let Some(gpu) = super::super::software_gpu() else { return };
        for network in networks() {
            let report = check_training(&gpu, &network).unwrap_or_else(|error| panic!("{}: {error}", network.name));
            assert_eq!(report.failure, None, "{report:?}");
            assert!(report.worst_error > 0.0, "it was not the CPU that trained: {report:?}");
        }
    }
}
