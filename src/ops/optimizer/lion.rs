//! Lion.

use serde::{Deserialize, Serialize};

use super::{Hyper, IN_PLACE, candidates, infer, update};
use crate::{
    graph::{Attributes, Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// Lion (Chen et al. 2023, *Symbolic Discovery of Optimization Algorithms*): steps of the learning rate's length along each
/// axis, with decoupled weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct Lion {
    pub beta1: f64,
    pub beta2: f64,
}

impl Op for Lion {
    fn name(&self) -> &str {
        "lion"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("lion", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        infer(inputs, 1)
    }

    fn in_place(&self) -> &[(usize, usize)] {
        &IN_PLACE[..2]
    }

    fn flop(&self, signature: &Signature) -> u64 {
        10 * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        let [beta1, complement1, beta2, complement2] =
            [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2].map(T::from_f64);
        update(args, |hyper: &Hyper<T>, p, [mean], gradient| {
            let towards = beta1 * mean + complement1 * gradient;
            let positive = if towards > T::ZERO { T::ONE } else { T::ZERO };
            let negative = if towards < T::ZERO { T::ONE } else { T::ZERO };
            let direction = positive - negative + hyper.weight_decay * p;
            (p - hyper.learning_rate * direction, [beta2 * mean + complement2 * gradient])
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shader = gpu::Shader::file("optimizer/lion")
            .constant("BETA1", self.beta1 as f32)
            .constant("COMPLEMENT1", (1.0 - self.beta1) as f32)
            .constant("BETA2", self.beta2 as f32)
            .constant("COMPLEMENT2", (1.0 - self.beta2) as f32);
        candidates(shader, signature)
    }
}
