//! Layers one after the other.

use std::collections::HashMap;

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

impl Layer for Sequential {
    fn forward(&self, builder: &mut Builder<'_>, mut x: Value) -> Result<Value, GraphError> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for (name, layer) in &self.layers {
            let number = numbers.entry(layer.kind()).or_default();
            *number += 1;
            let automatic = format!("{}{number}", layer.kind());
            x = builder.layer(name.as_deref().unwrap_or(&automatic), layer.as_ref(), x)?;
        }
        Ok(x)
    }

    fn kind(&self) -> &'static str {
        "block"
    }
}
