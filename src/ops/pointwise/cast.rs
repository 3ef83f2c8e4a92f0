//! Conversion of elements to another type.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Signature, cpu, gpu},
    tensor::{DType, Real, TensorType},
};

/// The same elements as another type, rounded to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct Cast {
    to: DType,
}

impl Cast {
    fn expr(&self) -> Expr {
        Expr::Input(0).rounded(self.to)
    }
}

impl Op for Cast {
    fn name(&self) -> &str {
        match self.to {
            DType::F16 => "cast_f16",
            DType::I8 => "cast_i8",
            DType::F32 => "cast_f32",
            DType::U32 | DType::U8 => "cast",
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("cast", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        let takes = |dtype: DType| dtype.is_float() || dtype == DType::I8;
        if !takes(input.dtype) || !takes(self.to) {
            return Err(ShapeError::new(format!("converts f32, f16 and i8 to each other, not {input} to {}", self.to)));
        }
        Ok(vec![input.of(self.to)])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let (dy, from) = (backward.grad(), backward.graph.ty(backward.inputs[0]).dtype);
        if !self.to.is_float() || !from.is_float() {
            return Err(backward.not_differentiable(self.name()));
        }
        Ok(vec![Some(backward.graph.cast(dy, from)?)])
    }

    fn pointwise(&self) -> Option<Expr> {
        Some(self.expr())
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        super::run(&self.expr(), args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        super::candidates(&self.expr(), signature)
    }
}

impl Graph {
    /// The elements of `value`, which are f32, f16 or i8, as another one of these types: to f16 rounded to the nearest, ties
    /// to even, and infinite beyond 65504; to i8 rounded likewise, -128 and 127 beyond these, 0 for NaN.
    ///
    /// The gradient of a conversion between f32 and f16 is converted back; one from or to i8 has none.
    ///
    /// # Errors
    /// If either type is another one.
    pub fn cast(&mut self, value: Value, to: DType) -> Result<Value, GraphError> {
        if self.ty(value).dtype == to {
            return Ok(value);
        }
        self.apply1(Cast { to }, &[value])
    }
}
