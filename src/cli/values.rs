//! Values of flags: their parsers and the lists of what there is.

use std::{ffi::OsStr, fmt, fs, path::Path, str::FromStr};

use anyhow::{Context, Error, Result};
use clap::{
    Arg, Command,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
};
use gabor::{
    data::{
        Dataset, Normalisation,
        download::{PublicSet, PublicWeights},
    },
    models::{Architecture, ZOO},
};
use serde::{Deserialize, Serialize};

use super::console::Flags;

/// A network: one of the zoo by its name, or the layers in a file.
#[derive(Clone)]
pub struct ModelParser;

/// How the name of a file of layers ends.
pub const LAYERS: &str = ".toml";

impl TypedValueParser for ModelParser {
    type Value = Architecture;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        let is_file = value.to_str().is_some_and(|text| text.ends_with(LAYERS));
        if is_file {
            return read_layers(Path::new(value)).map_err(|error| {
                let flags = Flags::default();
                clap::Error::raw(ErrorKind::ValueValidation, format!("{}\n", flags.named(&format!("{error:#}"))))
            });
        }
        let names = PossibleValuesParser::new(names_of_zoo());
        names.parse_ref(command, arg, value).map(Architecture::Zoo)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let file = PossibleValue::new("FILE.toml").help("a list of layers of your own");
        Some(Box::new(names_of_zoo().chain([file])))
    }
}

/// Names of the zoo, with what each is.
fn names_of_zoo() -> impl Iterator<Item = PossibleValue> {
    ZOO.iter().map(|entry| PossibleValue::new(entry.name).help(entry.about))
}

/// The file of a run, of which the model alone counts.
#[derive(Deserialize)]
struct OfRun {
    model: Architecture,
}

/// The network whose layers are in a file, which may be that of a run with the model as one of its settings.
pub fn read_layers(path: &Path) -> Result<Architecture> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let of_run = toml::from_str(&text).is_ok_and(|file: toml::Table| file.contains_key("model"));
    let model = if of_run {
        toml::from_str(&text).map(|run: OfRun| run.model)
    } else {
        toml::from_str(&text).map(Architecture::Layers)
    };
    let model = model.with_context(|| format!("{} is no list of layers", path.display()))?;
    model.check().map_err(Error::msg).with_context(|| format!("{} is no network", path.display()))?;
    Ok(model)
}

/// Names of data sets that can be downloaded.
pub fn public_set() -> impl TypedValueParser<Value = PublicSet> {
    PossibleValuesParser::new(PublicSet::ALL.map(PublicSet::name)).try_map(|name| name.parse::<PublicSet>())
}

/// Names of models whose weights can be downloaded.
pub fn public_weights() -> impl TypedValueParser<Value = PublicWeights> {
    let names = PublicWeights::ALL.iter().map(|weights| weights.model);
    PossibleValuesParser::new(names).try_map(|name| PublicWeights::of(&name).ok_or("there are none"))
}

/// `PATTERN=X`: a pattern of names and a number of at least 0.
pub fn of_pattern(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty());
    let parts = parts.and_then(|(pattern, number)| Some((pattern.to_string(), number.parse::<f64>().ok()?)));
    parts
        .filter(|(_, number)| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "give a pattern of names and a number of at least 0, such as fc.*=10".to_string())
}

/// How images are normalised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Normalise {
    /// As pretrained weights were trained with; else by the statistics of the training images.
    #[default]
    Auto,
    /// By the statistics of the training images.
    Data,
    /// By ImageNet's statistics.
    ImageNet,
    /// Pixels scaled to 0..1 and nothing else.
    None,
    /// By these.
    Given(Normalisation),
}

impl Normalise {
    /// The numbers for a model that is trained on `train`, and that begins with weights that were `pretrained` with others.
    pub fn resolve(&self, train: &Dataset, pretrained: Option<&Normalisation>) -> Result<Normalisation> {
        let channels = train.image_size().channels;
        let normalisation = match self {
            Self::Auto => pretrained.map_or_else(|| Normalisation::of(train), |own| Ok(own.clone()))?,
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
            "auto" => Ok(Self::Auto),
            "data" => Ok(Self::Data),
            "imagenet" => Ok(Self::ImageNet),
            "none" => Ok(Self::None),
            _ => text
                .split_once('/')
                .and_then(|(mean, std)| Some(Self::Given(Normalisation { mean: numbers(mean)?, std: numbers(std)? })))
                .ok_or_else(|| {
                    "give auto, data, imagenet, none, or MEAN/STD with a number a channel such as 0.5,0.5,0.5/0.25,0.25,0.25"
                        .to_string()
                }),
        }
    }
}

impl fmt::Display for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Auto => f.write_str("auto"),
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
    fn normalisations_are_written_as_they_are_read() {
        for text in ["auto", "data", "imagenet", "none", "0.1307/0.3081", "0.5,0.25,0.125/0.1,0.2,0.3"] {
            assert_eq!(text.parse::<Normalise>().unwrap().to_string(), text);
        }
        assert!("0.5".parse::<Normalise>().is_err());
        assert!("a/b".parse::<Normalise>().is_err());
    }
}
