//! The layers of a network whose output is laid out as the image is.

use super::ExplainError;
use crate::{
    graph::Value,
    models::Model,
    nn::{Layer, SelfAttention},
    train::NetworkGraph,
};

/// A layer, or a block, whose output has a place for each part of the image.
#[derive(Clone, Debug)]
pub struct MapLayer {
    /// Its path.
    pub path: String,
    /// [`Layer::kind`], or `block`.
    pub kind: &'static str,
    /// Rows of places.
    pub height: usize,
    /// Columns of places.
    pub width: usize,
    /// Numbers at each place.
    pub channels: usize,
    /// Its output, f32 `[batch, height, width, channels]`, or `[batch, tokens, channels]`.
    pub(super) output: Value,
    /// Tokens before those of the image, such as a class token.
    pub(super) others: usize,
}

impl MapLayer {
    /// The numbers of the places of one image, `[height, width, channels]`, of its output of that image.
    pub(super) fn places<'a>(&self, output: &'a [f32]) -> &'a [f32] {
        output.get(self.others * self.channels..).unwrap_or_default()
    }
}

/// The layers of a network whose outputs have several places, in the order in which these are made, and what is made between
/// layers and given to one, such as a residual's sum: it is called as the block that makes it. Of tokens, those that a
/// self-attention is given: after the last one a classifier may read its class token alone, and the others count no more.
pub(super) fn map_layers(model: &Model, network: &NetworkGraph) -> Vec<MapLayer> {
    let NetworkGraph { graph, images, layers: applied, .. } = network;
    let attention = SelfAttention::new(1).kind();
    let is_attended = |value: Value| applied.iter().any(|layer| layer.kind == attention && layer.input == value);
    let is_between = |value: &Value| value != images && applied.iter().all(|layer| layer.output != *value);
    let between = applied.iter().map(|layer| layer.input).filter(is_between);
    let between = between.map(|value| (&*graph.node(value).scope, "block", value));
    let outputs = applied.iter().map(|layer| (layer.path.as_str(), layer.kind, layer.output));
    let of = |(path, kind, output): (&str, &'static str, Value)| {
        let (height, width, channels, others) = match graph.shape(output)[..] {
            [_, height, width, channels] => (height, width, channels, 0),
            [_, tokens, channels] if is_attended(output) => {
                let (height, width, others) = token_grid(model.input, tokens)?;
                (height, width, channels, others)
            }
            _ => return None,
        };
        let path = path.to_string();
        let layer = MapLayer { path, kind, height, width, channels, output, others };
        (height * width > 1 && !layer.path.is_empty()).then_some(layer)
    };
    let mut found: Vec<MapLayer> = outputs.chain(between).filter_map(of).collect();
    found.sort_by_key(|layer| layer.output);
    // What an activation makes of a layer's output is called as the layer is.
    let is_last: Vec<bool> =
        (0..found.len()).map(|at| found[at + 1..].iter().all(|later| later.path != found[at].path)).collect();
    found.into_iter().zip(is_last).filter_map(|(layer, is_last)| is_last.then_some(layer)).collect()
}

/// Rows and columns of tokens that stand for square patches of an image, and how many tokens come before them: one of the class,
/// or none.
fn token_grid([height, width, _]: [usize; 3], tokens: usize) -> Option<(usize, usize, usize)> {
    [1, 0].into_iter().find_map(|others| {
        let places = tokens.checked_sub(others).filter(|places| *places > 0)?;
        let patch = (height * width / places).isqrt().max(1);
        let (rows, columns) = (height / patch, width / patch);
        (rows * columns == places).then_some((rows, columns, others))
    })
}

/// The layer of that path.
pub(super) fn find<'a>(layers: &'a [MapLayer], path: &str) -> Result<&'a MapLayer, ExplainError> {
    layers.iter().find(|layer| layer.path == path).ok_or_else(|| {
        let names: Vec<String> = layers.iter().map(|layer| layer.path.clone()).collect();
        let near = nearest_name(path, &names).map(String::from);
        ExplainError::UnknownLayer { name: path.into(), near, layers: names }
    })
}

/// The name that is spelt most like one that is not there; none where none is like it.
pub fn nearest_name<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    /// From which similarity on it may be what was meant, of 1.
    const ALIKE: f64 = 0.7;
    let likeness = |other: &String| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let ranked = names.iter().map(|other| (likeness(other), other.as_str()));
    ranked.filter(|(likeness, _)| *likeness >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_patches_with_a_class_token_or_without() {
        assert_eq!(token_grid([224, 224, 3], 197), Some((14, 14, 1)));
        assert_eq!(token_grid([224, 224, 3], 196), Some((14, 14, 0)));
        assert_eq!(token_grid([32, 48, 3], 7), Some((2, 3, 1)));
        assert_eq!(token_grid([32, 32, 3], 8), None);
    }

    #[test]
    fn a_name_is_told_by_its_spelling() {
        let names = ["layer1.0", "layer2.0", "fc"].map(String::from);
        assert_eq!(nearest_name("Layer2.O", &names), Some("layer2.0"));
        assert_eq!(nearest_name("xyz", &names), None);
    }
}
