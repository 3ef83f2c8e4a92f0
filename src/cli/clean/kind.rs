//! What is looked for.

use clap::ValueEnum;
use gabor::audit::FlawKind;
use serde::Serialize;

/// What may be wrong with an image, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Files that cannot be read
    Unreadable,
    /// Copies, exact or near, in two of training, validation and test images
    Leaks,
    /// Images that are the same pixel by pixel
    Duplicates,
    /// Images that were encoded anew, resized, brightened or cut by a pixel
    NearDuplicates,
    /// Labels that are probably wrong, by models that did not train on the image
    Labels,
    /// Images unlike all others of their class, by a model's embeddings
    Outliers,
    /// Nearly black images
    Dark,
    /// Nearly white images
    Overexposed,
    /// Images of nearly one brightness
    LowContrast,
    /// Images far less sharp than the rest
    Blurred,
    /// Images far smaller than the rest
    Tiny,
    /// Images far longer or wider than the rest
    OddProportions,
}

impl Kind {
    /// Its name, as --only has it; also the anchor of its section.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Leaks => "leaks",
            Self::Duplicates => "duplicates",
            Self::NearDuplicates => "near-duplicates",
            Self::Labels => "labels",
            Self::Outliers => "outliers",
            Self::Dark => "dark",
            Self::Overexposed => "overexposed",
            Self::LowContrast => "low-contrast",
            Self::Blurred => "blurred",
            Self::Tiny => "tiny",
            Self::OddProportions => "odd-proportions",
        }
    }

    /// What its images are, and what their score is.
    pub fn about(self) -> &'static str {
        match self {
            Self::Unreadable => "Files that cannot be read, and are left out of training.",
            Self::Leaks => {
                "Images of which a copy, exact or near, is in another part of the data: what is measured on them is too good. The \
                 score is the similarity, 1 where the pixels are the same."
            }
            Self::Duplicates => "Images that are the same as an earlier one, pixel by pixel.",
            Self::NearDuplicates => {
                "Images that are an earlier one encoded anew, resized, made brighter or darker, or cut by a pixel. The score is \
                 the correlation of small pictures of both."
            }
            Self::Labels => {
                "Images whose label is probably wrong, with the class that they probably are of: models say so that did not \
                 train on them. The score is the probability of that class."
            }
            Self::Outliers => {
                "Images unlike all others of their class. The score is the mean cosine distance to the nearest images of the \
                 class in a model's embeddings."
            }
            Self::Dark => "The score is the level of 255 that 99 of 100 pixels are below.",
            Self::Overexposed => "The score is the level of 255 that 99 of 100 pixels are above.",
            Self::LowContrast => {
                "The score is how many levels of 255 lie between the darkest and the brightest hundredth."
            }
            Self::Blurred => "The score is the sharpness by that of the median image.",
            Self::Tiny => "The score is the shorter side in pixels.",
            Self::OddProportions => "The score is the width by the height.",
        }
    }

    /// Whether it takes a look at each image.
    pub fn takes_looks(self) -> bool {
        !self.takes_models() && self != Self::Unreadable
    }

    /// Whether it takes copies to be sought.
    pub fn takes_copies(self) -> bool {
        matches!(self, Self::Leaks | Self::Duplicates | Self::NearDuplicates)
    }

    /// Whether it takes models.
    pub fn takes_models(self) -> bool {
        matches!(self, Self::Labels | Self::Outliers)
    }
}

impl From<FlawKind> for Kind {
    fn from(kind: FlawKind) -> Self {
        match kind {
            FlawKind::Dark => Self::Dark,
            FlawKind::Overexposed => Self::Overexposed,
            FlawKind::LowContrast => Self::LowContrast,
            FlawKind::Blurred => Self::Blurred,
            FlawKind::Tiny => Self::Tiny,
            FlawKind::OddProportions => Self::OddProportions,
        }
    }
}
