//! Views: another shape for the same elements, and values side by side in one block.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Shape, TensorType},
};

/// The same elements under another shape: nothing is moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reshape {
    shape: Shape,
}

impl Op for Reshape {
    fn name(&self) -> &str {
        "reshape"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("reshape", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        if input.elements() != self.shape.elements() {
            return Err(ShapeError::new(format!(
                "{} has {} elements, which do not fill {} ({})",
                input.shape,
                input.elements(),
                self.shape,
                self.shape.elements()
            )));
        }
        Ok(vec![TensorType { dtype: input.dtype, shape: self.shape.clone() }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let (dy, shape) = (backward.grad(), backward.input_shape(0));
        Ok(vec![Some(backward.graph.reshape(dy, shape)?)])
    }

    fn is_view(&self) -> bool {
        true
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, _: cpu::Args<'_, T>) {}

    fn gpu(&self, _: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        Vec::new()
    }
}

/// Values side by side in one block, each at its offset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    offsets: Vec<usize>,
    elements: usize,
}

impl Op for Pack {
    fn name(&self) -> &str {
        "pack"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("pack", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let mut end = 0;
        for (input, offset) in inputs.iter().zip(&self.offsets) {
            if input.dtype != DType::F32 {
                return Err(ShapeError::new(format!("packs f32, not {input}")));
            }
            if *offset < end || offset + input.elements() > self.elements {
                return Err(ShapeError::new(format!("{} does not fit at offset {offset}", input.shape)));
            }
            end = offset + input.elements();
        }
        Ok(vec![TensorType::f32([self.elements])])
    }

    fn packs(&self) -> Option<&[usize]> {
        Some(&self.offsets)
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, _: cpu::Args<'_, T>) {}

    fn gpu(&self, _: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        Vec::new()
    }
}

impl Graph {
    /// The elements of `value` under another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&mut self, value: Value, shape: impl Into<Shape>) -> Result<Value, GraphError> {
        let shape = shape.into();
        if *self.shape(value) == shape {
            return Ok(value);
        }
        self.apply1(Reshape { shape }, &[value])
    }

    /// All dimensions after the first as one: `[batch, ...]` becomes `[batch, features]`.
    ///
    /// # Errors
    /// If the value is a scalar.
    pub fn flatten(&mut self, value: Value) -> Result<Value, GraphError> {
        let shape = self.shape(value);
        let batch = shape.first().copied().unwrap_or(1);
        let features = shape.iter().skip(1).product();
        self.reshape(value, [batch, features])
    }

    /// One block of `elements` with value `i` at element `offsets[i]` and zeros between.
    ///
    /// # Errors
    /// If the values overlap or do not fit; offsets must ascend.
    pub fn pack(&mut self, values: &[Value], offsets: Vec<usize>, elements: usize) -> Result<Value, GraphError> {
        self.apply1(Pack { offsets, elements }, values)
    }
}
