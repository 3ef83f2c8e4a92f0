//! The graph: nodes of static shape, their gradients as more nodes, and the variables that are its only state.

mod attributes;
mod backward;
mod error;
mod example;
mod file;
mod op;
mod variables;

pub use attributes::{Attributes, AttributesError};
pub use backward::Backward;
pub use error::{GraphError, ShapeError};
pub use example::Example;
pub use file::{GraphFileError, MakeOp, load, save};
pub use op::{DynOp, Op, Prepared, Reader, Subsumed};
pub use variables::{Variable, VariableId, Variables};

use std::sync::Arc;

use crate::{
    kernel::Signature,
    tensor::{Shape, Tensor, TensorType},
};

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// Number of the node in [`Graph::nodes`].
    pub node: usize,
    /// Which of its outputs.
    pub output: usize,
}

/// Where a node's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Given anew for each run, by name.
    Feed(String),
    /// A window into a variable, beginning at element `offset`.
    Variable {
        /// Which variable.
        id: VariableId,
        /// First element.
        offset: usize,
    },
    /// A tensor that never changes.
    Constant(Arc<Tensor>),
    /// Computed by an operation.
    Op(Arc<dyn DynOp>),
}

/// A node: an operation applied to values, or a source of one value.
#[derive(Clone, Debug)]
pub struct Node {
    /// What makes the value.
    pub source: Source,
    /// What the operation reads.
    pub inputs: Vec<Value>,
    /// Types of the outputs.
    pub types: Vec<TensorType>,
    /// Path of the layer that the node belongs to, such as `stage1.0.conv1`.
    pub scope: Arc<str>,
}

/// A computation under construction. Nodes are only ever appended, so their order is a valid order of execution.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
    assigns: Vec<(VariableId, Value)>,
    scope: Vec<String>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// All nodes, in order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that makes `value`.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.node]
    }

    /// Element type and shape of `value`.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.nodes[value.node].types[value.output]
    }

    /// Shape of `value`.
    pub fn shape(&self, value: Value) -> &Shape {
        &self.ty(value).shape
    }

    /// Values that a run hands back, by name.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Variables that change at the end of a run, and to what.
    pub fn assigns(&self) -> &[(VariableId, Value)] {
        &self.assigns
    }

    /// Floating-point operations of all nodes, in one run.
    pub fn flop(&self) -> u64 {
        self.nodes.iter().map(|node| self.flop_of(node)).sum()
    }

    /// Floating-point operations of one of its nodes.
    pub fn flop_of(&self, node: &Node) -> u64 {
        match &node.source {
            Source::Op(op) => {
                let inputs = node.inputs.iter().map(|value| self.ty(*value).clone()).collect();
                op.flop(&Signature { inputs, outputs: node.types.clone() })
            }
            _ => 0,
        }
    }

    /// A value that the caller gives anew for each run.
    pub fn feed(&mut self, name: impl Into<String>, ty: TensorType) -> Value {
        self.push(Source::Feed(name.into()), Vec::new(), vec![ty])[0]
    }

    /// A window into a variable.
    pub fn variable(&mut self, id: VariableId, offset: usize, ty: TensorType) -> Value {
        self.push(Source::Variable { id, offset }, Vec::new(), vec![ty])[0]
    }

    /// A tensor that never changes.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        let ty = tensor.ty();
        self.push(Source::Constant(Arc::new(tensor)), Vec::new(), vec![ty])[0]
    }

    /// Applies an operation and returns its outputs.
    ///
    /// # Errors
    /// If the operation's shape rule rejects the inputs; the error names the layer, the operation and the shapes.
    pub fn apply(&mut self, op: impl Op, inputs: &[Value]) -> Result<Vec<Value>, GraphError> {
        self.apply_dyn(Arc::new(op), inputs)
    }

    /// Applies an operation of one output.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn apply1(&mut self, op: impl Op, inputs: &[Value]) -> Result<Value, GraphError> {
        Ok(self.apply(op, inputs)?[0])
    }

    /// Applies an operation that is already shared.
    ///
    /// # Errors
    /// As [`Graph::apply`].
    pub fn apply_dyn(&mut self, op: Arc<dyn DynOp>, inputs: &[Value]) -> Result<Vec<Value>, GraphError> {
        let types: Vec<&TensorType> = inputs.iter().map(|v| self.ty(*v)).collect();
        let outputs = op.infer(&types).map_err(|error| GraphError::Shape {
            layer: self.scope_path(),
            op: op.name().to_string(),
            inputs: types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", "),
            error,
        })?;
        Ok(self.push(Source::Op(op), inputs.to_vec(), outputs))
    }

    /// Hands `value` back from each run under `name`.
    pub fn output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push((name.into(), value));
    }

    /// Sets the whole of a variable to `value` at the end of each run.
    pub fn assign(&mut self, variable: VariableId, value: Value) {
        self.assigns.push((variable, value));
    }

    /// Runs `body` with `name` appended to the path of layers that new nodes are named by.
    pub fn scoped<R>(&mut self, name: impl Into<String>, body: impl FnOnce(&mut Self) -> R) -> R {
        self.enter(name);
        let result = body(self);
        self.leave();
        result
    }

    /// Appends `name` to the path of layers until the matching [`Graph::leave`].
    pub fn enter(&mut self, name: impl Into<String>) {
        self.scope.push(name.into());
    }

    /// Takes the last name off the path of layers.
    pub fn leave(&mut self) {
        self.scope.pop();
    }

    /// Runs `body` with new nodes named by the layer of node `at`: a gradient belongs to the layer it differentiates.
    pub fn at_scope_of<R>(&mut self, at: usize, body: impl FnOnce(&mut Self) -> R) -> R {
        let scope = vec![self.nodes[at].scope.to_string()];
        let outer = std::mem::replace(&mut self.scope, scope);
        let result = body(self);
        self.scope = outer;
        result
    }

    /// The path of layers that new nodes are named by, such as `stage1.0.conv1`.
    pub fn scope_path(&self) -> String {
        self.scope.join(".")
    }

    fn push(&mut self, source: Source, inputs: Vec<Value>, types: Vec<TensorType>) -> Vec<Value> {
        let node = self.nodes.len();
        let values = (0..types.len()).map(|output| Value { node, output }).collect();
        let scope = self.scope_path().into();
        self.nodes.push(Node { source, inputs, types, scope });
        values
    }
}
