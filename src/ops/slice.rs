//! Slices along axes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gather::{Axis, Gather};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Shape, TensorType, random},
};

/// A box out of a tensor: a range of each axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    pub ranges: Vec<Range<usize>>,
}

impl Slice {
    fn gather(&self, input: &Shape) -> Gather {
        let strides = input.strides();
        let axes = self.ranges.iter().zip(&strides).map(|(range, &stride)| Axis::full(range.len(), stride));
        let offset = self.ranges.iter().zip(&strides).map(|(range, &stride)| range.start * stride).sum();
        Gather::new(axes, offset)
    }
}

impl Op for Slice {
    fn name(&self) -> &str {
        "slice"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("slice", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        let inside = |(range, &extent): (&Range<usize>, &usize)| range.start < range.end && range.end <= extent;
        if self.ranges.len() != input.shape.rank() || !self.ranges.iter().zip(input.shape.iter()).all(inside) {
            return Err(ShapeError::new(format!(
                "{:?} are not ranges, each of some elements, in {input}",
                self.ranges
            )));
        }
        let output: Vec<usize> = self.ranges.iter().map(Range::len).collect();
        self.gather(&input.shape).infer(input, output.into())
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let shape = backward.input_shape(0);
        let amounts: Vec<_> =
            self.ranges.iter().zip(shape.iter()).map(|(r, extent)| (r.start, extent - r.end)).collect();
        let dy = backward.grad();
        Ok(vec![Some(backward.graph.zero_pad(dy, &amounts)?)])
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
    /// The elements of `value` (f32 or u32) in `range` along `axis`.
    ///
    /// # Errors
    /// If there is no such axis, or the range is empty or reaches beyond its extent.
    pub fn slice(&mut self, value: Value, axis: usize, range: Range<usize>) -> Result<Value, GraphError> {
        let mut ranges: Vec<Range<usize>> = self.shape(value).iter().map(|&extent| 0..extent).collect();
        match ranges.get_mut(axis) {
            Some(place) => *place = range,
            // One range too many: the shape rule says what is wrong.
            None => ranges.push(range),
        }
        self.apply1(Slice { ranges }, &[value])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let slices =
        [(vec![3, 4, 5], 1, 1..3), (vec![2, 3, 3, 16], 3, 4..12), (vec![6, 2, 4], 0, 2..5), (vec![9], 0, 3..8)];
    let example = |(shape, axis, range): (Vec<usize>, usize, Range<usize>)| {
        Example::new([random(shape, 1)], move |graph, v| graph.slice(v[0], axis, range.clone()))
    };
    slices.map(example).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn a_range_of_an_axis_is_taken() {
        let x = Tensor::u32([2, 3, 2], (0..12).collect());
        let slice = |axis, range: Range<usize>| {
            let result = check::evaluate(std::slice::from_ref(&x), |graph, v| graph.slice(v[0], axis, range.clone()));
            result.as_u32().unwrap().to_vec()
        };
        assert_eq!(slice(0, 1..2), [6, 7, 8, 9, 10, 11]);
        assert_eq!(slice(1, 1..3), [2, 3, 4, 5, 8, 9, 10, 11]);
        assert_eq!(slice(2, 0..1), [0, 2, 4, 6, 8, 10]);
        assert_eq!(slice(1, 0..3), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn a_range_beyond_the_axis_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([2, 3]));
        assert!(graph.slice(x, 1, 1..4).unwrap_err().to_string().contains("1..4"));
        assert!(graph.slice(x, 1, 2..2).is_err());
        assert!(graph.slice(x, 2, 0..1).is_err());
    }
}
