//! EfficientNet-B0 to B7.

use super::blocks::{ConvNorm, InvertedResidual, multiple_of_8};
use crate::nn::{Activation, Dense, Dropout, GlobalAveragePool, Init, Layer, Sequential, SqueezeExcite};

/// Of B0, for each stage: expansion, size of the kernel, stride of the first block, channels, blocks.
const STAGES: [[usize; 5]; 7] = [
    [1, 3, 1, 16, 1],
    [6, 3, 2, 24, 2],
    [6, 5, 2, 40, 2],
    [6, 3, 2, 80, 3],
    [6, 5, 1, 112, 3],
    [6, 5, 2, 192, 4],
    [6, 3, 1, 320, 1],
];

/// How each network from B0 on is scaled: factors of its channels and of its blocks, and the rate of its dropout.
const SCALES: [(f64, f64, f64); 8] = [
    (1.0, 1.0, 0.2),
    (1.0, 1.1, 0.2),
    (1.1, 1.2, 0.3),
    (1.2, 1.4, 0.3),
    (1.4, 1.8, 0.4),
    (1.6, 2.2, 0.4),
    (1.8, 2.6, 0.5),
    (2.0, 3.1, 0.5),
];

/// The rate of stochastic depth that the last block comes near; it rises in equal steps from 0.
const DROP: f64 = 0.2;

/// EfficientNet-B0 to B7 by number (Tan and Le 2019). Images may have any size; the paper's grow from 224 to 600 pixels.
pub fn efficientnet(number: usize, classes: usize) -> Box<dyn Layer> {
    let (wider, deeper, dropout) = SCALES[number];
    let channels = |of_b0: usize| multiple_of_8(wider * of_b0 as f64);
    let depths = STAGES.map(|[.., depth]| (deeper * depth as f64).ceil() as usize);
    let blocks: usize = depths.iter().sum();
    // As the published weights of the larger ones want it, which come from another framework.
    let epsilon = if number < 5 { 1e-5 } else { 1e-3 };
    let conv = |width, kernel| ConvNorm::new(width, kernel).epsilon(epsilon).activation(Activation::Silu);
    let mut last = channels(32);
    let mut network = Sequential::new().named("features.0", conv(last, 3).stride(2));
    let mut before = 0;
    for (stage, ([expansion, kernel, stride, width, _], depth)) in STAGES.into_iter().zip(depths).enumerate() {
        for at in 0..depth {
            let block = InvertedResidual {
                expanded: multiple_of_8((expansion * last) as f64),
                width: channels(width),
                kernel,
                stride: if at == 0 { stride } else { 1 },
                squeeze: Some(SqueezeExcite::new(last / 4).activation(Activation::Silu)),
                activation: Activation::Silu,
                epsilon,
                drop: DROP * before as f64 / blocks as f64,
            };
            network = network.named(format!("features.{}.{at}", stage + 1), block);
            last = channels(width);
            before += 1;
        }
    }
    let network = network
        .named("features.8", conv(4 * last, 1))
        .named("pool", GlobalAveragePool)
        .named("classifier.0", Dropout::new(dropout))
        .named("classifier.1", Dense::new(classes).init(Init::Uniform((classes as f32).powf(-0.5))));
    Box::new(network)
}
