//! From layers to a graph: names of layers, modes, the parameters they ask for.

use std::collections::HashMap;

use super::{Dropout, Init, Layer, Parameters, Role};
use crate::{
    graph::{Graph, GraphError, Value},
    tensor::{Shape, TensorType},
};

/// What a graph is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Batch statistics, dropout, gradients.
    Training,
    /// Running statistics, no dropout.
    Inference,
}

/// Builds the graph of a model in one mode over its parameters.
pub struct Builder<'a> {
    /// The graph under construction.
    pub graph: &'a mut Graph,
    parameters: &'a mut Parameters,
    mode: Mode,
    clock: Option<Value>,
    values: HashMap<usize, Value>,
    statistics: Vec<(usize, Value)>,
    random_layers: u32,
    layers: Vec<Applied>,
    /// Whether the parameters are those of another network than the model.
    given: bool,
    /// Path of a dense layer and the rate of the dropout before it.
    dropout: Option<(String, f64)>,
}

impl<'a> Builder<'a> {
    /// A builder that appends to `graph`. In training, `clock` holds the seed and the step, u32 `[2]`, for layers that
    /// draw random numbers.
    pub fn new(graph: &'a mut Graph, parameters: &'a mut Parameters, mode: Mode, clock: Option<Value>) -> Self {
        let (values, statistics, layers) = (HashMap::new(), Vec::new(), Vec::new());
        Self {
            graph,
            parameters,
            mode,
            clock,
            values,
            statistics,
            random_layers: 0,
            layers,
            given: false,
            dropout: None,
        }
    }

    /// For a network beside the model, such as a teacher, whose parameters stay as they are given ([`Role::Given`]). Their names
    /// begin with the path that the graph has at this time.
    pub fn given(graph: &'a mut Graph, parameters: &'a mut Parameters) -> Self {
        Self { given: true, ..Self::new(graph, parameters, Mode::Inference, None) }
    }

    /// In training, drops elements of what the last dense layer is given with this probability, besides what the network
    /// drops of itself. The last one is that of the parameters declared so far: the network was built before.
    pub fn dropout_before_last_dense(mut self, rate: f64) -> Self {
        self.dropout = self.parameters.last_dense().map(|layer| (layer.to_string(), rate));
        self
    }

    /// What a dense layer is given, after the dropout that the recipe puts before it.
    pub(super) fn given_to_dense(&mut self, x: Value) -> Result<Value, GraphError> {
        let path = self.graph.scope_path();
        match &self.dropout {
            Some((layer, rate)) if *layer == path => Dropout::new(*rate).forward(self, x),
            _ => Ok(x),
        }
    }

    /// What the graph is built for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> &Shape {
        self.graph.shape(value)
    }

    /// Applies a layer under a name, which becomes part of the names of its parameters and of its errors.
    ///
    /// # Errors
    /// The layer's.
    pub fn layer(&mut self, name: &str, layer: &dyn Layer, x: Value) -> Result<Value, GraphError> {
        self.scoped(name, |builder| {
            let output = layer.forward(builder, x)?;
            builder.layers.push(Applied { path: builder.graph.scope_path(), kind: layer.kind(), input: x, output });
            Ok(output)
        })
    }

    /// Runs `body` with `name` appended to the path of layers.
    pub fn scoped<R>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> R) -> R {
        self.graph.enter(name);
        let result = body(self);
        self.graph.leave();
        result
    }

    /// The trained parameter `name` of the current layer.
    ///
    /// # Errors
    /// If the layer has one of that name and another shape.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Value, GraphError> {
        self.declared(name, shape.into(), init, Role::Trained)
    }

    /// The statistic `name` of the current layer.
    ///
    /// # Errors
    /// If the layer has one of that name and another shape.
    pub fn statistic(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Value, GraphError> {
        self.declared(name, shape.into(), init, Role::Statistic)
    }

    fn declared(&mut self, name: &str, shape: Shape, init: Init, role: Role) -> Result<Value, GraphError> {
        let path = match self.graph.scope_path() {
            layer if layer.is_empty() => name.to_string(),
            layer => format!("{layer}.{name}"),
        };
        let role = if self.given { Role::Given } else { role };
        let at = self.parameters.declare(&path, shape.clone(), init, role).map_err(|message| self.error(message))?;
        let parameter = self.parameters.get(at);
        let variable = self.parameters.blocks()[parameter.block].variable;
        let offset = parameter.offset;
        let graph = &mut self.graph;
        Ok(*self.values.entry(at).or_insert_with(|| graph.variable(variable, offset, TensorType::f32(shape))))
    }

    /// Whether a parameter, by its value, is trained in this graph.
    pub fn trains(&self, parameter: Value) -> bool {
        let at = self.values.iter().find(|(_, value)| **value == parameter).map(|(at, _)| *at);
        self.mode == Mode::Training && at.is_some_and(|at| self.parameters.is_trained(self.parameters.get(at).block))
    }

    /// Has a statistic, by its value, follow `sample`: at the end of a training step it moves towards it.
    pub fn follow(&mut self, statistic: Value, sample: Value) {
        let at = self.values.iter().find(|(_, value)| **value == statistic).map(|(at, _)| *at);
        if let Some(at) = at {
            self.statistics.push((at, sample));
        }
    }

    /// Seed and step, and a number of its own, for a layer that draws random numbers.
    ///
    /// # Errors
    /// If the graph was begun without a clock.
    pub fn random(&mut self) -> Result<(Value, u32), GraphError> {
        let clock = self.clock.ok_or_else(|| self.error("draws random numbers, and this graph has no clock".into()))?;
        self.random_layers += 1;
        Ok((clock, self.random_layers - 1))
    }

    /// An error in the configuration of the current layer.
    pub fn error(&self, message: String) -> GraphError {
        GraphError::Layer { layer: self.graph.scope_path(), message }
    }

    /// The parameters that the graph reads, by number, and the samples that statistics follow.
    pub fn finish(self) -> Built {
        let mut parameters: Vec<(usize, Value)> = self.values.into_iter().collect();
        parameters.sort();
        let mut statistics = self.statistics;
        statistics.sort();
        Built { parameters, statistics, layers: self.layers }
    }
}

/// What a finished graph holds of its model.
#[derive(Clone, Debug)]
pub struct Built {
    /// Number of each parameter that is read, and its value.
    pub parameters: Vec<(usize, Value)>,
    /// Number of each statistic that follows something, and the sample that it follows.
    pub statistics: Vec<(usize, Value)>,
    /// The layers that were applied under a name, in the order in which they were done: those of a block before it.
    pub layers: Vec<Applied>,
}

/// A layer in a graph.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its path.
    pub path: String,
    /// [`Layer::kind`].
    pub kind: &'static str,
    /// What it was given.
    pub input: Value,
    /// What it made.
    pub output: Value,
}
