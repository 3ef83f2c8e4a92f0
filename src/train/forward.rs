//! The network on a batch: the graph of inference, and the first part of that of training.

use super::Recipe;
use crate::{
    augment::{Augmentation, Views},
    data::Normalisation,
    graph::{Graph, GraphError, Value},
    models::Model,
    nn::{Applied, Builder, Built, Mode, Parameters},
    tasks::Samples,
    tensor::{Tensor, TensorType},
};

/// Builds the graph of inference on a batch.
///
/// Feeds: `images`, `labels` and `weights` as in [`training_graph`]. Outputs: `predictions`, what the task makes of the
/// network's output (probabilities f32 `[batch, classes]` of classification), and `losses` f32 `[batch]`.
///
/// # Errors
/// If the model cannot take such images.
pub fn inference_graph(
    model: &Model,
    parameters: &mut Parameters,
    batch: usize,
    normalisation: &Normalisation,
) -> Result<Graph, GraphError> {
    inference_graph_of(model, parameters, normalisation, &Inferred { batch, ..Inferred::default() }, 1.0)
}

/// What inference makes of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inferred {
    /// Images a step.
    pub batch: usize,
    /// The views of each image, over which the network's output is averaged.
    pub views: Views,
    /// Whether to tell the embeddings of images too: what the last dense layer is given, of the first view.
    pub embeddings: bool,
}

impl Default for Inferred {
    fn default() -> Self {
        Self { batch: 1, views: Views::None, embeddings: false }
    }
}

/// As [`inference_graph`], of what is asked for, with the network's output divided by a temperature. Where embeddings are asked
/// for, there is the output `embeddings` too, f32 `[batch, width]`.
///
/// # Errors
/// If the model cannot take such images, or has no embeddings and they are asked for.
pub fn inference_graph_of(
    model: &Model,
    parameters: &mut Parameters,
    normalisation: &Normalisation,
    inferred: &Inferred,
    temperature: f64,
) -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let batch = Batch::feeds(&mut graph, model, inferred.batch);
    let input = Input { batch: &batch, normalisation, view: View::AtTest(inferred.views) };
    let (mut samples, built) = forward(&mut graph, model, parameters, &input, None)?;
    if inferred.embeddings {
        let embeddings = embeddings(&graph, model, parameters, &built)?;
        graph.output("embeddings", embeddings);
    }
    if temperature != 1.0 {
        samples.output = graph.scoped("temperature", |graph| graph.scale(samples.output, temperature.recip()))?;
    }
    graph.scoped("loss", |graph| -> Result<(), GraphError> {
        let objective = model.task.objective(graph, &samples)?;
        let predictions = model.task.prediction(graph, samples.output)?;
        graph.output("predictions", predictions);
        graph.output("losses", objective.losses);
        Ok(())
    })?;
    Ok(graph)
}

/// The network in inference, to build on: what is to be told of its inside becomes outputs of the graph.
#[derive(Clone, Debug)]
pub struct NetworkGraph {
    /// With the feed `images`, u8 `[batch, height, width, channels]`, and no outputs.
    pub graph: Graph,
    /// What the network is given: the images, normalised.
    pub images: Value,
    /// What the network ends in, of [`Task::output`](crate::tasks::Task::output).
    pub output: Value,
    /// Its layers, in the order in which they are applied: those of a block before it.
    pub layers: Vec<Applied>,
}

/// Builds the network in inference on a batch.
///
/// # Errors
/// If the model cannot take such images.
pub fn network_graph(
    model: &Model,
    parameters: &mut Parameters,
    batch: usize,
    normalisation: &Normalisation,
) -> Result<NetworkGraph, GraphError> {
    let mut graph = Graph::new();
    let batch = Batch::feeds(&mut graph, model, batch);
    let input = Input { batch: &batch, normalisation, view: View::AtTest(Views::None) };
    let (samples, built) = forward(&mut graph, model, parameters, &input, None)?;
    Ok(NetworkGraph { graph, images: samples.images, output: samples.output, layers: built.layers })
}

/// What the last dense layer is given: a vector an image.
fn embeddings(graph: &Graph, model: &Model, parameters: &Parameters, built: &Built) -> Result<Value, GraphError> {
    let last = parameters.last_dense();
    let layer = built.layers.iter().find(|layer| Some(layer.path.as_str()) == last);
    let vectors = layer.map(|layer| layer.input).filter(|input| graph.shape(*input).rank() == 2);
    vectors.ok_or_else(|| {
        let message =
            format!("{} has no embeddings of images: no dense layer is given one vector an image", model.name);
        GraphError::Layer { layer: last.unwrap_or_default().to_string(), message }
    })
}

/// The feeds of a batch.
pub(super) struct Batch {
    pub size: usize,
    pub images: Value,
    pub labels: Option<Value>,
    pub weights: Value,
}

impl Batch {
    pub fn feeds(graph: &mut Graph, model: &Model, size: usize) -> Self {
        let [height, width, channels] = model.input;
        let images = graph.feed("images", TensorType::u8([size, height, width, channels]));
        let labels = model.task.targets(size).map(|ty| graph.feed("labels", ty));
        let weights = graph.feed("weights", TensorType::f32([size]));
        Self { size, images, labels, weights }
    }
}

/// What the network is given.
pub(super) struct Input<'a> {
    pub batch: &'a Batch,
    pub normalisation: &'a Normalisation,
    pub view: View<'a>,
}

/// What the network sees of images.
pub(super) enum View<'a> {
    /// One of each, drawn anew.
    InTraining(&'a Augmentation),
    /// These of each, over which its output is averaged.
    AtTest(Views),
}

/// The network on a batch, for inference, or for training with this clock and recipe.
pub(super) fn forward(
    graph: &mut Graph,
    model: &Model,
    parameters: &mut Parameters,
    input: &Input<'_>,
    training: Option<(Value, &Recipe)>,
) -> Result<(Samples, Built), GraphError> {
    let Input { batch, normalisation, view } = input;
    let channels = normalisation.mean.len();
    let mean = graph.constant(Tensor::f32([channels], normalisation.mean.clone()));
    let std = graph.constant(Tensor::f32([channels], normalisation.std.clone()));
    let views = graph.scoped("input", |graph| match view {
        View::InTraining(augmentation) => Ok(vec![(1.0, augmentation.apply(graph, batch.images, mean, std)?)]),
        View::AtTest(views) => views.apply(graph, batch.images, mean, std),
    })?;
    let (mut builder, label_smoothing) = match training {
        Some((clock, recipe)) => {
            let builder = Builder::new(graph, parameters, Mode::Training, Some(clock));
            let dropped =
                if recipe.dropout > 0.0 { builder.dropout_before_last_dense(recipe.dropout) } else { builder };
            (dropped, recipe.label_smoothing)
        }
        None => (Builder::new(graph, parameters, Mode::Inference, None), 0.0),
    };
    let mut output = None;
    for &(share, x) in &views {
        let of_view = model.network.forward(&mut builder, x)?;
        output = Some(match output {
            _ if share == 1.0 => of_view,
            None => builder.graph.scale(of_view, share)?,
            Some(sum) => {
                let weighed = builder.graph.scale(of_view, share)?;
                builder.graph.add(sum, weighed)?
            }
        });
    }
    let Some((output, &(_, x))) = output.zip(views.first()) else {
        return Err(builder.error("no view of the images is taken".into()));
    };
    if let Some(expected) = model.task.output(batch.size) {
        let ends_in = builder.graph.ty(output).clone();
        if ends_in != expected {
            let dense = match expected.shape[..] {
                [_, width] => format!("; end it with Dense::new({width})"),
                _ => String::new(),
            };
            let (name, task) = (&model.name, model.task.name());
            let message = format!("the network of {name} ends in {ends_in}, and {task} needs {expected}{dense}");
            return Err(builder.error(message));
        }
    }
    let (targets, weights) = (batch.labels, batch.weights);
    let samples = Samples { images: x, output, targets, weights, label_smoothing };
    Ok((samples, builder.finish()))
}
