//! What happens inside of a network as it is trained: norms of gradients, weights and updates, and what is never above 0.

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Recipe, TrainError,
    batch::BatchTensors,
    graphs::{Trained, traced_gradients},
};
use crate::{
    data::{Batch, Labels, Normalisation},
    graph::{Graph, GraphError, Source, Value, VariableId},
    kernel::{Evaluator, Expr},
    models::Model,
    nn::Parameters,
    plan::{Executor, Outputs, Plan, PlanOptions, ProgramId},
    tensor::{Shape, TensorType},
};

/// Images that gradients are taken of, at most: what is told is coarse, and is to take little time and memory.
const IMAGES: usize = 32;

/// Elements at which each figure begins a multiple of, as a device may demand of what a kernel writes.
const ALIGNMENT: usize = 64;

/// What happens inside of a network at a step. Gradients are those of the mean loss of some images of its batch, at the weights
/// after the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// The step, counted from 1.
    pub step: u64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Each parameter that is trained, in the order of the layers.
    pub parameters: Vec<ParameterVitals>,
    /// Each rectifier, in the order in which they are applied.
    pub rectifiers: Vec<Rectifier>,
    /// Mean training loss of each class since the look before, in the order of the data set's classes; none of a class whose images
    /// did not come. Empty where labels are mixed, as losses are those of no class then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_losses: Vec<Option<f64>>,
}

/// A parameter that is trained. Norms are Euclidean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterVitals {
    /// Its name.
    pub name: String,
    /// Its extents.
    pub shape: Shape,
    /// Norm of its gradient.
    #[serde(deserialize_with = "or_nan")]
    pub gradient: f64,
    /// Its norm before the step.
    #[serde(deserialize_with = "or_nan")]
    pub weight: f64,
    /// Norm of what the step changed it by.
    #[serde(deserialize_with = "or_nan")]
    pub update: f64,
}

/// A number, or not one where it is null.
fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl ParameterVitals {
    /// Root mean square of the gradient's elements.
    pub fn gradient_rms(&self) -> f64 {
        self.gradient / (self.shape.elements() as f64).sqrt()
    }
}

/// What a function makes that is 0 for all that is below it, as ReLU is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rectifier {
    /// The layer that it belongs to.
    pub layer: String,
    /// Share of its output that is 0.
    #[serde(deserialize_with = "or_nan")]
    pub zeros: f64,
    /// Channels that are 0 everywhere in each of the images.
    pub dead: usize,
    /// Channels.
    pub channels: usize,
}

impl Vitals {
    /// Norm of all gradients together.
    pub fn gradient(&self) -> f64 {
        norm(self.parameters.iter().map(|parameter| parameter.gradient))
    }

    /// Norm of what the step changed, over that of what it changed.
    pub fn update_ratio(&self) -> f64 {
        let of = |norms: fn(&ParameterVitals) -> f64| norm(self.parameters.iter().map(norms));
        of(|parameter| parameter.update) / of(|parameter| parameter.weight)
    }
}

fn norm(parts: impl Iterator<Item = f64>) -> f64 {
    parts.map(|part| part * part).sum::<f64>().sqrt()
}

/// The programs that tell vitals.
pub(super) struct Probe {
    /// Keeps the parameters as they are before a step.
    keep: ProgramId,
    /// Tells the figures after it.
    read: ProgramId,
    names: Vec<(String, Shape)>,
    rectifiers: Vec<(String, usize)>,
    /// Images that it takes.
    pub batch: usize,
}

/// The name of the output that holds all figures.
const FIGURES: &str = "vitals";

impl Probe {
    /// Of the parameters that are trained now. `before` holds for each block the variable that keeps it, which is added where
    /// there is none.
    pub fn new(
        executor: &mut dyn Executor,
        model: &Model,
        parameters: &mut Parameters,
        recipe: &Recipe,
        normalisation: &Normalisation,
        before: &mut Vec<Option<VariableId>>,
    ) -> Result<Self, TrainError> {
        let batch = recipe.batch_size().min(IMAGES);
        let recipe = Recipe { batch_size: Some(batch), ..recipe.clone() };
        let mut graph = Graph::new();
        let traced = traced_gradients(&mut graph, model, parameters, &recipe, normalisation)?;
        let mut keep = Graph::new();
        before.resize(parameters.blocks().len(), None);
        for (at, known) in
            before.iter_mut().enumerate().filter(|(at, _)| parameters.is_trained(*at)).collect::<Vec<_>>()
        {
            let block = parameters.blocks()[at].clone();
            let id = *known.get_or_insert_with(|| parameters.add_variable("before", block.elements));
            let now = keep.variable(block.variable, 0, TensorType::f32([block.elements]));
            let copy = keep.update("keep", Expr::Input(0), &[now])?;
            keep.assign(id, copy);
        }
        let mut figures = Figures::default();
        for Trained { number, value, gradient } in &traced.parameters {
            let parameter = parameters.get(*number);
            let Some(id) = before[parameter.block] else { continue };
            let old = graph.variable(id, parameter.offset, TensorType::f32(parameter.shape.clone()));
            figures.push(squares(&mut graph, Expr::Input(0), &[*gradient])?);
            figures.push(squares(&mut graph, Expr::Input(0), &[old])?);
            figures.push(squares(&mut graph, Expr::Input(0) - Expr::Input(1), &[*value, old])?);
        }
        let mut rectifiers = Vec::new();
        for value in rectifiers_in(&graph, traced.forward) {
            let channels = graph.shape(value).last();
            let axes: Vec<usize> = (0..graph.shape(value).rank() - 1).collect();
            let above = graph.pointwise("above", Expr::Input(0).select(1.0, 0.0), &[value])?;
            figures.push(graph.mean(above, &axes)?);
            rectifiers.push((graph.node(value).scope.to_string(), channels));
        }
        figures.output(&mut graph)?;
        let of_trained = |trained: &Trained| {
            let parameter = parameters.get(trained.number);
            (parameter.name.clone(), parameter.shape.clone())
        };
        let names = traced.parameters.iter().map(of_trained).collect();
        executor.declare(parameters.variables())?;
        let target = executor.target();
        let mut load = |graph: &Graph| -> Result<ProgramId, TrainError> {
            let plan = Plan::new(graph, &target, PlanOptions::default())?;
            executor.check_memory(&plan)?;
            Ok(executor.load(plan)?)
        };
        Ok(Self { keep: load(&keep)?, read: load(&graph)?, names, rectifiers, batch })
    }

    /// Keeps the parameters before a step.
    pub fn keep(&self, executor: &mut dyn Executor) -> Result<(), TrainError> {
        executor.run(self.keep, &[])?;
        executor.collect(self.keep, false)?;
        Ok(())
    }

    /// The figures after a step, by a batch of [`Self::batch`] images.
    pub fn read(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        batch: &mut Batch,
        drawn: &[(&'static str, crate::tensor::Tensor)],
    ) -> Result<Vitals, TrainError> {
        let inputs = BatchTensors::borrow(batch, model)?;
        let mut feeds = inputs.feeds();
        feeds.extend(drawn.iter().map(|(name, tensor)| (*name, tensor)));
        let result = executor.run(self.read, &feeds);
        inputs.give_back(batch);
        result?;
        let outputs = executor.collect(self.read, true)?.pop().unwrap_or_default();
        Ok(self.vitals(&outputs))
    }

    fn vitals(&self, outputs: &Outputs) -> Vitals {
        let found = outputs.iter().find(|(name, _)| name == FIGURES).and_then(|(_, figures)| figures.as_f32());
        let mut figures = found.unwrap_or_default();
        let mut next = |count: usize| {
            let (these, rest) = figures.split_at(count.next_multiple_of(ALIGNMENT).min(figures.len()));
            figures = rest;
            &these[..count.min(these.len())]
        };
        let mut norm = || f64::from(next(1).first().copied().unwrap_or(f32::NAN)).sqrt();
        let parameters = self.names.iter().map(|(name, shape)| ParameterVitals {
            name: name.clone(),
            shape: shape.clone(),
            gradient: norm(),
            weight: norm(),
            update: norm(),
        });
        let parameters = parameters.collect();
        let rectifiers = self.rectifiers.iter().map(|(layer, channels)| {
            let above = next(*channels);
            let zeros = 1.0 - above.iter().map(|share| f64::from(*share)).sum::<f64>() / *channels as f64;
            let dead = above.iter().filter(|share| **share == 0.0).count();
            Rectifier { layer: layer.clone(), zeros, dead, channels: *channels }
        });
        Vitals { rectifiers: rectifiers.collect(), parameters, ..Vitals::default() }
    }
}

/// Values that are handed back as one.
#[derive(Default)]
struct Figures {
    values: Vec<Value>,
}

impl Figures {
    fn push(&mut self, value: Value) {
        self.values.push(value);
    }

    fn output(self, graph: &mut Graph) -> Result<(), GraphError> {
        let mut offsets = Vec::with_capacity(self.values.len());
        let mut end = 0;
        for value in &self.values {
            offsets.push(end);
            end += graph.shape(*value).elements().next_multiple_of(ALIGNMENT);
        }
        let all = graph.pack(&self.values, offsets, end)?;
        graph.output(FIGURES, all);
        Ok(())
    }
}

/// The sum of the squares of an expression of these values.
fn squares(graph: &mut Graph, of: Expr, inputs: &[Value]) -> Result<Value, GraphError> {
    let squares = graph.pointwise("square", of.clone() * of, inputs)?;
    let axes: Vec<usize> = (0..graph.shape(squares).rank()).collect();
    graph.sum(squares, &axes)
}

/// The values of the first `nodes` nodes that a rectifier makes of another: pointwise, and 0 for all that is negative.
fn rectifiers_in(graph: &Graph, nodes: usize) -> Vec<Value> {
    let rectifies = |source: &Source| {
        let Source::Op(op) = source else { return false };
        let Some(expr) = op.pointwise().filter(|expr| expr.inputs() == 1) else { return false };
        let shape = Shape::from([4]);
        let mut made = [0.0; 4];
        Evaluator::new(&expr, &[&shape], &shape).run(&[Some(&[-1e3, -1.0, -1e-3, 1.0])], &mut made, 0);
        made[..3] == [0.0; 3] && made[3] > 0.0
    };
    let nodes = graph.nodes().iter().enumerate().take(nodes);
    let found =
        nodes.filter(|(_, node)| node.inputs.len() == 1 && node.types[0].shape.rank() > 1 && rectifies(&node.source));
    found.map(|(node, _)| Value { node, output: 0 }).collect()
}

/// As many images as are asked for of a batch, again from its first one on where it has fewer.
pub(super) fn part_of(batch: &Batch, count: usize) -> Batch {
    let size = batch.images.len() / batch.weights.len().max(1);
    let places: Vec<usize> = (0..count).map(|at| at % batch.real.max(1)).collect();
    let labels: Labels = batch.labels.select(places.iter().copied());
    Batch {
        images: places.iter().flat_map(|at| &batch.images[at * size..][..size]).copied().collect(),
        labels,
        weights: places.iter().map(|at| batch.weights[*at]).collect(),
        indices: places.iter().filter_map(|at| batch.indices.get(*at)).copied().collect(),
        epoch: batch.epoch,
        real: count,
    }
}
