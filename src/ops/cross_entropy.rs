//! Cross-entropy of the softmax of logits, and weighted means of losses.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Pointwise,
    rows::{Rows, maximum_and_exponentials},
};
use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Subsumed, Value},
    kernel::{Expr, Signature, cpu, gpu},
    tensor::{DType, Real, Tensor, TensorType, random},
};

/// Cross-entropy of the softmax of logits, for each sample: the losses. With the gradient, of logits, labels and the
/// losses' gradient: the losses and the gradient of the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SoftmaxCrossEntropy {
    label_smoothing: f64,
    with_gradient: bool,
}

fn check(logits: &TensorType, labels: &TensorType) -> Result<(), ShapeError> {
    let &[batch, classes] = &logits.shape[..] else {
        return Err(ShapeError::new(format!("expects logits [batch, classes], not {logits}")));
    };
    let numbers = TensorType::u32([batch]);
    if logits.dtype != DType::F32 || classes == 0 || (*labels != numbers && labels != logits) {
        return Err(ShapeError::new(format!(
            "labels of logits f32[{batch}, {classes}] must be {numbers}, or soft f32[{batch}, {classes}], not {labels}"
        )));
    }
    Ok(())
}

/// The labels as a kernel reads them.
#[derive(Clone, Copy)]
enum Labels<'a, T> {
    Numbers(&'a [u32]),
    Soft(&'a [T]),
}

/// The target distribution of samples of `classes` classes: the labels, mixed with the uniform distribution.
#[derive(Clone, Copy)]
struct Targets<'a, T> {
    labels: Labels<'a, T>,
    classes: usize,
    kept: T,
    uniform: T,
}

impl<'a, T: Real> Targets<'a, T> {
    fn new(inputs: &cpu::Inputs<'a, T>, label_smoothing: f64) -> Self {
        let labels = match inputs.ty(1).dtype {
            DType::U32 => Labels::Numbers(inputs.uint(1)),
            _ => Labels::Soft(inputs.float(1)),
        };
        let classes = inputs.ty(0).shape.last();
        let uniform = T::from_f64(label_smoothing / classes as f64);
        Self { labels, classes, kept: T::from_f64(1.0 - label_smoothing), uniform }
    }

    #[inline(always)]
    fn of(&self, sample: usize, class: usize) -> T {
        let label = match self.labels {
            Labels::Numbers(numbers) if numbers[sample] as usize == class => T::ONE,
            Labels::Numbers(_) => T::ZERO,
            Labels::Soft(soft) => soft[sample * self.classes + class],
        };
        self.kept * label + self.uniform
    }

    fn is_valid(&self, sample: usize) -> bool {
        match self.labels {
            Labels::Numbers(numbers) => (numbers[sample] as usize) < self.classes,
            Labels::Soft(_) => true,
        }
    }

    /// The loss of a sample.
    fn loss(&self, sample: usize, logits: &[T], maximum: T, exponentials: T) -> T {
        if !self.is_valid(sample) {
            return T::from_f32(f32::NAN);
        }
        let log_sum = exponentials.ln();
        let terms = logits.iter().enumerate().map(|(class, &logit)| (self.of(sample, class), logit));
        // Not 0 * infinity where a class is impossible.
        let terms = terms.filter(|(weight, _)| *weight != T::ZERO);
        terms.map(|(weight, logit)| weight * (log_sum - (logit - maximum))).sum()
    }

    /// Sum of a sample's targets.
    fn mass(&self, sample: usize) -> T {
        match self.labels {
            Labels::Numbers(_) => T::ONE,
            Labels::Soft(_) => (0..self.classes).map(|class| self.of(sample, class)).sum(),
        }
    }
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &str {
        if self.with_gradient { "softmax_cross_entropy+grad" } else { "softmax_cross_entropy" }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("softmax_cross_entropy", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let (logits, labels, losses_grad) = match inputs {
            [logits, labels] if !self.with_gradient => (logits, labels, None),
            [logits, labels, grad] if self.with_gradient => (logits, labels, Some(grad)),
            _ => return Err(ShapeError::new("expects logits and labels, and for the gradient that of the losses")),
        };
        check(logits, labels)?;
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(ShapeError::new(format!(
                "label smoothing must be from 0 to below 1, not {}",
                self.label_smoothing
            )));
        }
        let losses = TensorType::f32([logits.shape[0]]);
        match losses_grad {
            None => Ok(vec![losses]),
            Some(grad) if **grad == losses => Ok(vec![losses, TensorType::f32(logits.shape.clone())]),
            Some(grad) => Err(ShapeError::new(format!("{grad} is not a gradient of the losses of {logits}"))),
        }
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        if self.with_gradient {
            return Err(backward.not_differentiable(self.name()));
        }
        let inputs = [backward.inputs[0], backward.inputs[1], backward.grad()];
        let outputs = backward.graph.apply(Self { with_gradient: true, ..self.clone() }, &inputs)?;
        Ok(vec![Some(outputs[1]), None])
    }

    fn subsumes(&self) -> Vec<Subsumed> {
        let losses = Self { with_gradient: false, ..self.clone() };
        let losses = Subsumed { output: 0, op: Arc::new(losses), inputs: 2 };
        if self.with_gradient { vec![losses] } else { Vec::new() }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let for_each = if self.with_gradient { 11 } else { 6 };
        for_each * signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let targets = Targets::new(&args.inputs, self.label_smoothing);
        let losses = args.outputs.float(0).par_iter_mut();
        let samples = losses.zip(args.inputs.float(0).par_chunks(rows.columns)).enumerate();
        let loss = |sample, logits: &[T]| {
            let (maximum, exponentials) = maximum_and_exponentials(logits);
            (targets.loss(sample, logits, maximum, exponentials), maximum, exponentials)
        };
        if !self.with_gradient {
            let samples = samples.with_min_len(rows.min_rows());
            samples.for_each(|(sample, (output, logits))| *output = loss(sample, logits).0);
            return;
        }
        let gradients = args.outputs.float(1).par_chunks_mut(rows.columns).zip(args.inputs.float(2));
        let samples = samples.zip(gradients).with_min_len(rows.min_rows());
        samples.for_each(|((sample, (output, logits)), (dx, &dy))| {
            let (loss, maximum, exponentials) = loss(sample, logits);
            *output = loss;
            let mass = targets.mass(sample);
            for (class, (dx, &logit)) in dx.iter_mut().zip(logits).enumerate() {
                let softmax = (logit - maximum).exp() / exponentials;
                *dx = (mass * softmax - targets.of(sample, class)) * dy;
            }
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let rows = Rows::of(&signature.inputs[0].shape);
        let mut bindings = vec![Input(0), Input(1), Output(0)];
        if self.with_gradient {
            bindings.extend([Input(2), Output(1)]);
        }
        let pass = gpu::Pass {
            shader: rows
                .shader("loss/cross_entropy", limits)
                .feature("SOFT", signature.inputs[1].dtype == DType::F32)
                .feature("GRADIENT", self.with_gradient)
                .constant("SMOOTHING", self.label_smoothing as f32),
            bindings,
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single(self.name(), pass)]
    }
}

impl Graph {
    /// Cross-entropy of the softmax of `logits` `[batch, classes]` with `labels`, for each sample: f32 `[batch]`.
    ///
    /// Labels are numbers of classes, u32 `[batch]`, or distributions over them, f32 `[batch, classes]`; they get no
    /// gradient. With `label_smoothing` s the targets are `(1 - s) * labels + s / classes` (Szegedy et al. 2016). A
    /// number that is no class makes a loss of NaN.
    ///
    /// # Errors
    /// If the types are others than these or `label_smoothing` is not from 0 to below 1.
    pub fn softmax_cross_entropy(
        &mut self,
        logits: Value,
        labels: Value,
        label_smoothing: f64,
    ) -> Result<Value, GraphError> {
        self.apply1(SoftmaxCrossEntropy { label_smoothing, with_gradient: false }, &[logits, labels])
    }

    /// Mean of `values` `[batch]` by `weights` `[batch]`: `sum(weights * values) / sum(weights)`, one f32, which is 0
    /// where all weights are 0.
    ///
    /// # Errors
    /// If the shapes are not `[batch]` or differ.
    pub fn weighted_mean(&mut self, values: Value, weights: Value) -> Result<Value, GraphError> {
        let products = self.multiply(values, weights)?;
        let sum = self.sum(products, &[0])?;
        let weight = self.sum(weights, &[0])?;
        let positive = Expr::Input(1).max(f64::from(f32::MIN_POSITIVE));
        let quotient = Pointwise::new("divide_positive", 2, Expr::Input(0) / positive.clone())
            .with_derivatives([Some(Expr::from(1.0) / positive.clone()), Some(-(Expr::Input(2) / positive))]);
        self.map(quotient, &[sum, weight])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (batch, classes) in [(1, 1), (5, 2), (33, 10), (3, 259), (2, 1000)] {
        let labels = Tensor::u32([batch], (0..batch).map(|at| (at * 7 % classes) as u32).collect());
        for targets in [labels, random([batch, classes], 2)] {
            for smoothing in [0.0, 0.1] {
                let inputs = [random([batch, classes], 1), targets.clone()];
                examples.push(Example::new(inputs, move |g, v| g.softmax_cross_entropy(v[0], v[1], smoothing)));
            }
        }
    }
    examples.push(weighted_mean());
    examples
}

fn weighted_mean() -> Example {
    let weights = Tensor::f32([4], vec![1.0, 0.5, 2.0, 0.0]);
    Example::new([random([4], 3), weights], |g, v| g.weighted_mean(v[0], v[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn gradients() {
        for example in examples() {
            check::gradients_of(&example.inputs, &[0], |g, v| example.build(g, v));
        }
    }

    #[test]
    fn weighted_mean_of_losses() {
        let example = weighted_mean();
        check::gradients(&example.inputs, |g, v| example.build(g, v));
        let empty = [random([4], 3), Tensor::f32([4], vec![0.0; 4])];
        assert_eq!(check::evaluate(&empty, |g, v| example.build(g, v)).as_f32(), Some(&[0.0][..]));
    }

    #[test]
    fn impossible_classes_and_labels() {
        let logits = Tensor::f32([2, 3], vec![0.0, 0.0, f32::NEG_INFINITY, 0.0, 1.0, 2.0]);
        let inputs = [logits, Tensor::u32([2], vec![1, 3])];
        let losses = check::evaluate(&inputs, |g, v| g.softmax_cross_entropy(v[0], v[1], 0.0));
        let losses = losses.as_f32().unwrap();
        assert!((losses[0] - 2f32.ln()).abs() < 1e-6 && losses[1].is_nan(), "{losses:?}");
    }

    #[test]
    fn values_of_pytorch() {
        for case in check::reference("cross_entropy") {
            let smoothing = case.parameters["label_smoothing"].as_f64().unwrap();
            let inputs = [case.tensor("logits"), case.tensor("labels"), case.tensor("weights")];
            let losses = check::evaluate(&inputs, |g, v| g.softmax_cross_entropy(v[0], v[1], smoothing));
            let mean = |g: &mut Graph, v: &[Value]| {
                let losses = g.softmax_cross_entropy(v[0], v[1], smoothing)?;
                g.weighted_mean(losses, v[2])
            };
            let grads = check::gradients_for(&inputs, &Tensor::scalar(1.0), &[0], mean);
            for (name, got) in [("losses", &losses), ("loss", &check::evaluate(&inputs, mean)), ("dlogits", &grads[0])]
            {
                let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
                assert!(error < 1e-6, "{name} of {}: off by {error:.2e}", case.name);
            }
        }
    }
}
