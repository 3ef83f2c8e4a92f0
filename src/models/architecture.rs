//! A network by its name in the zoo, or by its layers.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{Model, ZOO, build, layers::Network};
use crate::tasks::Classification;

/// Images of which a network of 25 million parameters learns more than one of 11.
const MANY_IMAGES: usize = 200_000;

/// Which network: one of the zoo, or one of layers that are written down.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Architecture {
    /// The one of this name in [`ZOO`].
    Zoo(String),
    /// One of these layers.
    Layers(Network),
}

impl Architecture {
    /// The one called `name`, of these layers where there are any.
    pub fn new(name: impl Into<String>, layers: Option<Network>) -> Self {
        layers.map_or_else(|| Self::Zoo(name.into()), Self::Layers)
    }

    /// One that suits so many images of `[height, width, channels]`, where no other is asked for.
    pub fn suiting([height, width, channels]: [usize; 3], images: usize) -> Self {
        let side = height.max(width);
        Self::Zoo(
            match side {
                // Its windows have no padding.
                0..=32 if channels == 1 && height.min(width) >= 10 => "seed-cnn",
                0..=64 => "resnet20",
                _ if images < MANY_IMAGES => "resnet18",
                _ => "resnet50",
            }
            .to_string(),
        )
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Zoo(name) => name,
            Self::Layers(network) => &network.name,
        }
    }

    /// Checks that there is such a model.
    ///
    /// # Errors
    /// With a message that lists the zoo, or names the layer that cannot be.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Layers(network) => network.check(),
            Self::Zoo(name) if ZOO.iter().any(|entry| entry.name == name) => Ok(()),
            Self::Zoo(name) => {
                let names: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
                Err(format!(
                    "there is no model {name:?}; the models are {}, or a .toml file of layers",
                    names.join(", ")
                ))
            }
        }
    }

    /// The model for images of `input` (height, width, channels), which tells so many classes apart.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn build(&self, input: [usize; 3], classes: usize) -> Result<Model, String> {
        self.check()?;
        match self {
            Self::Zoo(name) => build(name, input, classes).ok_or_else(|| format!("there is no model {name:?}")),
            Self::Layers(network) => Ok(Model {
                name: network.name.clone(),
                input,
                task: Arc::new(Classification::new(classes)),
                network: network.build(classes),
                layers: Some(network.clone()),
                teacher: None,
            }),
        }
    }
}

impl From<&str> for Architecture {
    fn from(name: &str) -> Self {
        Self::Zoo(name.into())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Architecture {
    /// A text is a name, and anything else must be layers, whose errors are told.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(name) => Ok(Self::Zoo(name)),
            layers => serde_json::from_value(layers).map(Self::Layers).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_a_network_that_is_there() {
        let cases = [
            ([28, 28, 1], 8000, "seed-cnn"),
            ([10, 28, 1], 8000, "seed-cnn"),
            ([8, 8, 1], 8000, "resnet20"),
            ([32, 32, 3], 50_000, "resnet20"),
            ([64, 48, 1], 500, "resnet20"),
            ([224, 224, 3], 500, "resnet18"),
            ([224, 224, 3], 1_200_000, "resnet50"),
        ];
        for (input, images, name) in cases {
            let suiting = Architecture::suiting(input, images);
            assert_eq!(suiting.name(), name);
            assert_eq!(suiting.build(input, 7).unwrap().name, name);
        }
        let error = Architecture::from("alexnet").build([32, 32, 3], 7).err().unwrap();
        assert!(error.contains("alexnet") && error.contains("seed-cnn, lenet5"), "{error}");
    }
}
