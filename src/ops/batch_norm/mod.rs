//! Batch normalisation.

mod examples;
mod statistics;

pub(super) use examples::examples;
pub(super) use statistics::{BatchNormStatistics, Measured, Moments, WithStatistics};

use serde::{Deserialize, Serialize};

use super::{Pointwise, pointwise, reduce::Reduce};
use crate::{
    graph::{Attributes, Backward, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Reduction, Signature, cpu, gpu},
    tensor::{DType, Real, TensorType},
};

/// What a batch norm in training makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNorm {
    /// The normalised value, of the input's shape.
    pub y: Value,
    /// Mean of each channel over the batch, `[channels]`. It has no gradient of its own.
    pub mean: Value,
    /// Unbiased variance of each channel over the batch, `[channels]`, which running statistics follow. It has no
    /// gradient of its own.
    pub variance: Value,
}

/// `x * scale + shift`, of `x` and all that [`BatchNormStatistics`] of it makes except the variance, then gamma and beta: the gradient
/// goes through the statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchNormApply;

impl BatchNormApply {
    fn expr() -> Expr {
        let [x, scale, shift] = [0, 1, 2].map(Expr::Input);
        x * scale + shift
    }
}

impl Op for BatchNormApply {
    fn name(&self) -> &str {
        "batch_norm"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("batch_norm", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, rest @ ..] = inputs else { return Err(ShapeError::new("expects the input")) };
        let channels = TensorType::f32([x.shape.last()]);
        if x.dtype != DType::F32 || rest.len() != 6 || rest.iter().any(|ty| **ty != channels) {
            return Err(ShapeError::new(format!("expects {x} and six of {channels}")));
        }
        Ok(vec![TensorType::f32(&x.shape)])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let &[x, scale, _, mean, inv_std, ..] = backward.inputs else {
            return Err(backward.not_differentiable(self.name()));
        };
        let dy = backward.grad();
        let shape = backward.input_shape(0);
        let share = shape.last() as f64 / shape.elements() as f64;
        // dbeta = sum(dy) and dgamma = sum(dy * (x - mean)) * inv_std. What goes through the mean is dbeta / rows of
        // each row, and what goes through the variance is (x - mean) * slope.
        let sums = {
            let [dy, x, mean] = [0, 1, 2].map(Expr::Input);
            let [plain, scaled, inv_std] = [0, 1, 2 + 3].map(Expr::Input);
            let dgamma = scaled * inv_std.clone();
            let slope = dgamma.clone() * inv_std * share;
            let axes = shape.rank() - 1;
            let terms = vec![dy.clone(), dy * (x - mean)];
            Reduction { shape: shape.clone(), first_axis: 0, axes, terms, outputs: vec![plain, dgamma, slope] }
        };
        let sums = backward.graph.apply(Reduce::new("batch_norm_sums", sums), &[dy, x, mean, inv_std])?;
        let &[dbeta, dgamma, slope] = &sums[..] else { return Err(backward.not_differentiable(self.name())) };
        let expr = {
            let [dy, x, mean, scale, dbeta, slope] = [0, 1, 2, 3, 4, 5].map(Expr::Input);
            scale * (dy - dbeta * share - (x - mean) * slope)
        };
        let inputs = [dy, x, mean, scale, dbeta, slope];
        let dx = backward.graph.map(Pointwise::new("batch_norm_grad", inputs.len(), expr), &inputs)?;
        Ok(vec![Some(dx), None, None, None, None, Some(dgamma), Some(dbeta)])
    }

    fn pointwise(&self) -> Option<Expr> {
        Some(Self::expr())
    }

    fn flop(&self, signature: &Signature) -> u64 {
        Self::expr().operations() * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        pointwise::run(&Self::expr(), args);
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        pointwise::candidates(&Self::expr(), signature)
    }
}

impl Graph {
    /// Batch norm in training (Ioffe and Szegedy 2015): `x` `[.., channels]` normalised by each channel's mean and
    /// biased variance over all other axes, then `gamma * x + beta`, both `[channels]`.
    ///
    /// # Errors
    /// If the shapes are others than these or a channel has fewer than two values.
    pub fn batch_norm_train(
        &mut self,
        x: Value,
        gamma: Value,
        beta: Value,
        epsilon: f32,
    ) -> Result<BatchNorm, GraphError> {
        let statistics = self.apply(BatchNormStatistics { epsilon }, &[x, gamma, beta])?;
        let (scale, shift, mean, inv_std) = (statistics[0], statistics[1], statistics[2], statistics[3]);
        let y = self.apply1(BatchNormApply, &[x, scale, shift, mean, inv_std, gamma, beta])?;
        Ok(BatchNorm { y, mean, variance: statistics[4] })
    }

    /// Batch norm in inference: `(x - mean) / sqrt(variance + epsilon) * gamma + beta` with given statistics
    /// `[channels]`, as one multiplication and one addition for each element. Mean and variance get no gradient.
    ///
    /// # Errors
    /// If mean, variance, gamma or beta do not have the shape of `x`'s last axis.
    pub fn batch_norm_infer(
        &mut self,
        x: Value,
        gamma: Value,
        beta: Value,
        mean: Value,
        variance: Value,
        epsilon: f32,
    ) -> Result<Value, GraphError> {
        let [a, b, c] = [0, 1, 2].map(Expr::Input);
        let inv_std = Expr::from(1.0) / (b.clone() + f64::from(epsilon)).sqrt();
        let scale =
            Pointwise::new("batch_norm_scale", 2, a.clone() * inv_std.clone()).with_derivatives([Some(inv_std), None]);
        let scale = self.map(scale, &[gamma, variance])?;
        let shift = Pointwise::new("batch_norm_shift", 3, a.clone() - b.clone() * c.clone()).with_derivatives([
            Some(1.0.into()),
            None,
            Some(-b.clone()),
        ]);
        let shift = self.map(shift, &[beta, mean, scale])?;
        let norm = Pointwise::new("batch_norm", 3, a.clone() * b.clone() + c).with_derivatives([
            Some(b),
            Some(a),
            Some(1.0.into()),
        ]);
        self.map(norm, &[x, scale, shift])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        ops::Conv2dOptions,
        tensor::{Shape, Tensor},
    };

    const EPSILON: f32 = 1e-5;

    fn of(shape: Shape) -> Tensor {
        check::random(shape.clone(), shape.elements() as u64)
    }

    fn inputs(shape: &[usize]) -> [Tensor; 3] {
        let channels = shape[shape.len() - 1];
        [check::random(shape, 1), check::random([channels], 2), check::random([channels], 3)]
    }

    fn train(g: &mut Graph, v: &[Value]) -> Result<Value, GraphError> {
        Ok(g.batch_norm_train(v[0], v[1], v[2], EPSILON)?.y)
    }

    #[test]
    fn gradients() {
        check::gradients_of_examples(&examples::training());
        for example in examples::differentiable() {
            // The running statistics of inference have none.
            let wrt: Vec<usize> = match example.inputs.len() {
                5 => vec![0, 1, 2],
                n => (0..n).collect(),
            };
            check::gradients_of(&example.inputs, &wrt, |g, v| example.build(g, v));
        }
        check::gradients(&[[2, 3, 3, 2].into(), [2, 2, 2, 3].into(), [3].into(), [3].into()].map(of), |graph, v| {
            let x = graph.conv2d(v[0], v[1], &Conv2dOptions::default())?;
            train(graph, &[x, v[2], v[3]])
        });
    }

    /// With the mean at 1000 deviations, E[x^2] - E[x]^2 would be off by 1000^2 roundings: some percent.
    #[test]
    fn variance_does_not_cancel() {
        let noise = check::random([4000, 3], 5);
        let shifted = noise.as_f32().unwrap().iter().map(|x| 1000.0 + x).collect();
        let inputs = [Tensor::f32([4000, 3], shifted), check::random([3], 2), check::random([3], 3)];
        let build = |g: &mut Graph, v: &[Value]| Ok(g.batch_norm_train(v[0], v[1], v[2], EPSILON)?.variance);
        let variance = check::evaluate(&inputs, build);
        let values: Vec<f64> = inputs[0].as_f32().unwrap().iter().map(|x| f64::from(*x)).collect();
        for (c, got) in variance.as_f32().unwrap().iter().enumerate() {
            let channel = || values.iter().skip(c).step_by(3);
            let mean = channel().sum::<f64>() / 4000.0;
            let want = channel().map(|x| (x - mean).powi(2)).sum::<f64>() / 3999.0;
            assert!((f64::from(*got) / want - 1.0).abs() < 1e-5, "{got} is not {want}");
        }
    }

    /// With the mean at 100 deviations, a value is itself rounded by up to 100 half units of its deviation, and so are
    /// the mean and `mean * scale`: the sum of the three is what `x * scale + shift` may be off by.
    #[test]
    fn scale_and_shift_cancel_no_more_than_the_input_is_rounded() {
        let noise = check::random([4000, 3], 5);
        let values: Vec<f32> = noise.as_f32().unwrap().iter().map(|x| 100.0 + x).collect();
        let ones = Tensor::f32([3], vec![1.0; 3]);
        let inputs = [Tensor::f32([4000, 3], values.clone()), ones.clone(), check::random([3], 3)];
        let y = check::evaluate(&inputs, train);
        let mut worst = 0f64;
        for (c, beta) in inputs[2].as_f32().unwrap().iter().enumerate() {
            let channel: Vec<f64> = values.iter().skip(c).step_by(3).map(|x| f64::from(*x)).collect();
            let mean = channel.iter().sum::<f64>() / 4000.0;
            let variance = channel.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
            let got = y.as_f32().unwrap().iter().skip(c).step_by(3);
            for (x, got) in channel.iter().zip(got) {
                let want = (x - mean) / (variance + f64::from(EPSILON)).sqrt() + f64::from(*beta);
                worst = worst.max((f64::from(*got) - want).abs());
            }
        }
        let half_unit = f64::from(f32::EPSILON) / 2.0;
        assert!(worst < 3.5 * 100.0 * half_unit, "off by {worst:.1e}");
    }

    #[test]
    fn too_few_values() {
        let mut graph = Graph::new();
        let [x, gamma, beta] = inputs(&[1, 4]).map(|tensor| graph.constant(tensor));
        let error = graph.batch_norm_train(x, gamma, beta, EPSILON).unwrap_err();
        assert!(error.to_string().contains("at least two values"), "{error}");
    }

    #[test]
    fn values_of_pytorch() {
        // The mean is rounded in proportion to itself and then counts in deviations.
        let conditioning = |case: &check::Case| match case.has("var") {
            true => {
                let (mean, var) = (case.tensor("mean"), case.tensor("var"));
                let ratios = mean.as_f32().unwrap().iter().zip(var.as_f32().unwrap()).map(|(m, v)| m.abs() / v.sqrt());
                f64::from(ratios.fold(1.0, f32::max))
            }
            false => 1.0,
        };
        let compare = |name: &str, case: &check::Case, got: &Tensor| {
            let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
            let allowed = 1e-6 * conditioning(case);
            assert!(error < allowed, "{name} of {}: off by {error:.2e}, over {allowed:.2e}", case.name);
        };
        for case in check::reference("batch_norm") {
            let epsilon = case.parameters["eps"].as_f64().unwrap() as f32;
            let training = case.parameters["training"].as_bool().unwrap();
            let names = ["x", "gamma", "beta", "running_mean", "running_var"];
            let inputs = names.map(|name| case.tensor(name));
            let norm = |g: &mut Graph, v: &[Value]| match training {
                true => Ok(g.batch_norm_train(v[0], v[1], v[2], epsilon)?.y),
                false => g.batch_norm_infer(v[0], v[1], v[2], v[3], v[4], epsilon),
            };
            compare("y", &case, &check::evaluate(&inputs, norm));
            let grads = check::gradients_for(&inputs, &case.tensor("dy"), &[0, 1, 2], norm);
            for (name, grad) in ["dx", "dgamma", "dbeta"].into_iter().zip(&grads) {
                compare(name, &case, grad);
            }
            if training {
                let statistic = |pick: fn(&BatchNorm) -> Value| {
                    check::evaluate(&inputs, |g, v| Ok(pick(&g.batch_norm_train(v[0], v[1], v[2], epsilon)?)))
                };
                compare("mean", &case, &statistic(|norm| norm.mean));
                let momentum = case.parameters["momentum"].as_f64().unwrap() as f32;
                let (old, variance) = (case.tensor("running_var"), statistic(|norm| norm.variance));
                let pairs = old.as_f32().unwrap().iter().zip(variance.as_f32().unwrap());
                let new = pairs.map(|(old, new)| old + momentum * (new - old)).collect();
                compare("new_running_var", &case, &Tensor::f32(old.shape(), new));
            }
        }
    }
}
