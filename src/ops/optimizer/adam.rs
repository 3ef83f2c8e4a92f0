//! Adam and AdamW.

use serde::{Deserialize, Serialize};

use super::{Hyper, IN_PLACE, candidates, infer, update};
use crate::{
    graph::{Attributes, Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// Adam, or AdamW where weight decay is `decoupled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub decoupled: bool,
}

impl Op for Adam {
    fn name(&self) -> &str {
        if self.decoupled { "adamw" } else { "adam" }
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("adam", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        infer(inputs, 2)
    }

    fn in_place(&self) -> &[(usize, usize)] {
        &IN_PLACE
    }

    fn flop(&self, signature: &Signature) -> u64 {
        16 * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        let [beta1, beta2, complement1, complement2, epsilon] =
            [self.beta1, self.beta2, 1.0 - self.beta1, 1.0 - self.beta2, self.epsilon].map(T::from_f64);
        let decoupled = self.decoupled;
        update(args, |hyper: &Hyper<T>, p, [m, v], gradient| {
            let (p, g) = if decoupled {
                (p * (T::ONE - hyper.learning_rate * hyper.weight_decay), gradient)
            } else {
                (p, gradient + hyper.weight_decay * p)
            };
            let m = beta1 * m + complement1 * g;
            let v = beta2 * v + complement2 * g * g;
            let rate = hyper.learning_rate / hyper.bias_correction1;
            (p - rate * m / ((v / hyper.bias_correction2).sqrt() + epsilon), [m, v])
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shader = gpu::Shader::file("optimizer/adam")
            .feature("DECOUPLED", self.decoupled)
            .constant("BETA1", self.beta1 as f32)
            .constant("BETA2", self.beta2 as f32)
            .constant("COMPLEMENT1", (1.0 - self.beta1) as f32)
            .constant("COMPLEMENT2", (1.0 - self.beta2) as f32)
            .constant("EPSILON", self.epsilon as f32);
        candidates(shader, signature)
    }
}
