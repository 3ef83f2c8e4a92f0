//! What several architectures are made of.

use crate::{
    graph::{GraphError, Value},
    nn::{Activation, BatchNorm, Builder, Conv2d, Layer, layers::HE_OUT},
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
    activation: Activation,
}

impl ConvNorm {
    /// Named by numbers, as torchvision's `Conv2dNormActivation` is.
    pub fn new(width: usize, kernel: usize) -> Self {
        Self { names: ["0", "1"], width, kernel, stride: 1, groups: 1, activation: Activation::Linear }
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
        let y = builder.layer(norm, &BatchNorm::new(), y)?;
        builder.scoped(norm, |builder| self.activation.forward(builder, y))
    }
}
