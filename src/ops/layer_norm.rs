//! Layer normalisation.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    columns::rows_of_part,
    reduce::Reduce,
    rows::{Rows, sum},
};
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

/// Gradients of [`LayerNorm`] with respect to its input, gamma and beta, of its output's gradient, its input, mean, inverse
/// standard deviation and gamma.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerNormGrad;

/// The gradient of one row, and what the row adds to those of gamma and beta.
#[inline(always)]
fn gradients<T: Real>([dx, d_gamma, d_beta]: [&mut [T]; 3], [dy, x, gamma]: [&[T]; 3], mean: T, inv_std: T) {
    let count = T::from_usize(dx.len());
    let plain = sum([dy, gamma], |[dy, gamma]| dy * gamma) / count;
    let scaled = sum([dy, gamma, x], |[dy, gamma, x]| dy * gamma * ((x - mean) * inv_std)) / count;
    let inputs = dy.iter().zip(x).zip(gamma);
    for ((dx, (d_gamma, d_beta)), ((&dy, &x), &gamma)) in dx.iter_mut().zip(d_gamma.iter_mut().zip(d_beta)).zip(inputs)
    {
        let normalised = (x - mean) * inv_std;
        *dx = inv_std * (dy * gamma - plain - normalised * scaled);
        *d_gamma += dy * normalised;
        *d_beta += dy;
    }
}

/// The sums over the rows that are the gradients of gamma and beta, of the gradient's first four inputs.
fn sums(signature: &Signature) -> (Reduce, Signature) {
    let shape = signature.inputs[0].shape.clone();
    let [dy, x, mean, inv_std] = [0, 1, 2, 3].map(Expr::Input);
    let terms = vec![dy.clone() * ((x - mean) * inv_std), dy];
    let outputs = vec![Expr::Input(0), Expr::Input(1)];
    // One statistic a row.
    let statistic = TensorType::f32([&shape[..shape.rank() - 1], &[1]].concat());
    let inputs = vec![signature.inputs[0].clone(), signature.inputs[1].clone(), statistic.clone(), statistic];
    let reduction = Reduction { first_axis: 0, axes: shape.rank() - 1, shape, terms, outputs };
    (Reduce::new("layer_norm_sums", reduction), Signature { inputs, outputs: signature.outputs[1..].to_vec() })
}

/// A pass of these sums, whose outputs follow the gradient of the input.
fn after_dx(mut pass: gpu::Pass) -> gpu::Pass {
    for binding in &mut pass.bindings {
        match binding {
            gpu::Binding::Output(at) | gpu::Binding::OutputRead(at) => *at += 1,
            _ => (),
        }
    }
    pass
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
        let gradients = backward.graph.apply(LayerNormGrad, &[dy, x, mean, inv_std, gamma])?;
        Ok(gradients.into_iter().map(Some).collect())
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
                    let row_mean = sum([x], |[x]| x) / count;
                    let variance = sum([x], |[x]| (x - row_mean) * (x - row_mean)) / count;
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
        Ok(vec![TensorType::f32(&x.shape), channels.clone(), channels])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        16 * signature.inputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        let rows = Rows::of(&signature.inputs[0].shape);
        rows.rows.div_ceil(rows_of_part(rows.columns)) * 2 * rows.columns
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let (columns, part) = (rows.columns, rows_of_part(rows.columns));
        let [mean, inv_std, gamma] = [2, 3, 4].map(|at| args.inputs.float(at));
        let inputs =
            args.inputs.float(0).par_chunks(part * columns).zip(args.inputs.float(1).par_chunks(part * columns));
        let statistics = mean.par_chunks(part).zip(inv_std.par_chunks(part));
        let outputs =
            args.outputs.float(0).par_chunks_mut(part * columns).zip(args.scratch.par_chunks_mut(2 * columns));
        outputs.zip(inputs).zip(statistics).for_each(|(((dx, sums), (dy, x)), (mean, inv_std))| {
            sums.fill(T::ZERO);
            let (d_gamma, d_beta) = sums.split_at_mut(columns);
            let rows = dx.chunks_exact_mut(columns).zip(dy.chunks_exact(columns).zip(x.chunks_exact(columns)));
            for ((dx, (dy, x)), (&mean, &inv_std)) in rows.zip(mean.iter().zip(inv_std)) {
                cpu::vectorised(
                    #[inline(always)]
                    || gradients([dx, d_gamma, d_beta], [dy, x, gamma], mean, inv_std),
                );
            }
        });
        // In the order of the parts.
        for at in [0, 1] {
            let total = args.outputs.float(1 + at);
            total.fill(T::ZERO);
            for sums in args.scratch.chunks_exact(2 * columns) {
                total.iter_mut().zip(&sums[at * columns..]).for_each(|(total, sum)| *total += *sum);
            }
        }
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("norm/layer_norm_gradient", limits),
            bindings: vec![Input(0), Input(1), Input(2), Input(3), Input(4), Output(0)],
            workgroups: rows.workgroups(limits),
        };
        let (sums, signature) = sums(signature);
        let candidates = sums.gpu(&signature, limits).into_iter().map(|sums| {
            let passes = std::iter::once(pass.clone()).chain(sums.passes.into_iter().map(after_dx));
            gpu::Candidate { name: "layer_norm_gradient".to_string(), passes: passes.collect(), ..sums }
        });
        candidates.collect()
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
