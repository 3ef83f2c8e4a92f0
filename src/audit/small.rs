//! Small pictures, by which images are compared, and their perceptual hashes.

use std::f64::consts::PI;

use crate::data::{Fit, ImageSize, convert};

/// The side of the picture that a hash is of.
const HASHED: usize = 32;
/// Frequencies of a hash along each side.
const FREQUENCIES: usize = 8;
/// The side of the picture that images are compared by.
const COMPARED: usize = 16;
/// Levels that the mean difference of two channels may change by in a copy: recoloured images are no copies.
const TINT: f32 = 12.0;

/// What of an image survives its being encoded anew, resized and brightened.
#[derive(Clone, Debug)]
pub(super) struct Small {
    /// A bit for each of the lowest frequencies of its brightness: whether it is above their median (pHash: Zauner, Implementation
    /// and Benchmarking of Perceptual Image Hash Functions, 2010). The mean has none.
    pub hash: u64,
    /// Brightness, u8 `[16, 16]`.
    picture: [u8; COMPARED * COMPARED],
    mean: f32,
    /// The standard deviation of its brightness in levels, of 255.
    pub contrast: f32,
    /// How much more red than green, and blue than green, there is on average.
    tint: [f32; 2],
}

/// How alike two pictures are, their brightness and contrast aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Likeness {
    /// Pearson's correlation.
    pub correlation: f32,
    /// The root of the mean square of the difference that is left, in levels of the picture that has less contrast.
    pub residual: f32,
}

impl Small {
    /// That of an image of u8 HWC pixels.
    pub fn of(pixels: &[u8], size: ImageSize) -> Self {
        let grey = resized(pixels, size, ImageSize { channels: 1, ..size });
        let size_of_grey = ImageSize { channels: 1, ..size };
        let mut picture = [0; COMPARED * COMPARED];
        convert(&grey, size_of_grey, ImageSize::new(COMPARED, COMPARED, 1), Fit::Stretch, &mut picture);
        let hashed = resized(&grey, size_of_grey, ImageSize::new(HASHED, HASHED, 1));
        let count = picture.len() as f32;
        let mean = picture.iter().map(|&value| f32::from(value)).sum::<f32>() / count;
        let variance = picture.iter().map(|&value| (f32::from(value) - mean).powi(2)).sum::<f32>() / count;
        Self { hash: hash(&hashed), picture, mean, contrast: variance.sqrt(), tint: tint(pixels, size) }
    }

    /// How alike it and another are; `None` where they differ in colour, or one of them is of one brightness.
    pub fn likeness(&self, other: &Self) -> Option<Likeness> {
        let same_tint = self.tint.iter().zip(other.tint).all(|(own, others)| (own - others).abs() <= TINT);
        let contrast = self.contrast.min(other.contrast);
        if !same_tint || contrast <= 0.0 {
            return None;
        }
        let products = self.picture.iter().zip(&other.picture).map(|(&a, &b)| u32::from(a) * u32::from(b));
        let mean = products.sum::<u32>() as f32 / self.picture.len() as f32;
        let correlation = (mean - self.mean * other.mean) / (self.contrast * other.contrast);
        Some(Likeness { correlation, residual: contrast * (2.0 * (1.0 - correlation).max(0.0)).sqrt() })
    }
}

/// An image brought to another size and number of channels, whatever that does to its proportions.
pub(super) fn resized(pixels: &[u8], from: ImageSize, to: ImageSize) -> Vec<u8> {
    let mut out = vec![0; to.bytes()];
    convert(pixels, from, to, Fit::Stretch, &mut out);
    out
}

/// The size with the same proportions whose longer side is at most `longest`.
pub(super) fn reduced(size: ImageSize, longest: usize) -> ImageSize {
    let side = size.height.max(size.width);
    if side <= longest {
        return size;
    }
    let scaled = |length: usize| ((length * longest + side / 2) / side).max(1);
    ImageSize { height: scaled(size.height), width: scaled(size.width), ..size }
}

fn tint(pixels: &[u8], size: ImageSize) -> [f32; 2] {
    if size.channels != 3 {
        return [0.0; 2];
    }
    let mut sums = [0u64; 3];
    for pixel in pixels.chunks_exact(3) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u64::from(value));
    }
    let [red, green, blue] = sums.map(|sum| sum as f32 * 3.0 / pixels.len() as f32);
    [red - green, blue - green]
}

/// The hash of u8 `[32, 32]`.
fn hash(picture: &[u8]) -> u64 {
    // The cosines of each frequency, of the discrete cosine transform (DCT-II); scale does not matter to the hash.
    let cosine = |frequency: usize, at: usize| (PI / HASHED as f64 * (at as f64 + 0.5) * frequency as f64).cos() as f32;
    let table: Vec<f32> =
        (0..FREQUENCIES).flat_map(|frequency| (0..HASHED).map(move |at| cosine(frequency, at))).collect();
    let waves: Vec<&[f32]> = table.chunks_exact(HASHED).collect();
    let along = |wave: &[f32], values: &mut dyn Iterator<Item = f32>| -> f32 {
        wave.iter().zip(values).map(|(wave, value)| wave * value).sum()
    };
    // Of each row each frequency, and then of these along the columns.
    let rows: Vec<f32> = picture
        .chunks_exact(HASHED)
        .flat_map(|row| waves.iter().map(|wave| along(wave, &mut row.iter().map(|&value| f32::from(value)))))
        .collect();
    let mut coefficients = Vec::with_capacity(FREQUENCIES * FREQUENCIES);
    for wave in &waves {
        for frequency in 0..FREQUENCIES {
            coefficients.push(along(wave, &mut rows.iter().skip(frequency).step_by(FREQUENCIES).copied()));
        }
    }
    let mut sorted = coefficients[1..].to_vec();
    let middle = *sorted.select_nth_unstable_by(coefficients.len() / 2 - 1, f32::total_cmp).1;
    let bit = |(at, value): (usize, &f32)| u64::from(*value > middle) << at;
    coefficients[1..].iter().enumerate().map(bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_contrast_do_not_count_and_colour_does() {
        let size = ImageSize::new(20, 24, 3);
        let image = |scale: u32, offset: u32, red: u32| -> Vec<u8> {
            let level = |at: u32| (at * at % 97 + at % 24 * 4) * scale / 10 + offset;
            (0..480).flat_map(|at| [level(at) + red, level(at), level(at)].map(|value| value as u8)).collect()
        };
        let [plain, bright, red] =
            [image(10, 0, 0), image(8, 40, 0), image(10, 0, 40)].map(|pixels| Small::of(&pixels, size));
        let likeness = plain.likeness(&bright).unwrap();
        assert!(likeness.correlation > 0.999 && likeness.residual < 1.5, "{likeness:?}");
        assert!((plain.hash ^ bright.hash).count_ones() <= 2);
        assert_eq!(plain.likeness(&red), None);
        let flat = Small::of(&vec![7; size.bytes()], size);
        assert_eq!((flat.contrast, flat.likeness(&plain)), (0.0, None));
    }

    #[test]
    fn half_of_the_bits_are_set() {
        let picture: Vec<u8> = (0..1024u32).map(|at| (at * at % 251) as u8).collect();
        assert_eq!(hash(&picture).count_ones(), 31);
    }

    #[test]
    fn sides_shrink_in_proportion() {
        assert_eq!(reduced(ImageSize::new(300, 100, 3), 150), ImageSize::new(150, 50, 3));
        assert_eq!(reduced(ImageSize::new(1, 1000, 1), 10), ImageSize::new(1, 10, 1));
        assert_eq!(reduced(ImageSize::new(28, 28, 1), 160), ImageSize::new(28, 28, 1));
    }
}
