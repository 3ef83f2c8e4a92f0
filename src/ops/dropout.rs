//! Dropout by a hash of seed, step, layer and element.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu, random::pcg4d},
    tensor::{DType, Real, Tensor, TensorType, random},
};

/// Zeroes elements at random and scales up the others; the counter of the random numbers is the clock (seed and
/// step), the layer's number and the element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dropout {
    rate: f64,
    layer: u32,
}

impl Dropout {
    /// Elements whose random word is below are dropped: an integer, so that every device drops the same ones.
    fn threshold(&self) -> u32 {
        (self.rate * 2f64.powi(32)) as u32
    }

    fn scale(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }
}

impl Op for Dropout {
    fn name(&self) -> &str {
        "dropout"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("dropout", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [input, clock] = inputs else { return Err(ShapeError::new("expects an input and a clock")) };
        if input.dtype != DType::F32 || **clock != TensorType::u32([2]) {
            return Err(ShapeError::new("expects an input of f32 and a clock u32[2]"));
        }
        if !(0.0..1.0).contains(&self.rate) {
            return Err(ShapeError::new(format!("the rate {} must be at least 0 and below 1", self.rate)));
        }
        Ok(vec![(*input).clone()])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let inputs = [backward.grad(), backward.inputs[1]];
        Ok(vec![Some(backward.graph.apply1(self.clone(), &inputs)?), None])
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        /// Elements that one thread takes at a time.
        const CHUNK: usize = 1 << 13;
        /// Counters whose words are computed together, so that they fill vectors.
        const COUNTERS: usize = 16;
        let clock = args.inputs.uint(1);
        let (seed, step, layer, threshold) = (clock[0], clock[1], self.layer, self.threshold());
        let scale = T::from_f64(self.scale());
        let chunks = args.inputs.float(0).par_chunks(CHUNK).zip(args.outputs.float(0).par_chunks_mut(CHUNK));
        chunks.enumerate().for_each(|(chunk, (input, output))| {
            cpu::vectorised(
                #[inline(always)]
                || {
                    let blocks = output.chunks_mut(4 * COUNTERS).zip(input.chunks(4 * COUNTERS));
                    for (block, (output, input)) in blocks.enumerate() {
                        let first = chunk * CHUNK / 4 + block * COUNTERS;
                        let mut words = [[0; 4]; COUNTERS];
                        for (at, words) in words.iter_mut().enumerate() {
                            *words = pcg4d([seed, step, layer, (first + at) as u32]);
                        }
                        for ((output, &input), &word) in output.iter_mut().zip(input).zip(words.as_flattened()) {
                            *output = if word >= threshold { input * scale } else { T::ZERO };
                        }
                    }
                },
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let elements = signature.outputs[0].elements();
        let vector = if elements.is_multiple_of(4) { 4 } else { 1 };
        let pass = gpu::Pass {
            shader: gpu::Shader::file("dropout/dropout")
                .feature("VECTOR", vector == 4)
                .constant("COUNT", elements / vector)
                .constant("LAYER", self.layer)
                .constant("THRESHOLD", self.threshold())
                .constant("SCALE", self.scale() as f32),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: gpu::linear_workgroups(elements / vector),
        };
        vec![gpu::Candidate::single(format!("dropout x{vector}"), pass)]
    }
}

impl Graph {
    /// Zeroes elements of `value` with probability `rate` and scales the others by `1 / (1 - rate)` (Srivastava et al.
    /// 2014). Which ones follows from `clock`, u32 `[2]` of the run's seed and its step, from the number `layer`, which
    /// differs from dropout to dropout of a graph, and from the element's index.
    ///
    /// # Errors
    /// If the value is not f32, the clock not u32 `[2]`, or the rate not in `0..1`.
    pub fn dropout(&mut self, value: Value, rate: f64, clock: Value, layer: u32) -> Result<Value, GraphError> {
        self.apply1(Dropout { rate, layer }, &[value, clock])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let clock = Tensor::u32([2], vec![u32::MAX, 12]);
    let mut examples = Vec::new();
    for elements in [1, 1021, 20_000] {
        for rate in [0.0, 0.25, 0.9] {
            let inputs = [random([elements], 1), clock.clone()];
            examples.push(Example::new(inputs, move |graph, v| graph.dropout(v[0], rate, v[1], 7)));
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    fn clock(seed: u32, step: u32) -> Tensor {
        Tensor::u32([2], vec![seed, step])
    }

    fn mask(elements: usize, rate: f64, clock: Tensor, layer: u32) -> Vec<f32> {
        let ones = Tensor::f32([elements], vec![1.0; elements]);
        let y = check::evaluate(&[ones, clock], |graph, v| graph.dropout(v[0], rate, v[1], layer));
        y.as_f32().unwrap().to_vec()
    }

    #[test]
    fn the_gradient_has_the_mask_of_the_forward_pass() {
        check::gradients(&[check::random([3, 7, 11], 1), clock(3, 5)], |graph, v| graph.dropout(v[0], 0.4, v[1], 2));
    }

    #[test]
    fn the_stated_share_is_dropped_and_the_mean_is_kept() {
        let n = 100_000;
        let y = mask(n, 0.3, clock(1, 2), 3);
        let dropped = y.iter().filter(|v| **v == 0.0).count();
        assert!((dropped as f64 - 0.3 * n as f64).abs() < 5.0 * (0.21 * n as f64).sqrt(), "{dropped} dropped");
        assert!(y.iter().all(|v| *v == 0.0 || *v == 1.0 / 0.7));
    }

    #[test]
    fn seed_step_and_layer_each_change_the_mask() {
        let masks = [(1, 2, 3), (9, 2, 3), (1, 9, 3), (1, 2, 9)]
            .map(|(seed, step, layer)| mask(1000, 0.5, clock(seed, step), layer));
        assert_eq!(masks[0], mask(1000, 0.5, clock(1, 2), 3));
        for other in &masks[1..] {
            let same = masks[0].iter().zip(other).filter(|(a, b)| a == b).count();
            assert!((400..600).contains(&same), "{same} of 1000 alike");
        }
    }

    #[test]
    fn a_rate_of_one_is_an_error() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([4]));
        let clock = graph.feed("clock", TensorType::u32([2]));
        let error = graph.dropout(x, 1.0, clock, 0).unwrap_err().to_string();
        assert!(error.contains("below 1"), "{error}");
    }
}
