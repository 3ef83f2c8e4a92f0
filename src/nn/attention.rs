//! Attention: layers that weigh channels, pixels or tokens by what the whole image shows.

use super::{Activation, BatchNorm, Builder, Conv2d, Dense, Init, Layer, layers::image};
use crate::{
    graph::{GraphError, Value},
    nn::layers::HE_OUT,
    ops::Padding,
};

/// Squeeze and excitation (Hu et al. 2018): each channel times a gate, which two small layers compute of the means of all
/// channels.
#[derive(Clone, Copy, Debug)]
pub struct SqueezeExcite {
    squeezed: usize,
    activation: Activation,
    gate: Activation,
}

impl SqueezeExcite {
    /// With so many channels between its two layers, ReLU there and the logistic function as the gate.
    pub fn new(squeezed: usize) -> Self {
        Self { squeezed, activation: Activation::Relu, gate: Activation::Sigmoid }
    }

    /// What stands between the two layers.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// What makes the gate of the second layer's result.
    pub fn gate(mut self, gate: Activation) -> Self {
        self.gate = gate;
        self
    }
}

impl Layer for SqueezeExcite {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [batch, _, _, channels] = image(builder, x)?;
        let mean = builder.graph.global_average_pool(x)?;
        let mean = builder.graph.reshape(mean, [batch, 1, 1, channels])?;
        let squeeze = Conv2d::new(self.squeezed, 1).init(HE_OUT).activation(self.activation);
        let squeezed = builder.layer("fc1", &squeeze, mean)?;
        let excite = Conv2d::new(channels, 1).init(HE_OUT).activation(self.gate);
        let gate = builder.layer("fc2", &excite, squeezed)?;
        builder.graph.multiply(x, gate)
    }

    fn kind(&self) -> &'static str {
        "attention"
    }
}

/// Convolutional block attention module (Woo et al. 2018): each channel times a gate of its mean and its maximum over the
/// image, then each pixel times a gate of its mean and its maximum over the channels.
#[derive(Clone, Copy, Debug)]
pub struct Cbam {
    squeezed: usize,
}

impl Cbam {
    /// With so many channels between the two layers that compute the gate of channels.
    pub fn new(squeezed: usize) -> Self {
        Self { squeezed }
    }

    /// The gate of channels, `[batch, 1, 1, channels]`.
    fn channels(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [batch, _, _, channels] = image(builder, x)?;
        let pooled = [builder.graph.global_average_pool(x)?, builder.graph.global_max_pool(x)?];
        // Under the same names both take the same weights.
        let [mean, maximum] = pooled.map(|pooled| {
            let pooled = builder.graph.reshape(pooled, [batch, 1, 1, channels])?;
            let squeezed =
                builder.layer("fc1", &Conv2d::new(self.squeezed, 1).no_bias().init(HE_OUT).relu(), pooled)?;
            builder.layer("fc2", &Conv2d::new(channels, 1).no_bias().init(HE_OUT), squeezed)
        });
        let sum = builder.graph.add(mean?, maximum?)?;
        builder.graph.sigmoid(sum)
    }

    /// The gate of pixels, `[batch, height, width, 1]`.
    fn pixels(builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [batch, height, width, channels] = image(builder, x)?;
        let graph = &mut builder.graph;
        let mean = graph.mean(x, &[3])?;
        // With pixels in the place of channels, pooling over an image of one row is a maximum over channels.
        let rows = graph.reshape(x, [batch, height * width, channels])?;
        let rows = graph.transpose(rows, &[0, 2, 1])?;
        let rows = graph.reshape(rows, [batch, 1, channels, height * width])?;
        let maximum = graph.global_max_pool(rows)?;
        let mut planes = Vec::new();
        for plane in [mean, maximum] {
            planes.push(graph.reshape(plane, [batch, height, width, 1])?);
        }
        let planes = graph.concat(&planes, 3)?;
        builder.scoped("conv", |builder| {
            let conv = Conv2d::new(1, 7).padding(Padding::all(3)).no_bias().init(HE_OUT);
            let y = builder.layer("conv", &conv, planes)?;
            let y = builder.layer("bn", &BatchNorm::new(), y)?;
            builder.graph.sigmoid(y)
        })
    }
}

impl Layer for Cbam {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let gate = builder.scoped("channel", |builder| self.channels(builder, x))?;
        let x = builder.graph.multiply(x, gate)?;
        let gate = builder.scoped("spatial", |builder| Self::pixels(builder, x))?;
        builder.graph.multiply(x, gate)
    }

    fn kind(&self) -> &'static str {
        "attention"
    }
}

/// Self-attention of several heads (Vaswani et al. 2017): `[batch, tokens, width]` to the same shape.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    heads: usize,
    init: Init,
}

impl SelfAttention {
    /// With so many heads, which divide the width; Glorot uniform.
    pub fn new(heads: usize) -> Self {
        Self { heads, init: Init::GlorotUniform }
    }

    /// How the weights begin.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }
}

impl Layer for SelfAttention {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let heads = self.heads;
        let shape = builder.shape(x).clone();
        let [_, _, width] = shape[..] else {
            return Err(builder.error(format!("expects tokens [batch, tokens, width], got {shape}")));
        };
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(builder.error(format!("{heads} heads do not divide a width of {width}")));
        }
        let projected = builder.layer("qkv", &Dense::new(3 * width).init(self.init), x)?;
        let y = builder.graph.attention(projected, heads)?;
        builder.layer("proj", &Dense::new(width).init(self.init), y)
    }

    fn kind(&self) -> &'static str {
        "attention"
    }
}
