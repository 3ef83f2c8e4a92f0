//! The model zoo.

mod lenet;
mod resnet;
mod seed_cnn;
mod vgg;

use std::sync::Arc;

use crate::{
    nn::Layer,
    tasks::{Classification, Task},
};

/// A network with the input that it takes and what it is for.
pub struct Model {
    /// Name in the zoo, or one of your own.
    pub name: String,
    /// Height, width and channels of its images.
    pub input: [usize; 3],
    /// What it is for: what its output means, and its loss.
    pub task: Arc<dyn Task>,
    /// From normalised images `[batch, height, width, channels]` to the output of the task, logits `[batch, classes]` of
    /// classification.
    pub network: Box<dyn Layer>,
}

impl Model {
    /// A model of your own, which tells so many classes apart.
    pub fn new(name: impl Into<String>, input: [usize; 3], classes: usize, network: impl Layer + 'static) -> Self {
        Self::for_task(name, input, Classification::new(classes), network)
    }

    /// A model of your own for another task.
    pub fn for_task(
        name: impl Into<String>,
        input: [usize; 3],
        task: impl Task + 'static,
        network: impl Layer + 'static,
    ) -> Self {
        Self { name: name.into(), input, task: Arc::new(task), network: Box::new(network) }
    }

    /// The same network for another task.
    pub fn with_task(self, task: Arc<dyn Task>) -> Self {
        Self { task, ..self }
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

/// The model `name` of the zoo for images of `input` (height, width, channels), which ends in this many numbers and tells
/// as many classes apart; `None` where there is none of that name.
pub fn build(name: &str, input: [usize; 3], classes: usize) -> Option<Model> {
    let entry = ZOO.iter().find(|entry| entry.name == name)?;
    let task = Arc::new(Classification::new(classes));
    Some(Model { name: name.to_string(), input, task, network: (entry.build)(input, classes) })
}
