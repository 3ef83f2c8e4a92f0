//! The size that images are brought to and how, chosen by those that there are.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{Fit, ImageSize, OpenOptions};

/// The side of a square for images of many sizes, that of most ImageNet networks.
const DEFAULT_SIDE: usize = 224;
/// Pixels of images of one size from which on that is not the network's size, which then would be slow or not fit memory.
const MANY_PIXELS: usize = 512 * 512;
/// Images are alike in their proportions where such a share of them
const MOST: f64 = 0.9;
/// differs from the median by at most such a factor.
const ALIKE: f64 = 1.1;
/// What the sides of such images are multiples of, in which networks reduce them.
const STEP: usize = 16;
/// The shorter side of them, at least: networks reduce it by 32.
const SHORTEST: usize = 64;
/// How many times as long as wide images are whose ends a random crop would mostly lose.
const LONG: f64 = 2.0;
/// The share of the median image that cropping may cut off before images are padded instead.
const MOST_CUT: f64 = 0.1;

/// How images of another aspect ratio become the input size, or that their sizes decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum FitChoice {
    /// Pad where cropping would cut off more than a tenth of the median image, else crop.
    #[default]
    Auto,
    /// The largest centred part of the input's proportions.
    Crop,
    /// The whole image, with grey beside it.
    Pad,
    /// The whole image, whatever that does to its proportions.
    Stretch,
}

impl From<Fit> for FitChoice {
    fn from(fit: Fit) -> Self {
        match fit {
            Fit::Crop => Self::Crop,
            Fit::Pad => Self::Pad,
            Fit::Stretch => Self::Stretch,
        }
    }
}

/// The size that images are brought to, how, and why so. Its text says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// The size.
    pub size: ImageSize,
    /// What is done about another aspect ratio.
    pub fit: Fit,
    /// The share that cropping would cut off the median image.
    pub cut: f64,
    /// The longer side of the median image over the shorter one.
    pub aspect: f64,
    reason: Reason,
    fit_given: bool,
}

/// Why images get their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Given,
    Own,
    /// The size of nearly all of them.
    Most,
    /// The proportions of images that have them in common, and this is their own size where they have that in common too.
    Proportions(Option<ImageSize>),
    Mixed,
}

impl Sizing {
    /// What the options say of images of these sizes, or a sample of them.
    pub(super) fn of(natives: &[ImageSize], options: &OpenOptions) -> Self {
        let area = |size: &ImageSize| (size.height, size.width);
        let ((height, width), reason) = match (options.height_width, natives.first().map(area), size_of_most(natives)) {
            (Some(given), ..) => (given, Reason::Given),
            (None, Some(first), _) if natives.iter().all(|size| area(size) == first) => match first.0 * first.1 {
                0..=MANY_PIXELS => (first, Reason::Own),
                _ => (sides_of(&natives[..1]), Reason::Proportions(Some(natives[0]))),
            },
            (None, _, Some(size)) => (size, Reason::Most),
            (None, Some(_), _) if have_proportions(natives) => (sides_of(natives), Reason::Proportions(None)),
            (None, ..) => {
                let side = rounded_up(median_area(natives).sqrt()).min(DEFAULT_SIDE);
                ((side, side), Reason::Mixed)
            }
        };
        let is_grey = !natives.is_empty() && natives.iter().all(|size| size.channels == 1);
        let channels = options.channels.unwrap_or(if is_grey { 1 } else { 3 });
        let size = ImageSize::new(height, width, channels);
        let mut cuts: Vec<f64> = natives.iter().map(|native| cut(*native, size)).collect();
        cuts.sort_by(f64::total_cmp);
        let cut = cuts.get(cuts.len() / 2).copied().unwrap_or(0.0);
        let aspect = median_aspect(natives).map_or(1.0, |aspect| aspect.max(aspect.recip()));
        let fit = match options.fit {
            FitChoice::Auto if cut > MOST_CUT => Fit::Pad,
            FitChoice::Auto | FitChoice::Crop => Fit::Crop,
            FitChoice::Pad => Fit::Pad,
            FitChoice::Stretch => Fit::Stretch,
        };
        Self { size, fit, cut, aspect, reason, fit_given: options.fit != FitChoice::Auto }
    }

    /// Whether images are long and whole, so that a random crop would often lose what is at their ends.
    pub fn has_ends(&self) -> bool {
        self.aspect >= LONG && (self.fit != Fit::Crop || self.cut <= MOST_CUT)
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { size, fit, cut, reason, fit_given, .. } = self;
        write!(f, "{}x{}, ", size.height, size.width)?;
        match reason {
            Reason::Given => f.write_str("as asked for")?,
            Reason::Own => f.write_str("their own size")?,
            Reason::Most => f.write_str("the size of nearly all")?,
            Reason::Proportions(None) => f.write_str("their proportions, as they are of many sizes")?,
            Reason::Proportions(Some(own)) => {
                write!(f, "their proportions, as their own size of {}x{} is large", own.height, own.width)?;
            }
            Reason::Mixed => f.write_str("as they are of many sizes")?,
        }
        let cut = (100.0 * cut).round();
        match fit {
            _ if cut == 0.0 => Ok(()),
            Fit::Pad if *fit_given => write!(f, "; whole, padded with grey"),
            Fit::Pad => write!(f, "; whole, padded with grey, as cropping would cut {cut}% off the median image"),
            Fit::Crop => write!(f, "; cropped to the middle, which cuts {cut}% off the median image"),
            Fit::Stretch => write!(f, "; whole, stretched to these proportions"),
        }
    }
}

/// Width over height.
fn aspect(size: &ImageSize) -> f64 {
    size.width as f64 / size.height as f64
}

fn median_aspect(natives: &[ImageSize]) -> Option<f64> {
    let mut aspects: Vec<f64> = natives.iter().map(aspect).collect();
    aspects.sort_by(f64::total_cmp);
    aspects.get(aspects.len() / 2).copied()
}

/// The median number of pixels of images; without any that of the default.
fn median_area(natives: &[ImageSize]) -> f64 {
    let mut areas: Vec<usize> = natives.iter().map(|size| size.height * size.width).collect();
    areas.sort_unstable();
    areas.get(areas.len() / 2).map_or((DEFAULT_SIDE * DEFAULT_SIDE) as f64, |area| *area as f64)
}

/// A side as networks reduce it, no shorter than it is.
fn rounded_up(side: f64) -> usize {
    (side.ceil() as usize).next_multiple_of(STEP)
}

/// Height and width that nearly all images have, where these are not many pixels.
fn size_of_most(natives: &[ImageSize]) -> Option<(usize, usize)> {
    let mut counts = BTreeMap::new();
    natives.iter().for_each(|size| *counts.entry((size.height, size.width)).or_insert(0) += 1);
    let (size, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (f64::from(count) >= MOST * natives.len() as f64 && size.0 * size.1 <= MANY_PIXELS).then_some(size)
}

/// Whether images have their proportions in common.
fn have_proportions(natives: &[ImageSize]) -> bool {
    let Some(median) = median_aspect(natives) else { return false };
    let is_alike = |size: &&ImageSize| (1.0 / ALIKE..=ALIKE).contains(&(aspect(size) / median));
    natives.iter().filter(is_alike).count() as f64 >= MOST * natives.len() as f64
}

/// Height and width of about the pixels of the default square, in the median proportions of images; of smaller images of about
/// their own.
fn sides_of(natives: &[ImageSize]) -> (usize, usize) {
    let wanted = median_aspect(natives).unwrap_or(1.0);
    let pixels = (DEFAULT_SIDE * DEFAULT_SIDE) as f64;
    let own = median_area(natives);
    if own < pixels {
        return (rounded_up((own / wanted).sqrt()), rounded_up((own * wanted).sqrt()));
    }
    let most = (1.1 * pixels) as usize / SHORTEST / STEP;
    let sides = || (SHORTEST / STEP..=most).map(|steps| steps * STEP);
    let pairs = sides().flat_map(|height| sides().map(move |width| (height, width)));
    let area = |(height, width): (usize, usize)| (height * width) as f64 / pixels;
    let off = |(height, width): (usize, usize)| (width as f64 / height as f64 / wanted).ln().abs();
    let near = pairs.filter(|pair| (0.85..=1.1).contains(&area(*pair)));
    // Of those that are as good in their proportions, the one that is nearest in its area.
    let cost = |pair: (usize, usize)| (off(pair), area(pair).ln().abs());
    let least = near.min_by(|a, b| {
        let ((off_a, area_a), (off_b, area_b)) = (cost(*a), cost(*b));
        off_a.total_cmp(&off_b).then(area_a.total_cmp(&area_b))
    });
    least.unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE))
}

/// The share of an image that cropping it to the proportions of `to` cuts off.
fn cut(from: ImageSize, to: ImageSize) -> f64 {
    let (a, b) = (from.width as f64 * to.height as f64, from.height as f64 * to.width as f64);
    1.0 - a.min(b) / a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(natives: &[(usize, usize)], options: &OpenOptions) -> Sizing {
        let natives: Vec<ImageSize> = natives.iter().map(|&(height, width)| ImageSize::new(height, width, 3)).collect();
        Sizing::of(&natives, options)
    }

    #[test]
    fn images_are_padded_where_cropping_would_cut_much() {
        let auto = OpenOptions::default();
        let wide = of(&[(50, 200), (60, 200), (100, 100)], &auto);
        assert_eq!((wide.size, wide.fit), (ImageSize::new(112, 112, 3), Fit::Pad));
        assert_eq!(
            wide.to_string(),
            "112x112, as they are of many sizes; whole, padded with grey, as cropping would cut 70% off the median image"
        );
        let nearly_square = of(&[(95, 100), (100, 100), (50, 200)], &auto);
        assert_eq!(nearly_square.fit, Fit::Crop);
        let own = of(&[(50, 200); 3], &auto);
        assert_eq!((own.size.width, own.fit, own.to_string().as_str()), (200, Fit::Crop, "50x200, their own size"));
    }

    #[test]
    fn proportions_that_images_have_in_common_are_kept() {
        let auto = OpenOptions::default();
        for (natives, size, has_ends) in [
            (vec![(150, 600), (140, 560), (180, 720)], (112, 448), true),
            (vec![(3000, 4000), (480, 640)], (192, 256), false),
            (vec![(640, 480), (4000, 3000)], (256, 192), false),
            (vec![(100, 100), (300, 310)], (224, 224), false),
            (vec![(100, 2000), (50, 1000)], (64, 848), true),
        ] {
            let sizing = of(&natives, &auto);
            assert_eq!((sizing.size.height, sizing.size.width), size, "{natives:?}");
            assert_eq!(sizing.has_ends(), has_ends, "{natives:?}");
        }
        let wide = of(&[(150, 600), (140, 560)], &auto).to_string();
        assert_eq!(wide, "112x448, their proportions, as they are of many sizes");
        let large = of(&[(3000, 4000); 4], &auto).to_string();
        assert_eq!(large, "192x256, their proportions, as their own size of 3000x4000 is large");
        assert_eq!(of(&[(512, 512); 4], &auto).size, ImageSize::new(512, 512, 3));
        let portraits_and_landscapes = of(&[(480, 640), (640, 480), (480, 640)], &auto);
        assert_eq!(portraits_and_landscapes.size, ImageSize::new(224, 224, 3));
    }

    #[test]
    fn small_images_are_not_made_large() {
        let auto = OpenOptions::default();
        let mut natives = vec![(32, 32); 19];
        natives.extend([(33, 32), (400, 300)]);
        assert_eq!(of(&natives, &auto).to_string(), "32x32, the size of nearly all");
        for (natives, size) in [
            (vec![(30, 31), (32, 32), (28, 28)], (32, 32)),
            (vec![(40, 80), (45, 90), (50, 100)], (48, 96)),
            (vec![(20, 90), (90, 20), (40, 50)], (48, 48)),
        ] {
            let size_of = of(&natives, &auto).size;
            assert_eq!((size_of.height, size_of.width), size, "{natives:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let options =
            |fit| OpenOptions { fit, height_width: Some((32, 32)), channels: Some(1), ..OpenOptions::default() };
        for (choice, fit, words) in [
            (FitChoice::Crop, Fit::Crop, "cuts 75% off"),
            (FitChoice::Pad, Fit::Pad, "padded"),
            (FitChoice::Stretch, Fit::Stretch, "stretched"),
            (FitChoice::Auto, Fit::Pad, "would cut 75%"),
        ] {
            let sizing = of(&[(50, 200)], &options(choice));
            assert_eq!((sizing.size, sizing.fit), (ImageSize::new(32, 32, 1), fit));
            assert!(sizing.to_string().contains(words), "{sizing}");
        }
        assert_eq!(of(&[], &OpenOptions::default()).size, ImageSize::new(224, 224, 3));
    }
}
