//! ResNet-18, -34 and -50.

use crate::{
    graph::{GraphError, Value},
    nn::{BatchNorm, Builder, Conv2d, Dense, GlobalAveragePool, Layer, MaxPool2d, layers::HE_OUT},
    ops::Padding,
};

/// Which residual block a network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1, the last four times as wide; a stride is taken by the 3x3 (v1.5).
    Bottleneck,
}

/// Residual network of He et al. (2015). For images of 64 pixels or less the stem is a 3x3 convolution of stride 1
/// without pool, as is usual for CIFAR; for larger ones 7x7 of stride 2 and a 3x3 max pool of stride 2.
#[derive(Clone, Copy, Debug)]
struct ResNet {
    block: Block,
    depths: [usize; 4],
    small_images: bool,
    classes: usize,
}

pub fn resnet18(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    resnet(Block::Basic, [2, 2, 2, 2], input, classes)
}

pub fn resnet34(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    resnet(Block::Basic, [3, 4, 6, 3], input, classes)
}

pub fn resnet50(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    resnet(Block::Bottleneck, [3, 4, 6, 3], input, classes)
}

fn resnet(block: Block, depths: [usize; 4], input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    Box::new(ResNet { block, depths, small_images: input[0].max(input[1]) <= 64, classes })
}

/// A convolution without bias and its batch norm, under the names `{name}` and `{norm}`.
fn conv_norm(
    builder: &mut Builder<'_>,
    (name, norm): (&str, &str),
    x: Value,
    width: usize,
    kernel: usize,
    stride: usize,
) -> Result<Value, GraphError> {
    let conv = Conv2d::new(width, kernel).stride(stride).padding(Padding::all(kernel / 2)).no_bias().init(HE_OUT);
    let y = builder.layer(name, &conv, x)?;
    builder.layer(norm, &BatchNorm::new(), y)
}

impl Layer for ResNet {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let (kernel, stride) = if self.small_images { (3, 1) } else { (7, 2) };
        let mut x = conv_norm(builder, ("conv1", "bn1"), x, 64, kernel, stride)?;
        x = builder.scoped("bn1", |b| b.graph.relu(x))?;
        if !self.small_images {
            x = builder.layer("pool", &MaxPool2d::new(3).stride(2).padding(Padding::all(1)), x)?;
        }
        for (stage, depth) in self.depths.into_iter().enumerate() {
            for at in 0..depth {
                let stride = if stage > 0 && at == 0 { 2 } else { 1 };
                let name = format!("layer{}.{at}", stage + 1);
                x = builder.scoped(&name, |b| self.residual(b, x, 64 << stage, stride))?;
            }
        }
        let x = builder.layer("pool", &GlobalAveragePool, x)?;
        builder.layer("fc", &Dense::new(self.classes), x)
    }
}

impl ResNet {
    /// `relu(f(x) + shortcut(x))`
    fn residual(&self, b: &mut Builder<'_>, x: Value, width: usize, stride: usize) -> Result<Value, GraphError> {
        let out = if self.block == Block::Basic { width } else { 4 * width };
        let mut y = x;
        match self.block {
            Block::Basic => {
                y = conv_norm(b, ("conv1", "bn1"), y, width, 3, stride)?;
                y = b.scoped("bn1", |b| b.graph.relu(y))?;
                y = conv_norm(b, ("conv2", "bn2"), y, width, 3, 1)?;
            }
            Block::Bottleneck => {
                y = conv_norm(b, ("conv1", "bn1"), y, width, 1, 1)?;
                y = b.scoped("bn1", |b| b.graph.relu(y))?;
                y = conv_norm(b, ("conv2", "bn2"), y, width, 3, stride)?;
                y = b.scoped("bn2", |b| b.graph.relu(y))?;
                y = conv_norm(b, ("conv3", "bn3"), y, out, 1, 1)?;
            }
        }
        let shortcut = if stride == 1 && b.shape(x).last() == out {
            x
        } else {
            conv_norm(b, ("downsample.0", "downsample.1"), x, out, 1, stride)?
        };
        let sum = b.graph.add(y, shortcut)?;
        b.graph.relu(sum)
    }
}
