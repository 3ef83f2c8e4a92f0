//! Examples of operations: what a device is checked by.

use std::{fmt, sync::Arc};

use super::{Graph, GraphError, Value};
use crate::tensor::Tensor;

type Build = dyn Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> + Send + Sync;

/// Inputs, and a value that operations make of them. The examples of an operation reach between them each of its
/// kernels in each way in which it is specialised: `gabor check` and the tests run them on a device and compare.
#[derive(Clone)]
pub struct Example {
    /// What the value is made of.
    pub inputs: Vec<Tensor>,
    build: Arc<Build>,
}

impl Example {
    /// The example of `inputs` and what `build` makes of them.
    pub fn new(
        inputs: impl Into<Vec<Tensor>>,
        build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> + Send + Sync + 'static,
    ) -> Self {
        Self { inputs: inputs.into(), build: Arc::new(build) }
    }

    /// The same with 16-bit floats for inputs of floats.
    pub fn in_f16(&self) -> Self {
        let is_float = |tensor: &Tensor| tensor.ty().dtype.is_float();
        let half = |tensor: &Tensor| if is_float(tensor) { tensor.to_f16() } else { tensor.clone() };
        Self { inputs: self.inputs.iter().map(half).collect(), build: self.build.clone() }
    }

    /// Appends the operations to `graph`, where the inputs are `values`.
    ///
    /// # Errors
    /// If an operation rejects the inputs.
    pub fn build(&self, graph: &mut Graph, values: &[Value]) -> Result<Value, GraphError> {
        (self.build)(graph, values)
    }
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.inputs.iter().map(|tensor| tensor.ty().to_string())).finish()
    }
}
