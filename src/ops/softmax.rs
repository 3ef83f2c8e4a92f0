//! Softmax and its logarithm.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::rows::{Rows, maximum_and_exponentials};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, TensorType, random},
};

/// `e^x / sum(e^x)` over the last axis, or its logarithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Softmax {
    log: bool,
}

/// Gradient of [`Softmax`], of its output's gradient and its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SoftmaxGrad {
    log: bool,
}

impl Op for Softmax {
    fn name(&self) -> &str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("softmax", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        match inputs {
            [x] if x.dtype == DType::F32 && x.shape.rank() > 0 && x.elements() > 0 => Ok(vec![(*x).clone()]),
            _ => Err(ShapeError::new("expects one input of f32 with at least one axis")),
        }
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let inputs = [backward.grad(), backward.outputs[0]];
        Ok(vec![Some(backward.graph.apply1(SoftmaxGrad { log: self.log }, &inputs)?)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        5 * signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let pairs =
            args.outputs.float(0).par_chunks_mut(rows.columns).zip(args.inputs.float(0).par_chunks(rows.columns));
        pairs.with_min_len(rows.min_rows()).for_each(|(output, input)| {
            let (maximum, exponentials) = maximum_and_exponentials(input);
            let log_sum = exponentials.ln();
            for (y, &x) in output.iter_mut().zip(input) {
                *y = if self.log { x - maximum - log_sum } else { (x - maximum).exp() / exponentials };
            }
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("softmax/softmax", limits).feature("LOG", self.log),
            bindings: vec![gpu::Binding::Input(0), gpu::Binding::Output(0)],
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single(self.name(), pass)]
    }
}

impl Op for SoftmaxGrad {
    fn name(&self) -> &str {
        if self.log { "log_softmax_grad" } else { "softmax_grad" }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("softmax_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        match inputs {
            [dy, y] if dy == y && y.dtype == DType::F32 => Ok(vec![(*y).clone()]),
            _ => Err(ShapeError::new("expects the output's gradient and the output")),
        }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        4 * signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let inputs = args.inputs.float(0).par_chunks(rows.columns).zip(args.inputs.float(1).par_chunks(rows.columns));
        let outputs = args.outputs.float(0).par_chunks_mut(rows.columns).zip(inputs);
        outputs.with_min_len(rows.min_rows()).for_each(|(dx, (dy, y))| {
            let pairs = || dy.iter().zip(y);
            let sum: T = if self.log { dy.iter().copied().sum() } else { pairs().map(|(&dy, &y)| dy * y).sum() };
            for (dx, (&dy, &y)) in dx.iter_mut().zip(pairs()) {
                *dx = if self.log { dy - y.exp() * sum } else { y * (dy - sum) };
            }
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("softmax/gradient", limits).feature("LOG", self.log),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single(self.name(), pass)]
    }
}

impl Graph {
    /// Softmax over the last axis, `e^x / sum(e^x)`, computed from the differences to the maximum.
    ///
    /// # Errors
    /// If `x` does not hold f32 or has no axis.
    pub fn softmax(&mut self, x: Value) -> Result<Value, GraphError> {
        self.apply1(Softmax { log: false }, &[x])
    }

    /// Logarithm of the softmax over the last axis, `x - log(sum(e^x))`.
    ///
    /// # Errors
    /// If `x` does not hold f32 or has no axis.
    pub fn log_softmax(&mut self, x: Value) -> Result<Value, GraphError> {
        self.apply1(Softmax { log: true }, &[x])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let shapes = [&[1][..], &[5, 1], &[33, 10], &[2, 3, 7], &[3, 259], &[2, 1000]];
    let examples = shapes.into_iter().flat_map(|shape| {
        [false, true].map(|log| {
            Example::new([random(shape, 1)], move |g, v| if log { g.log_softmax(v[0]) } else { g.softmax(v[0]) })
        })
    });
    examples.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn build(log: bool) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
        move |g, v| if log { g.log_softmax(v[0]) } else { g.softmax(v[0]) }
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn values_of_pytorch() {
        for case in check::reference("softmax") {
            let build = build(case.parameters["kind"] == "log_softmax");
            let inputs = [case.tensor("x")];
            let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0], &build);
            for (name, got) in [("y", &check::evaluate(&inputs, &build)), ("dx", &grads[0])] {
                let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
                assert!(error < 1e-6, "{name} of {}: off by {error:.2e}", case.name);
            }
        }
    }
}
