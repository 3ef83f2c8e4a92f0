//! Grad-CAM: where in an image a network finds a class (Selvaraju et al. 2017, equations 1 and 2).

use super::{
    ExplainError,
    layers::{find, map_layers},
};
use crate::{
    autodiff::gradients,
    data::Normalisation,
    graph::Graph,
    models::Model,
    nn::Parameters,
    train::{NetworkGraph, network_graph},
};

/// Builds the graph of Grad-CAM on a batch: the network in inference with the gradient of a class's logit by what a layer makes.
///
/// Feeds: `images`, u8 `[batch, height, width, channels]`, and `classes`, f32 `[batch, classes]`, 1 at the class and 0 elsewhere.
/// Outputs: `activations`, f32 of the shape of the layer's output, and `gradients`, f32 of the same shape.
///
/// # Errors
/// If the model cannot take such images, there is no such layer, or an operation after it has no gradient.
pub fn grad_cam_graph(
    model: &Model,
    parameters: &mut Parameters,
    normalisation: &Normalisation,
    batch: usize,
    layer: &str,
) -> Result<Graph, ExplainError> {
    let network = network_graph(model, parameters, batch, normalisation)?;
    let activations = find(&map_layers(model, &network), layer)?.output;
    let NetworkGraph { mut graph, output, .. } = network;
    let classes = graph.feed("classes", graph.ty(output).clone());
    let logits = graph.scoped("class", |graph| graph.multiply(output, classes))?;
    let gradient = gradients(&mut graph, logits, &[activations])?[0];
    graph.output("activations", activations);
    graph.output("gradients", gradient);
    Ok(graph)
}

/// `ReLU(sum of a_k A_k)` over the channels `k`, where `a_k` is the mean of the gradient over all places: `[places]` of
/// activations and gradients `[places, channels]`.
pub fn class_activation(activations: &[f32], gradients: &[f32], channels: usize) -> Vec<f32> {
    let channels = channels.max(1);
    let share = 1.0 / (gradients.len() / channels).max(1) as f32;
    let mut weights = vec![0.0; channels];
    for place in gradients.chunks_exact(channels) {
        weights.iter_mut().zip(place).for_each(|(weight, gradient)| *weight += gradient * share);
    }
    let weighted = |place: &[f32]| place.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f32>();
    activations.chunks_exact(channels).map(|place| weighted(place).max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_count_by_their_mean_gradient() {
        let activations = [1.0, 2.0, 3.0, 1.0];
        // Means: 1 and -1.
        let gradients = [0.0, -3.0, 2.0, 1.0];
        assert_eq!(class_activation(&activations, &gradients, 2), [0.0, 2.0]);
    }
}
