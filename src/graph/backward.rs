//! What a gradient rule has at hand.

use super::{Graph, GraphError, Value};
use crate::tensor::Shape;

/// What a gradient rule has at hand: the graph it appends to, the node's values, and the gradients that arrive at its
/// outputs.
pub struct Backward<'a> {
    /// The graph.
    pub graph: &'a mut Graph,
    /// The node's inputs.
    pub inputs: &'a [Value],
    /// The node's outputs.
    pub outputs: &'a [Value],
    /// Gradient of each output; `None` where the result does not depend on it.
    pub grads: &'a [Option<Value>],
}

impl Backward<'_> {
    /// Gradient of the first output, which exists for every operation of one output.
    pub fn grad(&self) -> Value {
        self.grads[0].expect("the only output has a gradient when its node is visited")
    }

    /// Shape of input `at`.
    pub fn input_shape(&self, at: usize) -> Shape {
        self.graph.shape(self.inputs[at]).clone()
    }

    /// The error of an operation without a gradient.
    pub fn not_differentiable(&self, op: &str) -> GraphError {
        GraphError::NotDifferentiable { layer: self.graph.scope_path(), op: op.to_string() }
    }
}
