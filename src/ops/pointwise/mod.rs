//! Operations that compute each element of their output from one element of each input, with broadcasting.

mod activation;
mod arithmetic;
mod cast;
mod examples;
mod loss;
#[cfg(test)]
mod tests;
mod update;

pub(super) use cast::Cast;
pub(super) use examples::examples;
pub(super) use update::Update;

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, DynOp, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Evaluator, Expr, Signature, cpu, fused_module, gpu, vector_width},
    tensor::{DType, Real, Shape, TensorType},
};

/// Elements that one thread computes at a time.
const CHUNK: usize = 1 << 15;

/// A pointwise operation, or a fused chain of them: `output[i] = expr(inputs[0][i], inputs[1][i], ...)`, where shapes
/// broadcast by NumPy's rule. Inputs are all f32 or all f16, and so is the output; computed is in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointwise {
    name: String,
    expr: Expr,
    arity: usize,
    /// Partial derivative for each input, over the inputs and, as one more input after them, the output. Empty where
    /// the operation is not differentiable.
    derivatives: Vec<Option<Expr>>,
}

impl Pointwise {
    /// An operation of `arity` inputs without a gradient.
    pub fn new(name: impl Into<String>, arity: usize, expr: Expr) -> Self {
        Self { name: name.into(), expr, arity, derivatives: Vec::new() }
    }

    /// With the partial derivative for each input: expressions over the inputs and, as input number `arity`, the
    /// output. `None` for an input without a gradient.
    pub fn with_derivatives(mut self, derivatives: impl IntoIterator<Item = Option<Expr>>) -> Self {
        self.derivatives = derivatives.into_iter().collect();
        assert_eq!(self.derivatives.len(), self.arity, "one derivative for each input of {}", self.name);
        self
    }
}

impl Op for Pointwise {
    fn name(&self) -> &str {
        &self.name
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("pointwise", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        if inputs.len() != self.arity {
            return Err(ShapeError::new(format!("expects {} inputs, got {}", self.arity, inputs.len())));
        }
        let mut derivatives = self.derivatives.iter().flatten();
        if self.expr.inputs() > self.arity
            || ![0, self.arity].contains(&self.derivatives.len())
            || derivatives.any(|derivative| derivative.inputs() > self.arity + 1)
        {
            return Err(ShapeError::new(format!("is not an expression of {} inputs", self.arity)));
        }
        let dtype = common_float(inputs)?;
        inputs
            .iter()
            .try_fold(Shape::scalar(), |shape, input| {
                shape.broadcast(&input.shape).ok_or_else(|| {
                    ShapeError::new(format!(
                        "{} does not broadcast to {shape}: aligned at the last dimension, extents must be equal or 1",
                        input.shape
                    ))
                })
            })
            .map(|shape| vec![TensorType { dtype, shape }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.derivatives.is_empty() {
            return Err(backward.not_differentiable(&self.name));
        }
        let dy = backward.grad();
        let mut grads = Vec::new();
        for (at, derivative) in self.derivatives.iter().enumerate() {
            let Some(derivative) = derivative else {
                grads.push(None);
                continue;
            };
            // Only what the derivative reads becomes an input, so that nothing else is kept alive for it.
            let mut inputs = vec![dy];
            let candidates: Vec<Value> = backward.inputs.iter().chain(backward.outputs).copied().collect();
            let factor = derivative.substitute(&mut |n| {
                let found = inputs.iter().skip(1).position(|v| *v == candidates[n]);
                let position = found.unwrap_or_else(|| {
                    inputs.push(candidates[n]);
                    inputs.len() - 2
                });
                Expr::Input(position + 1)
            });
            let grad = match factor {
                Expr::Constant(1.0) => dy,
                // Not dy * 0: a masked gradient is 0 even where dy overflowed.
                Expr::Select(c, a, b) if *a == Expr::Constant(1.0) && *b == Expr::Constant(0.0) => {
                    let op = Pointwise::new(format!("{}_grad", self.name), inputs.len(), c.select(Expr::Input(0), 0.0));
                    backward.graph.apply1(op, &inputs)?
                }
                factor => {
                    let op = Pointwise::new(format!("{}_grad", self.name), inputs.len(), Expr::Input(0) * factor);
                    backward.graph.apply1(op, &inputs)?
                }
            };
            let shape = backward.input_shape(at);
            grads.push(Some(backward.graph.sum_to_shape(grad, &shape)?));
        }
        Ok(grads)
    }

    fn pointwise(&self) -> Option<Expr> {
        Some(self.expr.clone())
    }

    fn flop(&self, signature: &Signature) -> u64 {
        self.expr.operations() * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        run(&self.expr, args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        candidates(&self.expr, signature)
    }
}

/// The one type of floats that all inputs hold; f32 where there are none.
pub(super) fn common_float(inputs: &[&TensorType]) -> Result<DType, ShapeError> {
    let dtype = inputs.first().map_or(DType::F32, |input| input.dtype);
    match inputs.iter().position(|input| input.dtype != dtype || !dtype.is_float()) {
        Some(at) if inputs[at].dtype.is_float() => Err(ShapeError::new(format!(
            "input {at} holds {} and input 0 {dtype}: they must hold one type, as cast makes them",
            inputs[at].dtype
        ))),
        Some(at) => Err(ShapeError::new(format!("input {at} must hold f32 or f16, not {}", inputs[at].dtype))),
        None => Ok(dtype),
    }
}

/// CPU kernel of every operation that is `expr` of its inputs.
pub(super) fn run<T: Real>(expr: &Expr, mut args: cpu::Args<'_, T>) {
    let arity = args.inputs.len();
    let shapes: Vec<&Shape> = (0..arity).map(|n| &args.inputs.ty(n).shape).collect();
    let evaluator = Evaluator::new(expr, &shapes, &args.outputs.ty(0).shape);
    let inputs: Vec<Option<&[T]>> = (0..arity).map(|n| Some(args.inputs.float(n))).collect();
    let output = args.outputs.float(0);
    output.par_chunks_mut(CHUNK).enumerate().for_each(|(at, chunk)| evaluator.run(&inputs, chunk, at * CHUNK));
}

/// GPU kernels of every operation that is `expr` of its inputs.
pub(super) fn candidates(expr: &Expr, signature: &Signature) -> Vec<gpu::Candidate> {
    let inputs: Vec<&TensorType> = signature.inputs.iter().collect();
    let output = &signature.outputs[0];
    let width = vector_width(&inputs, output);
    let count = output.elements() / width;
    let (module, read) = fused_module(expr, &inputs, output, width, 1, false);
    // A word of bytes has one owner.
    let is_bytes = output.dtype == DType::I8;
    let invocations = if is_bytes { output.elements().div_ceil(4) } else { count };
    let shader = gpu::Shader::file("pointwise/map")
        .constant("COUNT", count)
        .feature("BYTES", is_bytes)
        .feature("VECTOR", is_bytes && width == 4)
        .fused(module);
    let bindings = std::iter::once(gpu::Binding::Output(0)).chain(read.into_iter().map(gpu::Binding::Input)).collect();
    let pass = gpu::Pass { shader, bindings, workgroups: gpu::linear_workgroups(invocations) };
    vec![gpu::Candidate::single(format!("map x{width}"), pass)]
}

/// The operation that is `expr` of so many inputs, under this name: what fusion makes.
pub fn fused_pointwise(name: String, inputs: usize, expr: Expr) -> Arc<dyn DynOp> {
    Arc::new(Pointwise::new(name, inputs, expr))
}

impl Graph {
    /// Applies an expression of your own, which has no gradient, to each element of `inputs`, with broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn pointwise(&mut self, name: &str, expr: Expr, inputs: &[Value]) -> Result<Value, GraphError> {
        self.map(Pointwise::new(name, inputs.len(), expr), inputs)
    }

    /// Applies a pointwise operation of your own.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn map(&mut self, op: Pointwise, inputs: &[Value]) -> Result<Value, GraphError> {
        self.apply1(op, inputs)
    }
}
