//! Which samples are recognised: whether the label is among the k largest logits.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::rows::Rows;
use crate::{
    graph::{Attributes, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Tensor, TensorType, random},
};

/// Whether each sample's label is among the `k` classes of largest logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopKCorrect {
    k: usize,
}

impl Op for TopKCorrect {
    fn name(&self) -> &str {
        "top_k_correct"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("top_k_correct", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [logits, labels] = inputs else { return Err(ShapeError::new("expects logits and labels")) };
        let &[batch, classes] = &logits.shape[..] else {
            return Err(ShapeError::new(format!("expects logits [batch, classes], not {logits}")));
        };
        let numbers = TensorType::u32([batch]);
        if logits.dtype != DType::F32 || **labels != numbers {
            return Err(ShapeError::new(format!("labels of logits f32[{batch}, {classes}] must be {numbers}")));
        }
        if !(1..=classes).contains(&self.k) {
            return Err(ShapeError::new(format!("k must be from 1 to the {classes} classes, not {}", self.k)));
        }
        Ok(vec![TensorType::f32([batch])])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        signature.inputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let rows = Rows::of(&args.inputs.ty(0).shape);
        let samples = args.inputs.float(0).par_chunks(rows.columns).zip(args.inputs.uint(1));
        let samples = samples.zip(args.outputs.float(0)).with_min_len(rows.min_rows());
        samples.for_each(|((logits, &label), correct)| {
            let is_before = |class: usize, logit: T, score: T| match logit.partial_cmp(&score) {
                Some(order) => order.is_gt() || (order.is_eq() && class < label as usize),
                None => true,
            };
            let before =
                |score: T| logits.iter().enumerate().filter(|(class, x)| is_before(*class, **x, score)).count();
            let recognised = logits.get(label as usize).is_some_and(|score| before(*score) < self.k);
            *correct = if recognised { T::ONE } else { T::ZERO };
        });
    }

    fn gpu(&self, signature: &Signature, limits: &gpu::Limits) -> Vec<gpu::Candidate> {
        let rows = Rows::of(&signature.inputs[0].shape);
        let pass = gpu::Pass {
            shader: rows.shader("loss/top_k", limits).constant("K", self.k),
            bindings: vec![gpu::Binding::Input(0), gpu::Binding::Input(1), gpu::Binding::Output(0)],
            workgroups: rows.workgroups(limits),
        };
        vec![gpu::Candidate::single("top_k_correct", pass)]
    }
}

impl Graph {
    /// For each sample of `logits` `[batch, classes]`, 1 where the class of `labels` u32 `[batch]` is among the `k` of
    /// largest logits, else 0: f32 `[batch]`. Of equal logits the first counts as larger. A class whose logit is NaN is
    /// never correct, and NaN counts as larger than any number. There is no gradient.
    ///
    /// # Errors
    /// If the types are others than these or `k` is not from 1 to the number of classes.
    pub fn top_k_correct(&mut self, logits: Value, labels: Value, k: usize) -> Result<Value, GraphError> {
        self.apply1(TopKCorrect { k }, &[logits, labels])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mut inputs = vec![ties_and_nan()];
    inputs.extend([(1, 1), (33, 10), (5, 259), (2, 1000)].map(|(batch, classes)| {
        let labels = (0..batch).map(|at| (at * 7 % classes) as u32).collect();
        [random([batch, classes], 1), Tensor::u32([batch], labels)]
    }));
    let example = |inputs: [Tensor; 2]| {
        let classes = inputs[0].shape().last();
        let ks = [1, 2, 5].into_iter().filter(move |k| *k <= classes);
        ks.map(move |k| Example::new(inputs.clone(), move |g, v| g.top_k_correct(v[0], v[1], k)))
    };
    inputs.into_iter().flat_map(example).collect()
}

/// Logits and labels, the last of which is no class.
fn ties_and_nan() -> [Tensor; 2] {
    const NAN: f32 = f32::NAN;
    #[rustfmt::skip]
    let logits = Tensor::f32([5, 3], vec![
        1.0, 2.0, 2.0,
        1.0, 2.0, 2.0,
        NAN, 0.0, 1.0,
        NAN, 0.0, 1.0,
        3.0, 0.0, 1.0,
    ]);
    [logits, Tensor::u32([5], vec![1, 2, 0, 2, 3])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn the_first_of_equals_counts_and_nan_is_the_largest() {
        let correct = |k| {
            let correct = check::evaluate(&ties_and_nan(), |g, v| g.top_k_correct(v[0], v[1], k));
            correct.as_f32().unwrap().to_vec()
        };
        assert_eq!(correct(1), [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(correct(2), [1.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(correct(3), [1.0, 1.0, 0.0, 1.0, 0.0]);
    }
}
