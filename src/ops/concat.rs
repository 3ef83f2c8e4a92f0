//! Concatenation along an axis.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Tensor, TensorType, random},
};

/// Tensors one after the other along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Concat {
    axis: usize,
}

impl Concat {
    /// Elements of one row of a tensor of this type: what is contiguous for fixed outer axes.
    fn row(&self, ty: &TensorType) -> usize {
        ty.shape[self.axis..].iter().product()
    }
}

impl Op for Concat {
    fn name(&self) -> &str {
        "concat"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("concat", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [first, ..] = inputs else { return Err(ShapeError::new("expects at least one input")) };
        if self.axis >= first.shape.rank() || first.dtype.size() != 4 {
            return Err(ShapeError::new(format!("expects f32 or u32 with an axis {}, not {first}", self.axis)));
        }
        let mut shape = first.shape.to_vec();
        shape[self.axis] = 0;
        for input in inputs {
            let same = |(axis, extent): (usize, &usize)| axis == self.axis || shape.get(axis) == Some(extent);
            let alike = input.dtype == first.dtype && input.shape.rank() == shape.len();
            if !alike || input.elements() == 0 || !input.shape.iter().enumerate().all(same) {
                return Err(ShapeError::new(format!("{input} and {first} may differ only along axis {}", self.axis)));
            }
            shape[self.axis] += input.shape[self.axis];
        }
        Ok(vec![TensorType { dtype: first.dtype, shape: shape.into() }])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let dy = backward.grad();
        let mut start = 0;
        let mut grads = Vec::new();
        for at in 0..backward.inputs.len() {
            let end = start + backward.input_shape(at)[self.axis];
            grads.push(Some(backward.graph.slice(dy, self.axis, start..end)?));
            start = end;
        }
        Ok(grads)
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let inputs = args.inputs;
        let row = self.row(args.outputs.ty(0));
        let length = |at: usize| self.row(inputs.ty(at));
        match args.outputs.ty(0).dtype {
            DType::F32 | DType::F16 | DType::I8 => {
                join(inputs.len(), length, |at| inputs.float(at), args.outputs.float(0), row)
            }
            DType::U32 => join(inputs.len(), length, |at| inputs.uint(at), args.outputs.uint(0), row),
            DType::U8 => join(inputs.len(), length, |at| inputs.byte(at), args.outputs.byte(0), row),
        }
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let stride = self.row(&signature.outputs[0]);
        let mut offset = 0;
        let mut passes = Vec::new();
        for (at, input) in signature.inputs.iter().enumerate() {
            let length = self.row(input);
            let vector = if [stride, offset, length].iter().all(|n| n.is_multiple_of(4)) { 4 } else { 1 };
            let count = input.elements() / vector;
            passes.push(gpu::Pass {
                shader: gpu::Shader::file("layout/concat")
                    .feature("VECTOR", vector == 4)
                    .constant("COUNT", count)
                    .constant("LENGTH", length / vector)
                    .constant("STRIDE", stride / vector)
                    .constant("OFFSET", offset / vector),
                bindings: vec![Input(at), Output(0)],
                workgroups: gpu::linear_workgroups(count),
            });
            offset += length;
        }
        vec![gpu::Candidate { name: "concat".into(), passes, scratch: Vec::new() }]
    }
}

/// Fills each row of the output with the rows of the inputs, one after the other.
fn join<'a, E: Copy + Send + Sync + 'a>(
    inputs: usize,
    length: impl Fn(usize) -> usize + Sync,
    input: impl Fn(usize) -> &'a [E] + Sync,
    output: &mut [E],
    row: usize,
) {
    output.par_chunks_mut(row).with_min_len(1 + 4096 / row).enumerate().for_each(|(at, mut rest)| {
        for number in 0..inputs {
            let length = length(number);
            let (part, after) = rest.split_at_mut(length);
            part.copy_from_slice(&input(number)[at * length..(at + 1) * length]);
            rest = after;
        }
    });
}

impl Graph {
    /// The values (f32 or u32) one after the other along `axis`.
    ///
    /// # Errors
    /// If there are none, there is no such axis, or they differ in element type or along another axis.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Result<Value, GraphError> {
        self.apply1(Concat { axis }, values)
    }
}

pub(super) fn examples() -> Vec<Example> {
    let example = |(axis, extents): (usize, Vec<usize>)| {
        let part = |(at, extent): (usize, &usize)| {
            let mut shape = [2, 3, 2, 5];
            shape[axis] = *extent;
            random(shape, at as u64)
        };
        let parts: Vec<Tensor> = extents.iter().enumerate().map(part).collect();
        Example::new(parts, move |graph, v| graph.concat(v, axis))
    };
    [(3, vec![4, 8, 12]), (3, vec![3, 4]), (1, vec![2, 1, 3]), (0, vec![1; 9])].map(example).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn values_follow_one_another_along_the_axis() {
        let a = Tensor::u32([2, 2], vec![1, 2, 3, 4]);
        let b = Tensor::u32([2, 1], vec![5, 6]);
        let joined = check::evaluate(&[a.clone(), b], |graph, v| graph.concat(&[v[0], v[1], v[0]], 1));
        assert_eq!(joined.as_u32().unwrap(), [1, 2, 5, 1, 2, 3, 4, 6, 3, 4]);
        let stacked = check::evaluate(&[a], |graph, v| graph.concat(&[v[0], v[0]], 0));
        assert_eq!(stacked.as_u32().unwrap(), [1, 2, 3, 4, 1, 2, 3, 4]);
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn a_difference_along_another_axis_is_an_error() {
        let mut graph = Graph::new();
        let a = graph.feed("a", TensorType::f32([2, 3]));
        let b = graph.feed("b", TensorType::f32([3, 3]));
        assert!(graph.concat(&[a, b], 0).is_ok());
        assert!(graph.concat(&[a, b], 1).unwrap_err().to_string().contains("along axis 1"));
        assert!(graph.concat(&[a], 2).is_err());
        assert!(graph.concat(&[], 0).is_err());
    }
}
