//! The layers.

use serde::{Deserialize, Serialize};

use super::{Builder, Fan, Init, Layer, Mode};
use crate::{
    graph::{GraphError, Value},
    ops::{Argmax, Average, Conv2dOptions, Padding, WindowOptions},
};

/// A function applied to each element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// None: the value itself.
    #[default]
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `x` where positive, else a slope times `x`.
    LeakyRelu(f64),
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x * sigmoid(x)`
    Silu,
    /// Gaussian error linear unit.
    Gelu,
    /// `min(max(x + 3, 0), 6) / 6`
    HardSigmoid,
    /// `x * min(max(x + 3, 0), 6) / 6`
    HardSwish,
}

impl Layer for Activation {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let graph = &mut builder.graph;
        match self {
            Activation::Linear => Ok(x),
            Activation::Relu => graph.relu(x),
            Activation::LeakyRelu(slope) => graph.leaky_relu(x, *slope),
            Activation::Relu6 => graph.relu6(x),
            Activation::Sigmoid => graph.sigmoid(x),
            Activation::Tanh => graph.tanh(x),
            Activation::Silu => graph.silu(x),
            Activation::Gelu => graph.gelu(x),
            Activation::HardSigmoid => graph.hard_sigmoid(x),
            Activation::HardSwish => graph.hard_swish(x),
        }
    }

    fn kind(&self) -> &'static str {
        "activation"
    }
}

/// Extents of a value that must be images, `[batch, height, width, channels]`.
pub(crate) fn image(builder: &Builder<'_>, x: Value) -> Result<[usize; 4], GraphError> {
    let shape = builder.shape(x);
    <[usize; 4]>::try_from(&shape[..])
        .map_err(|_| builder.error(format!("expects images [batch, height, width, channels], got {shape}")))
}

/// A convolution over height and width, with bias and activation: `[n, h, w, in]` to `[n, h', w', out]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    out_channels: usize,
    kernel: [usize; 2],
    options: Conv2dOptions,
    bias: bool,
    init: Init,
    activation: Activation,
}

impl Conv2d {
    /// `out_channels` filters of `kernel` by `kernel`: stride 1, no padding, bias, Glorot uniform as in Keras.
    pub fn new(out_channels: usize, kernel: usize) -> Self {
        Self {
            out_channels,
            kernel: [kernel; 2],
            options: Conv2dOptions::default(),
            bias: true,
            init: Init::GlorotUniform,
            activation: Activation::Linear,
        }
    }

    /// Distance of neighbouring windows.
    pub fn stride(mut self, stride: usize) -> Self {
        self.options.stride = [stride; 2];
        self
    }

    /// What is added at the edges.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.options.padding = padding;
        self
    }

    /// Distance of neighbouring taps of a window.
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.options.dilation = [dilation; 2];
        self
    }

    /// Groups of channels that do not see each other; as many as there are input channels for a depthwise convolution.
    pub fn groups(mut self, groups: usize) -> Self {
        self.options.groups = groups;
        self
    }

    /// Without a bias, as before a batch norm.
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// How the weight begins.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// What follows the convolution.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Followed by a ReLU.
    pub fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }
}

impl Layer for Conv2d {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [_, _, _, in_channels] = image(builder, x)?;
        let groups = self.options.groups;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !self.out_channels.is_multiple_of(groups) {
            return Err(builder.error(format!(
                "{groups} groups do not divide {in_channels} input channels and {} output channels",
                self.out_channels
            )));
        }
        let [height, width] = self.kernel;
        let weight =
            builder.parameter("weight", [height, width, in_channels / groups, self.out_channels], self.init)?;
        let mut y = builder.graph.conv2d(x, weight, &self.options)?;
        if self.bias {
            let bias = builder.parameter("bias", [self.out_channels], Init::Zeros)?;
            y = builder.graph.add(y, bias)?;
        }
        self.activation.forward(builder, y)
    }

    fn kind(&self) -> &'static str {
        "conv"
    }
}

/// A fully connected layer with bias and activation: `[n, in]` to `[n, out]`, or `[n, tokens, in]` to `[n, tokens, out]`.
#[derive(Clone, Debug)]
pub struct Dense {
    out_features: usize,
    bias: bool,
    init: Init,
    activation: Activation,
}

impl Dense {
    /// A layer with bias, Glorot uniform as in Keras.
    pub fn new(out_features: usize) -> Self {
        Self { out_features, bias: true, init: Init::GlorotUniform, activation: Activation::Linear }
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// How the weight begins.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// What follows.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Followed by a ReLU.
    pub fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }
}

impl Layer for Dense {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let shape = builder.shape(x).clone();
        if !(2..=3).contains(&shape.rank()) {
            return Err(builder.error(format!(
                "expects [batch, features] or [batch, tokens, features], got {shape}; put a Flatten or a \
                 GlobalAveragePool before it"
            )));
        }
        let weight = builder.parameter("weight", [shape.last(), self.out_features], self.init)?;
        let x = builder.given_to_dense(x)?;
        let mut y = builder.graph.dense(x, weight)?;
        if self.bias {
            let bias = builder.parameter("bias", [self.out_features], Init::Zeros)?;
            y = builder.graph.add(y, bias)?;
        }
        self.activation.forward(builder, y)
    }

    fn kind(&self) -> &'static str {
        "dense"
    }
}

/// The largest element of each window and channel.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    window: WindowOptions,
}

/// The mean of each window and channel; padding does not count.
#[derive(Clone, Copy, Debug)]
pub struct AveragePool2d {
    window: WindowOptions,
}

macro_rules! pool {
    ($name:ident) => {
        impl $name {
            /// Windows of `size` by `size` that do not overlap.
            pub fn new(size: usize) -> Self {
                Self {
                    window: WindowOptions {
                        kernel: [size; 2],
                        stride: [size; 2],
                        dilation: [1; 2],
                        padding: Padding::Valid,
                        ceil: false,
                    },
                }
            }

            /// Distance of neighbouring windows.
            pub fn stride(mut self, stride: usize) -> Self {
                self.window.stride = [stride; 2];
                self
            }

            /// What is added at the edges.
            pub fn padding(mut self, padding: Padding) -> Self {
                self.window.padding = padding;
                self
            }

            /// Rounds the number of windows up rather than down.
            pub fn ceil(mut self) -> Self {
                self.window.ceil = true;
                self
            }
        }
    };
}

pool!(MaxPool2d);
pool!(AveragePool2d);

impl Layer for MaxPool2d {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let argmax = if builder.mode() == Mode::Training { Argmax::Kept } else { Argmax::Dropped };
        builder.graph.max_pool2d(x, &self.window, argmax)
    }

    fn kind(&self) -> &'static str {
        "pool"
    }
}

impl Layer for AveragePool2d {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        builder.graph.avg_pool2d(x, &self.window, Average::Image)
    }

    fn kind(&self) -> &'static str {
        "pool"
    }
}

/// The mean of each channel over the image: `[n, h, w, c]` to `[n, c]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAveragePool;

impl Layer for GlobalAveragePool {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        builder.graph.global_average_pool(x)
    }

    fn kind(&self) -> &'static str {
        "pool"
    }
}

/// The largest element of each channel over the image: `[n, h, w, c]` to `[n, c]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalMaxPool;

impl Layer for GlobalMaxPool {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        builder.graph.global_max_pool(x)
    }

    fn kind(&self) -> &'static str {
        "pool"
    }
}

/// All dimensions but the batch as one: `[n, h, w, c]` to `[n, h * w * c]`.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl Layer for Flatten {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        builder.graph.flatten(x)
    }

    fn kind(&self) -> &'static str {
        "flatten"
    }
}

/// In training, each element becomes 0 with probability `rate`, and the others are scaled to keep the mean
/// (Srivastava et al. 2014).
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// Drops elements with this probability, 0 to below 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Layer for Dropout {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        if builder.mode() == Mode::Inference {
            return Ok(x);
        }
        let (clock, number) = builder.random()?;
        builder.graph.dropout(x, self.rate, clock, number)
    }

    fn kind(&self) -> &'static str {
        "dropout"
    }
}

/// Each element times a number, the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    factor: f64,
}

impl Scale {
    /// Times this.
    pub fn new(factor: f64) -> Self {
        Self { factor }
    }
}

impl Layer for Scale {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        builder.graph.scale(x, self.factor)
    }

    fn kind(&self) -> &'static str {
        "scale"
    }
}

/// Batch norm over the last axis (Ioffe and Szegedy 2015): by the batch's statistics in training, by the running ones
/// in inference. One whose scale and shift are frozen is as in inference in training too, and its running statistics stay, as
/// in Keras: few images of another kind do not shift what the layers after it were trained for.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    epsilon: f32,
    gamma: Init,
}

impl BatchNorm {
    /// With PyTorch's epsilon, 1e-5.
    pub fn new() -> Self {
        Self { epsilon: 1e-5, gamma: Init::Ones }
    }

    /// With the scale beginning at 0, so that a residual block begins as the identity (Goyal et al. 2017).
    pub fn zero_gamma(mut self) -> Self {
        self.gamma = Init::Zeros;
        self
    }

    /// What is added to the variance.
    pub fn epsilon(mut self, epsilon: f32) -> Self {
        self.epsilon = epsilon;
        self
    }
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer for BatchNorm {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let channels = builder.shape(x).last();
        let gamma = builder.parameter("weight", [channels], self.gamma)?;
        let beta = builder.parameter("bias", [channels], Init::Zeros)?;
        let mean = builder.statistic("running_mean", [channels], Init::Zeros)?;
        let variance = builder.statistic("running_var", [channels], Init::Ones)?;
        if !builder.trains(gamma) && !builder.trains(beta) {
            return builder.graph.batch_norm_infer(x, gamma, beta, mean, variance, self.epsilon);
        }
        let norm = builder.graph.batch_norm_train(x, gamma, beta, self.epsilon)?;
        builder.follow(mean, norm.mean);
        builder.follow(variance, norm.variance);
        Ok(norm.y)
    }

    fn kind(&self) -> &'static str {
        "norm"
    }
}

/// Layer norm over the last axis (Ba et al. 2016).
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    epsilon: f32,
}

impl LayerNorm {
    /// With this number added to the variance.
    pub fn new(epsilon: f32) -> Self {
        Self { epsilon }
    }
}

impl Layer for LayerNorm {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let channels = builder.shape(x).last();
        let gamma = builder.parameter("weight", [channels], Init::Ones)?;
        let beta = builder.parameter("bias", [channels], Init::Zeros)?;
        builder.graph.layer_norm(x, gamma, beta, self.epsilon)
    }

    fn kind(&self) -> &'static str {
        "norm"
    }
}

/// The initialiser of weights before a ReLU in the residual networks: He normal by the fan out.
pub(crate) const HE_OUT: Init = Init::HeNormal(Fan::Out);
