//! Images mixed with others of their batch, and boxes of them left out: what MixUp, CutMix and Cutout do to images.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{Real, Tensor, TensorType, random},
};

/// Numbers that say how an image is mixed.
pub const MIX: usize = 10;

/// Images of a batch mixed with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MixImages;

/// Whether a place lies in a box: first row, first column, and the row and column after the last.
#[inline(always)]
fn in_box<T: Real>(given: &[T], row: T, column: T) -> bool {
    row >= given[0] && column >= given[1] && row < given[2] && column < given[3]
}

impl Op for MixImages {
    fn name(&self) -> &str {
        "mix_images"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("mix_images", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [images, mixes] = inputs else { return Err(ShapeError::new("expects images and mixes")) };
        if **images != TensorType::f32(images.shape.clone()) || images.shape.rank() != 4 || images.elements() == 0 {
            return Err(ShapeError::new(format!("expects images f32[batch, height, width, channels], not {images}")));
        }
        let expected = TensorType::f32([images.shape[0], MIX]);
        if **mixes != expected {
            return Err(ShapeError::new(format!("the mixes of {images} must be {expected}, not {mixes}")));
        }
        Ok(vec![(*images).clone()])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        4 * signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let &[batch, height, width, channels] = &args.outputs.ty(0).shape[..] else { return };
        let (images, mixes) = (args.inputs.float(0), args.inputs.float(1));
        let line = width * channels;
        let rows = args.outputs.float(0).par_chunks_mut(line).enumerate();
        rows.with_min_len(32).for_each(|(at, out)| {
            let (image, row) = (at / height, T::from_usize(at % height));
            let mix = &mixes[MIX * image..][..MIX];
            let own = &images[at * line..][..line];
            // A NaN is the first image.
            let other = (mix[0].to_f64() as usize).min(batch - 1);
            let other = &images[(other * height + at % height) * line..][..line];
            let pixels =
                out.chunks_exact_mut(channels).zip(own.chunks_exact(channels)).zip(other.chunks_exact(channels));
            for (column, ((out, own), other)) in pixels.enumerate() {
                let column = T::from_usize(column);
                let share = if in_box(&mix[2..6], row, column) { T::ZERO } else { mix[1] };
                let left_out = in_box(&mix[6..], row, column);
                for ((out, &own), &other) in out.iter_mut().zip(own).zip(other) {
                    *out = match () {
                        () if left_out => T::ZERO,
                        () if share == T::ONE => own,
                        () => share * own + (T::ONE - share) * other,
                    };
                }
            }
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let &[batch, height, width, channels] = &signature.outputs[0].shape[..] else { return Vec::new() };
        let pass = gpu::Pass {
            shader: gpu::Shader::file("image/mix")
                .constant("BATCH", batch)
                .constant("HEIGHT", height)
                .constant("WIDTH", width)
                .constant("CHANNELS", channels),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: gpu::linear_workgroups(signature.outputs[0].elements()),
        };
        vec![gpu::Candidate::single("mix images", pass)]
    }
}

impl Graph {
    /// Images f32 `[batch, height, width, channels]` mixed with others of the batch as f32 `[batch, 10]` says: 0 is the number
    /// of the other image; 1 the share of the image itself in the mean of both (MixUp: Zhang et al. 2017); 2 to 5 are first
    /// row, first column, row and column after the last of a box in which the other image takes its place (CutMix: Yun et al.
    /// 2019); 6 to 9 the same of a box that is 0 (Cutout: DeVries and Taylor 2017). There is no gradient.
    ///
    /// # Errors
    /// If the types are others than these.
    pub fn mix_images(&mut self, images: Value, mixes: Value) -> Result<Value, GraphError> {
        self.apply1(MixImages, &[images, mixes])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let mixes: [[f32; MIX]; 3] = [
        [2.0, 0.7, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 5.0],
        [0.0, 1.0, 1.0, 0.0, 4.0, 3.0, 3.0, 2.0, 9.0, 9.0],
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ];
    let example = |shape: [usize; 4]| {
        let inputs = [random(shape, 1), Tensor::f32([3, MIX], mixes.concat())];
        Example::new(inputs, |graph, v| graph.mix_images(v[0], v[1]))
    };
    [[3, 5, 6, 3], [3, 4, 3, 1]].map(example).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn boxes_are_of_the_other_image_or_left_out() {
        let images = Tensor::f32([2, 2, 3, 1], (0..12).map(|i| i as f32).collect());
        let mixes =
            [[1.0, 0.75, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 2.0, 3.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]];
        let inputs = [images, Tensor::f32([2, MIX], mixes.concat())];
        let mixed = check::evaluate(&inputs, |graph, v| graph.mix_images(v[0], v[1]));
        let want = [6.0, 7.0, 3.5, 4.5, 5.5, 0.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
        assert_eq!(mixed.as_f32().unwrap(), want);
    }

    #[test]
    fn another_image_that_is_not_there_is_the_last() {
        let images = Tensor::f32([2, 1, 1, 1], vec![3.0, 5.0]);
        let mut mixes = [[0.0; MIX]; 2];
        (mixes[0][0], mixes[1][0]) = (9.0, -4.0);
        let inputs = [images, Tensor::f32([2, MIX], mixes.concat())];
        let mixed = check::evaluate(&inputs, |graph, v| graph.mix_images(v[0], v[1]));
        assert_eq!(mixed.as_f32().unwrap(), [5.0, 3.0]);
    }
}
