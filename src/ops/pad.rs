//! Padding with zeros.

use serde::{Deserialize, Serialize};

use super::{
    gather::{Axis, Gather},
    slice::Slice,
};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Shape, TensorType, random},
};

/// Zeros around a tensor: so many before and after it along each axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZeroPad {
    amounts: Vec<(usize, usize)>,
}

impl ZeroPad {
    fn gather(&self, input: &Shape) -> Gather {
        let axes = self.amounts.iter().zip(input.iter()).zip(input.strides());
        let axis = |((&(before, after), &length), stride)| Axis {
            extent: before + length + after,
            stride,
            begin: before,
            length,
        };
        Gather::new(axes.map(axis), 0)
    }
}

impl Op for ZeroPad {
    fn name(&self) -> &str {
        "zero_pad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("zero_pad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        if self.amounts.len() != input.shape.rank() {
            return Err(ShapeError::new(format!(
                "expects a pair (before, after) for each of the {} axes of {input}, not {}",
                input.shape.rank(),
                self.amounts.len()
            )));
        }
        let padded = self.amounts.iter().zip(input.shape.iter());
        let output: Vec<usize> = padded.map(|((before, after), extent)| before + extent + after).collect();
        self.gather(&input.shape).infer(input, output.into())
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let shape = backward.input_shape(0);
        let inner = self.amounts.iter().zip(shape.iter());
        let ranges = inner.map(|(&(before, _), &extent)| before..before + extent).collect();
        let dy = backward.grad();
        Ok(vec![Some(backward.graph.apply1(Slice { ranges }, &[dy])?)])
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        self.gather(&args.inputs.ty(0).shape).cpu(args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        vec![self.gather(&signature.inputs[0].shape).gpu()]
    }
}

impl Graph {
    /// `value` (f32 or u32) with zeros added before and after it along each axis.
    ///
    /// # Errors
    /// If there is not one pair for each axis.
    pub fn zero_pad(&mut self, value: Value, amounts: &[(usize, usize)]) -> Result<Value, GraphError> {
        self.apply1(ZeroPad { amounts: amounts.to_vec() }, &[value])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let example = |(shape, amounts): (Vec<usize>, Vec<(usize, usize)>)| {
        Example::new([random(shape, 1)], move |graph, v| graph.zero_pad(v[0], &amounts))
    };
    let examples = [
        (vec![2, 5, 5, 3], vec![(0, 0), (1, 2), (2, 1), (0, 0)]),
        (vec![2, 3, 4, 8], vec![(0, 0), (1, 1), (1, 1), (0, 0)]),
        (vec![2, 3, 8], vec![(1, 0), (0, 0), (4, 8)]),
        (vec![2, 3], vec![(1, 1), (3, 0)]),
        (vec![5], vec![(0, 0)]),
    ];
    examples.map(example).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn zeros_surround_the_elements() {
        let x = Tensor::f32([1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let padded = check::evaluate(&[x], |graph, v| graph.zero_pad(v[0], &[(0, 0), (1, 0), (2, 1)]));
        assert_eq!(padded.shape()[..], [1, 3, 5]);
        let rows = [[0.0; 5], [0.0, 0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 3.0, 4.0, 0.0]];
        assert_eq!(padded.as_f32().unwrap(), rows.concat());
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn a_pair_too_few_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([2, 3]));
        assert!(graph.zero_pad(x, &[(1, 1)]).unwrap_err().to_string().contains("2 axes"));
    }
}
