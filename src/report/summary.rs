//! A model layer by layer.

use std::fmt;

use serde::Serialize;

use super::{Table, grouped};
use crate::{
    graph::{Graph, GraphError},
    models::Model,
    nn::{Applied, Builder, Mode, Parameter, Parameters, Role},
    tensor::{DType, TensorType},
};

/// A model layer by layer, as Keras's `summary` shows it. Its text is the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the model.
    pub model: String,
    /// Height, width and channels of its images.
    pub input: [usize; 3],
    /// Its layers, in the order in which they are applied; after those of a block the block itself, where it computes something
    /// besides, such as a residual's sum.
    pub layers: Vec<LayerRow>,
    /// Numbers that an optimizer changes.
    pub trainable: usize,
    /// Numbers that follow statistics of the batches.
    pub non_trainable: usize,
    /// Bytes of both, as f32.
    pub bytes: usize,
    /// Floating-point operations of one image in inference, a multiplication and an addition being two.
    pub flop: u64,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// Its path, which the names of its parameters begin with.
    pub name: String,
    /// What it is: the kind that names it in a [`Sequential`](crate::nn::Sequential); nothing for parameters of a block itself.
    pub kind: &'static str,
    /// Extents of what it makes of one image.
    pub output: Vec<usize>,
    /// Numbers that an optimizer changes.
    pub trainable: usize,
    /// Numbers that follow statistics of the batches.
    pub non_trainable: usize,
    /// Floating-point operations of one image in inference.
    pub flop: u64,
}

impl LayerRow {
    fn new(name: &str, kind: &'static str, output: &[usize]) -> Self {
        Self { name: name.to_string(), kind, output: output.to_vec(), trainable: 0, non_trainable: 0, flop: 0 }
    }
}

/// The network of a model in inference on one normalised image, with its parameters and layers.
pub(super) fn of_one_image(model: &Model) -> Result<(Graph, Parameters, Vec<Applied>), GraphError> {
    let mut graph = Graph::new();
    let mut parameters = Parameters::new(usize::MAX);
    let [height, width, channels] = model.input;
    let images = graph.feed("images", TensorType::f32([1, height, width, channels]));
    let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Inference, None);
    model.network.forward(&mut builder, images)?;
    let layers = builder.finish().layers;
    Ok((graph, parameters, layers))
}

impl Summary {
    /// Of `model`.
    ///
    /// # Errors
    /// If the model cannot take such images.
    pub fn of(model: &Model) -> Result<Self, GraphError> {
        let (graph, parameters, applied) = of_one_image(model)?;
        let mut layers: Vec<LayerRow> = applied
            .iter()
            .map(|layer| LayerRow::new(&layer.path, layer.kind, graph.shape(layer.output).get(1..).unwrap_or_default()))
            .collect();
        // What is in a block, and in none of its layers, is the block's own.
        let innermost = |path: &str| {
            let holds =
                |layer: &str| path.strip_prefix(layer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let holders = applied.iter().enumerate().filter(|(_, layer)| holds(&layer.path));
            holders.max_by_key(|(_, layer)| layer.path.len()).map(|(at, _)| at)
        };
        for node in graph.nodes() {
            if let Some(at) = innermost(&node.scope) {
                layers[at].flop += graph.flop_of(node);
            }
        }
        for parameter in parameters.iter() {
            let path = parameter.name.rsplit_once('.').map_or("", |(path, _)| path);
            let at = innermost(path).unwrap_or_else(|| {
                layers.push(LayerRow::new(&parameter.name, "", &[]));
                layers.len() - 1
            });
            let elements = parameter.shape.elements();
            match parameter.role {
                Role::Trained => layers[at].trainable += elements,
                Role::Statistic | Role::Given => layers[at].non_trainable += elements,
            }
        }
        let is_block = |path: &str| {
            applied.iter().any(|layer| layer.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
        };
        layers.retain(|row| row.flop > 0 || row.trainable + row.non_trainable > 0 || !is_block(&row.name));
        let sum = |of: fn(&LayerRow) -> usize| layers.iter().map(of).sum::<usize>();
        let (trainable, non_trainable) = (sum(|layer| layer.trainable), sum(|layer| layer.non_trainable));
        let bytes = parameters.iter().map(|Parameter { shape, .. }| shape.elements() * DType::F32.size()).sum();
        let (name, flop) = (model.name.clone(), graph.flop());
        Ok(Self { model: name, input: model.input, layers, trainable, non_trainable, bytes, flop })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents = |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let number = |number: usize| if number == 0 { "-".to_string() } else { grouped(number) };
        let mut table = Table::new(["<layer", "<kind", "<output", "parameters", "not trained", "MFLOP"]);
        for layer in &self.layers {
            let flop = if layer.flop == 0 { "-".to_string() } else { format!("{:.3}", layer.flop as f64 / 1e6) };
            table.row([
                layer.name.clone(),
                layer.kind.to_string(),
                extents(&layer.output),
                number(layer.trainable),
                number(layer.non_trainable),
                flop,
            ]);
        }
        write!(f, "{table}")?;
        let mib = self.bytes as f64 / (1 << 20) as f64;
        writeln!(f, "\n{} for images of {}", self.model, extents(&self.input))?;
        writeln!(f, "parameters   {} trainable, {} not", grouped(self.trainable), grouped(self.non_trainable))?;
        writeln!(f, "weights      {mib:.2} MiB")?;
        writeln!(f, "an image     {:.3} GFLOP in inference", self.flop as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{self, ZOO};

    /// What Keras's `summary` says of the same network.
    #[test]
    fn the_tutorial_network_is_that_of_keras() {
        let summary = Summary::of(&models::build("seed-cnn", [28, 28, 1], 10).unwrap()).unwrap();
        let rows: Vec<(&str, &str, &[usize], usize)> =
            summary.layers.iter().map(|row| (&row.name[..], row.kind, &row.output[..], row.trainable)).collect();
        assert_eq!(rows[0], ("conv1", "conv", &[26, 26, 32][..], 320), "{summary}");
        assert!(rows.contains(&("conv2", "conv", &[11, 11, 64], 18_496)), "{summary}");
        assert_eq!(summary.trainable, rows.iter().map(|row| row.3).sum::<usize>());
    }

    #[test]
    fn each_parameter_and_operation_of_the_zoo_is_in_a_row() {
        for entry in ZOO.iter().filter(|entry| ["resnet18", "vit_tiny", "densenet121"].contains(&entry.name)) {
            let summary = Summary::of(&models::build(entry.name, entry.input, entry.classes).unwrap()).unwrap();
            let sum = |of: fn(&LayerRow) -> usize| summary.layers.iter().map(of).sum::<usize>();
            assert_eq!(summary.bytes, 4 * (sum(|row| row.trainable) + sum(|row| row.non_trainable)), "{}", entry.name);
            let flop: u64 = summary.layers.iter().map(|row| row.flop).sum();
            assert!(flop <= summary.flop && flop as f64 > 0.97 * summary.flop as f64, "{}: {flop}", entry.name);
            assert!(summary.to_string().contains("trainable"), "{summary}");
        }
        // torchvision's resnet18.
        let resnet = Summary::of(&models::build("resnet18", [224, 224, 3], 1000).unwrap()).unwrap();
        assert_eq!((resnet.trainable, resnet.non_trainable), (11_689_512, 9_600));
    }
}
