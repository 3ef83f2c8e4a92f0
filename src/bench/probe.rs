//! Operations that do one thing as fast as the device can.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    graph::{Attributes, Example, Op, ShapeError},
    kernel::{
        Signature, cpu,
        gpu::{self, Binding, Candidate, Pass, Shader, linear_workgroups},
        instructions,
    },
    tensor::{Real, TensorType, random},
};

/// Each chain is `x = fma(x, FACTOR, OFFSET)`, which tends to 2.
const FACTOR: f32 = 0.75;
const OFFSET: f32 = 0.5;

/// Chains of an element: enough to keep every multiplier busy while a result is awaited.
const CHAINS: usize = 12;

/// For each element, the sum of independent chains of multiplications and additions that begin at it plus 0, 1, 2 ...
/// They hold no memory but registers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Fma {
    /// Links of each chain, a multiple of 8.
    pub rounds: usize,
}

impl Fma {
    /// Elements that fill any GPU.
    pub const ELEMENTS: usize = 1 << 20;

    /// Operations on [`Fma::ELEMENTS`] elements.
    pub fn flop(self) -> usize {
        2 * CHAINS * self.rounds * Self::ELEMENTS
    }
}

impl Op for Fma {
    fn name(&self) -> &str {
        "fma"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("fma", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        same(inputs)
    }

    fn flop(&self, signature: &Signature) -> u64 {
        (2 * CHAINS * self.rounds * signature.outputs[0].elements()) as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        // What is measured is single precision.
        const BLOCK: usize = 64;
        let blocks = args.inputs.float(0).par_chunks(BLOCK).zip(args.outputs.float(0).par_chunks_mut(BLOCK));
        blocks.with_min_len(64).for_each(|(start, output)| {
            let mut values = [0.0; BLOCK];
            values.iter_mut().zip(start).for_each(|(value, start)| *value = start.to_f32());
            instructions::arch().dispatch(Chains { rounds: self.rounds, values: &mut values });
            output.iter_mut().zip(values).for_each(|(output, value)| *output = T::from_f32(value));
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<Candidate> {
        let count = signature.outputs[0].elements();
        let shader = Shader::file("probe/fma")
            .constant("COUNT", count)
            .constant("FACTOR", FACTOR)
            .constant("OFFSET", OFFSET)
            .constant("ROUNDS", self.rounds);
        vec![single(shader, count)]
    }
}

/// The chains of a few elements, a whole number of vectors.
struct Chains<'a> {
    rounds: usize,
    values: &'a mut [f32],
}

impl WithSimd for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (factor, offset) = (simd.splat_f32s(FACTOR), simd.splat_f32s(OFFSET));
        for value in S::as_mut_simd_f32s(self.values).0 {
            let mut chains: [S::f32s; CHAINS] =
                std::array::from_fn(|chain| simd.add_f32s(*value, simd.splat_f32s(chain as f32)));
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    *chain = simd.mul_add_e_f32s(*chain, factor, offset);
                }
            }
            *value = chains.into_iter().fold(simd.splat_f32s(0.0), |sum, chain| simd.add_f32s(sum, chain));
        }
    }
}

/// The input once more.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Copy;

impl Op for Copy {
    fn name(&self) -> &str {
        "copy_probe"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("copy_probe", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        same(inputs)
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        const BLOCK: usize = 1 << 18;
        let blocks = args.inputs.float(0).par_chunks(BLOCK).zip(args.outputs.float(0).par_chunks_mut(BLOCK));
        blocks.for_each(|(input, output)| output.copy_from_slice(input));
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<Candidate> {
        let vectors = signature.outputs[0].elements() / 4;
        vec![single(Shader::file("probe/copy").constant("COUNT", vectors), vectors)]
    }
}

/// A kernel that reads the only input and writes the only output, an element an invocation.
fn single(shader: Shader, invocations: usize) -> Candidate {
    let bindings = vec![Binding::Input(0), Binding::Output(0)];
    Candidate::single("probe", Pass { shader, bindings, workgroups: linear_workgroups(invocations) })
}

fn same(inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
    let [input] = inputs else { return Err(ShapeError::new("expects one input")) };
    if !input.elements().is_multiple_of(64) {
        return Err(ShapeError::new(format!("{input} has not a multiple of 64 elements")));
    }
    Ok(vec![(*input).clone()])
}

/// What the probes are checked by.
pub fn examples() -> Vec<Example> {
    let input = random([640], 1);
    vec![
        Example::new([input.clone()], |graph, v| graph.apply1(Fma { rounds: 16 }, v)),
        Example::new([input], |graph, v| graph.apply1(Copy, v)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, tensor::Tensor};

    #[test]
    fn probes_compute_the_same_on_every_device() {
        check::gpu_matches_cpu(&examples());
    }

    #[test]
    fn chains_are_what_they_say() {
        let result = check::evaluate(&[Tensor::zeros(&TensorType::f32([64]))], |graph, values| {
            graph.apply1(Fma { rounds: 8 }, values)
        });
        let chain = |start: usize| (0..8).fold(start as f32, |x, _| x.mul_add(FACTOR, OFFSET));
        let expected: f32 = (0..CHAINS).map(chain).sum();
        assert!(result.as_f32().unwrap().iter().all(|value| (value - expected).abs() <= 1e-6 * expected));
    }
}
