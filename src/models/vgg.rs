//! VGG-11 and VGG-16.

use crate::{
    graph::{GraphError, Value},
    nn::{Builder, Conv2d, Dense, Dropout, Fan, GlobalAveragePool, Init, Layer, MaxPool2d, Sequential, layers::image},
    ops::Padding,
    tensor::Tensor,
};

/// Rows and columns of what the first dense layer reads, whatever the size of the images.
const SIDE: usize = 7;

/// VGG-11, configuration A of Simonyan and Zisserman (2014). For images of 64 pixels or less the three dense layers
/// are one after a global average pool, as is usual for CIFAR.
pub fn vgg11(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    let network = features([&[64], &[128], &[256; 2], &[512; 2], &[512; 2]], input);
    if input[0].max(input[1]) <= 64 {
        return Box::new(network.named("pool", GlobalAveragePool).named("classifier", Dense::new(classes)));
    }
    Box::new(classified(network, classes))
}

/// VGG-16, configuration D of Simonyan and Zisserman (2014).
pub fn vgg16(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    let network = features([&[64; 2], &[128; 2], &[256; 3], &[512; 3], &[512; 3]], input);
    Box::new(classified(network, classes))
}

/// Stages of 3x3 convolutions of these widths, each stage followed by a max pool.
fn features(stages: [&[usize]; 5], input: [usize; 3]) -> Sequential {
    let mut network = Sequential::new();
    // Numbered as torchvision's are, where a ReLU is a layer of its own.
    let mut number = 0;
    for (at, widths) in stages.into_iter().enumerate() {
        for width in widths {
            let conv = Conv2d::new(*width, 3).padding(Padding::all(1)).init(Init::HeNormal(Fan::In)).relu();
            network = network.named(format!("features.{number}"), conv);
            number += 2;
        }
        // An image of 32 pixels is a single one after five halvings; smaller ones stop earlier.
        if input[0].min(input[1]) >> (at + 1) > 0 {
            network = network.named(format!("features.{number}"), MaxPool2d::new(2));
            number += 1;
        }
    }
    network
}

/// With the three dense layers.
fn classified(network: Sequential, classes: usize) -> Sequential {
    let hidden = || Dense::new(4096).init(Init::TruncatedNormal(0.01)).relu();
    network
        .named("avgpool", Regions)
        .named("classifier.0", hidden())
        .named("classifier.2", Dropout::new(0.5))
        .named("classifier.3", hidden())
        .named("classifier.5", Dropout::new(0.5))
        .named("classifier.6", Dense::new(classes))
}

/// The means of each channel over 7 by 7 regions, which overlap where 7 does not divide the size, as one vector of all
/// regions of the first channel, then of the second: so the weights that there are for the first dense layer stand.
#[derive(Clone, Copy, Debug)]
struct Regions;

impl Layer for Regions {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let [batch, height, width, channels] = image(builder, x)?;
        let graph = &mut builder.graph;
        let pixels = graph.reshape(x, [batch, height * width, channels])?;
        let mut regions = graph.transpose(pixels, &[0, 2, 1])?;
        if [height, width] != [SIDE; 2] {
            let shares = graph.constant(shares(height, width));
            regions = graph.matmul(regions, shares)?;
        }
        graph.flatten(regions)
    }
}

/// By how much each pixel counts in each region's mean: `[height * width, 49]`.
fn shares(height: usize, width: usize) -> Tensor {
    let range = |at: usize, extent: usize| at * extent / SIDE..((at + 1) * extent).div_ceil(SIDE);
    let mut shares = vec![0.0; height * width * SIDE * SIDE];
    for region in 0..SIDE * SIDE {
        let (rows, columns) = (range(region / SIDE, height), range(region % SIDE, width));
        let share = 1.0 / (rows.len() * columns.len()) as f32;
        for row in rows {
            for column in columns.clone() {
                shares[(row * width + column) * SIDE * SIDE + region] = share;
            }
        }
    }
    Tensor::f32([height * width, SIDE * SIDE], shares)
}
