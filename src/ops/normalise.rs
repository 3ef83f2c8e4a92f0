//! Normalisation of images: bytes to floats of the network.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Tensor, TensorType},
};

/// Images of bytes as floats, normalised channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NormaliseImages;

impl Op for NormaliseImages {
    fn name(&self) -> &str {
        "normalise_images"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("normalise_images", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [images, mean, deviation] = inputs else {
            return Err(ShapeError::new("expects images, mean and standard deviation"));
        };
        let statistics = TensorType::f32([images.shape.last()]);
        if images.dtype != DType::U8 || images.shape.rank() != 4 || images.elements() == 0 {
            return Err(ShapeError::new(format!("expects images u8[batch, height, width, channels], not {images}")));
        }
        if [mean, deviation].iter().any(|ty| ***ty != statistics) {
            return Err(ShapeError::new(format!("mean and standard deviation of {images} must be {statistics}")));
        }
        Ok(vec![TensorType::f32(images.shape.clone())])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        3 * signature.outputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        2 * row(signature.inputs[0].shape.last())
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let images = args.inputs.byte(0);
        let row = row(args.inputs.ty(0).shape.last());
        // The statistics repeated along a row, so that the inner loop is one of vectors whatever the channels.
        let (mean, deviation) = args.scratch.split_at_mut(row);
        for (repeated, statistic) in [(&mut *mean, args.inputs.float(1)), (&mut *deviation, args.inputs.float(2))] {
            repeated.iter_mut().zip(statistic.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
        let (mean, deviation) = (&*mean, &*deviation);
        let largest = T::from_f32(255.0);
        let rows = images.par_chunks(row).zip(args.outputs.float(0).par_chunks_mut(row));
        rows.with_min_len(8).for_each(|(bytes, output)| {
            cpu::vectorised(
                #[inline(always)]
                || {
                    let statistics = mean.iter().zip(deviation);
                    for ((output, &byte), (&mean, &deviation)) in output.iter_mut().zip(bytes).zip(statistics) {
                        *output = (T::from_f32(byte.into()) / largest - mean) / deviation;
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
            shader: gpu::Shader::file("image/normalise")
                .feature("VECTOR", vector == 4)
                .constant("COUNT", elements)
                .constant("CHANNELS", signature.inputs[0].shape.last()),
            bindings: vec![Input(0), Input(1), Input(2), Output(0)],
            workgroups: gpu::linear_workgroups(elements.div_ceil(4)),
        };
        vec![gpu::Candidate::single(format!("normalise x{vector}"), pass)]
    }
}

/// Bytes that the CPU kernel takes at a time: whole pixels, about a kilobyte.
fn row(channels: usize) -> usize {
    channels * 1024usize.div_ceil(channels.max(1))
}

impl Graph {
    /// Images u8 `[batch, height, width, channels]` as f32: `(x / 255 - mean) / deviation` with the mean and the
    /// standard deviation f32 `[channels]`. There is no gradient.
    ///
    /// # Errors
    /// If the types are others than these.
    pub fn normalise_images(&mut self, images: Value, mean: Value, deviation: Value) -> Result<Value, GraphError> {
        self.apply1(NormaliseImages, &[images, mean, deviation])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let example = |shape: [usize; 4]| {
        let elements = shape.iter().product::<usize>();
        let images = Tensor::u8(shape, (0..elements).map(|i| (i * 97 % 256) as u8).collect());
        let channels = shape[3];
        let mean = Tensor::f32([channels], (0..channels).map(|c| 0.4 + 0.05 * c as f32).collect());
        let deviation = Tensor::f32([channels], (0..channels).map(|c| 0.2 + 0.03 * c as f32).collect());
        Example::new([images, mean, deviation], |graph, v| graph.normalise_images(v[0], v[1], v[2]))
    };
    [[2, 3, 3, 1], [1, 5, 5, 3], [2, 2, 2, 4], [3, 40, 31, 3]].map(example).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn bytes_become_normalised_floats() {
        for example in examples() {
            let [images, mean, deviation] = &example.inputs[..] else { panic!("three inputs") };
            let (mean, deviation) = (mean.as_f32().unwrap(), deviation.as_f32().unwrap());
            let result = check::evaluate(&example.inputs, |graph, v| example.build(graph, v));
            for (i, (got, byte)) in result.as_f32().unwrap().iter().zip(images.bytes()).enumerate() {
                let (mean, deviation) = (mean[i % mean.len()], deviation[i % mean.len()]);
                assert_eq!(*got, (f32::from(*byte) / 255.0 - mean) / deviation, "element {i}");
            }
        }
    }

    #[test]
    fn statistics_of_other_channels_are_an_error() {
        let mut graph = Graph::new();
        let images = graph.feed("images", TensorType::u8([1, 2, 2, 3]));
        let statistics = graph.feed("statistics", TensorType::f32([1]));
        let error = graph.normalise_images(images, statistics, statistics).unwrap_err().to_string();
        assert!(error.contains("f32[3]"), "{error}");
    }
}
