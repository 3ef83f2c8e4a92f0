//! Permutation of axes.

use serde::{Deserialize, Serialize};

use super::gather::{Axis, Gather};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Shape, TensorType, random},
};

/// Axes in another order: axis `k` of the output is axis `permutation[k]` of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transpose {
    permutation: Vec<usize>,
}

impl Transpose {
    fn gather(&self, input: &Shape) -> Gather {
        let strides = input.strides();
        Gather::new(self.permutation.iter().map(|&axis| Axis::full(input[axis], strides[axis])), 0)
    }
}

impl Op for Transpose {
    fn name(&self) -> &str {
        "transpose"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("transpose", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..input.shape.rank()) {
            return Err(ShapeError::new(format!(
                "{:?} is not a permutation of the {} axes of {input}",
                self.permutation,
                input.shape.rank()
            )));
        }
        let output: Vec<usize> = self.permutation.iter().map(|&axis| input.shape[axis]).collect();
        self.gather(&input.shape).infer(input, output.into())
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let mut inverse = vec![0; self.permutation.len()];
        for (to, &from) in self.permutation.iter().enumerate() {
            inverse[from] = to;
        }
        let dy = backward.grad();
        Ok(vec![Some(backward.graph.transpose(dy, &inverse)?)])
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        self.gather(&args.inputs.ty(0).shape).cpu(args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let gather = self.gather(&signature.inputs[0].shape);
        tiled(gather.axes()).into_iter().chain([gather.gpu()]).collect()
    }
}

/// The kernel through tiles of workgroup memory, for a transposition that comes down to one of matrices.
fn tiled(axes: &[Axis]) -> Option<gpu::Candidate> {
    let (batch, columns, rows) = match *axes {
        [columns, rows] => (1, columns, rows),
        [batch, columns, rows] if batch.stride == columns.extent * rows.extent => (batch.extent, columns, rows),
        _ => return None,
    };
    // A narrow matrix would leave most of each tile empty.
    if columns.stride != 1 || rows.stride != columns.extent || columns.extent.min(rows.extent) < 8 {
        return None;
    }
    let pass = gpu::Pass {
        shader: gpu::Shader::file("layout/transpose")
            .constant("BATCH", batch)
            .constant("ROWS", rows.extent)
            .constant("COLUMNS", columns.extent),
        bindings: vec![gpu::Binding::Input(0), gpu::Binding::Output(0)],
        workgroups: gpu::spread_workgroups(batch * rows.extent.div_ceil(32) * columns.extent.div_ceil(32)),
    };
    Some(gpu::Candidate::single("transpose 32x32", pass))
}

impl Graph {
    /// `value` (f32 or u32) with its axes in another order: axis `k` of the result is axis `permutation[k]` of the
    /// value.
    ///
    /// # Errors
    /// If `permutation` does not name each axis once.
    pub fn transpose(&mut self, value: Value, permutation: &[usize]) -> Result<Value, GraphError> {
        self.apply1(Transpose { permutation: permutation.to_vec() }, &[value])
    }
}

/// Shapes and permutations of their axes.
fn permutations() -> Vec<(Vec<usize>, Vec<usize>)> {
    vec![
        (vec![5, 3], vec![1, 0]),
        (vec![37, 70], vec![1, 0]),
        (vec![2, 33, 40], vec![0, 2, 1]),
        (vec![2, 5, 6, 8], vec![0, 3, 1, 2]),
        (vec![2, 3, 4, 8], vec![2, 1, 0, 3]),
        (vec![2, 9, 2, 16], vec![0, 1, 3, 2]),
        (vec![2, 3, 2, 3, 2, 3], vec![5, 4, 3, 2, 1, 0]),
        (vec![4, 1, 6], vec![1, 0, 2]),
        (vec![1, 1], vec![1, 0]),
    ]
}

pub(super) fn examples() -> Vec<Example> {
    let example = |(shape, permutation): (Vec<usize>, Vec<usize>)| {
        Example::new([random(shape, 1)], move |graph, v| graph.transpose(v[0], &permutation))
    };
    permutations().into_iter().map(example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn elements_move_with_their_coordinates() {
        for (shape, permutation) in permutations() {
            let shape = Shape::from(shape);
            let numbers = Tensor::u32(shape.clone(), (0..shape.elements() as u32).collect());
            let result = check::evaluate(&[numbers], |graph, v| graph.transpose(v[0], &permutation));
            let (from, to) = (shape.strides(), result.shape().strides());
            for (at, &number) in result.as_u32().unwrap().iter().enumerate() {
                let moved = permutation.iter().enumerate().map(|(k, &axis)| {
                    assert_eq!(result.shape()[k], shape[axis]);
                    at / to[k] % result.shape()[k] * from[axis]
                });
                assert_eq!(number as usize, moved.sum::<usize>(), "{shape} {permutation:?}");
            }
        }
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn an_axis_named_twice_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([2, 3]));
        assert!(graph.transpose(x, &[1, 1]).unwrap_err().to_string().contains("permutation"));
        assert!(graph.transpose(x, &[0]).is_err());
    }
}
