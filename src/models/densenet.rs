//! DenseNet-121.

use crate::{
    graph::{GraphError, Value},
    nn::{AveragePool2d, BatchNorm, Builder, Conv2d, Dense, Fan, GlobalAveragePool, Init, Layer, MaxPool2d},
    ops::Padding,
};

/// Channels that each layer adds.
const GROWTH: usize = 32;

/// Channels between the two convolutions of a layer.
const BOTTLENECK: usize = 4 * GROWTH;

/// Densely connected network of Huang et al. (2017): each layer reads what all layers of its block before it have made.
#[derive(Clone, Copy, Debug)]
struct DenseNet {
    depths: [usize; 4],
    classes: usize,
}

/// DenseNet-121.
pub fn densenet121(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    Box::new(DenseNet { depths: [6, 12, 24, 16], classes })
}

/// A convolution without bias that keeps the size.
fn conv(width: usize, kernel: usize) -> Conv2d {
    Conv2d::new(width, kernel).padding(Padding::all(kernel / 2)).no_bias().init(Init::HeNormal(Fan::In))
}

/// A batch norm and a ReLU.
fn norm_relu(builder: &mut Builder<'_>, name: &str, x: Value) -> Result<Value, GraphError> {
    let y = builder.layer(name, &BatchNorm::new(), x)?;
    builder.scoped(name, |b| b.graph.relu(y))
}

/// `x` and, after it, the channels that a layer makes of it.
fn extended(builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
    let y = norm_relu(builder, "norm1", x)?;
    let y = builder.layer("conv1", &conv(BOTTLENECK, 1), y)?;
    let y = norm_relu(builder, "norm2", y)?;
    let y = builder.layer("conv2", &conv(GROWTH, 3), y)?;
    builder.graph.concat(&[x, y], 3)
}

/// Half the channels and half the size.
fn transition(builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
    let width = builder.shape(x).last() / 2;
    let y = norm_relu(builder, "norm", x)?;
    let y = builder.layer("conv", &conv(width, 1), y)?;
    builder.layer("pool", &AveragePool2d::new(2), y)
}

impl Layer for DenseNet {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let x = builder.scoped("features", |b| {
            let x = b.layer("conv0", &conv(2 * GROWTH, 7).stride(2), x)?;
            let x = norm_relu(b, "norm0", x)?;
            let mut x = b.layer("pool0", &MaxPool2d::new(3).stride(2).padding(Padding::all(1)), x)?;
            for (block, depth) in (1..).zip(self.depths) {
                if block > 1 {
                    x = b.scoped(&format!("transition{}", block - 1), |b| transition(b, x))?;
                }
                for layer in 1..=depth {
                    x = b.scoped(&format!("denseblock{block}.denselayer{layer}"), |b| extended(b, x))?;
                }
            }
            norm_relu(b, "norm5", x)
        })?;
        let x = builder.layer("pool", &GlobalAveragePool, x)?;
        builder.layer("classifier", &Dense::new(self.classes), x)
    }
}
