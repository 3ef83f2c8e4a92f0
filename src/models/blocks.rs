//! What several architectures are made of.

use crate::{
    graph::{GraphError, Value},
    nn::{Activation, BatchNorm, Builder, Conv2d, Layer, SqueezeExcite, StochasticDepth, layers::HE_OUT},
    ops::Padding,
};

/// A convolution without bias, padded so that a stride of 1 keeps the size, its batch norm, and an activation.
#[derive(Clone, Copy, Debug)]
pub struct ConvNorm {
    names: [&'static str; 2],
    width: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    epsilon: f32,
    activation: Activation,
}

impl ConvNorm {
    /// Named by numbers, as torchvision's `Conv2dNormActivation` is.
    pub fn new(width: usize, kernel: usize) -> Self {
        Self { names: ["0", "1"], width, kernel, stride: 1, groups: 1, epsilon: 1e-5, activation: Activation::Linear }
    }

    /// The names of the convolution and of the norm.
    pub fn named(self, conv: &'static str, norm: &'static str) -> Self {
        Self { names: [conv, norm], ..self }
    }

    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Of the norm.
    pub fn epsilon(self, epsilon: f32) -> Self {
        Self { epsilon, ..self }
    }

    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    pub fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }
}

impl Layer for ConvNorm {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let conv = Conv2d::new(self.width, self.kernel)
            .stride(self.stride)
            .padding(Padding::all(self.kernel / 2))
            .groups(self.groups)
            .no_bias()
            .init(HE_OUT);
        let [name, norm] = self.names;
        let y = builder.layer(name, &conv, x)?;
        let y = builder.layer(norm, &BatchNorm::new().epsilon(self.epsilon), y)?;
        builder.scoped(norm, |builder| self.activation.forward(builder, y))
    }
}

/// The inverted residual block (Sandler et al. 2018) as MobileNetV3 and EfficientNet have it: a 1x1 convolution that
/// expands, a depthwise one, squeeze and excitation, and a 1x1 convolution that projects without activation.
#[derive(Clone, Copy, Debug)]
pub struct InvertedResidual {
    /// Channels between the 1x1 convolutions; where the input has as many, the first one is left out.
    pub expanded: usize,
    /// Channels of the result.
    pub width: usize,
    /// Size of the depthwise convolution.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Squeeze and excitation, where there is one.
    pub squeeze: Option<SqueezeExcite>,
    /// Between the convolutions.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// Probability by which stochastic depth drops the block.
    pub drop: f64,
}

impl Layer for InvertedResidual {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let width = builder.shape(x).last();
        let conv = |width, kernel| ConvNorm::new(width, kernel).epsilon(self.epsilon);
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        if self.expanded != width {
            layers.push(Box::new(conv(self.expanded, 1).activation(self.activation)));
        }
        let depthwise = conv(self.expanded, self.kernel).stride(self.stride).groups(self.expanded);
        layers.push(Box::new(depthwise.activation(self.activation)));
        if let Some(squeeze) = self.squeeze {
            layers.push(Box::new(squeeze));
        }
        layers.push(Box::new(conv(self.width, 1)));
        let mut y = x;
        for (at, layer) in layers.iter().enumerate() {
            y = builder.layer(&format!("block.{at}"), layer.as_ref(), y)?;
        }
        if self.stride != 1 || self.width != width {
            return Ok(y);
        }
        let y = builder.layer("stochastic_depth", &StochasticDepth::new(self.drop), y)?;
        builder.graph.add(x, y)
    }
}

/// The multiple of 8 nearest to `channels`, though no less than nine tenths of it (Sandler et al. 2018).
pub fn multiple_of_8(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}
