//! Layer normalisation.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{reduce::Reduce, rows::Rows};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Reduction, Signature, cpu, gpu},
    tensor::{DType, Real, TensorType, random},
};

/// Each row normalised by its own mean and biased variance, then scaled and shifted; and, for the gradient, mean and
/// `1 / sqrt(variance + epsilon)` of each row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerNorm {
    epsilon: f32,
}

/// Gradient of [`LayerNorm`] with respect to its input, of its output's gradient, its input, mean, inverse standard
/// deviation and gamma.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerNormGrad;

/// Sum of `of(i)` for `i` below `count`, in eight interleaved partial sums: a smaller error, and vectors.
#[inline(always)]
fn sum<T: Real>(count: usize, of: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; 8];
    for first in (0..count).step_by(8) {
        for (lane, at) in lanes.iter_mut().zip(first..count) {
            *lane += of(at);
        }
    }
    lanes.into_iter().sum()
}

impl Op for LayerNorm {
    fn name(&self) -> &str {
        "layer_norm"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("layer_norm", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, gamma, beta] = inputs else { return Err(ShapeError::new("expects input, gamma and beta")) };
        if x.dtype != DType::F32 || x.shape.rank() == 0 || x.elements() == 0 {
            return Err(ShapeError::new(format!("expects f32 with at least one axis, not {x}")));
        }
        let channels = TensorType::f32([x.shape.last()]);
        if **gamma != channels || **beta != channels {
            return Err(ShapeError::new(format!("gamma and beta of {x} must be {channels}")));
        }
        let statistics = TensorType::f32([Rows::of(&x.shape).rows]);
        Ok(vec![TensorType::f32(&x.shape), statistics.clone(), statistics])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let (dy, x, gamma) = (backward.grad(), backward.inputs[0], backward.inputs[1]);
        let (mean, inv_std) = (backward.outputs[1], backward.outputs[2]);
        let shape = backward.input_shape(0);
        let sums = {
            let [dy, x, mean, inv_std] = [0, 1, 2, 3].map(Expr::Input);
            let (terms, outputs) =
                (vec![dy.clone() * ((x - mean) * inv_std), dy], vec![Expr::Input(0), Expr::Input(1)]);
            Reduction { shape: shape.clone(), first_axis: 0, axes: shape.rank() - 1, terms, outputs }
        };
        // One statistic a row.
        let rows = [&shape[..shape.rank() - 1], &[1]].concat();
        let (row_mean, row_inv_std) =
            (backward.graph.reshape(mean, rows.clone())?, backward.graph.reshape(inv_std, rows)?);
        let sums = backward.graph.apply(Reduce::new("layer_norm_sums", sums), &[dy, x, row_mean, row_inv_std])?;
        let dx = backward.graph.apply1(LayerNormGrad, &[dy, x, mean, inv_std, gamma])?;
        Ok(vec![Some(dx), Some(sums[0]), Some(sums[1])])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        8 * signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let (gamma, beta) = (args.inputs.float(1), args.inputs.float(2));
        let count = T::from_usize(rows.columns);
        let statistics = args.outputs.float(1).par_iter_mut().zip(args.outputs.float(2));
        let pairs =
            args.outputs.float(0).par_chunks_mut(rows.columns).zip(args.inputs.float(0).par_chunks(rows.columns));
        pairs.zip(statistics).with_min_len(rows.min_rows()).for_each(|((y, x), (mean, inv_std))| {
            cpu::vectorised(
                #[inline(always)]
                || {
                    let row_mean = sum(x.len(), |at| x[at]) / count;
                    let variance = sum(x.len(), |at| (x[at] - row_mean) * (x[at] - row_mean)) / count;
                    let row_inv_std = T::ONE / (variance + T::from_f32(self.epsilon)).sqrt();
                    for ((y, &x), (&gamma, &beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
                        *y = (x - row_mean) * row_inv_std * gamma + beta;
                    }
                    (*mean, *inv_std) = (row_mean, row_inv_std);
                },
            );
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("norm/layer_norm", limits).constant("EPSILON", self.epsilon),
            bindings: vec![Input(0), Input(1), Input(2), Output(0), Output(1), Output(2)],
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single("layer_norm", pass)]
    }
}

impl Op for LayerNormGrad {
    fn name(&self) -> &str {
        "layer_norm_grad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("layer_norm_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [dy, x, mean, inv_std, gamma] = inputs else {
            return Err(ShapeError::new("expects the gradient, the input, mean, inverse standard deviation and gamma"));
        };
        let rows = Rows::of(&x.shape);
        let (statistics, channels) = (TensorType::f32([rows.rows]), TensorType::f32([rows.columns]));
        if dy != x
            || x.dtype != DType::F32
            || [mean, inv_std].iter().any(|ty| ***ty != statistics)
            || **gamma != channels
        {
            return Err(ShapeError::new(format!("expects {x} twice, {statistics} twice and {channels}")));
        }
        Ok(vec![TensorType::f32(&x.shape)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        12 * signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let gamma = args.inputs.float(4);
        let count = T::from_usize(rows.columns);
        let statistics = args.inputs.float(2).par_iter().zip(args.inputs.float(3));
        let inputs = args.inputs.float(0).par_chunks(rows.columns).zip(args.inputs.float(1).par_chunks(rows.columns));
        let outputs = args.outputs.float(0).par_chunks_mut(rows.columns);
        let rows = outputs.zip(inputs).zip(statistics).with_min_len(rows.min_rows());
        rows.for_each(|((dx, (dy, x)), (&mean, &inv_std))| {
            cpu::vectorised(
                #[inline(always)]
                || {
                    let plain = sum(dx.len(), |at| dy[at] * gamma[at]) / count;
                    let scaled = sum(dx.len(), |at| dy[at] * gamma[at] * ((x[at] - mean) * inv_std)) / count;
                    for ((dx, &x), (&dy, &gamma)) in dx.iter_mut().zip(x).zip(dy.iter().zip(gamma)) {
                        *dx = inv_std * (dy * gamma - plain - (x - mean) * inv_std * scaled);
                    }
                },
            );
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("norm/layer_norm_gradient", limits),
            bindings: vec![Input(0), Input(1), Input(2), Input(3), Input(4), Output(0)],
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single("layer_norm_gradient", pass)]
    }
}

impl Graph {
    /// Layer norm (Ba et al. 2016): `x` `[.., channels]` normalised along its last axis by mean and biased variance,
    /// then `gamma * x + beta`, both `[channels]`.
    ///
    /// # Errors
    /// If the shapes are others than these.
    pub fn layer_norm(&mut self, x: Value, gamma: Value, beta: Value, epsilon: f32) -> Result<Value, GraphError> {
        Ok(self.apply(LayerNorm { epsilon }, &[x, gamma, beta])?[0])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let shapes = [&[7][..], &[5, 2], &[2, 3, 4, 12], &[3, 70], &[2, 259], &[3000, 8]];
    let example = |shape: &[usize]| {
        let channels = shape[shape.len() - 1];
        let inputs = [random(shape, 1), random([channels], 2), random([channels], 3)];
        Example::new(inputs, |g, v| g.layer_norm(v[0], v[1], v[2], 1e-6))
    };
    shapes.into_iter().map(example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn build(epsilon: f32) -> impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError> {
        move |g, v| g.layer_norm(v[0], v[1], v[2], epsilon)
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples());
    }

    #[test]
    fn values_of_pytorch() {
        for case in check::reference("layer_norm") {
            let build = build(case.parameters["eps"].as_f64().unwrap() as f32);
            let inputs = ["x", "gamma", "beta"].map(|name| case.tensor(name));
            let y = check::evaluate(&inputs, &build);
            let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0, 1, 2], &build);
            for (name, got) in ["y", "dx", "dgamma", "dbeta"].into_iter().zip(std::iter::once(&y).chain(&grads)) {
                let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
                assert!(error < 2e-6, "{name} of {}: off by {error:.2e}", case.name);
            }
        }
    }
}
