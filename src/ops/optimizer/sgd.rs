//! Stochastic gradient descent.

use serde::{Deserialize, Serialize};

use super::{Hyper, IN_PLACE, candidates, infer, update};
use crate::{
    graph::{Attributes, Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, TensorType},
};

/// Stochastic gradient descent, with a velocity where `momentum` is not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct Sgd {
    pub momentum: f64,
    pub nesterov: bool,
}

impl Sgd {
    fn moments(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }
}

impl Op for Sgd {
    fn name(&self) -> &str {
        "sgd"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("sgd", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        infer(inputs, self.moments())
    }

    fn in_place(&self) -> &[(usize, usize)] {
        &IN_PLACE[..self.moments() + 1]
    }

    fn flop(&self, signature: &Signature) -> u64 {
        6 * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, args: cpu::Args<'_, T>) {
        if self.momentum == 0.0 {
            return update(args, |hyper: &Hyper<T>, p, [], gradient| {
                (p - hyper.learning_rate * (gradient + hyper.weight_decay * p), [])
            });
        }
        let momentum = T::from_f64(self.momentum);
        let nesterov = self.nesterov;
        update(args, |hyper: &Hyper<T>, p, [velocity], gradient| {
            let g = gradient + hyper.weight_decay * p;
            let v = momentum * velocity + g;
            let direction = if nesterov { g + momentum * v } else { v };
            (p - hyper.learning_rate * direction, [v])
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        let shader = gpu::Shader::file("optimizer/sgd")
            .feature("MOMENTUM", self.momentum != 0.0)
            .feature("NESTEROV", self.nesterov)
            .constant("MOMENTUM_RATE", self.momentum as f32);
        candidates(shader, signature)
    }
}
