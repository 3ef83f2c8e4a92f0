//! MobileNetV2 and MobileNetV3.

use super::blocks::{ConvNorm, InvertedResidual, multiple_of_8};
use crate::{
    graph::{GraphError, Value},
    nn::{Activation, Builder, Dense, Dropout, GlobalAveragePool, Init, Layer, Sequential, SqueezeExcite},
};

/// How the dense layers begin.
const DENSE: Init = Init::TruncatedNormal(0.01);

/// The inverted residual block of MobileNetV2, its projection named beside the other convolutions.
#[derive(Clone, Copy, Debug)]
struct V2Block {
    /// How many times as many channels stand between the 1x1 convolutions.
    expansion: usize,
    width: usize,
    stride: usize,
}

impl Layer for V2Block {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let width = builder.shape(x).last();
        let expanded = self.expansion * width;
        let expand = ConvNorm::new(expanded, 1).activation(Activation::Relu6);
        let depthwise = ConvNorm::new(expanded, 3).stride(self.stride).groups(expanded).activation(Activation::Relu6);
        let project = ConvNorm::new(self.width, 1);
        let y = builder.scoped("conv", |b| {
            if self.expansion == 1 {
                let y = b.layer("0", &depthwise, x)?;
                return project.named("1", "2").forward(b, y);
            }
            let y = b.layer("0", &expand, x)?;
            let y = b.layer("1", &depthwise, y)?;
            project.named("2", "3").forward(b, y)
        })?;
        if self.stride == 1 && self.width == width { builder.graph.add(x, y) } else { Ok(y) }
    }
}

/// MobileNetV2 (Sandler et al. 2018).
pub fn v2(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    // Expansion, channels, blocks, stride of the first block.
    const STAGES: [[usize; 4]; 7] =
        [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];
    let stem = ConvNorm::new(32, 3).stride(2).activation(Activation::Relu6);
    let mut network = Sequential::new().named("features.0", stem);
    let mut number = 1;
    for [expansion, width, depth, stride] in STAGES {
        for at in 0..depth {
            let block = V2Block { expansion, width, stride: if at == 0 { stride } else { 1 } };
            network = network.named(format!("features.{number}"), block);
            number += 1;
        }
    }
    let network = network
        .named(format!("features.{number}"), ConvNorm::new(1280, 1).activation(Activation::Relu6))
        .named("pool", GlobalAveragePool)
        .named("classifier.0", Dropout::new(0.2))
        .named("classifier.1", Dense::new(classes).init(DENSE));
    Box::new(network)
}

/// A block of MobileNetV3: size of its kernel, channels between its 1x1 convolutions, its own, whether it has squeeze and
/// excitation, its activation, its stride.
type V3Block = (usize, usize, usize, bool, Activation, usize);

/// MobileNetV3-Large (Howard et al. 2019).
pub fn v3_large(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    use Activation::{HardSwish, Relu};
    const BLOCKS: [V3Block; 15] = [
        (3, 16, 16, false, Relu, 1),
        (3, 64, 24, false, Relu, 2),
        (3, 72, 24, false, Relu, 1),
        (5, 72, 40, true, Relu, 2),
        (5, 120, 40, true, Relu, 1),
        (5, 120, 40, true, Relu, 1),
        (3, 240, 80, false, HardSwish, 2),
        (3, 200, 80, false, HardSwish, 1),
        (3, 184, 80, false, HardSwish, 1),
        (3, 184, 80, false, HardSwish, 1),
        (3, 480, 112, true, HardSwish, 1),
        (3, 672, 112, true, HardSwish, 1),
        (5, 672, 160, true, HardSwish, 2),
        (5, 960, 160, true, HardSwish, 1),
        (5, 960, 160, true, HardSwish, 1),
    ];
    v3(&BLOCKS, 1280, classes)
}

/// MobileNetV3-Small (Howard et al. 2019).
pub fn v3_small(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    use Activation::{HardSwish, Relu};
    const BLOCKS: [V3Block; 11] = [
        (3, 16, 16, true, Relu, 2),
        (3, 72, 24, false, Relu, 2),
        (3, 88, 24, false, Relu, 1),
        (5, 96, 40, true, HardSwish, 2),
        (5, 240, 40, true, HardSwish, 1),
        (5, 240, 40, true, HardSwish, 1),
        (5, 120, 48, true, HardSwish, 1),
        (5, 144, 48, true, HardSwish, 1),
        (5, 288, 96, true, HardSwish, 2),
        (5, 576, 96, true, HardSwish, 1),
        (5, 576, 96, true, HardSwish, 1),
    ];
    v3(&BLOCKS, 1024, classes)
}

/// MobileNetV3 of these blocks, with so many channels before the logits.
fn v3(blocks: &[V3Block], head: usize, classes: usize) -> Box<dyn Layer> {
    const EPSILON: f32 = 1e-3;
    let conv = |width, kernel| ConvNorm::new(width, kernel).epsilon(EPSILON).activation(Activation::HardSwish);
    let mut network = Sequential::new().named("features.0", conv(16, 3).stride(2));
    let mut last = 16;
    for (number, &(kernel, expanded, width, squeezes, activation, stride)) in (1..).zip(blocks) {
        let squeeze = SqueezeExcite::new(multiple_of_8((expanded / 4) as f64)).gate(Activation::HardSigmoid);
        let squeeze = squeezes.then_some(squeeze);
        let block =
            InvertedResidual { expanded, width, kernel, stride, squeeze, activation, epsilon: EPSILON, drop: 0.0 };
        network = network.named(format!("features.{number}"), block);
        last = width;
    }
    let network = network
        .named(format!("features.{}", blocks.len() + 1), conv(6 * last, 1))
        .named("pool", GlobalAveragePool)
        .named("classifier.0", Dense::new(head).init(DENSE).activation(Activation::HardSwish))
        .named("classifier.2", Dropout::new(0.2))
        .named("classifier.3", Dense::new(classes).init(DENSE));
    Box::new(network)
}
