//! Why a graph cannot be built.

use thiserror::Error;

/// Why an operation cannot be applied to inputs of these types: what is wrong and what would be right.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ShapeError(pub String);

impl ShapeError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A graph that cannot be built.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GraphError {
    /// An operation was given inputs that its shape rule rejects.
    #[error("{}{op}({inputs}): {error}", layer_prefix(.layer))]
    Shape {
        /// Path of the layer.
        layer: String,
        /// Name of the operation.
        op: String,
        /// Types of the inputs.
        inputs: String,
        /// The rule's message.
        #[source]
        error: ShapeError,
    },
    /// A gradient was asked for through an operation that has none.
    #[error("{}{op} has no gradient with respect to its inputs", layer_prefix(.layer))]
    NotDifferentiable {
        /// Path of the layer.
        layer: String,
        /// Name of the operation.
        op: String,
    },
    /// A gradient was asked for with respect to a value that the result does not depend on.
    #[error("{}the result does not depend on this value, so it has no gradient", layer_prefix(.layer))]
    Unreachable {
        /// Path of the layer.
        layer: String,
    },
    /// A layer was configured in a way that cannot work.
    #[error("{}{message}", layer_prefix(.layer))]
    Layer {
        /// Path of the layer.
        layer: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

fn layer_prefix(layer: &str) -> String {
    if layer.is_empty() { String::new() } else { format!("layer {layer}: ") }
}
