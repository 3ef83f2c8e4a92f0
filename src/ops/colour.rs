//! Other colours of the same images: blur, brightness, contrast, saturation, hue, grey, shift and noise in one pass.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Example, Graph, GraphError, Op, ShapeError, Value},
    kernel::{Expr, Signature, cpu, gpu, random::pcg4d},
    tensor::{Real, Tensor, TensorType, random},
};

/// What of it there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourOptions {
    /// Contrast: without it the factor is not looked at.
    pub contrast: bool,
    /// Blur.
    pub blur: bool,
    /// Noise.
    pub noise: bool,
}

/// Numbers that say what an image is to look like.
pub const LOOK: usize = 12;

/// The look that changes nothing.
pub const SAME_LOOK: [f32; LOOK] = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// Brightness as ITU-R BT.601 weighs red, green and blue.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// The deviation of a sum of eight uniform whole numbers of 16 bits, and its mean.
const DEVIATION: f32 = 1.868_813_1e-5;
const MEAN: u32 = 262_140;

/// Images in other colours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Colour {
    options: ColourOptions,
}

/// An image that a kernel works on.
struct Image<'a, T> {
    pixels: &'a [T],
    size: [usize; 3],
    look: &'a [T],
    pivot: T,
    seed: u32,
}

impl<T: Real> Image<'_, T> {
    /// A channel of a pixel, blurred where `blur` is on.
    #[inline(always)]
    fn seen(&self, row: usize, column: usize, channel: usize, blur: bool) -> T {
        let [height, width, channels] = self.size;
        if !blur {
            return self.pixels[(row * width + column) * channels + channel];
        }
        let mirrored = |at: usize, by: usize, size: usize| {
            let last = size as i64 - 1;
            let at = at as i64 + by as i64 - 2;
            (last - (last - at.abs()).abs()).clamp(0, last) as usize
        };
        let weight = |by: usize| self.look[9 + by.abs_diff(2)];
        let mut sum = T::ZERO;
        for down in 0..5 {
            let line = mirrored(row, down, height) * width;
            let mut across = T::ZERO;
            for by in 0..5 {
                across += weight(by) * self.pixels[(line + mirrored(column, by, width)) * channels + channel];
            }
            sum += weight(down) * across;
        }
        sum
    }

    #[inline(always)]
    fn row(&self, row: usize, out: &mut [T], options: ColourOptions) {
        let [_, width, channels] = self.size;
        let look = self.look;
        for (column, out) in out.chunks_exact_mut(channels).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                let bright = bounded(self.seen(row, column, k, options.blur) * look[0]);
                *out = bounded(self.pivot + (bright - self.pivot) * look[1]);
            }
            if let [r, g, b] = out {
                let mut rgb = [*r, *g, *b];
                let grey = luma(rgb);
                rgb = rgb.map(|x| bounded(grey + (x - grey) * look[2]));
                rgb = turned(rgb, look[3]);
                let grey = luma(rgb);
                rgb = rgb.map(|x| x + (grey - x) * look[4]);
                [*r, *g, *b] = rgb;
            }
            for (k, out) in out.iter_mut().enumerate() {
                let mut value = *out;
                if channels <= 3 {
                    value += look[5 + k];
                }
                if options.noise {
                    value += look[8] * normal(self.seed, ((row * width + column) * channels + k) as u32);
                }
                *out = bounded(value);
            }
        }
    }
}

#[inline(always)]
fn bounded<T: Real>(x: T) -> T {
    x.max(T::ZERO).min(T::from_f32(255.0))
}

#[inline(always)]
fn luma<T: Real>([r, g, b]: [T; 3]) -> T {
    r * T::from_f32(LUMA[0]) + g * T::from_f32(LUMA[1]) + b * T::from_f32(LUMA[2])
}

/// The colour whose hue is turned, 1 being the whole circle: by way of hue, chroma and the least of the channels.
#[inline(always)]
fn turned<T: Real>(rgb: [T; 3], turn: T) -> [T; 3] {
    let [r, g, b] = rgb;
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = most - least;
    if chroma <= T::ZERO {
        return rgb;
    }
    let sixth = if r >= most {
        (g - b) / chroma
    } else if g >= most {
        (b - r) / chroma + T::from_f32(2.0)
    } else {
        (r - g) / chroma + T::from_f32(4.0)
    };
    let six = T::from_f32(6.0);
    let fraction = |x: T, of: T| x - T::from_f64((x / of).to_f64().floor()) * of;
    let place = fraction((sixth + six * turn) / six, T::ONE) * six;
    [0.0, 4.0, 2.0].map(|ahead| {
        let rising = (fraction(place + T::from_f32(ahead), six) - T::from_f32(3.0)).abs() - T::ONE;
        least + chroma * rising.max(T::ZERO).min(T::ONE)
    })
}

/// Nearly normal: the sum of eight uniform numbers of 16 bits, scaled to a deviation of 1.
#[inline(always)]
fn normal<T: Real>(seed: u32, element: u32) -> T {
    let sum: u32 = pcg4d([seed, element, 0, 0]).map(|word| (word & 0xffff) + (word >> 16)).into_iter().sum();
    T::from_f32(sum as f32 - MEAN as f32) * T::from_f32(DEVIATION)
}

impl Op for Colour {
    fn name(&self) -> &str {
        "colour"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("colour", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [images, looks, pivots, seeds] = inputs else {
            return Err(ShapeError::new("expects images, looks, pivots and seeds"));
        };
        if **images != TensorType::f32(images.shape.clone()) || images.shape.rank() != 4 || images.elements() == 0 {
            return Err(ShapeError::new(format!("expects images f32[batch, height, width, channels], not {images}")));
        }
        let batch = images.shape[0];
        let expected = [TensorType::f32([batch, LOOK]), TensorType::f32([batch]), TensorType::u32([batch])];
        for (given, expected) in [looks, pivots, seeds].into_iter().zip(&expected) {
            if *given != expected {
                return Err(ShapeError::new(format!("{images} goes with {expected} and not with {given}")));
            }
        }
        Ok(vec![(*images).clone()])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let blur = if self.options.blur { 60 } else { 0 };
        (signature.outputs[0].elements() * (25 + blur)) as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let &[_, height, width, channels] = &args.outputs.ty(0).shape[..] else { return };
        let (images, looks, pivots) = (args.inputs.float(0), args.inputs.float(1), args.inputs.float(2));
        let seeds = args.inputs.uint(3);
        let rows = args.outputs.float(0).par_chunks_mut(width * channels).enumerate();
        rows.with_min_len(16).for_each(|(at, out)| {
            let (image, row) = (at / height, at % height);
            let elements = height * width * channels;
            let of_image = Image {
                pixels: &images[image * elements..][..elements],
                size: [height, width, channels],
                look: &looks[LOOK * image..][..LOOK],
                pivot: pivots[image],
                seed: seeds[image],
            };
            cpu::vectorised(
                #[inline(always)]
                || of_image.row(row, out, self.options),
            );
        });
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let &[batch, height, width, channels] = &signature.outputs[0].shape[..] else { return Vec::new() };
        let pass = gpu::Pass {
            shader: gpu::Shader::file("image/colour")
                .feature("RGB", channels == 3)
                .feature("SHIFT", channels <= 3)
                .feature("BLUR", self.options.blur)
                .feature("NOISE", self.options.noise)
                .constant("BATCH", batch)
                .constant("HEIGHT", height)
                .constant("WIDTH", width)
                .constant("CHANNELS", channels),
            bindings: vec![Input(0), Input(1), Input(2), Input(3), Output(0)],
            workgroups: gpu::linear_workgroups(batch * height * width),
        };
        vec![gpu::Candidate::single("colour", pass)]
    }
}

impl Graph {
    /// Images f32 `[batch, height, width, channels]` of 0 to 255 in other colours, each by its look, f32 `[batch, 12]`:
    ///
    /// | numbers | what they do, in this order, and what changes nothing |
    /// |---|---|
    /// | 9 to 11 | blur: weights of the pixel itself, its neighbour and the one after, along each axis; 1, 0, 0 |
    /// | 0 | brightness: a factor; 1 |
    /// | 1 | contrast: a factor of the distance from the image's mean brightness; 1 |
    /// | 2 | saturation: a factor of the distance from grey; 1 |
    /// | 3 | hue: a turn of -0.5 to 0.5, 1 being the whole circle of HSV; 0 |
    /// | 4 | grey: the share of the image without colour; 0 |
    /// | 5 to 7 | shift: what is added to each channel; 0 |
    /// | 8 | noise: its deviation; 0 |
    ///
    /// After each the pixels are cut to 0 and 255. Saturation, hue and grey are for three channels, red, green and blue, and
    /// shift is for up to three. The noise of an image is a hash of its seed, u32 `[batch]`. There is no gradient.
    ///
    /// # Errors
    /// If the types are others than these.
    pub fn colour(
        &mut self,
        images: Value,
        looks: Value,
        seeds: Value,
        options: ColourOptions,
    ) -> Result<Value, GraphError> {
        let pivots = self.pivots(images, looks, options)?;
        self.apply1(Colour { options }, &[images, looks, pivots, seeds])
    }

    /// The mean brightness of each image after its change of brightness, f32 `[batch]`.
    fn pivots(&mut self, images: Value, looks: Value, options: ColourOptions) -> Result<Value, GraphError> {
        let [batch, height, width, channels] = match self.shape(images)[..] {
            [batch, height, width, channels] if options.contrast => [batch, height, width, channels],
            // None is needed, or the operation itself says that these are no images.
            _ => {
                let batch = self.shape(looks).first().copied().unwrap_or(1);
                return Ok(self.constant(Tensor::f32([batch], vec![0.0; batch])));
            }
        };
        let factor = self.slice(looks, 1, 0..1)?;
        let factor = self.reshape(factor, [batch, 1, 1, 1])?;
        let pixels = (height * width) as f32;
        let weights = if channels == 3 { LUMA.to_vec() } else { vec![1.0 / channels as f32; channels] };
        let weights = self.constant(Tensor::f32([channels], weights.iter().map(|weight| weight / pixels).collect()));
        let bright = (Expr::Input(0) * Expr::Input(1)).max(0.0).min(255.0) * Expr::Input(2);
        let bright = self.pointwise("brightness", bright, &[images, factor, weights])?;
        self.sum(bright, &[1, 2, 3])
    }
}

pub(super) fn examples() -> Vec<Example> {
    let bytes = |shape: [usize; 4]| {
        let values = random(shape, 5).as_f32().map(|values| values.iter().map(|x| 127.0 + 60.0 * x).collect());
        Tensor::f32(shape, values.unwrap_or_default())
    };
    let looks: [[f32; LOOK]; 3] = [
        [1.2, 0.7, 1.6, 0.13, 0.0, 5.0, -9.0, 2.0, 12.0, 0.4, 0.2, 0.1],
        [0.6, 1.5, 0.3, -0.45, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.0],
        [1.0, 1.0, 1.0, 0.31, 1.0, 0.0, 1.0, 0.0, 30.0, 1.0, 0.0, 0.0],
    ];
    let mut examples = Vec::new();
    for (channels, contrast, blur, noise) in [(3, true, true, true), (3, true, false, false), (1, false, true, true)] {
        let seeds = Tensor::u32([3], vec![1, 77, u32::MAX]);
        let inputs = [bytes([3, 6, 9, channels]), Tensor::f32([3, LOOK], looks.concat()), seeds];
        let options = ColourOptions { contrast, blur, noise };
        examples.push(Example::new(inputs, move |graph, v| graph.colour(v[0], v[1], v[2], options)));
    }
    // More channels than colours have, and an image smaller than the blur.
    let inputs = [bytes([3, 2, 1, 5]), Tensor::f32([3, LOOK], looks.concat()), Tensor::u32([3], vec![3, 2, 1])];
    let options = ColourOptions { contrast: true, blur: true, noise: true };
    examples.push(Example::new(inputs, move |graph, v| graph.colour(v[0], v[1], v[2], options)));
    examples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    /// The pixels of images of one row, by the look.
    fn coloured(pixels: &[[f32; 3]], look: [f32; LOOK], options: ColourOptions) -> Vec<f32> {
        let images = Tensor::f32([1, 1, pixels.len(), 3], pixels.concat());
        let inputs = [images, Tensor::f32([1, LOOK], look.to_vec()), Tensor::u32([1], vec![9])];
        check::evaluate(&inputs, |graph, v| graph.colour(v[0], v[1], v[2], options)).as_f32().unwrap().to_vec()
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-3), "{got:?} and not {want:?}");
    }

    #[test]
    fn the_same_look_changes_nothing() {
        let pixels = [[0.0, 17.25, 255.0], [9.0, 9.0, 9.0], [250.0, 3.0, 101.5]];
        for (blur, contrast) in [(false, false), (true, false)] {
            let options = ColourOptions { blur, contrast, noise: true };
            assert_near(&coloured(&pixels, SAME_LOOK, options), &pixels.concat());
        }
    }

    /// Values of Python's colorsys.
    #[test]
    fn hues_are_turned() {
        let turns: [([f32; 3], f32, [f32; 3]); 5] = [
            ([200.0, 30.0, 90.0], 0.13, [200.0, 102.6, 30.0]),
            ([10.0, 240.0, 10.0], -0.45, [240.0, 10.0, 171.0]),
            ([120.0, 121.0, 122.0], 0.31, [122.0, 120.0, 121.28]),
            ([0.0, 0.0, 255.0], 0.5, [255.0, 255.0, 0.0]),
            ([255.0, 255.0, 0.0], 0.25, [0.0, 255.0, 127.5]),
        ];
        for (pixel, turn, want) in turns {
            let mut look = SAME_LOOK;
            look[3] = turn;
            assert_near(&coloured(&[pixel], look, ColourOptions::default()), &want);
        }
    }

    #[test]
    fn factors_are_about_black_the_mean_and_grey() {
        let pixels = [[100.0, 50.0, 0.0], [200.0, 250.0, 100.0]];
        let with = |changes: &[(usize, f32)], contrast| {
            let mut look = SAME_LOOK;
            changes.iter().for_each(|(at, value)| look[*at] = *value);
            coloured(&pixels, look, ColourOptions { contrast, ..ColourOptions::default() })
        };
        assert_near(&with(&[(0, 1.2)], false), &[120.0, 60.0, 0.0, 240.0, 255.0, 120.0]);
        // Brightness 59.25 and 217.95, whose mean is 138.6.
        assert_near(&with(&[(1, 0.5)], true), &[119.3, 94.3, 69.3, 169.3, 194.3, 119.3]);
        assert_near(&with(&[(2, 0.0)], false), &[59.25, 59.25, 59.25, 217.95, 217.95, 217.95]);
        assert_near(&with(&[(4, 1.0)], false), &[59.25, 59.25, 59.25, 217.95, 217.95, 217.95]);
        assert_near(&with(&[(5, 10.0), (6, -60.0), (7, 5.0)], false), &[110.0, 0.0, 5.0, 210.0, 190.0, 105.0]);
    }

    #[test]
    fn noise_has_its_deviation_and_blur_keeps_the_mean() {
        let pixels = vec![[128.0; 3]; 4000];
        let mut look = SAME_LOOK;
        look[8] = 20.0;
        let noisy = coloured(&pixels, look, ColourOptions { noise: true, ..ColourOptions::default() });
        let mean = noisy.iter().sum::<f32>() / 12_000.0;
        let deviation = (noisy.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 12_000.0).sqrt();
        assert!((mean - 128.0).abs() < 0.6 && (deviation - 20.0).abs() < 0.5, "{mean} {deviation}");

        let mut point = vec![[0.0; 3]; 9];
        point[4] = [100.0; 3];
        let mut look = SAME_LOOK;
        look[9..].copy_from_slice(&[0.4, 0.2, 0.1]);
        let blurred = coloured(&point, look, ColourOptions { blur: true, ..ColourOptions::default() });
        // A single row, which is its own neighbour.
        let want: Vec<f32> = [0.0, 0.0, 10.0, 20.0, 40.0, 20.0, 10.0, 0.0, 0.0].iter().flat_map(|x| [*x; 3]).collect();
        assert_near(&blurred, &want);
    }

    #[test]
    fn looks_of_another_batch_are_an_error() {
        let mut graph = Graph::new();
        let images = graph.feed("images", TensorType::f32([2, 3, 3, 1]));
        let looks = graph.feed("looks", TensorType::f32([3, LOOK]));
        let seeds = graph.feed("seeds", TensorType::u32([2]));
        let error = graph.colour(images, looks, seeds, ColourOptions::default()).unwrap_err().to_string();
        assert!(error.contains("f32[2, 12]"), "{error}");
    }
}
