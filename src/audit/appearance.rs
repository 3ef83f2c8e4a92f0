//! Images that show little: too dark, too bright, flat, blurred, tiny or of odd proportions.

use super::{
    Look,
    robust::median,
    small::{reduced, resized},
};
use crate::data::ImageSize;

/// The longer side of the pictures that are measured.
const MEASURED: usize = 256;
/// An image is dark where all but a hundredth of its pixels are below this level.
const DARK: u8 = 64;
/// It is overexposed where all but a hundredth are above this one.
const OVEREXPOSED: u8 = 191;
/// It has low contrast where the levels of all but a hundredth at either end lie so close together.
const LOW_CONTRAST: u8 = 40;
/// It is blurred where it is less sharp than the median image by this factor.
const BLURRED: f64 = 10.0;
/// It is tiny where its shorter side is that of the median image divided by more than this.
const TINY: f64 = 4.0;
/// Its proportions are odd where they are off those of the median image by more than this factor.
const ODD: f64 = 3.0;

/// What an image looks like as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appearance {
    /// The level that a hundredth of its pixels are below.
    low: u8,
    /// The level that a hundredth of its pixels are above.
    high: u8,
    /// The mean square of the Laplacian over the variance; none of images that are flat or too small for it.
    sharpness: Option<f64>,
}

/// What may be wrong with how an image looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlawKind {
    /// Nearly all of it is black: 99 of 100 pixels are below level 64 of 255.
    Dark,
    /// Nearly all of it is white: 99 of 100 pixels are above level 191 of 255.
    Overexposed,
    /// Nearly all of it is of one brightness: 98 of 100 pixels lie within 40 levels of 255.
    LowContrast,
    /// It is 10 times less sharp than the median image: the variance of its Laplacian, by that of its brightness.
    Blurred,
    /// Its shorter side is 4 times shorter than that of the median image, or shorter than was asked for.
    Tiny,
    /// It is 3 times longer or wider than the median image.
    OddProportions,
}

/// An image that shows little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flaw {
    /// The image.
    pub image: usize,
    /// What is wrong with it.
    pub kind: FlawKind,
    /// The figure by which it is: the level that bounds its pixels where it is dark or overexposed, the levels that they span, how
    /// sharp it is by the median image, its shorter side in pixels, its width by its height.
    pub value: f64,
}

impl Appearance {
    /// That of an image of u8 HWC pixels.
    pub fn of(pixels: &[u8], size: ImageSize) -> Self {
        let measured = ImageSize { channels: 1, ..reduced(size, MEASURED) };
        let grey = resized(pixels, size, measured);
        let mut counts = [0usize; 256];
        grey.iter().for_each(|&level| counts[usize::from(level)] += 1);
        let few = grey.len() / 100;
        // The first level at which more than a few pixels have been met.
        let bound = |levels: &mut dyn Iterator<Item = u8>| {
            let mut met = 0;
            let mut passed = levels.skip_while(|&level| {
                met += counts[usize::from(level)];
                met <= few
            });
            passed.next().unwrap_or_default()
        };
        let (low, high) = (bound(&mut (0..=255)), bound(&mut (0..=255).rev()));
        Self { low, high, sharpness: sharpness(&grey, measured) }
    }

    /// What is wrong with its brightness.
    fn exposure(self) -> Option<(FlawKind, f64)> {
        let span = self.high - self.low;
        if self.high < DARK {
            Some((FlawKind::Dark, self.high.into()))
        } else if self.low > OVEREXPOSED {
            Some((FlawKind::Overexposed, self.low.into()))
        } else {
            (span < LOW_CONTRAST).then_some((FlawKind::LowContrast, span.into()))
        }
    }
}

/// How much of the variance of a picture is in its finest detail: the mean square of its Laplacian (Pech-Pacheco et al., Diatom
/// Autofocusing in Brightfield Microscopy, 2000) over its variance, so that contrast does not count.
fn sharpness(grey: &[u8], size: ImageSize) -> Option<f64> {
    let (height, width) = (size.height, size.width);
    let level = |at: usize| f64::from(grey[at]);
    let count = grey.len() as f64;
    let mean = (0..grey.len()).map(level).sum::<f64>() / count;
    let variance = (0..grey.len()).map(|at| (level(at) - mean).powi(2)).sum::<f64>() / count;
    if height < 3 || width < 3 || variance < 1.0 {
        return None;
    }
    let inner = (1..height - 1).flat_map(|y| (1..width - 1).map(move |x| y * width + x));
    let laplacian = |at: usize| 4.0 * level(at) - level(at - 1) - level(at + 1) - level(at - width) - level(at + width);
    let squares: f64 = inner.map(|at| laplacian(at).powi(2)).sum();
    Some(squares / ((height - 2) * (width - 2)) as f64 / variance)
}

/// What is wrong with how images look: of each image at most one flaw of its brightness or sharpness, and one of its size. An image is
/// tiny where its shorter side is below `smallest`, or else a quarter of that of the median image. Images without a look are
/// passed over.
pub fn flaws(looks: &[Option<Look>], smallest: Option<usize>) -> Vec<Flaw> {
    let seen = || looks.iter().enumerate().filter_map(|(image, look)| Some((image, look.as_ref()?)));
    let middle = |value: fn(&Look) -> Option<f64>| {
        median(&seen().filter_map(|(_, look)| value(look)).collect::<Vec<_>>()).unwrap_or(1.0)
    };
    let sharpness = middle(|look| look.appearance.sharpness);
    let aspect = middle(|look| Some(aspect(look.size)));
    let tiny = smallest.map_or_else(|| middle(|look| Some(shorter(look.size))) / TINY, |side| side as f64);
    let of_look = |look: &Look| {
        let blur = look.appearance.sharpness.map(|own| own / sharpness).filter(|factor| *factor < BLURRED.recip());
        let odd = self::aspect(look.size) / aspect;
        let size = if shorter(look.size) < tiny {
            Some((FlawKind::Tiny, shorter(look.size)))
        } else {
            (odd.max(odd.recip()) > ODD).then_some((FlawKind::OddProportions, self::aspect(look.size)))
        };
        [look.appearance.exposure().or(blur.map(|factor| (FlawKind::Blurred, factor))), size]
    };
    let flaws = seen().flat_map(|(image, look)| {
        of_look(look).into_iter().flatten().map(move |(kind, value)| Flaw { image, kind, value })
    });
    flaws.collect()
}

fn aspect(size: ImageSize) -> f64 {
    size.width as f64 / size.height as f64
}

fn shorter(size: ImageSize) -> f64 {
    size.height.min(size.width) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{look, small::Small};

    /// Stripes and dots between two levels.
    fn pattern(size: ImageSize, [low, high]: [u8; 2]) -> Vec<u8> {
        let at = |at: usize| if at * at % 7 < 3 { low } else { high };
        (0..size.bytes()).map(at).collect()
    }

    fn seen(pixels: &[u8], size: ImageSize) -> Option<Look> {
        Some(Look { size, digest: 0, small: Small::of(pixels, size), appearance: Appearance::of(pixels, size) })
    }

    #[test]
    fn each_flaw_is_told_and_good_images_have_none() {
        let size = ImageSize::new(40, 40, 1);
        let mut looks = vec![seen(&pattern(size, [20, 220]), size); 9];
        let smooth: Vec<u8> = (0..1600).map(|at| (at % 40 * 5) as u8).collect();
        for levels in [[0, 60], [200, 250], [100, 130]] {
            looks.push(seen(&pattern(size, levels), size));
        }
        looks.push(seen(&smooth, size));
        for size in [ImageSize::new(9, 9, 1), ImageSize::new(20, 70, 1), ImageSize::new(120, 30, 1)] {
            looks.push(seen(&pattern(size, [20, 220]), size));
        }
        looks.push(None);
        let kinds = |smallest| {
            let found = flaws(&looks, smallest);
            found.into_iter().map(|flaw| (flaw.image, flaw.kind)).collect::<Vec<_>>()
        };
        let expected = [
            (9, FlawKind::Dark),
            (10, FlawKind::Overexposed),
            (11, FlawKind::LowContrast),
            (12, FlawKind::Blurred),
            (13, FlawKind::Tiny),
            (14, FlawKind::OddProportions),
            (15, FlawKind::OddProportions),
        ];
        assert_eq!(kinds(None), expected);
        assert!(kinds(Some(25)).contains(&(14, FlawKind::Tiny)) && !kinds(Some(8)).contains(&(13, FlawKind::Tiny)));
    }

    #[test]
    fn digits_are_good_images() {
        let images = crate::data::bundled(&Default::default()).unwrap().train.subset(&(0..1000).collect::<Vec<_>>());
        let looks: Vec<Option<Look>> = look(&images, &|| ()).into_iter().map(Result::ok).collect();
        assert_eq!(flaws(&looks, None), []);
    }
}
