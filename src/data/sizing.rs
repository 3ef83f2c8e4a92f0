//! The size that images are brought to and how, chosen by those that there are.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Fit, ImageSize, OpenOptions};

/// The size for images of many sizes, that of most ImageNet networks.
const DEFAULT_SIDE: usize = 224;
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
    reason: Reason,
    fit_given: bool,
}

/// Why images get their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Given,
    Own,
    Mixed,
}

impl Sizing {
    /// What the options say of images of these sizes, or a sample of them.
    pub(super) fn of(natives: &[ImageSize], options: &OpenOptions) -> Self {
        let area = |size: &ImageSize| (size.height, size.width);
        let ((height, width), reason) = match (options.height_width, natives.first().map(area)) {
            (Some(given), _) => (given, Reason::Given),
            (None, Some(first)) if natives.iter().all(|size| area(size) == first) => (first, Reason::Own),
            (None, _) => ((DEFAULT_SIDE, DEFAULT_SIDE), Reason::Mixed),
        };
        let is_grey = !natives.is_empty() && natives.iter().all(|size| size.channels == 1);
        let channels = options.channels.unwrap_or(if is_grey { 1 } else { 3 });
        let size = ImageSize::new(height, width, channels);
        let mut cuts: Vec<f64> = natives.iter().map(|native| cut(*native, size)).collect();
        cuts.sort_by(f64::total_cmp);
        let cut = cuts.get(cuts.len() / 2).copied().unwrap_or(0.0);
        let fit = match options.fit {
            FitChoice::Auto if cut > MOST_CUT => Fit::Pad,
            FitChoice::Auto | FitChoice::Crop => Fit::Crop,
            FitChoice::Pad => Fit::Pad,
            FitChoice::Stretch => Fit::Stretch,
        };
        Self { size, fit, cut, reason, fit_given: options.fit != FitChoice::Auto }
    }
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { size, fit, cut, reason, fit_given } = self;
        let why = match reason {
            Reason::Given => "as asked for",
            Reason::Own => "their own size",
            Reason::Mixed => "as they are of many sizes",
        };
        write!(f, "{}x{}, {why}", size.height, size.width)?;
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
        assert_eq!((wide.size, wide.fit), (ImageSize::new(224, 224, 3), Fit::Pad));
        assert_eq!(
            wide.to_string(),
            "224x224, as they are of many sizes; whole, padded with grey, as cropping would cut 70% off the median image"
        );
        let nearly_square = of(&[(95, 100), (100, 100), (50, 200)], &auto);
        assert_eq!(nearly_square.fit, Fit::Crop);
        let own = of(&[(50, 200); 3], &auto);
        assert_eq!((own.size.width, own.fit, own.to_string().as_str()), (200, Fit::Crop, "50x200, their own size"));
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
