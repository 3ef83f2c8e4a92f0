//! Values of flags: their parsers and the lists of what there is.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gabor::{
    data::{Dataset, Fit, Normalisation, download::PublicSet},
    gpu::Tuning,
    models::{self, Model, ZOO},
    ops::Optimizer,
    train::Schedule,
};
use serde::{Deserialize, Serialize};

/// Names of the zoo, with what each is.
pub fn model() -> PossibleValuesParser {
    PossibleValuesParser::new(ZOO.iter().map(|entry| PossibleValue::new(entry.name).help(entry.about)))
}

/// Fails with the list of models where the zoo has none of that name.
pub fn check_model(name: &str) -> Result<()> {
    let names: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
    ensure!(names.contains(&name), "there is no model {name:?}; the models are {}", names.join(", "));
    Ok(())
}

/// The model of that name of the zoo.
pub fn zoo_model(name: &str, input: [usize; 3], classes: usize) -> Result<Model> {
    check_model(name)?;
    models::build(name, input, classes).with_context(|| format!("the model {name} cannot be built"))
}

/// Names of optimizers.
pub fn optimizer() -> impl TypedValueParser<Value = Optimizer> {
    PossibleValuesParser::new(Optimizer::NAMES)
        .try_map(|name| Optimizer::from_name(&name).ok_or("no optimizer of that name"))
}

/// Names of schedules.
pub fn schedule() -> impl TypedValueParser<Value = Schedule> {
    PossibleValuesParser::new(Schedule::NAMES)
        .try_map(|name| Schedule::from_name(&name).ok_or("no schedule of that name"))
}

/// Names of data sets that can be downloaded.
pub fn public_set() -> impl TypedValueParser<Value = PublicSet> {
    PossibleValuesParser::new(PublicSet::ALL.map(PublicSet::name)).try_map(|name| name.parse::<PublicSet>())
}

/// `off`, `quick` or `full`.
pub fn tuning() -> impl TypedValueParser<Value = Tuning> {
    let values = [
        PossibleValue::new("off").help("An estimate of the cost chooses kernels"),
        PossibleValue::new("quick").help("About five seconds of timing the most important ones"),
        PossibleValue::new("full").help("Up to two minutes of timing all"),
    ];
    PossibleValuesParser::new(values).map(|name| match name.as_str() {
        "quick" => Tuning::Quick,
        "full" => Tuning::Full,
        _ => Tuning::Off,
    })
}

/// `crop` or `stretch`.
pub fn fit() -> impl TypedValueParser<Value = Fit> {
    let values = [
        PossibleValue::new("crop").help("The largest centred part of the input's proportions"),
        PossibleValue::new("stretch").help("The whole image, whatever that does to its proportions"),
    ];
    PossibleValuesParser::new(values).map(|name| if name == "crop" { Fit::Crop } else { Fit::Stretch })
}

/// `PATTERN=X`: a pattern of names and a number of at least 0.
pub fn of_pattern(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty());
    let parts = parts.and_then(|(pattern, number)| Some((pattern.to_string(), number.parse::<f64>().ok()?)));
    parts
        .filter(|(_, number)| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "give a pattern of names and a number of at least 0, such as fc.*=10".to_string())
}

/// A side `N`, or `HxW`.
pub fn image_size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|side| *side > 0);
    let sides = match text.split_once(['x', 'X']) {
        Some((height, width)) => side(height).zip(side(width)),
        None => side(text).map(|side| (side, side)),
    };
    sides.ok_or_else(|| "give the side of a square such as 64, or height and width such as 48x64".to_string())
}

/// How images are normalised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Normalise {
    /// By the statistics of the training images.
    #[default]
    Data,
    /// By ImageNet's statistics.
    ImageNet,
    /// Pixels scaled to 0..1 and nothing else.
    None,
    /// By these.
    Given(Normalisation),
}

impl Normalise {
    /// The numbers for a model that is trained on `train`.
    pub fn resolve(&self, train: &Dataset) -> Result<Normalisation> {
        let channels = train.image_size().channels;
        let normalisation = match self {
            Self::Data => Normalisation::of(train)?,
            Self::ImageNet => Normalisation::imagenet(),
            Self::None => Normalisation { mean: vec![0.0; channels], std: vec![1.0; channels] },
            Self::Given(given) => given.clone(),
        };
        normalisation.check(channels)?;
        Ok(normalisation)
    }
}

impl FromStr for Normalise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            |text: &str| text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f32>>>();
        match text {
            "data" => Ok(Self::Data),
            "imagenet" => Ok(Self::ImageNet),
            "none" => Ok(Self::None),
            _ => text
                .split_once('/')
                .and_then(|(mean, std)| Some(Self::Given(Normalisation { mean: numbers(mean)?, std: numbers(std)? })))
                .ok_or_else(|| {
                    "give data, imagenet, none, or MEAN/STD with a number a channel such as 0.5,0.5,0.5/0.25,0.25,0.25"
                        .to_string()
                }),
        }
    }
}

impl fmt::Display for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Data => f.write_str("data"),
            Self::ImageNet => f.write_str("imagenet"),
            Self::None => f.write_str("none"),
            Self::Given(given) => write!(f, "{}/{}", list(&given.mean), list(&given.std)),
        }
    }
}

impl TryFrom<String> for Normalise {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Normalise> for String {
    fn from(normalise: Normalise) -> Self {
        normalise.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_sizes() {
        assert_eq!(image_size("64"), Ok((64, 64)));
        assert_eq!(image_size("48x64"), Ok((48, 64)));
        for text in ["", "0", "x3", "4x", "1x2x3", "-1"] {
            assert!(image_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn normalisations_are_written_as_they_are_read() {
        for text in ["data", "imagenet", "none", "0.1307/0.3081", "0.5,0.25,0.125/0.1,0.2,0.3"] {
            assert_eq!(text.parse::<Normalise>().unwrap().to_string(), text);
        }
        assert!("0.5".parse::<Normalise>().is_err());
        assert!("a/b".parse::<Normalise>().is_err());
    }
}
