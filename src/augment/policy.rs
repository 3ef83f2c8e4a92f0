//! Policies: a few transformations of a list, drawn for each image, instead of all of them.

use serde::{Deserialize, Serialize};

use super::{draws::Draw, numbers::Numbers};

/// How transformations are drawn from [`TRANSFORMATIONS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[cfg_attr(feature = "cli", value(rename_all = "lowercase"))]
pub enum Policy {
    /// None.
    #[default]
    None,
    /// Several, each of the same magnitude (RandAugment: Cubuk et al. 2019).
    RandAugment,
    /// One, of a magnitude drawn as well (TrivialAugment: Müller and Hutter 2021).
    TrivialAugment,
}

/// The largest magnitude, as the papers count.
pub(super) const LARGEST: f64 = 30.0;

/// What is done to a draw, by a share of the strength that it has at the largest magnitude, and a sign.
type Transformation = fn(&mut Draw, f64, Ranges);

/// Strengths at the largest magnitude.
#[derive(Clone, Copy)]
struct Ranges {
    /// Degrees.
    rotation: f64,
    shear: f64,
    /// Share of the height and the width.
    shift: f64,
    /// Of brightness, contrast and saturation about 1.
    colour: f64,
}

const RAND_AUGMENT: Ranges = Ranges { rotation: 30.0, shear: 0.3, shift: 150.0 / 331.0, colour: 0.9 };
const TRIVIAL_AUGMENT: Ranges = Ranges { rotation: 135.0, shear: 0.99, shift: 32.0 / 224.0, colour: 0.99 };

/// The papers' list as far as it is geometry and smooth changes of colour.
const TRANSFORMATIONS: [Transformation; 9] = [
    |_, _, _| (),
    |draw, by, ranges| draw.rotate(by * ranges.rotation),
    |draw, by, ranges| draw.shear_columns(by * ranges.shear),
    |draw, by, ranges| draw.shear_rows(by * ranges.shear),
    |draw, by, ranges| draw.shift([by * ranges.shift, 0.0]),
    |draw, by, ranges| draw.shift([0.0, by * ranges.shift]),
    |draw, by, ranges| draw.brightness(1.0 + by * ranges.colour),
    |draw, by, ranges| draw.contrast(1.0 + by * ranges.colour),
    |draw, by, ranges| draw.saturation(1.0 + by * ranges.colour),
];

impl Policy {
    /// Transforms a draw; RandAugment by so many transformations of this magnitude, of [`LARGEST`] at most.
    pub(super) fn transform(self, draw: &mut Draw, numbers: &mut Numbers, operations: usize, magnitude: f64) {
        let once = |draw: &mut Draw, numbers: &mut Numbers, share: f64, ranges| {
            let transformation = TRANSFORMATIONS[numbers.below(TRANSFORMATIONS.len())];
            let sign = if numbers.chance(0.5) { 1.0 } else { -1.0 };
            transformation(draw, sign * share, ranges);
        };
        match self {
            Self::None => (),
            Self::RandAugment => {
                (0..operations).for_each(|_| once(draw, numbers, magnitude / LARGEST, RAND_AUGMENT));
            }
            Self::TrivialAugment => {
                let share = numbers.uniform();
                once(draw, numbers, share, TRIVIAL_AUGMENT);
            }
        }
    }
}
