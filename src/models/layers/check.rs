//! What a list of layers may hold.

use std::{collections::HashSet, iter};

use super::{Classes, Edges, LayerSpec, NamedLayer, Network, Units};
use crate::{
    nn::{Activation, Init, names_of_layers},
    settings::{self, above},
};

/// Layers of a network, at most, repeated ones counted as often as they are.
const MOST_LAYERS: usize = 10_000;

/// What a layer scales by or begins with, at most: with more, numbers soon are not finite.
const MOST: f64 = 1e6;

impl Network {
    /// Checks that every number is one that a layer can have, and every name one that no other layer has.
    ///
    /// # Errors
    /// With a message that names the layer and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(fits) {
            return Err(format!(
                "a network is not called {:?}: take letters, digits, -, _ and . for its name",
                self.name
            ));
        }
        check_layers(&self.layers, &mut 0, 1)?;
        check_paths(&self.layers, "", &mut HashSet::new())?;
        if self.last_dense().is_none_or(|units| units != Units::Classes(Classes::Classes)) {
            return Err(format!("{} must end in a dense layer of units = \"classes\"", self.name));
        }
        Ok(())
    }
}

/// Adds the number of layers to `count`, `times` each.
fn check_layers(layers: &[NamedLayer], count: &mut usize, times: usize) -> Result<(), String> {
    let called = names_of_layers(layers.iter().map(|named| (named.name.as_deref(), named.layer.kind())));
    for (called, NamedLayer { name, layer }) in iter::zip(called, layers) {
        if let Some(name) = name
            && (name.is_empty() || name.contains('/') || name.contains(char::is_whitespace))
        {
            return Err(format!("a layer is not called {name:?}: names have no blanks and no /"));
        }
        *count = count.saturating_add(times);
        if *count > MOST_LAYERS {
            return Err(format!("a network has at most {MOST_LAYERS} layers"));
        }
        // Not in backticks, which stand for settings: a flag of that name is another one's.
        layer.check().map_err(|error| format!("layer {called}: {}", error.replace('`', "")))?;
        match layer {
            LayerSpec::Block { repeat, layers } => check_layers(layers, count, times.saturating_mul(*repeat))?,
            LayerSpec::Residual { layers, shortcut, .. } => {
                check_layers(layers, count, times)?;
                check_layers(shortcut, count, times)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that no two layers below `parent` have one path: they would share their parameters.
fn check_paths(layers: &[NamedLayer], parent: &str, paths: &mut HashSet<String>) -> Result<(), String> {
    let names = names_of_layers(layers.iter().map(|named| (named.name.as_deref(), named.layer.kind())));
    for (name, NamedLayer { layer, .. }) in iter::zip(names, layers) {
        let path = if parent.is_empty() { name.into_owned() } else { format!("{parent}.{name}") };
        match layer {
            LayerSpec::Block { repeat: 1, layers } => check_paths(layers, &path, paths)?,
            LayerSpec::Block { repeat, layers } => {
                (0..*repeat).try_for_each(|at| check_paths(layers, &format!("{path}.{at}"), paths))?;
            }
            LayerSpec::Residual { layers, shortcut, .. } => {
                check_paths(layers, &path, paths)?;
                check_paths(shortcut, &format!("{path}.shortcut"), paths)?;
            }
            _ if paths.contains(&path) => {
                return Err(format!("two layers are called {path}: give one of them a name of its own"));
            }
            _ => {
                paths.insert(path);
            }
        }
    }
    Ok(())
}

fn check_activation(activation: Activation) -> Result<(), String> {
    match activation {
        Activation::LeakyRelu(slope) => settings::check("leaky_relu", &slope, &(-MOST..=MOST)),
        _ => Ok(()),
    }
}

fn check_init(init: Init) -> Result<(), String> {
    match init {
        Init::Constant(value) | Init::Uniform(value) | Init::TruncatedNormal(value) => {
            settings::check("init", &f64::from(value), &(-MOST..=MOST))
        }
        Init::Whitening(epsilon) => settings::check("whitening", &f64::from(epsilon), &above(0.0)),
        _ => Ok(()),
    }
}

impl Edges {
    fn check(self, most: usize) -> Result<(), String> {
        match self {
            Self::All(n) => settings::check("padding", &n, &(0..=most)),
            Self::Rule(_) => Ok(()),
        }
    }
}

impl LayerSpec {
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = 1..=1 << 16;
        let size = |name: &str, value: usize| settings::check(name, &value, &sizes);
        match self {
            Self::Conv { channels, kernel, stride, padding, dilation, groups, init, activation, .. } => {
                check_activation(*activation)?;
                check_init(*init)?;
                padding.check(1 << 16)?;
                let numbers = [("channels", channels), ("kernel", kernel), ("stride", stride)];
                let more = [("dilation", dilation), ("groups", groups)];
                numbers.into_iter().chain(more).try_for_each(|(name, value)| size(name, *value))
            }
            Self::Dense { units, init, activation, .. } => {
                check_activation(*activation)?;
                check_init(*init)?;
                match units {
                    Units::Number(units) => size("units", *units),
                    Units::Classes(_) => Ok(()),
                }
            }
            Self::BatchNorm { epsilon } | Self::LayerNorm { epsilon } => {
                settings::check("epsilon", &f64::from(*epsilon), &above(0.0))
            }
            Self::MaxPool(pool) | Self::AveragePool(pool) => {
                size("size", pool.size)?;
                // A window of nothing but padding has no largest value.
                pool.padding.check(pool.size - 1)?;
                size("stride", pool.stride.unwrap_or(1))
            }
            Self::Dropout { rate } => settings::check("rate", rate, &(0.0..1.0)),
            Self::Scale { factor } => settings::check("factor", factor, &(-MOST..=MOST)),
            Self::SqueezeExcite { squeezed } | Self::Cbam { squeezed } => size("squeezed", *squeezed),
            Self::Block { repeat, .. } => size("repeat", *repeat),
            Self::Residual { drop, activation, .. } => {
                check_activation(*activation)?;
                settings::check("drop", drop, &(0.0..1.0))
            }
            Self::Activation { function } => check_activation(*function),
            Self::GlobalAveragePool | Self::GlobalMaxPool | Self::Flatten => Ok(()),
        }
    }
}
