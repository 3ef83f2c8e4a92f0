//! The model zoo.

mod lenet;
mod resnet;
mod seed_cnn;
mod vgg;

use crate::nn::Layer;

/// A network with the input that it takes and the classes that it tells apart.
pub struct Model {
    /// Name in the zoo, or one of your own.
    pub name: String,
    /// Height, width and channels of its images.
    pub input: [usize; 3],
    /// Number of classes: it ends in as many logits.
    pub classes: usize,
    /// From normalised images `[batch, height, width, channels]` to logits `[batch, classes]`.
    pub network: Box<dyn Layer>,
}

impl Model {
    /// A model of your own.
    pub fn new(name: impl Into<String>, input: [usize; 3], classes: usize, network: impl Layer + 'static) -> Self {
        Self { name: name.into(), input, classes, network: Box::new(network) }
    }
}

/// An entry of the zoo.
pub struct Entry {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    build: fn([usize; 3], usize) -> Box<dyn Layer>,
}

/// The models that there are.
pub const ZOO: &[Entry] = &[
    Entry {
        name: "seed-cnn",
        about: "two convolutions and two dense layers, Keras's tutorial CNN",
        build: seed_cnn::build,
    },
    Entry { name: "lenet5", about: "LeNet-5 (LeCun et al. 1998) with tanh and average pooling", build: lenet::build },
    Entry { name: "resnet18", about: "residual network of 18 layers (He et al. 2015)", build: resnet::resnet18 },
    Entry { name: "resnet34", about: "residual network of 34 layers (He et al. 2015)", build: resnet::resnet34 },
    Entry { name: "resnet50", about: "residual network of 50 layers, v1.5 (He et al. 2015)", build: resnet::resnet50 },
    Entry { name: "vgg11", about: "VGG of 11 layers (Simonyan and Zisserman 2014)", build: vgg::vgg11 },
];

/// The model `name` of the zoo for images of `input` (height, width, channels) and this many classes; `None` where
/// there is none of that name.
pub fn build(name: &str, input: [usize; 3], classes: usize) -> Option<Model> {
    let entry = ZOO.iter().find(|entry| entry.name == name)?;
    Some(Model { name: name.to_string(), input, classes, network: (entry.build)(input, classes) })
}
