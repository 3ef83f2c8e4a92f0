use rayon::prelude::*;

use crate::{
    graph::{Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Signature, cpu, gpu},
    ops::Pointwise,
    tensor::{DType, Real, Shape, TensorType},
};

/// Elements whose squares one thread adds up before the sums are added: fixed, so that the result does not depend on
/// the number of threads.
const CHUNK: usize = 1 << 14;

/// Sum of the squares of all elements.
#[derive(Clone, Debug, PartialEq)]
struct SquaredNorm;

impl Op for SquaredNorm {
    fn name(&self) -> &str {
        "squared_norm"
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        match inputs {
            [input] if input.dtype == DType::F32 => Ok(vec![TensorType::f32(Shape::scalar())]),
            _ => Err(ShapeError::new("expects one input of f32")),
        }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        2 * signature.inputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        signature.inputs[0].elements().div_ceil(CHUNK)
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let chunks = args.inputs.float(0).par_chunks(CHUNK);
        args.scratch.par_iter_mut().zip(chunks).for_each(|(sum, chunk)| {
            *sum = cpu::vectorised(
                #[inline(always)]
                || sum_of_squares(chunk),
            );
        });
        args.outputs.float(0)[0] = args.scratch.iter().copied().sum();
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output, Scratch, ScratchRead};
        let elements = signature.inputs[0].elements();
        let vector = if elements.is_multiple_of(4) { 4 } else { 1 };
        let count = elements / vector;
        // Each invocation adds at least 16 Elements; a thousand workgroups keep every GPU busy.
        let chunk = count.div_ceil(1024).max(16 * 256);
        let chunks = count.div_ceil(chunk).max(1);
        let squares = |output| gpu::Pass {
            shader: gpu::Shader::file("reduce/squared_norm")
                .feature("VECTOR", vector == 4)
                .constant("COUNT", count)
                .constant("CHUNK", chunk)
                .constant("CHUNKS", chunks),
            bindings: vec![Input(0), output],
            workgroups: gpu::spread_workgroups(chunks),
        };
        if chunks == 1 {
            return vec![gpu::Candidate::single(format!("squared_norm x{vector}"), squares(Output(0)))];
        }
        let sum = gpu::Pass {
            shader: gpu::Shader::file("reduce/sum")
                .constant("OUTER", 1u32)
                .constant("N", chunks)
                .constant("INNER", 1u32)
                .constant("COLUMNS", 1u32)
                .constant("CHUNK", chunks)
                .constant("SPLITS", 1u32)
                .constant("SCALE", 1f32),
            bindings: vec![ScratchRead(0), Output(0)],
            workgroups: gpu::spread_workgroups(1),
        };
        vec![gpu::Candidate {
            name: format!("squared_norm x{vector} split {chunks}"),
            passes: vec![squares(Scratch(0)), sum],
            scratch: vec![chunks],
        }]
    }
}

#[inline(always)]
fn sum_of_squares<T: Real>(values: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let mut rows = values.chunks_exact(16);
    for row in &mut rows {
        for (lane, &value) in lanes.iter_mut().zip(row) {
            *lane += value * value;
        }
    }
    rows.remainder().iter().map(|&value| value * value).sum::<T>() + lanes.into_iter().sum::<T>()
}

impl Graph {
    /// The factor that brings the Euclidean norm of all `gradients` together down to `max_norm` where it is larger:
    /// `min(1, max_norm / (norm + 1e-6))`, one f32.
    ///
    /// # Errors
    /// If there are no gradients or they are not f32.
    pub fn global_norm_scale(&mut self, gradients: &[Value], max_norm: f64) -> Result<Value, GraphError> {
        let squares =
            gradients.iter().map(|block| self.apply1(SquaredNorm, &[*block])).collect::<Result<Vec<_>, _>>()?;
        let sum = (1..squares.len()).fold(Expr::Input(0), |sum, n| sum + Expr::Input(n));
        let factor = Expr::from(max_norm) / (sum.sqrt() + 1e-6);
        self.map(Pointwise::new("global_norm_scale", squares.len().max(1), factor.min(1.0)), &squares)
    }
}
