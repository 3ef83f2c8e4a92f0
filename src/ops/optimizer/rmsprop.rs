//! RMSprop.

use serde::{Deserialize, Serialize};

use super::{Hyper, IN_PLACE, candidates, infer, update};
use crate::{
    graph::{Attributes, Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// RMSprop, with a velocity where `momentum` is not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct RmsProp {
    pub rho: f64,
    pub epsilon: f64,
    pub momentum: f64,
}

impl RmsProp {
    fn moments(&self) -> usize {
        1 + usize::from(self.momentum != 0.0)
    }
}

impl Op for RmsProp {
    fn name(&self) -> &str {
        "rmsprop"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("rmsprop", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        infer(inputs, self.moments())
    }

    fn in_place(&self) -> &[(usize, usize)] {
        &IN_PLACE[..self.moments() + 1]
    }

    fn flop(&self, signature: &Signature) -> u64 {
        12 * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        let [rho, complement, epsilon, momentum] =
            [self.rho, 1.0 - self.rho, self.epsilon, self.momentum].map(T::from_f64);
        let scaled = |hyper: &Hyper<T>, p: T, mean_square: T, gradient: T| {
            let g = gradient + hyper.weight_decay * p;
            let mean_square = rho * mean_square + complement * g * g;
            (g / (mean_square.sqrt() + epsilon), mean_square)
        };
        if self.momentum == 0.0 {
            return update(args, |hyper: &Hyper<T>, p, [mean_square], gradient| {
                let (direction, mean_square) = scaled(hyper, p, mean_square, gradient);
                (p - hyper.learning_rate * direction, [mean_square])
            });
        }
        update(args, |hyper: &Hyper<T>, p, [mean_square, velocity], gradient| {
            let (direction, mean_square) = scaled(hyper, p, mean_square, gradient);
            let velocity = momentum * velocity + direction;
            (p - hyper.learning_rate * velocity, [mean_square, velocity])
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shader = gpu::Shader::file("optimizer/rmsprop")
            .feature("MOMENTUM", self.momentum != 0.0)
            .constant("RHO", self.rho as f32)
            .constant("COMPLEMENT", (1.0 - self.rho) as f32)
            .constant("EPSILON", self.epsilon as f32)
            .constant("MOMENTUM_RATE", self.momentum as f32);
        candidates(shader, signature)
    }
}
