//! Optimizers: one step over the flat block of all parameters, updated in place together with its moments.

mod adam;
mod composed;
mod examples;
mod lamb;
mod lion;
mod muon;
mod norm;
mod rmsprop;
mod segments;
mod sgd;

#[cfg(test)]
mod tests;

pub(super) use examples::examples;

pub(super) use self::{adam::Adam, lion::Lion, rmsprop::RmsProp, segments::SegmentSums, sgd::Sgd};

use composed::Composed;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Graph, GraphError, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Shape, TensorType},
};

/// A rule by which parameters follow their gradients. Weight decay is an L2 penalty, added to the gradient, except in
/// AdamW, Lion, LAMB and Muon, where it is decoupled. The formulas are PyTorch's, and those of Lion and LAMB
/// their papers'.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Decay of the velocity; 0 is plain descent without a velocity.
        #[serde(default)]
        momentum: f64,
        /// Look ahead along the velocity (Sutskever et al. 2013).
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2014).
    Adam {
        /// Decay of the mean of gradients.
        #[serde(default = "defaults::beta1")]
        beta1: f64,
        /// Decay of the mean of squared gradients.
        #[serde(default = "defaults::beta2")]
        beta2: f64,
        /// Added to the root of the mean of squares.
        #[serde(default = "defaults::epsilon")]
        epsilon: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2017).
    AdamW {
        /// Decay of the mean of gradients.
        #[serde(default = "defaults::beta1")]
        beta1: f64,
        /// Decay of the mean of squared gradients.
        #[serde(default = "defaults::beta2")]
        beta2: f64,
        /// Added to the root of the mean of squares.
        #[serde(default = "defaults::epsilon")]
        epsilon: f64,
    },
    /// RMSprop (Tieleman and Hinton 2012).
    RmsProp {
        /// Decay of the mean of squared gradients.
        #[serde(default = "defaults::rho")]
        rho: f64,
        /// Added to the root of the mean of squares.
        #[serde(default = "defaults::epsilon")]
        epsilon: f64,
        /// Decay of the velocity; 0 means none.
        #[serde(default)]
        momentum: f64,
    },
    /// Lion (Chen et al. 2023), whose learning rate is to be a tenth to a third of Adam's.
    Lion {
        /// Share of the mean in the direction of a step.
        #[serde(default = "defaults::beta1")]
        beta1: f64,
        /// Decay of the mean of gradients.
        #[serde(default = "defaults::lion_beta2")]
        beta2: f64,
    },
    /// LAMB (You et al. 2019, algorithm 2), for large batches: Adam's step, which for each parameter by itself has the learning
    /// rate's share of the parameter's own length.
    Lamb {
        /// Decay of the mean of gradients.
        #[serde(default = "defaults::beta1")]
        beta1: f64,
        /// Decay of the mean of squared gradients.
        #[serde(default = "defaults::beta2")]
        beta2: f64,
        /// Added to the root of the mean of squares.
        #[serde(default = "defaults::lamb_epsilon")]
        epsilon: f64,
    },
    /// Muon (Jordan et al. 2024), at learning rates as AdamW's: the mean of the gradients of a matrix, made orthogonal. What is
    /// not the weight of a convolution or a dense layer, and that of the last dense layer, is trained by AdamW.
    Muon {
        /// Decay of the mean of a matrix's gradients.
        #[serde(default = "defaults::muon_momentum")]
        momentum: f64,
        /// AdamW's decay of the mean of gradients.
        #[serde(default = "defaults::beta1")]
        beta1: f64,
        /// AdamW's decay of the mean of squared gradients.
        #[serde(default = "defaults::beta2")]
        beta2: f64,
        /// Added to the root of AdamW's mean of squares.
        #[serde(default = "defaults::epsilon")]
        epsilon: f64,
    },
}

/// Keras's defaults.
mod defaults {
    pub(super) const fn beta1() -> f64 {
        0.9
    }
    pub(super) const fn beta2() -> f64 {
        0.999
    }
    pub(super) const fn lion_beta2() -> f64 {
        0.99
    }
    pub(super) const fn epsilon() -> f64 {
        1e-7
    }
    pub(super) const fn muon_momentum() -> f64 {
        0.95
    }
    pub(super) const fn lamb_epsilon() -> f64 {
        1e-6
    }
    pub(super) const fn rho() -> f64 {
        0.9
    }
}

impl Default for Optimizer {
    /// Adam with Keras's settings.
    fn default() -> Self {
        Self::Adam { beta1: defaults::beta1(), beta2: defaults::beta2(), epsilon: defaults::epsilon() }
    }
}

#[cfg(feature = "cli")]
impl clap::ValueEnum for Optimizer {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
    }
}

impl Optimizer {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    /// With a message that names the setting, its value and the range.
    pub fn check(&self) -> Result<(), String> {
        let decay = |name: &str, value: f64| match value {
            value if (0.0..1.0).contains(&value) => Ok(()),
            value => Err(format!("{name} {value} must be at least 0 and below 1")),
        };
        let positive = |name: &str, value: f64| match value {
            value if value > 0.0 && value.is_finite() => Ok(()),
            value => Err(format!("{name} {value} must be above 0")),
        };
        match *self {
            Self::Sgd { momentum, nesterov } => {
                decay("momentum", momentum)?;
                match nesterov && momentum == 0.0 {
                    true => Err("nesterov needs a momentum above 0".to_string()),
                    false => Ok(()),
                }
            }
            Self::Adam { beta1, beta2, epsilon }
            | Self::AdamW { beta1, beta2, epsilon }
            | Self::Lamb { beta1, beta2, epsilon } => {
                decay("beta1", beta1)?;
                decay("beta2", beta2)?;
                positive("epsilon", epsilon)
            }
            Self::Muon { momentum, beta1, beta2, epsilon } => {
                decay("momentum", momentum)?;
                Self::AdamW { beta1, beta2, epsilon }.check()
            }
            Self::Lion { beta1, beta2 } => {
                decay("beta1", beta1)?;
                decay("beta2", beta2)
            }
            Self::RmsProp { rho, epsilon, momentum } => {
                decay("rho", rho)?;
                decay("momentum", momentum)?;
                positive("epsilon", epsilon)
            }
        }
    }

    /// One of each, with Keras's defaults.
    pub const ALL: [Self; 7] = {
        let (beta1, beta2, epsilon) = (defaults::beta1(), defaults::beta2(), defaults::epsilon());
        [
            Self::Sgd { momentum: 0.0, nesterov: false },
            Self::Adam { beta1, beta2, epsilon },
            Self::AdamW { beta1, beta2, epsilon },
            Self::RmsProp { rho: defaults::rho(), epsilon, momentum: 0.0 },
            Self::Lion { beta1, beta2: defaults::lion_beta2() },
            Self::Lamb { beta1, beta2, epsilon: defaults::lamb_epsilon() },
            Self::Muon { momentum: defaults::muon_momentum(), beta1, beta2, epsilon },
        ]
    };

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
            Self::RmsProp { .. } => "rmsprop",
            Self::Lion { .. } => "lion",
            Self::Lamb { .. } => "lamb",
            Self::Muon { .. } => "muon",
        }
    }

    /// The rule for a block of parameters: AdamW in place of Muon where their updates are not to be orthogonal.
    pub fn of_block(self, orthogonal: bool) -> Self {
        match self {
            Self::Muon { beta1, beta2, epsilon, .. } if !orthogonal => Self::AdamW { beta1, beta2, epsilon },
            other => other,
        }
    }

    /// Number of blocks, each as large as the parameters and zero before the first step, that the optimizer keeps.
    pub fn moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Self::Adam { .. } | Self::AdamW { .. } | Self::Lamb { .. } => 2,
            Self::Lion { .. } | Self::Muon { .. } => 1,
            Self::RmsProp { momentum, .. } => 1 + usize::from(momentum != 0.0),
        }
    }

    /// What varies from step to step, as [`Graph::optimizer_step`] takes it: learning rate, weight decay, the bias
    /// corrections of Adam's two moments at `step` (counted from 1), a factor of the gradients (1), the largest
    /// magnitude of a gradient's element, and two zeros.
    pub fn hyper(&self, learning_rate: f64, weight_decay: f64, step: u64, clip_value: Option<f64>) -> [f32; 8] {
        let (correction1, correction2) = match *self {
            Self::Adam { beta1, beta2, .. } | Self::AdamW { beta1, beta2, .. } | Self::Lamb { beta1, beta2, .. } => {
                (1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64))
            }
            _ => (1.0, 1.0),
        };
        let clip_value = clip_value.map_or(f32::MAX, |value| value as f32);
        [learning_rate as f32, weight_decay as f32, correction1 as f32, correction2 as f32, 1.0, clip_value, 0.0, 0.0]
    }
}

/// Pairs of inputs and outputs that share storage: the parameters and up to two moments.
const IN_PLACE: [(usize, usize); 3] = [(0, 0), (1, 1), (2, 2)];

/// The shape rule of every optimizer: inputs are parameters, moments, gradients (all of one shape), hyper `[8]`, scale
/// `[]` and guard `[]`; outputs are the new parameters and moments.
fn infer(inputs: &[&TensorType], moments: usize) -> Result<Vec<TensorType>, ShapeError> {
    let blocks = moments + 2;
    if inputs.len() != blocks + 3 {
        return Err(ShapeError::new(format!(
            "expects parameters, {moments} moments, gradients, hyper, scale and guard: {} inputs, not {}",
            blocks + 3,
            inputs.len()
        )));
    }
    let (same, [hyper, scale, guard]) = inputs.split_at(blocks) else { unreachable!("three follow the blocks") };
    if same.iter().any(|ty| *ty != same[0]) || same[0].dtype != DType::F32 {
        return Err(ShapeError::new("parameters, moments and gradients must be f32 of one shape"));
    }
    if **hyper != TensorType::f32([8]) || [scale, guard].iter().any(|ty| ty.dtype != DType::F32 || ty.elements() != 1) {
        return Err(ShapeError::new("hyper must be f32[8], scale and guard one f32 each"));
    }
    Ok(vec![same[0].clone(); moments + 1])
}

/// The step that varies from optimizer to optimizer only in its shader.
fn candidates(shader: gpu::Shader, signature: &Signature) -> Vec<gpu::Candidate> {
    use gpu::Binding::{Input, Output};
    let gradients = signature.outputs.len();
    let elements = signature.outputs[0].elements();
    let vector = if elements.is_multiple_of(4) { 4 } else { 1 };
    let read = (gradients..gradients + 4).map(Input);
    let pass = gpu::Pass {
        shader: shader.constant("COUNT", elements / vector).feature("VECTOR", vector == 4),
        bindings: read.chain((0..gradients).map(Output)).collect(),
        workgroups: gpu::linear_workgroups(elements / vector),
    };
    vec![gpu::Candidate::single(format!("step x{vector}"), pass)]
}

/// What varies from step to step.
struct Hyper<T> {
    learning_rate: T,
    weight_decay: T,
    bias_correction1: T,
    bias_correction2: T,
}

/// Elements that are updated at once.
const BLOCK: usize = 256;

/// Applies `rule(hyper, parameter, moments, gradient)`, which gives the new parameter and moments, to each element.
fn update<T: Real, const MOMENTS: usize>(
    mut args: cpu::Args<'_, T>,
    rule: impl Fn(&Hyper<T>, T, [T; MOMENTS], T) -> (T, [T; MOMENTS]) + Sync,
) {
    let gradients = args.inputs.float(MOMENTS + 1);
    let hyper = args.inputs.float(MOMENTS + 2);
    let scale = hyper[4] * args.inputs.float(MOMENTS + 3)[0];
    let clip_value = hyper[5];
    let guard = args.inputs.float(MOMENTS + 4)[0];
    if guard != T::ZERO {
        return;
    }
    let hyper = Hyper {
        learning_rate: hyper[0],
        weight_decay: hyper[1],
        bias_correction1: hyper[2],
        bias_correction2: hyper[3],
    };
    let parameters = args.outputs.float(0);
    let moments: [&mut [T]; MOMENTS] = std::array::from_fn(|at| args.outputs.float(at + 1));
    in_chunks(parameters, moments, gradients, &|parameters, mut moments, gradients| {
        cpu::vectorised(
            #[inline(always)]
            || {
                // Arrays of their own, which the compiler knows not to overlap: the loop is one of vectors.
                for from in (0..parameters.len()).step_by(BLOCK) {
                    let place = from..parameters.len().min(from + BLOCK);
                    let load = |values: &[T]| {
                        let mut block = [T::ZERO; BLOCK];
                        block[..place.len()].copy_from_slice(&values[place.clone()]);
                        block
                    };
                    let (mut new, gradients) = (load(parameters), load(gradients));
                    let mut new_moments: [[T; BLOCK]; MOMENTS] = std::array::from_fn(|k| load(moments[k]));
                    for at in 0..BLOCK {
                        let gradient = (gradients[at] * scale).max(-clip_value).min(clip_value);
                        let old = std::array::from_fn(|k| new_moments[k][at]);
                        let (parameter, moments) = rule(&hyper, new[at], old, gradient);
                        new[at] = parameter;
                        for (block, moment) in new_moments.iter_mut().zip(moments) {
                            block[at] = moment;
                        }
                    }
                    parameters[place.clone()].copy_from_slice(&new[..place.len()]);
                    for (moment, new) in moments.iter_mut().zip(&new_moments) {
                        moment[place.clone()].copy_from_slice(&new[..place.len()]);
                    }
                }
            },
        );
    });
}

/// Runs `body` on pieces of blocks of equal length, in parallel.
fn in_chunks<T: Real, const MOMENTS: usize>(
    parameters: &mut [T],
    moments: [&mut [T]; MOMENTS],
    gradients: &[T],
    body: &(impl Fn(&mut [T], [&mut [T]; MOMENTS], &[T]) + Sync),
) {
    const CHUNK: usize = 1 << 14;
    if parameters.len() <= CHUNK {
        return body(parameters, moments, gradients);
    }
    let middle = parameters.len() / 2;
    let (left, right) = parameters.split_at_mut(middle);
    let mut right_moments = std::array::from_fn(|_| Default::default());
    let mut rest = right_moments.iter_mut();
    let left_moments = moments.map(|moment| {
        let (left, right) = moment.split_at_mut(middle);
        if let Some(place) = rest.next() {
            *place = right;
        }
        left
    });
    rayon::join(
        || in_chunks(left, left_moments, &gradients[..middle], body),
        || in_chunks(right, right_moments, &gradients[middle..], body),
    );
}

impl Graph {
    /// One step of `optimizer`: the new `parameters` and, after them, the new `moments`, each computed in place where
    /// nothing reads the old value later.
    ///
    /// The gradient used is `gradients * gradient_scale * scale`, clipped to the clip value; `hyper` f32 `[8]` is as
    /// [`Optimizer::hyper`] makes it and `scale` one f32, such as [`Graph::global_norm_scale`] gives. Where `guard`, one
    /// f32, is not 0, nothing changes. `tensors` are offset and shape of each parameter that lies in the block, in order, for
    /// the optimizers that look at whole parameters; of none, the block is one.
    ///
    /// # Errors
    /// If the number of moments is not [`Optimizer::moments`], or parameters, moments and gradients are not f32 of one
    /// shape.
    #[expect(clippy::too_many_arguments, reason = "each is a value of the graph with a role of its own")]
    pub fn optimizer_step(
        &mut self,
        optimizer: &Optimizer,
        parameters: Value,
        moments: &[Value],
        gradients: Value,
        hyper: Value,
        scale: Value,
        guard: Value,
        tensors: &[(usize, Shape)],
    ) -> Result<Vec<Value>, GraphError> {
        let mut inputs = vec![parameters];
        inputs.extend_from_slice(moments);
        inputs.extend([gradients, hyper, scale, guard]);
        match *optimizer {
            Optimizer::Sgd { momentum, nesterov } => self.apply(Sgd { momentum, nesterov }, &inputs),
            Optimizer::Adam { beta1, beta2, epsilon } => {
                self.apply(Adam { beta1, beta2, epsilon, decoupled: false }, &inputs)
            }
            Optimizer::AdamW { beta1, beta2, epsilon } => {
                self.apply(Adam { beta1, beta2, epsilon, decoupled: true }, &inputs)
            }
            Optimizer::RmsProp { rho, epsilon, momentum } => self.apply(RmsProp { rho, epsilon, momentum }, &inputs),
            Optimizer::Lion { beta1, beta2 } => self.apply(Lion { beta1, beta2 }, &inputs),
            Optimizer::Lamb { beta1, beta2, epsilon } => {
                let composed = Composed::new(self, optimizer, &inputs, tensors)?;
                lamb::step(self, &composed, beta1, beta2, epsilon)
            }
            Optimizer::Muon { momentum, .. } => {
                let composed = Composed::new(self, optimizer, &inputs, tensors)?;
                muon::step(self, &composed, momentum)
            }
        }
    }
}
