//! A pointwise operation that takes the place of its first input: how a variable changes without being copied.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{CHUNK, Pointwise};
use crate::{
    graph::{Attributes, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Evaluator, Expr, Signature, cpu, fused_module, gpu, vector_width},
    tensor::{Real, Shape, TensorType},
};

/// The operation, whose output has the shape of its first input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::ops) struct Update(Pointwise);

impl Op for Update {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("update", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let types = self.0.infer(inputs)?;
        if types.first() != inputs.first().copied() {
            return Err(ShapeError::new(format!(
                "the update must have the shape {} of what it changes",
                inputs[0].shape
            )));
        }
        Ok(types)
    }

    fn in_place(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }

    fn flop(&self, signature: &Signature) -> u64 {
        self.0.flop(signature)
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let arity = args.inputs.len();
        let shapes: Vec<&Shape> = (0..arity).map(|n| &args.inputs.ty(n).shape).collect();
        let evaluator = Evaluator::new(&self.0.expr, &shapes, &args.outputs.ty(0).shape);
        let others = (1..arity).map(|n| Some(args.inputs.float(n)));
        let inputs: Vec<Option<&[T]>> = std::iter::once(None).chain(others).collect();
        let output = args.outputs.float(0);
        output.par_chunks_mut(CHUNK).enumerate().for_each(|(at, chunk)| evaluator.run(&inputs, chunk, at * CHUNK));
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let inputs: Vec<&TensorType> = signature.inputs.iter().collect();
        let output = &signature.outputs[0];
        let width = vector_width(&inputs, output);
        let count = output.elements() / width;
        let (module, read) = fused_module(&self.0.expr, &inputs, output, width, 1, true);
        let shader = gpu::Shader::file("pointwise/update").constant("COUNT", count).fused(module);
        let others = read.into_iter().map(gpu::Binding::Input);
        let bindings = std::iter::once(gpu::Binding::Output(0)).chain(others).collect();
        let pass = gpu::Pass { shader, bindings, workgroups: gpu::linear_workgroups(count) };
        vec![gpu::Candidate::single(format!("update x{width}"), pass)]
    }
}

impl Graph {
    /// As [`Graph::pointwise`], for a result that is assigned to the variable that the first input is: the variable is updated
    /// where it lies if nothing reads it afterwards.
    ///
    /// # Errors
    /// If the shapes do not broadcast to that of the first input.
    pub fn update(&mut self, name: &str, expr: Expr, inputs: &[Value]) -> Result<Value, GraphError> {
        self.apply1(Update(Pointwise::new(name, inputs.len(), expr)), inputs)
    }
}
