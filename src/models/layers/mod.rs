//! Networks that are written down as a list of layers.

mod build;
mod check;

use std::fmt;

use serde::{Deserialize, Serialize, de::Error};
use serde_json::{Map, Value as Json};

use build::sequence;

use crate::{
    nn::{Activation, Dropout, Init, Layer},
    ops::Padding,
};

/// A network as a list of layers, which a file can hold:
///
/// ```toml
/// name = "small"
/// layers = [
///     { type = "conv", channels = 32, kernel = 3, padding = "same", activation = "relu" },
///     { type = "max_pool", size = 2 },
///     { type = "flatten" },
///     { name = "head", type = "dense", units = "classes" },
/// ]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What it is called.
    pub name: String,
    /// Its layers, one after the other. The last dense layer has as many units as there are classes.
    pub layers: Vec<NamedLayer>,
}

/// A layer with the name that its parameters and its errors bear. Without one it is called by its kind and number, as `conv1`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLayer {
    /// Its name.
    pub name: Option<String>,
    /// The layer.
    pub layer: LayerSpec,
}

/// A layer's type and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSpec {
    /// A convolution, by [`Conv2d`].
    Conv {
        /// Filters.
        channels: usize,
        /// Rows and columns of a filter.
        kernel: usize,
        /// Distance of neighbouring windows.
        #[serde(default = "one")]
        stride: usize,
        /// What is added at the edges.
        #[serde(default)]
        padding: Edges,
        /// Distance of neighbouring taps.
        #[serde(default = "one")]
        dilation: usize,
        /// Groups of channels that do not see each other.
        #[serde(default = "one")]
        groups: usize,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
        /// How the weight begins.
        #[serde(default = "glorot")]
        init: Init,
        /// What follows.
        #[serde(default)]
        activation: Activation,
    },
    /// A fully connected layer, by [`Dense`].
    Dense {
        /// Its outputs.
        units: Units,
        /// Whether there is a bias.
        #[serde(default = "yes")]
        bias: bool,
        /// How the weight begins.
        #[serde(default = "glorot")]
        init: Init,
        /// What follows.
        #[serde(default)]
        activation: Activation,
    },
    /// Batch norm over the channels.
    BatchNorm {
        /// What is added to the variance.
        #[serde(default = "batch_norm_epsilon")]
        epsilon: f32,
    },
    /// Layer norm over the channels.
    LayerNorm {
        /// What is added to the variance.
        #[serde(default = "layer_norm_epsilon")]
        epsilon: f32,
    },
    /// A function of each element.
    Activation {
        /// The function.
        function: Activation,
    },
    /// The largest of each window.
    MaxPool(Pool),
    /// The mean of each window.
    AveragePool(Pool),
    /// The mean of each channel.
    GlobalAveragePool,
    /// The largest of each channel.
    GlobalMaxPool,
    /// All dimensions as one.
    Flatten,
    /// In training, elements become 0 at random.
    Dropout {
        /// The probability of that.
        rate: f64,
    },
    /// Each element times a number.
    Scale {
        /// The number.
        factor: f64,
    },
    /// Squeeze and excitation, by [`SqueezeExcite`].
    SqueezeExcite {
        /// Channels between its two layers.
        squeezed: usize,
    },
    /// Attention to channels and pixels, by [`Cbam`].
    Cbam {
        /// Channels between the two layers for channels.
        squeezed: usize,
    },
    /// Layers one after the other, perhaps several times.
    Block {
        /// How often.
        #[serde(default = "one")]
        repeat: usize,
        /// The layers.
        layers: Vec<NamedLayer>,
    },
    /// `activation(layers(x) + shortcut(x))`
    Residual {
        /// The layers of the branch.
        layers: Vec<NamedLayer>,
        /// The layers of the shortcut; none: the value itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortcut: Vec<NamedLayer>,
        /// Probability by which stochastic depth drops the branch.
        #[serde(default)]
        drop: f64,
        /// What follows the sum.
        #[serde(default)]
        activation: Activation,
    },
}

/// The windows of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Rows and columns of a window.
    pub size: usize,
    /// Distance of neighbouring windows [default: their size].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// What is added at the edges.
    #[serde(default)]
    pub padding: Edges,
}

/// What a window finds beyond the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a padding is \"valid\", \"same\" or a number of rows and columns")]
pub enum Edges {
    /// By a rule.
    Rule(Rule),
    /// So many rows and columns at each edge.
    All(usize),
}

/// A rule for edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Windows stay inside.
    Valid,
    /// As many windows as pixels, divided by the stride.
    Same,
}

impl Default for Edges {
    fn default() -> Self {
        Self::Rule(Rule::Valid)
    }
}

impl Edges {
    fn padding(self) -> Padding {
        match self {
            Self::Rule(Rule::Valid) => Padding::Valid,
            Self::Rule(Rule::Same) => Padding::Same,
            Self::All(n) => Padding::all(n),
        }
    }
}

/// Outputs of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "units are a number or \"classes\"")]
pub enum Units {
    /// So many.
    Number(usize),
    /// As many as there are classes.
    Classes(Classes),
}

/// The number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Classes {
    /// Of the data.
    Classes,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn glorot() -> Init {
    Init::GlorotUniform
}

fn batch_norm_epsilon() -> f32 {
    1e-5
}

fn layer_norm_epsilon() -> f32 {
    1e-6
}

impl Serialize for NamedLayer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = self.name.iter().map(|name| ("name".to_string(), Json::from(name.as_str())));
        let layer = serde_json::to_value(&self.layer).map_err(serde::ser::Error::custom)?;
        let fields = layer.as_object().cloned().unwrap_or_default();
        let fields: Map<String, Json> = named.chain(fields.into_iter().filter(|(_, value)| !value.is_null())).collect();
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NamedLayer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let name = match fields.remove("name") {
            Some(Json::String(name)) => Some(name),
            None => None,
            Some(other) => return Err(D::Error::custom(format!("a layer's name is a text, not {other}"))),
        };
        let what = name.clone().or_else(|| Some(fields.get("type")?.as_str()?.to_string())).unwrap_or_default();
        if let Some((field, _)) = fields.iter().find(|(_, value)| holds_null(value)) {
            return Err(D::Error::custom(format!("layer {what}: `{field}` must be finite")));
        }
        let layer = serde_json::from_value(Json::Object(fields))
            .map_err(|error| D::Error::custom(format!("layer {what}: {error}")))?;
        Ok(Self { name, layer })
    }
}

/// Whether there is a number that JSON does not have: NaN or an infinite one.
fn holds_null(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Object(fields) => fields.values().any(holds_null),
        _ => false,
    }
}

impl Network {
    fn last_dense(&self) -> Option<Units> {
        fn of(layers: &[NamedLayer]) -> Option<Units> {
            layers.iter().rev().find_map(|named| match &named.layer {
                LayerSpec::Dense { units, .. } => Some(*units),
                LayerSpec::Block { layers, .. } | LayerSpec::Residual { layers, .. } => of(layers),
                _ => None,
            })
        }
        of(&self.layers)
    }

    /// The network for so many classes.
    pub fn build(&self, classes: usize) -> Box<dyn Layer> {
        Box::new(sequence(&self.layers, classes))
    }
}

impl LayerSpec {
    /// What it is called without a name.
    fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Dense { .. } => "dense",
            Self::BatchNorm { .. } | Self::LayerNorm { .. } => "norm",
            Self::Activation { .. } => "activation",
            Self::MaxPool(_) | Self::AveragePool(_) | Self::GlobalAveragePool | Self::GlobalMaxPool => "pool",
            Self::Flatten => "flatten",
            Self::Dropout { rate } => Dropout::new(*rate).kind(),
            Self::Scale { .. } => "scale",
            Self::SqueezeExcite { .. } | Self::Cbam { .. } => "attention",
            Self::Block { .. } => "block",
            Self::Residual { .. } => "residual",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Graph,
        nn::{Builder, Mode, Parameters},
        tensor::TensorType,
    };

    fn read(text: &str) -> Result<Network, String> {
        let network: Network = toml::from_str(text).map_err(|error| error.to_string())?;
        network.check()?;
        Ok(network)
    }

    const RESIDUAL: &str = r#"
        name = "small"
        [[layers]]
        type = "conv"
        channels = 4
        kernel = 3
        padding = "same"
        activation = { leaky_relu = 0.1 }
        [[layers]]
        type = "residual"
        activation = "relu"
        shortcut = [{ type = "conv", channels = 8, kernel = 1 }]
        layers = [
            { type = "conv", channels = 8, kernel = 3, padding = 1, bias = false },
            { name = "bn", type = "batch_norm" },
        ]
        [[layers]]
        type = "block"
        name = "body"
        repeat = 2
        layers = [{ type = "conv", channels = 8, kernel = 3, init = { he_normal = "out" } }]
        [[layers]]
        type = "global_average_pool"
        [[layers]]
        name = "head"
        type = "dense"
        units = "classes"
    "#;

    #[test]
    fn a_file_of_layers_becomes_a_network_and_a_file_again() {
        let network = read(RESIDUAL).unwrap();
        let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
        let x = graph.feed("x", TensorType::f32([2, 9, 9, 3]));
        let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Inference, None);
        let y = network.build(5).forward(&mut builder, x).unwrap();
        assert_eq!(builder.shape(y).to_vec(), [2, 5]);
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        for name in ["conv1.weight", "residual1.bn.running_var", "residual1.shortcut.conv1.bias", "body.1.conv1.weight"]
        {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert_eq!(read(&toml::to_string(&network).unwrap()).unwrap(), network);
        let json = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network);
    }

    #[test]
    fn a_residual_of_two_shapes_is_refused() {
        for (stride, shape) in [(1, "[2, 1, 1, 1]"), (3, "[2, 3, 3, 4]")] {
            let branch = match stride {
                1 => "{ type = \"conv\", channels = 1, kernel = 9 }",
                _ => "{ type = \"conv\", channels = 4, kernel = 3, stride = 3 }",
            };
            let network = read(&format!(
                "name = \"n\"\nlayers = [{{ type = \"residual\", layers = [{branch}] }}, {{ type = \"flatten\" }}, {{ \
                 type = \"dense\", units = \"classes\" }}]"
            ));
            let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
            let x = graph.feed("x", TensorType::f32([2, 9, 9, 3]));
            let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Inference, None);
            let error = network.unwrap().build(5).forward(&mut builder, x).unwrap_err().to_string();
            assert!(error.contains(&format!("residual1: its layers make {shape}")), "{error}");
            assert!(error.contains("[2, 9, 9, 3]: give it a `shortcut`"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let head = "{ type = \"dense\", units = \"classes\" }";
        let of = |layers: &str| read(&format!("name = \"n\"\nlayers = [{layers}]")).unwrap_err();
        for (layers, part) in [
            ("{ type = \"conv\", chanels = 3, kernel = 3 }", "layer conv: unknown field `chanels`"),
            ("{ type = \"conv\", channels = 3 }", "missing field `kernel`"),
            ("{ type = \"max_pool\", sise = 2 }", "layer max_pool: unknown field `sise`"),
            ("{ type = \"convolution\" }", "unknown variant `convolution`, expected one of `conv`"),
            ("{ name = \"a\", type = \"conv\", channels = 3, kernel = 3, padding = \"all\" }", "layer a: a padding is"),
            ("{ name = \"a\", type = \"conv\", channels = 3, kernel = 3, padding = 4611686018427387904 }", "padding"),
            ("{ name = \"a\", type = \"max_pool\", size = 2, padding = 2 }", "padding"),
            ("{ type = \"dense\", units = \"many\" }", "units are a number or \"classes\""),
            ("{ type = \"flatten\" }", "must end in a dense layer of units = \"classes\""),
            (&format!("{{ type = \"dropout\", rate = 1.5 }}, {head}"), "layer dropout1: rate is 1.5"),
            (&format!("{{ type = \"conv\", channels = 3, kernel = 0 }}, {head}"), "kernel is 0"),
            (&format!("{{ type = \"block\", repeat = 9999, layers = [{head}, {head}] }}"), "at most 10000 layers"),
            (&format!("{{ name = \"a b\", type = \"flatten\" }}, {head}"), "names have no blanks"),
            (
                &format!("{{ name = \"a\", type = \"flatten\" }}, {{ name = \"a\", type = \"flatten\" }}, {head}"),
                "two layers are called a",
            ),
            (
                &format!("{{ name = \"flatten2\", type = \"flatten\" }}, {{ type = \"flatten\" }}, {head}"),
                "two layers are called flatten2",
            ),
            (
                &format!(
                    "{{ name = \"r.1.flatten1\", type = \"flatten\" }}, {{ name = \"r\", type = \"block\", \
                          repeat = 2, layers = [{{ type = \"flatten\" }}] }}, {head}"
                ),
                "two layers are called r.1.flatten1",
            ),
            (&format!("{{ type = \"scale\", factor = 1e300 }}, {head}"), "layer scale1: factor is 1"),
            (&format!("{{ type = \"scale\", factor = nan }}, {head}"), "layer scale: `factor` must be finite"),
            (
                "{ type = \"dense\", units = \"classes\", init = { truncated_normal = 1e300 } }",
                "layer dense1: init is inf",
            ),
            (
                &format!("{{ type = \"activation\", function = {{ leaky_relu = 1e300 }} }}, {head}"),
                "layer activation1: leaky_relu is 1",
            ),
            ("{ type = \"dense\", units = \"classes\", init = { constant = inf } }", "`init` must be finite"),
            ("{ type = \"dense\", units = \"classes\", init = { constant = 1e300 } }", "layer dense1: init is inf"),
        ] {
            let error = of(layers);
            assert!(error.contains(part), "{layers}: {error}");
        }
        let unnamed = read(&format!("name = \"a/b\"\nlayers = [{head}]")).unwrap_err();
        assert!(unnamed.contains("a network is not called"), "{unnamed}");
    }
}
