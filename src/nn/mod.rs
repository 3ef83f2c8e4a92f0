//! Layers, their initialisers, and the parameters of a model.

mod attention;
mod builder;
mod groups;
mod init;
pub(crate) mod layers;
mod parameters;
mod sequential;
mod stochastic_depth;

pub use attention::{Cbam, SelfAttention, SqueezeExcite};
pub use builder::{Applied, Builder, Built, Mode};
pub use groups::{Group, GroupRule, Groups};
pub use init::{Fan, Init};
pub use layers::{
    Activation, AveragePool2d, BatchNorm, Conv2d, Dense, Dropout, Flatten, GlobalAveragePool, GlobalMaxPool, LayerNorm,
    MaxPool2d, Scale,
};
pub use parameters::{Block, Parameter, Parameters, Role};
pub use sequential::Sequential;
pub(crate) use sequential::names_of_layers;
pub use stochastic_depth::StochasticDepth;

use crate::graph::{GraphError, Value};

/// Something that turns one value into another: a layer, a block of layers, a whole network.
pub trait Layer: Send + Sync {
    /// Appends this layer's nodes and returns its result.
    ///
    /// # Errors
    /// If the layer cannot take a value of this shape; the error names the layer, the shapes and what would be right.
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError>;

    /// What unnamed layers of this kind are called in a [`Sequential`], before their number: `conv`, `dense`.
    fn kind(&self) -> &'static str {
        "layer"
    }
}

impl<F> Layer for F
where
    F: Fn(&mut Builder<'_>, Value) -> Result<Value, GraphError> + Send + Sync,
{
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        self(builder, x)
    }
}
