//! The residual networks: ResNet, for CIFAR as well, ResNeXt, and both kinds of attention in them.

use super::blocks::ConvNorm;
use crate::{
    graph::{GraphError, Value},
    nn::{Builder, Cbam, Dense, GlobalAveragePool, Layer, MaxPool2d, SqueezeExcite},
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

/// What weighs a block's result before the shortcut is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attention {
    None,
    SqueezeExcite,
    Cbam,
}

/// Residual network of He et al. (2015). For images of 64 pixels or less the stem is a 3x3 convolution of stride 1
/// without pool, as is usual for CIFAR; for larger ones 7x7 of stride 2 and a 3x3 max pool of stride 2.
#[derive(Clone, Copy, Debug)]
pub struct ResNet {
    block: Block,
    /// Blocks of each stage; from stage to stage the width doubles and the size halves.
    depths: &'static [usize],
    /// Channels of the first stage.
    width: usize,
    /// Groups of the 3x3 convolutions in bottlenecks.
    groups: usize,
    attention: Attention,
    small_images: bool,
    classes: usize,
}

impl ResNet {
    /// Of blocks of two 3x3 convolutions.
    pub fn basic(depths: &'static [usize]) -> Self {
        let (block, attention) = (Block::Basic, Attention::None);
        Self { block, depths, width: 64, groups: 1, attention, small_images: false, classes: 0 }
    }

    /// Of bottlenecks.
    pub fn bottleneck(depths: &'static [usize]) -> Self {
        Self { block: Block::Bottleneck, ..Self::basic(depths) }
    }

    /// The narrow networks of He et al. (2015), section 4.2, for CIFAR: three stages from 16 channels on, and the small
    /// stem whatever the images. A shortcut that changes the shape is a 1x1 convolution.
    pub fn cifar(depths: &'static [usize; 3]) -> Self {
        Self { width: 16, small_images: true, ..Self::basic(depths) }
    }

    /// ResNeXt (Xie et al. 2017): the 3x3 convolutions are twice as wide and in so many groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Squeeze and excitation in each block (Hu et al. 2018).
    pub fn squeeze_excite(self) -> Self {
        Self { attention: Attention::SqueezeExcite, ..self }
    }

    /// The convolutional block attention module in each block (Woo et al. 2018).
    pub fn cbam(self) -> Self {
        Self { attention: Attention::Cbam, ..self }
    }

    /// For images of this size and so many classes.
    pub fn build(self, input: [usize; 3], classes: usize) -> Box<dyn Layer> {
        let small_images = self.small_images || input[0].max(input[1]) <= 64;
        Box::new(Self { small_images, classes, ..self })
    }

    /// `relu(f(x) + shortcut(x))`
    fn residual(&self, b: &mut Builder<'_>, x: Value, width: usize, stride: usize) -> Result<Value, GraphError> {
        let out = if self.block == Block::Basic { width } else { 4 * width };
        let convolutions = match self.block {
            Block::Basic => vec![
                ConvNorm::new(width, 3).named("conv1", "bn1").stride(stride).relu(),
                ConvNorm::new(width, 3).named("conv2", "bn2"),
            ],
            Block::Bottleneck => {
                let inner = if self.groups == 1 { width } else { 2 * width };
                vec![
                    ConvNorm::new(inner, 1).named("conv1", "bn1").relu(),
                    ConvNorm::new(inner, 3).named("conv2", "bn2").stride(stride).groups(self.groups).relu(),
                    ConvNorm::new(out, 1).named("conv3", "bn3"),
                ]
            }
        };
        let mut y = x;
        for convolution in convolutions {
            y = convolution.forward(b, y)?;
        }
        y = match self.attention {
            Attention::None => y,
            Attention::SqueezeExcite => b.layer("se", &SqueezeExcite::new(out / 16), y)?,
            Attention::Cbam => b.layer("se", &Cbam::new(out / 16), y)?,
        };
        let shortcut = if stride == 1 && b.shape(x).last() == out {
            x
        } else {
            b.layer("downsample", &ConvNorm::new(out, 1).stride(stride), x)?
        };
        let sum = b.graph.add(y, shortcut)?;
        b.graph.relu(sum)
    }
}

impl Layer for ResNet {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let (kernel, stride) = if self.small_images { (3, 1) } else { (7, 2) };
        let stem = ConvNorm::new(self.width, kernel).named("conv1", "bn1").stride(stride);
        let mut x = stem.relu().forward(builder, x)?;
        if !self.small_images {
            x = builder.layer("pool", &MaxPool2d::new(3).stride(2).padding(Padding::all(1)), x)?;
        }
        for (stage, &depth) in self.depths.iter().enumerate() {
            for at in 0..depth {
                let stride = if stage > 0 && at == 0 { 2 } else { 1 };
                let name = format!("layer{}.{at}", stage + 1);
                x = builder.scoped(&name, |b| self.residual(b, x, self.width << stage, stride))?;
            }
        }
        let x = builder.layer("pool", &GlobalAveragePool, x)?;
        builder.layer("fc", &Dense::new(self.classes), x)
    }
}
