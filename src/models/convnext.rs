//! ConvNeXt-Tiny.

use crate::{
    graph::{GraphError, Value},
    nn::{
        Activation, Builder, Conv2d, Dense, GlobalAveragePool, Init, Layer, LayerNorm, Sequential, StochasticDepth,
        layers::image,
    },
    ops::Padding,
};

const WEIGHTS: Init = Init::TruncatedNormal(0.02);
const NORM_EPSILON: f32 = 1e-6;

/// ConvNeXt-Tiny (Liu et al. 2022). Stochastic depth drops the last block at a rate of 0.1, earlier ones at less.
pub fn tiny(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    const STAGES: [(usize, usize); 4] = [(96, 3), (192, 3), (384, 9), (768, 3)];
    let blocks: usize = STAGES.iter().map(|(_, depth)| depth).sum();
    let mut network = Sequential::new();
    let mut before = 0;
    for (stage, (width, depth)) in STAGES.into_iter().enumerate() {
        let at = 2 * stage;
        network = if stage == 0 {
            network.named("features.0.0", patches(width, 4)).named("features.0.1", LayerNorm::new(NORM_EPSILON))
        } else {
            let norm = LayerNorm::new(NORM_EPSILON);
            network.named(format!("features.{at}.0"), norm).named(format!("features.{at}.1"), patches(width, 2))
        };
        for block in 0..depth {
            let drop = 0.1 * before as f64 / (blocks - 1) as f64;
            network = network.named(format!("features.{}.{block}", at + 1), Block { drop });
            before += 1;
        }
    }
    let network = network
        .named("pool", GlobalAveragePool)
        .named("classifier.0", LayerNorm::new(NORM_EPSILON))
        .named("classifier.2", Dense::new(classes).init(WEIGHTS));
    Box::new(network)
}

/// A convolution over patches that do not overlap.
fn patches(width: usize, side: usize) -> Conv2d {
    Conv2d::new(width, side).stride(side).init(WEIGHTS)
}

/// A depthwise 7x7 convolution, layer norm over the channels, and two dense layers on each pixel, the first four times as
/// wide; each channel of the result is scaled before it is added to the input.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Probability by which stochastic depth drops the block.
    drop: f64,
}

impl Layer for Block {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [batch, height, width, channels] = image(builder, x)?;
        let depthwise = Conv2d::new(channels, 7).padding(Padding::all(3)).groups(channels).init(WEIGHTS);
        let y = builder.scoped("block", |b| {
            let y = b.layer("0", &depthwise, x)?;
            let y = b.layer("2", &LayerNorm::new(NORM_EPSILON), y)?;
            let y = b.graph.reshape(y, [batch * height * width, channels])?;
            let y = b.layer("3", &Dense::new(4 * channels).init(WEIGHTS).activation(Activation::Gelu), y)?;
            let y = b.layer("5", &Dense::new(channels).init(WEIGHTS), y)?;
            b.graph.reshape(y, [batch, height, width, channels])
        })?;
        let scale = builder.parameter("layer_scale", [channels], Init::Constant(1e-6))?;
        let y = builder.graph.multiply(y, scale)?;
        let y = builder.layer("stochastic_depth", &StochasticDepth::new(self.drop), y)?;
        builder.graph.add(x, y)
    }
}
