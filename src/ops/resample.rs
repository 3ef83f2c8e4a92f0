//! Images seen through affine maps: turned, moved, sheared, magnified, mirrored and cropped in one pass.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, Tensor, TensorType},
};

/// Between pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Interpolation {
    /// Linear along rows and columns.
    #[default]
    Bilinear,
    /// The nearest pixel.
    Nearest,
}

/// Beyond the edges of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Fill {
    /// A value given; between it and the pixel at the edge is interpolated as between pixels.
    Constant,
    /// The pixel at the edge: `aaa|abcd|ddd`.
    #[default]
    Nearest,
    /// The image mirrored: `cba|abcd|dcb`.
    Reflect,
    /// The image again: `bcd|abcd|abc`.
    Wrap,
}

impl Fill {
    /// The place in `0..size` of the pixel at `at`; `None` where there is none.
    #[inline(always)]
    fn inside(self, at: i64, size: i64) -> Option<usize> {
        if (0..size).contains(&at) {
            return Some(at as usize);
        }
        match self {
            Self::Constant => None,
            Self::Nearest => Some(at.clamp(0, size - 1) as usize),
            Self::Reflect => {
                let place = at.rem_euclid(2 * size);
                Some(place.min(2 * size - 1 - place) as usize)
            }
            Self::Wrap => Some(at.rem_euclid(size) as usize),
        }
    }
}

/// How [`Graph::resample`] finds what is not a pixel of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resampling {
    /// Between pixels.
    pub interpolation: Interpolation,
    /// Beyond the edges.
    pub fill: Fill,
    /// The value of [`Fill::Constant`].
    pub fill_value: f32,
}

/// Farther out than any place that is told apart.
const FAR: f64 = 1_048_576.0;

/// Images through affine maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resample {
    resampling: Resampling,
}

impl Resample {
    /// Pixels of one row of an output.
    #[inline(always)]
    fn row<T: Real>(&self, image: &[u8], [height, width, channels]: [usize; 3], row: usize, map: &[T], out: &mut [T]) {
        let Resampling { interpolation, fill, fill_value } = self.resampling;
        let (size, r, fill_value) = ([height as i64, width as i64], T::from_usize(row), T::from_f32(fill_value));
        let place = |row, column| Some((fill.inside(row, size[0])? * width + fill.inside(column, size[1])?) * channels);
        let byte = |place: Option<usize>, k: usize| {
            place.map_or(fill_value, |place: usize| T::from_f32(f32::from(image[place + k])))
        };
        let mix = |a: T, b: T, share: T| a + (b - a) * share;
        // The whole part and the rest.
        let split = |at: T| {
            let at = at.max(T::from_f64(-FAR)).min(T::from_f64(FAR));
            let floor = at.to_f64().floor();
            (floor as i64, at - T::from_f64(floor))
        };
        for (column, out) in out.chunks_exact_mut(channels).enumerate() {
            let c = T::from_usize(column);
            let y = map[0] * r + map[1] * c + map[2];
            let x = map[3] * r + map[4] * c + map[5];
            match interpolation {
                Interpolation::Nearest => {
                    let half = T::from_f32(0.5);
                    let place = place(split(y + half).0, split(x + half).0);
                    out.iter_mut().enumerate().for_each(|(k, out)| *out = byte(place, k));
                }
                Interpolation::Bilinear => {
                    let ((y, down), (x, across)) = (split(y), split(x));
                    let [top_left, top_right] = [place(y, x), place(y, x + 1)];
                    let [bottom_left, bottom_right] = [place(y + 1, x), place(y + 1, x + 1)];
                    for (k, out) in out.iter_mut().enumerate() {
                        let above = mix(byte(top_left, k), byte(top_right, k), across);
                        let below = mix(byte(bottom_left, k), byte(bottom_right, k), across);
                        *out = mix(above, below, down);
                    }
                }
            }
        }
    }
}

impl Op for Resample {
    fn name(&self) -> &str {
        "resample"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("resample", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [images, maps] = inputs else { return Err(ShapeError::new("expects images and maps")) };
        if images.dtype != DType::U8 || images.shape.rank() != 4 || images.elements() == 0 {
            return Err(ShapeError::new(format!("expects images u8[batch, height, width, channels], not {images}")));
        }
        let expected = TensorType::f32([images.shape[0], 6]);
        if **maps != expected {
            return Err(ShapeError::new(format!("the maps of {images} must be {expected}, not {maps}")));
        }
        if !self.resampling.fill_value.is_finite() {
            return Err(ShapeError::new(format!("the fill value {} is not finite", self.resampling.fill_value)));
        }
        Ok(vec![TensorType::f32(images.shape.clone())])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let pixels = signature.outputs[0].elements() / signature.outputs[0].shape.last();
        let taps = if self.resampling.interpolation == Interpolation::Bilinear { 9 } else { 0 };
        (8 * pixels + taps * signature.outputs[0].elements()) as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let &[_, height, width, channels] = &args.outputs.ty(0).shape[..] else { return };
        let (images, maps) = (args.inputs.byte(0), args.inputs.float(1));
        let rows = args.outputs.float(0).par_chunks_mut(width * channels).enumerate();
        rows.with_min_len(16).for_each(|(at, out)| {
            let (image, row) = (at / height, at % height);
            let pixels = &images[image * height * width * channels..][..height * width * channels];
            cpu::vectorised(
                #[inline(always)]
                || self.row(pixels, [height, width, channels], row, &maps[6 * image..][..6], out),
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let &[batch, height, width, channels] = &signature.outputs[0].shape[..] else { return Vec::new() };
        let Resampling { interpolation, fill, fill_value } = self.resampling;
        let pass = gpu::Pass {
            shader: gpu::Shader::file("image/resample")
                .feature("BILINEAR", interpolation == Interpolation::Bilinear)
                .feature("CLAMP", fill == Fill::Nearest)
                .feature("REFLECT", fill == Fill::Reflect)
                .feature("WRAP", fill == Fill::Wrap)
                .constant("FILL", fill_value)
                .constant("BATCH", batch)
                .constant("HEIGHT", height)
                .constant("WIDTH", width)
                .constant("CHANNELS", channels),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: gpu::linear_workgroups(batch * height * width),
        };
        vec![gpu::Candidate::single("resample", pass)]
    }
}

impl Graph {
    /// Images u8 `[batch, height, width, channels]` through the affine maps f32 `[batch, 6]`: the pixel at row r and column c
    /// of the result, f32 of 0 to 255, is the image at row `m0 r + m1 c + m2` and column `m3 r + m4 c + m5`, counted from
    /// the centre of the first pixel, as scipy's `ndimage.affine_transform` has them. There is no gradient.
    ///
    /// # Errors
    /// If the types are others than these, or the fill value is not finite.
    pub fn resample(&mut self, images: Value, maps: Value, resampling: Resampling) -> Result<Value, GraphError> {
        self.apply1(Resample { resampling }, &[images, maps])
    }
}

/// Bytes that look like an image.
fn picture(shape: [usize; 4]) -> Tensor {
    Tensor::u8(shape, (0..shape.iter().product::<usize>()).map(|i| (i * 97 % 251) as u8).collect())
}

pub(super) fn examples() -> Vec<Example> {
    // A turn with a shear, a magnification, a mirror image, and what lies far outside.
    let maps: [[f32; 6]; 4] = [
        [0.9, -0.35, 1.3, 0.42, 1.1, -2.7],
        [0.53, 0.0, 0.81, 0.0, 1.72, -3.4],
        [1.0, 0.0, 0.0, 0.0, -1.0, 6.0],
        [2.3, 0.4, -31.7, 0.2, 1.9, 40.3],
    ];
    let fills = [Fill::Constant, Fill::Nearest, Fill::Reflect, Fill::Wrap];
    let mut examples = Vec::new();
    for (at, fill) in fills.into_iter().enumerate() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Nearest] {
            let resampling = Resampling { interpolation, fill, fill_value: 17.5 };
            let shape = [4, 5 + at, 7, [1, 3, 4, 2][at]];
            let inputs = [picture(shape), Tensor::f32([4, 6], maps.concat())];
            examples.push(Example::new(inputs, move |graph, v| graph.resample(v[0], v[1], resampling)));
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    /// One image of 4 x 5, brightness 10 a column and 50 a row.
    fn resampled(map: [f32; 6], resampling: Resampling) -> Vec<f32> {
        let image = Tensor::u8([1, 4, 5, 1], (0..20).map(|i| (i / 5 * 50 + i % 5 * 10) as u8).collect());
        let inputs = [image, Tensor::f32([1, 6], map.to_vec())];
        check::evaluate(&inputs, |graph, v| graph.resample(v[0], v[1], resampling)).as_f32().unwrap().to_vec()
    }

    #[test]
    fn the_identity_leaves_every_byte_as_it_is() {
        for fill in [Fill::Constant, Fill::Nearest, Fill::Reflect, Fill::Wrap] {
            for interpolation in [Interpolation::Bilinear, Interpolation::Nearest] {
                let got =
                    resampled([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], Resampling { interpolation, fill, fill_value: 9.0 });
                let want: Vec<f32> = (0..20).map(|i| (i / 5 * 50 + i % 5 * 10) as f32).collect();
                assert_eq!(got, want, "{fill:?} {interpolation:?}");
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_edges_is_filled() {
        let first_row = |fill, columns| {
            let resampling = Resampling { fill, fill_value: 7.0, ..Resampling::default() };
            resampled([1.0, 0.0, 0.0, 0.0, 1.0, columns], resampling)[..5].to_vec()
        };
        assert_eq!(first_row(Fill::Constant, -2.0), [7.0, 7.0, 0.0, 10.0, 20.0]);
        assert_eq!(first_row(Fill::Nearest, 3.0), [30.0, 40.0, 40.0, 40.0, 40.0]);
        assert_eq!(first_row(Fill::Reflect, -2.0), [10.0, 0.0, 0.0, 10.0, 20.0]);
        assert_eq!(first_row(Fill::Wrap, 3.0), [30.0, 40.0, 0.0, 10.0, 20.0]);
        assert_eq!(first_row(Fill::Reflect, 11.0), [10.0, 20.0, 30.0, 40.0, 40.0]);
        assert_eq!(first_row(Fill::Constant, 0.5), [5.0, 15.0, 25.0, 35.0, 23.5]);
        assert_eq!(first_row(Fill::Nearest, f32::INFINITY), [40.0; 5]);
    }

    /// scipy's `ndimage.affine_transform` of the first map of the examples, with the modes grid-constant, nearest, reflect and
    /// grid-wrap.
    #[test]
    fn interpolated_values_are_those_of_scipy() {
        let image = Tensor::u8([1, 4, 5, 1], (0..20).map(|i| (i * 97 % 251) as u8).collect());
        let map = Tensor::f32([1, 6], vec![0.9, -0.35, 1.3, 0.42, 1.1, -2.7]);
        let of_scipy: [(Fill, [f32; 20], [f32; 20]); 4] = [
            (
                Fill::Constant,
                [
                    17.5, 17.5, 78.95, 79.05, 150.16, 17.5, 17.5, 208.86, 79.39, 161.92, 17.5, 62.32, 157.84, 104.83,
                    81.94, 17.5, 59.6575, 63.322, 130.27, 146.536,
                ],
                [
                    17.5, 17.5, 234.0, 97.0, 194.0, 17.5, 17.5, 217.0, 80.0, 177.0, 17.5, 17.5, 217.0, 63.0, 6.0, 17.5,
                    17.5, 46.0, 143.0, 240.0,
                ],
            ),
            (
                Fill::Nearest,
                [
                    228.9, 222.3, 140.4, 79.05, 164.9, 213.6, 219.55, 225.5, 79.39, 161.92, 200.0, 204.25, 157.84,
                    104.83, 81.94, 200.0, 200.0, 82.96, 130.27, 146.536,
                ],
                [
                    234.0, 234.0, 234.0, 97.0, 194.0, 217.0, 217.0, 217.0, 80.0, 177.0, 200.0, 200.0, 217.0, 63.0, 6.0,
                    200.0, 200.0, 46.0, 143.0, 240.0,
                ],
            ),
            (
                Fill::Reflect,
                [
                    142.8, 137.43, 140.4, 79.05, 164.9, 86.76, 191.83, 225.5, 79.39, 161.92, 67.56, 204.25, 157.84,
                    104.83, 81.94, 132.24, 200.0, 82.96, 130.27, 146.536,
                ],
                [
                    177.0, 80.0, 234.0, 97.0, 194.0, 63.0, 217.0, 217.0, 80.0, 177.0, 46.0, 200.0, 217.0, 63.0, 6.0,
                    200.0, 200.0, 46.0, 143.0, 240.0,
                ],
            ),
            (
                Fill::Wrap,
                [
                    125.7, 62.65, 133.6, 79.05, 159.8, 81.864, 88.09, 216.38, 79.39, 161.92, 201.954, 117.61, 157.84,
                    104.83, 81.94, 94.32, 86.711, 80.188, 130.27, 146.536,
                ],
                [
                    177.0, 23.0, 234.0, 97.0, 194.0, 6.0, 103.0, 217.0, 80.0, 177.0, 240.0, 86.0, 217.0, 63.0, 6.0,
                    137.0, 0.0, 46.0, 143.0, 240.0,
                ],
            ),
        ];
        for (fill, bilinear, nearest) in of_scipy {
            for (interpolation, want) in [(Interpolation::Bilinear, bilinear), (Interpolation::Nearest, nearest)] {
                let resampling = Resampling { interpolation, fill, fill_value: 17.5 };
                let got =
                    check::evaluate(&[image.clone(), map.clone()], |graph, v| graph.resample(v[0], v[1], resampling));
                for (got, want) in got.as_f32().unwrap().iter().zip(want) {
                    assert!((got - want).abs() < 2e-4, "{fill:?} {interpolation:?}: {got} and not {want}");
                }
            }
        }
    }

    #[test]
    fn maps_of_another_batch_are_an_error() {
        let mut graph = Graph::new();
        let images = graph.feed("images", TensorType::u8([2, 3, 3, 1]));
        let maps = graph.feed("maps", TensorType::f32([3, 6]));
        let error = graph.resample(images, maps, Resampling::default()).unwrap_err().to_string();
        assert!(error.contains("f32[2, 6]"), "{error}");
    }
}
