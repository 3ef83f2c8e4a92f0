//! Layers one after the other.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    iter,
};

use super::{Builder, Layer};
use crate::graph::{GraphError, Value};

/// Layers one after the other.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<(Option<String>, Box<dyn Layer>)>,
}

impl Sequential {
    /// No layers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a layer. It is named by its kind and number: `conv1`, `conv2`, `dense1`.
    #[expect(clippy::should_implement_trait, reason = "it appends a layer, as in Keras; there is no sum of networks")]
    pub fn add(mut self, layer: impl Layer + 'static) -> Self {
        self.layers.push((None, Box::new(layer)));
        self
    }

    /// Appends a layer under a name of your own.
    pub fn named(mut self, name: impl Into<String>, layer: impl Layer + 'static) -> Self {
        self.layers.push((Some(name.into()), Box::new(layer)));
        self
    }
}

/// What layers side by side are called, of which some have a name of their own: the others go by their kind and number.
pub(crate) fn names_of_layers<'a>(
    layers: impl Iterator<Item = (Option<&'a str>, &'static str)>,
) -> impl Iterator<Item = Cow<'a, str>> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    layers.map(move |(name, kind)| {
        let number = numbers.entry(kind).or_default();
        *number += 1;
        name.map_or_else(|| format!("{kind}{number}").into(), Cow::Borrowed)
    })
}

impl Layer for Sequential {
    fn forward(&self, builder: &mut Builder<'_>, mut x: Value) -> Result<Value, GraphError> {
        let mut taken = HashSet::new();
        let names = names_of_layers(self.layers.iter().map(|(name, layer)| (name.as_deref(), layer.kind())));
        for (name, (_, layer)) in iter::zip(names, &self.layers) {
            x = builder.layer(&name, layer.as_ref(), x)?;
            if !taken.insert(name.clone()) {
                return Err(builder.error(format!("two layers side by side are called {name}: give one another name")));
            }
        }
        Ok(x)
    }

    fn kind(&self) -> &'static str {
        "block"
    }
}
