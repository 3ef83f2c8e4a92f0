//! The size of an image as the network sees it, and the conversion of pixels to it.

use std::borrow::Cow;
use std::fmt;

use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};
use serde::{Deserialize, Serialize};

use super::DataError;

/// Height, width and channels of an image whose pixels are u8 in HWC order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
}

impl ImageSize {
    /// A size of `height` x `width` x `channels`.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels }
    }

    /// Bytes of one image, `height * width * channels`.
    pub const fn bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Refuses sizes that no network takes: zero or enormous sides, channels other than 1 and 3.
    ///
    /// # Errors
    /// With the size and the range.
    pub fn check(&self) -> Result<(), DataError> {
        const MAX_SIDE: usize = 16_384;
        let side_is_good = |side: usize| (1..=MAX_SIDE).contains(&side);
        if !side_is_good(self.height) || !side_is_good(self.width) {
            return Err(DataError::Option(format!(
                "an image size of {}x{} is not possible: each side is 1 to {MAX_SIDE}",
                self.height, self.width
            )));
        }
        if !matches!(self.channels, 1 | 3) {
            return Err(DataError::Option(format!(
                "{} channels are not possible: images are grey (1) or RGB (3)",
                self.channels
            )));
        }
        Ok(())
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// How an image of another aspect ratio becomes the input size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The largest centred part of the input's proportions.
    #[default]
    Crop,
    /// The whole image in the middle, with grey beside it.
    Pad,
    /// The whole image, whatever that does to its proportions.
    Stretch,
}

/// Converts `pixels` of size `from` to size `to`: colour to grey by the Rec. 601 luma weights (as in PIL and JPEG),
/// grey to RGB by repetition, and to another height and width by a triangle filter that widens with the reduction
/// (antialiased bilinear).
///
/// The arithmetic is in integers, so the result is the same on every machine.
///
/// # Panics
/// If `pixels` or `out` has not the length of its size.
pub(crate) fn convert(pixels: &[u8], from: ImageSize, to: ImageSize, fit: Fit, out: &mut [u8]) {
    assert_eq!(pixels.len(), from.bytes());
    assert_eq!(out.len(), to.bytes());
    let pixels = if from.channels > to.channels { Cow::Owned(to_grey(pixels)) } else { Cow::Borrowed(pixels) };
    let channels = from.channels.min(to.channels);
    let same_area = (from.height, from.width) == (to.height, to.width);
    if channels == to.channels {
        if same_area {
            out.copy_from_slice(&pixels);
        } else {
            resize(&pixels, from, to, channels, fit, out);
        }
    } else if same_area {
        repeat_grey(&pixels, out);
    } else {
        let mut grey = vec![0; to.height * to.width];
        resize(&pixels, from, to, channels, fit, &mut grey);
        repeat_grey(&grey, out);
    }
}

fn to_grey(rgb: &[u8]) -> Vec<u8> {
    let luma = |p: &[u8]| (299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2]) + 500) / 1000;
    rgb.chunks_exact(3).map(|pixel| luma(pixel) as u8).collect()
}

fn repeat_grey(grey: &[u8], rgb: &mut [u8]) {
    for (&value, pixel) in grey.iter().zip(rgb.chunks_exact_mut(3)) {
        pixel.fill(value);
    }
}

/// The grey beside padded images, near the mean of photographs.
const PADDING: u8 = 114;

fn resize(pixels: &[u8], from: ImageSize, to: ImageSize, channels: usize, fit: Fit, out: &mut [u8]) {
    if fit == Fit::Pad {
        return pad(pixels, from, to, channels, out);
    }
    match channels {
        1 => resample::<U8>(pixels, from, to, fit, out),
        _ => resample::<U8x3>(pixels, from, to, fit, out),
    }
}

/// The type of the pixels is known when this is compiled: the resizer's own choice at run time brings the code for all that it
/// knows, which is a tenth of the binary.
fn resample<P: PixelTrait>(pixels: &[u8], from: ImageSize, to: ImageSize, fit: Fit, out: &mut [u8]) {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let options = match fit {
        Fit::Crop => options.fit_into_destination(None),
        Fit::Pad | Fit::Stretch => options,
    };
    let source = TypedImageRef::<P>::from_buffer(from.width as u32, from.height as u32, pixels)
        .expect("the length of the pixels was checked");
    let mut target = TypedImage::<P>::from_buffer(to.width as u32, to.height as u32, out)
        .expect("the length of the output was checked");
    Resizer::new().resize_typed(&source, &mut target, &options).expect("the crop box lies inside the source");
}

/// The whole image, as large as it fits, in the middle of grey.
fn pad(pixels: &[u8], from: ImageSize, to: ImageSize, channels: usize, out: &mut [u8]) {
    let rounded = |side: usize, by: usize, of: usize| ((side * by + of / 2) / of).max(1);
    let inner = if from.width * to.height >= from.height * to.width {
        ImageSize { height: rounded(from.height, to.width, from.width), ..to }
    } else {
        ImageSize { width: rounded(from.width, to.height, from.height), ..to }
    };
    let mut image = vec![0; inner.height * inner.width * channels];
    resize(pixels, from, inner, channels, Fit::Stretch, &mut image);
    out.fill(PADDING);
    let (top, left) = ((to.height - inner.height) / 2, (to.width - inner.width) / 2);
    let rows = out.chunks_exact_mut(to.width * channels).skip(top);
    for (row, image) in rows.zip(image.chunks_exact(inner.width * channels)) {
        row[left * channels..][..image.len()].copy_from_slice(image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(pixels: &[u8], from: ImageSize, to: ImageSize, fit: Fit) -> Vec<u8> {
        let mut out = vec![0; to.bytes()];
        convert(pixels, from, to, fit, &mut out);
        out
    }

    #[test]
    fn grey_becomes_rgb_and_back() {
        let grey = [0, 17, 128, 255];
        let rgb = converted(&grey, ImageSize::new(2, 2, 1), ImageSize::new(2, 2, 3), Fit::Crop);
        assert_eq!(rgb, [0, 0, 0, 17, 17, 17, 128, 128, 128, 255, 255, 255]);
        assert_eq!(converted(&rgb, ImageSize::new(2, 2, 3), ImageSize::new(2, 2, 1), Fit::Crop), grey);
    }

    #[test]
    fn colour_becomes_grey_by_luma() {
        let rgb = [255, 0, 0, 0, 255, 0, 0, 0, 255];
        assert_eq!(converted(&rgb, ImageSize::new(1, 3, 3), ImageSize::new(1, 3, 1), Fit::Crop), [76, 150, 29]);
    }

    #[test]
    fn halving_averages_a_constant_to_itself() {
        let out = converted(&[90; 8 * 8 * 3], ImageSize::new(8, 8, 3), ImageSize::new(4, 4, 3), Fit::Crop);
        assert!(out.iter().all(|&value| value == 90));
    }

    #[test]
    fn crop_keeps_the_middle_and_stretch_keeps_the_sides() {
        // 2 rows x 6 columns: dark, bright middle, dark.
        let row = [0, 0, 200, 200, 0, 0];
        let pixels = [row, row].concat();
        let from = ImageSize::new(2, 6, 1);
        let to = ImageSize::new(2, 2, 1);
        assert_eq!(converted(&pixels, from, to, Fit::Crop), [200; 4]);
        assert!(converted(&pixels, from, to, Fit::Stretch).iter().all(|&value| value < 150));
    }

    #[test]
    fn padding_keeps_the_whole_image_and_its_proportions() {
        let row = [10, 10, 200, 200];
        let pixels = [row, row].concat();
        let (from, to) = (ImageSize::new(2, 4, 1), ImageSize::new(4, 4, 1));
        let grey = [PADDING; 4];
        assert_eq!(converted(&pixels, from, to, Fit::Pad), [grey, row, row, grey].concat());
        let tall = converted(&[7; 6], ImageSize::new(6, 1, 1), ImageSize::new(6, 3, 1), Fit::Pad);
        assert_eq!(tall, [PADDING, 7, PADDING].repeat(6));
        // Whatever the proportions, there is something of the image.
        for (height, width) in [(1, 1000), (1000, 1), (3, 5), (5, 3), (224, 224)] {
            let from = ImageSize::new(height, width, 3);
            let padded = converted(&vec![200; from.bytes()], from, ImageSize::new(7, 5, 3), Fit::Pad);
            assert!(padded.contains(&200), "{from}");
        }
    }

    #[test]
    fn enlarging_a_grey_image_for_an_rgb_network() {
        let out = converted(&[50; 28 * 28], ImageSize::new(28, 28, 1), ImageSize::new(32, 32, 3), Fit::Stretch);
        assert_eq!(out, vec![50; 32 * 32 * 3]);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for size in [ImageSize::new(0, 28, 1), ImageSize::new(28, 28, 2), ImageSize::new(28, 1_000_000, 3)] {
            assert!(matches!(size.check(), Err(DataError::Option(_))), "{size}");
        }
    }
}
