//! How images are varied, as a person sets it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Policy, policy::LARGEST};
use crate::ops::{Fill, Interpolation};

/// Augmentations by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Preset {
    /// Images stay as they are.
    None,
    /// Turned, moved and magnified a little, never mirrored: for digits, letters and signs.
    Light,
    /// Mirrored and cropped at random, and from 65 pixels on also of other colours: for photographs.
    Standard,
    /// As standard, and by TrivialAugment, erased and mixed: for long training.
    Strong,
    /// Light for grey images, else standard.
    Auto,
}

crate::settings! {
    /// How training images are varied, anew each time that one is trained on. What is left out is as the preset has it, and
    /// without a preset images stay as they are. Names and meanings are those of Keras's `ImageDataGenerator` and of
    /// torchvision where they have them.
    #[command(next_help_heading = "Augmentation")]
    pub struct Augmentation {
        /// How training images are varied; each of the other settings replaces the preset's own [default: auto].
        #[arg(id = "augment", long = "augment", value_name = "PRESET")]
        pub preset: Option<Preset> = None;
        /// Turn by up to this angle, in degrees.
        #[arg(long, value_name = "DEGREES")]
        pub rotation_range: Option<f64> = None, in 0.0..=180.0;
        /// Move sideways by up to this share of the width, or so many pixels from 1 on.
        #[arg(long, value_name = "X")]
        pub width_shift_range: Option<f64> = None, in 0.0..=16384.0;
        /// Move up or down by up to this share of the height, or so many pixels from 1 on.
        #[arg(long, value_name = "X")]
        pub height_shift_range: Option<f64> = None, in 0.0..=16384.0;
        /// Shear by up to this angle, in degrees.
        #[arg(long, value_name = "DEGREES")]
        pub shear_range: Option<f64> = None, in 0.0..=80.0;
        /// Magnify or shrink each axis by a factor of 1 - X to 1 + X.
        #[arg(long, value_name = "X")]
        pub zoom_range: Option<f64> = None, in 0.0..=0.95;
        /// Mirror every other image, left to right.
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        pub horizontal_flip: Option<bool> = None;
        /// Mirror every other image, top to bottom.
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        pub vertical_flip: Option<bool> = None;
        /// Mirror each image left to right in every other epoch, instead of at random.
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        pub alternating_flip: Option<bool> = None;
        /// Move by up to so many whole pixels: a random crop of the image with such a border.
        #[arg(long, value_name = "PIXELS")]
        pub crop_padding: Option<usize> = None, in 0..=16384;
        /// Crop at random to this share of the area or more, of 3:4 to 4:3 of its aspect ratio, and magnify that to the
        /// whole (1: not at all).
        #[arg(long, value_name = "SHARE")]
        pub crop_scale: Option<f64> = None, in 0.01..=1.0;
        /// What lies beyond the edges: constant, nearest (the edge), reflect or wrap.
        #[arg(long, value_name = "MODE")]
        pub fill_mode: Option<Fill> = None;
        /// The value of --fill-mode constant, 0 to 255.
        #[arg(long, value_name = "X")]
        pub fill_value: Option<f64> = None, in 0.0..=255.0;
        /// Between pixels: bilinear or nearest.
        #[arg(long, value_name = "HOW")]
        pub interpolation: Option<Interpolation> = None;
        /// Change the brightness by a factor of 1 - X to 1 + X.
        #[arg(long, value_name = "X")]
        pub brightness: Option<f64> = None, in 0.0..=1.0;
        /// Change the contrast by a factor of 1 - X to 1 + X.
        #[arg(long, value_name = "X")]
        pub contrast: Option<f64> = None, in 0.0..=1.0;
        /// Change the saturation by a factor of 1 - X to 1 + X.
        #[arg(long, value_name = "X")]
        pub saturation: Option<f64> = None, in 0.0..=1.0;
        /// Turn the hue by up to this share of its circle.
        #[arg(long, value_name = "X")]
        pub hue: Option<f64> = None, in 0.0..=0.5;
        /// Add up to this to all channels, of 255.
        #[arg(long, value_name = "X")]
        pub channel_shift_range: Option<f64> = None, in 0.0..=255.0;
        /// Take the colour from this share of the images.
        #[arg(long, value_name = "SHARE")]
        pub grayscale: Option<f64> = None, in 0.0..=1.0;
        /// Blur by a Gaussian of up to this deviation, in pixels.
        #[arg(long, value_name = "PIXELS")]
        pub blur: Option<f64> = None, in 0.0..=2.0;
        /// Add noise of up to this deviation, of 255.
        #[arg(long, value_name = "X")]
        pub noise: Option<f64> = None, in 0.0..=255.0;
        /// Erase a box of 2 to 33% of the area in this share of the images.
        #[arg(long, value_name = "SHARE")]
        pub erasing: Option<f64> = None, in 0.0..=1.0;
        /// Mix images and labels with others of the batch, by shares of the beta distribution of this shape (MixUp).
        #[arg(long, value_name = "ALPHA")]
        pub mixup: Option<f64> = None, in 0.0..=100.0;
        /// Put boxes of others of the batch into images, of such shares of the area, and mix the labels (CutMix); with --mixup
        /// as well, every other image has the one or the other.
        #[arg(long, value_name = "ALPHA")]
        pub cutmix: Option<f64> = None, in 0.0..=100.0;
        /// Draw a few transformations for each image: randaugment, trivialaugment or none.
        #[arg(long, value_name = "NAME")]
        pub policy: Option<Policy> = None;
        /// How many transformations randaugment draws [default: 2].
        #[arg(long, value_name = "N")]
        pub policy_operations: Option<usize> = None, in 0..=16;
        /// How strong those of randaugment are, of 30 [default: 9].
        #[arg(long, value_name = "X")]
        pub policy_magnitude: Option<f64> = None, in 0.0..=LARGEST;
    }
}

impl Preset {
    /// What it means for images of `[height, width, channels]`.
    fn augmentation(self, input: [usize; 3]) -> Augmentation {
        let [height, width, channels] = input;
        let plain = Augmentation { preset: Some(Self::None), ..Augmentation::default() };
        match self {
            Self::None => plain,
            Self::Auto if channels == 1 => Self::Light.augmentation(input),
            Self::Auto => Self::Standard.augmentation(input),
            Self::Light => Augmentation {
                preset: Some(self),
                rotation_range: Some(10.0),
                width_shift_range: Some(0.1),
                height_shift_range: Some(0.1),
                zoom_range: Some(0.1),
                ..plain
            },
            Self::Standard if height.max(width) <= 64 => Augmentation {
                preset: Some(self),
                horizontal_flip: Some(true),
                crop_padding: Some(height.min(width) / 8),
                fill_mode: Some(Fill::Constant),
                ..plain
            },
            Self::Standard => Augmentation {
                preset: Some(self),
                horizontal_flip: Some(true),
                crop_scale: Some(0.35),
                brightness: Some(0.2),
                contrast: Some(0.2),
                saturation: Some(0.2),
                ..plain
            },
            Self::Strong => Augmentation {
                preset: Some(self),
                policy: Some(Policy::TrivialAugment),
                erasing: Some(0.25),
                mixup: Some(0.2),
                cutmix: Some(1.0),
                ..Self::Standard.augmentation(input)
            },
        }
    }
}

macro_rules! or {
    ($given:expr, $base:expr, $($field:ident),*) => {
        Augmentation { preset: $base.preset, $($field: $given.$field.or($base.$field)),* }
    };
}

impl Augmentation {
    /// The same for images of `[height, width, channels]` with every setting that the preset has; its name is the preset's
    /// that was taken.
    pub fn resolved(&self, input: [usize; 3]) -> Self {
        let base = self.preset.unwrap_or(Preset::None).augmentation(input);
        let mut all = or!(
            self,
            base,
            rotation_range,
            width_shift_range,
            height_shift_range,
            shear_range,
            zoom_range,
            horizontal_flip,
            vertical_flip,
            alternating_flip,
            crop_padding,
            crop_scale,
            fill_mode,
            fill_value,
            interpolation,
            brightness,
            contrast,
            saturation,
            hue,
            channel_shift_range,
            grayscale,
            blur,
            noise,
            erasing,
            mixup,
            cutmix,
            policy,
            policy_operations,
            policy_magnitude
        );
        if input[2] != 3 {
            // What grey images do not have.
            (all.saturation, all.hue, all.grayscale) = (None, None, None);
        }
        all
    }

    /// Leaves the presets' random crop of images of `[height, width, channels]` out, and has them magnified a little instead:
    /// for long images, whose ends such a crop would mostly lose.
    pub fn keep_ends(&mut self, input: [usize; 3]) {
        if self.crop_scale.is_none() && self.resolved(input).crop_scale.is_some() {
            self.crop_scale = Some(1.0);
            self.zoom_range.get_or_insert(0.1);
        }
    }

    /// Whether images stay as they are.
    pub fn is_identity(&self) -> bool {
        !(self.has_geometry() || self.has_colours() || self.has_boxes() || self.mixes_labels())
    }

    fn has_geometry(&self) -> bool {
        let ranges =
            [self.rotation_range, self.width_shift_range, self.height_shift_range, self.shear_range, self.zoom_range];
        let flips = [self.horizontal_flip, self.vertical_flip, self.alternating_flip];
        ranges.into_iter().any(is_positive)
            || flips.contains(&Some(true))
            || self.crop_padding.is_some_and(|pixels| pixels > 0)
            || self.crop_scale.is_some_and(|share| share < 1.0)
            || self.has_policy()
    }

    pub(super) fn has_colours(&self) -> bool {
        let others = [
            self.brightness,
            self.saturation,
            self.hue,
            self.channel_shift_range,
            self.grayscale,
            self.blur,
            self.noise,
        ];
        others.into_iter().any(is_positive) || self.has_contrast()
    }

    pub(super) fn has_contrast(&self) -> bool {
        is_positive(self.contrast) || self.has_policy()
    }

    fn has_policy(&self) -> bool {
        self.policy.is_some_and(|policy| policy != Policy::None)
    }

    pub(super) fn has_boxes(&self) -> bool {
        is_positive(self.erasing)
    }

    /// Whether images are mixed with others of their batch, and so their labels.
    pub fn mixes_labels(&self) -> bool {
        is_positive(self.mixup) || is_positive(self.cutmix)
    }
}

/// Preset and settings, such as `light: rotation_range 10, zoom_range 0.1`; `none` where images stay as they are.
impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_identity() {
            return f.write_str("none");
        }
        let settings = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        let given = settings.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let mut separator = "";
        if let Some(preset) = settings["preset"].as_str().filter(|name| *name != "none") {
            write!(f, "{preset}: ")?;
        }
        for (name, value) in given.filter(|(name, _)| *name != "preset") {
            match value {
                serde_json::Value::Bool(false) => continue,
                serde_json::Value::Bool(true) => write!(f, "{separator}{name}")?,
                serde_json::Value::String(text) => write!(f, "{separator}{name} {text}")?,
                number => write!(f, "{separator}{name} {}", number.as_f64().unwrap_or_default())?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

fn is_positive(number: Option<f64>) -> bool {
    number.is_some_and(|number| number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_given_replace_those_of_the_preset() {
        let given = Augmentation {
            preset: Some(Preset::Auto),
            rotation_range: Some(0.0),
            zoom_range: Some(0.3),
            ..Augmentation::default()
        };
        let of_digits = given.resolved([28, 28, 1]);
        let shown = "light: height_shift_range 0.1, rotation_range 0, width_shift_range 0.1, zoom_range 0.3";
        assert_eq!(of_digits.to_string(), shown);
        assert_eq!((of_digits.rotation_range, of_digits.zoom_range), (Some(0.0), Some(0.3)));
        assert_eq!((of_digits.width_shift_range, of_digits.horizontal_flip), (Some(0.1), None));
        let of_photographs = given.resolved([224, 224, 3]);
        assert_eq!((of_photographs.preset, of_photographs.crop_scale), (Some(Preset::Standard), Some(0.35)));
        assert_eq!(given.resolved([32, 32, 3]).crop_padding, Some(4));
    }

    #[test]
    fn the_ends_of_long_images_are_kept_unless_a_crop_is_asked_for() {
        let photographs = [224, 224, 3];
        let kept = |given: Augmentation, input: [usize; 3]| {
            let mut kept = given;
            kept.keep_ends(input);
            (kept.crop_scale, kept.zoom_range)
        };
        let auto = Augmentation { preset: Some(Preset::Auto), ..Augmentation::default() };
        assert_eq!(kept(auto.clone(), photographs), (Some(1.0), Some(0.1)));
        assert_eq!(kept(auto.clone(), [32, 32, 3]), (None, None));
        assert_eq!(kept(Augmentation { crop_scale: Some(0.5), ..auto }, photographs), (Some(0.5), None));
        assert_eq!(kept(Augmentation::default(), photographs), (None, None));
    }

    #[test]
    fn without_a_preset_images_stay_as_they_are() {
        assert!(Augmentation::default().resolved([28, 28, 1]).is_identity());
        let none = Augmentation { preset: Some(Preset::None), ..Augmentation::default() };
        assert!(none.resolved([224, 224, 3]).is_identity());
        for preset in [Preset::Light, Preset::Standard, Preset::Strong, Preset::Auto] {
            let augmentation = Augmentation { preset: Some(preset), ..Augmentation::default() };
            let resolved = augmentation.resolved([224, 224, 3]);
            assert!(!resolved.is_identity(), "{preset:?}");
            assert_eq!(resolved.check(), Ok(()), "{preset:?}");
        }
        // Of what grey images do not have nothing is left.
        let hue = Augmentation { hue: Some(0.1), ..Augmentation::default() };
        assert_eq!(hue.resolved([28, 28, 3]).to_string(), "hue 0.1");
        assert!(hue.resolved([28, 28, 1]).is_identity() && !hue.resolved([28, 28, 3]).is_identity());
    }
}
