//! The model zoo.

mod architecture;
mod blocks;
mod convnext;
mod densenet;
mod efficientnet;
pub mod layers;
mod lenet;
mod mobilenet;
pub mod pytorch;
mod resnet;
mod seed_cnn;
mod teacher;
#[cfg(test)]
mod tests;
mod vgg;
mod vit;

use std::sync::Arc;

pub use architecture::Architecture;
pub use teacher::Teacher;

use efficientnet::efficientnet;
use layers::Network;
use resnet::ResNet;

use crate::{
    graph::{Graph, GraphError},
    nn::{Builder, Layer, Mode, Parameters},
    tasks::{Classification, Task},
    tensor::TensorType,
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
    /// Its layers, where it was written down as a list of them: weights files hold them then.
    pub layers: Option<Network>,
    /// A network that it is to imitate in training besides learning its labels.
    pub teacher: Option<Arc<Teacher>>,
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
        let (task, network) = (Arc::new(task), Box::new(network));
        Self { name: name.into(), input, task, network, layers: None, teacher: None }
    }

    /// Names and shapes of its parameters.
    ///
    /// # Errors
    /// If the network cannot take its input.
    pub fn parameters(&self) -> Result<Parameters, GraphError> {
        let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
        let [height, width, channels] = self.input;
        let x = graph.feed("images", TensorType::f32([1, height, width, channels]));
        self.network.forward(&mut Builder::new(&mut graph, &mut parameters, Mode::Inference, None), x)?;
        Ok(parameters)
    }

    /// The same network for another task.
    pub fn with_task(self, task: Arc<dyn Task>) -> Self {
        Self { task, ..self }
    }

    /// The same network with a teacher: [`Recipe::teacher_weight`](crate::train::Recipe::teacher_weight) says how much it counts.
    pub fn with_teacher(self, teacher: Teacher) -> Self {
        Self { teacher: Some(Arc::new(teacher)), ..self }
    }
}

/// An entry of the zoo.
pub struct Entry {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Height, width and channels of the images that it is usually shown with, as papers count parameters and operations.
    /// It takes others as well.
    pub input: [usize; 3],
    /// Classes that it is usually shown with.
    pub classes: usize,
    build: fn([usize; 3], usize) -> Box<dyn Layer>,
}

/// A network for images as CIFAR-10's.
const fn cifar(name: &'static str, about: &'static str, build: fn([usize; 3], usize) -> Box<dyn Layer>) -> Entry {
    Entry { name, about, input: [32, 32, 3], classes: 10, build }
}

/// A network for images as ImageNet's.
const fn imagenet(name: &'static str, about: &'static str, build: fn([usize; 3], usize) -> Box<dyn Layer>) -> Entry {
    Entry { name, about, input: [224, 224, 3], classes: 1000, build }
}

/// The models that there are.
pub const ZOO: &[Entry] = &[
    cifar("seed-cnn", "two convolutions and two dense layers, Keras's tutorial CNN", seed_cnn::build),
    cifar("lenet5", "LeNet-5 (LeCun et al. 1998) with tanh and average pooling", lenet::build),
    cifar("resnet20", "residual network of 20 layers for CIFAR (He et al. 2015)", |input, classes| {
        ResNet::cifar(&[3, 3, 3]).build(input, classes)
    }),
    cifar("resnet32", "residual network of 32 layers for CIFAR (He et al. 2015)", |input, classes| {
        ResNet::cifar(&[5, 5, 5]).build(input, classes)
    }),
    cifar("resnet44", "residual network of 44 layers for CIFAR (He et al. 2015)", |input, classes| {
        ResNet::cifar(&[7, 7, 7]).build(input, classes)
    }),
    cifar("resnet56", "residual network of 56 layers for CIFAR (He et al. 2015)", |input, classes| {
        ResNet::cifar(&[9, 9, 9]).build(input, classes)
    }),
    imagenet("resnet18", "residual network of 18 layers (He et al. 2015)", |input, classes| {
        ResNet::basic(&[2, 2, 2, 2]).build(input, classes)
    }),
    imagenet("resnet34", "residual network of 34 layers (He et al. 2015)", |input, classes| {
        ResNet::basic(&[3, 4, 6, 3]).build(input, classes)
    }),
    imagenet("resnet50", "residual network of 50 layers, v1.5 (He et al. 2015)", |input, classes| {
        ResNet::bottleneck(&[3, 4, 6, 3]).build(input, classes)
    }),
    imagenet("resnet101", "residual network of 101 layers, v1.5 (He et al. 2015)", |input, classes| {
        ResNet::bottleneck(&[3, 4, 23, 3]).build(input, classes)
    }),
    imagenet("resnet152", "residual network of 152 layers, v1.5 (He et al. 2015)", |input, classes| {
        ResNet::bottleneck(&[3, 8, 36, 3]).build(input, classes)
    }),
    imagenet("resnext50_32x4d", "ResNeXt of 50 layers with 32 groups (Xie et al. 2017)", |input, classes| {
        ResNet::bottleneck(&[3, 4, 6, 3]).groups(32).build(input, classes)
    }),
    imagenet("seresnet50", "resnet50 with squeeze and excitation (Hu et al. 2018)", |input, classes| {
        ResNet::bottleneck(&[3, 4, 6, 3]).squeeze_excite().build(input, classes)
    }),
    imagenet("cbam_resnet18", "resnet18 with attention to channels and pixels (Woo et al. 2018)", |input, classes| {
        ResNet::basic(&[2, 2, 2, 2]).cbam().build(input, classes)
    }),
    imagenet("vgg11", "VGG of 11 layers (Simonyan and Zisserman 2014)", vgg::vgg11),
    imagenet("vgg16", "VGG of 16 layers (Simonyan and Zisserman 2014)", vgg::vgg16),
    imagenet("densenet121", "densely connected network of 121 layers (Huang et al. 2017)", densenet::densenet121),
    imagenet("mobilenet_v2", "MobileNetV2 (Sandler et al. 2018)", mobilenet::v2),
    imagenet("mobilenet_v3_large", "MobileNetV3-Large (Howard et al. 2019)", mobilenet::v3_large),
    imagenet("mobilenet_v3_small", "MobileNetV3-Small (Howard et al. 2019)", mobilenet::v3_small),
    imagenet("efficientnet_b0", "EfficientNet-B0 (Tan and Le 2019)", |_, classes| efficientnet(0, classes)),
    imagenet("efficientnet_b1", "EfficientNet-B1 (Tan and Le 2019)", |_, classes| efficientnet(1, classes)),
    imagenet("efficientnet_b2", "EfficientNet-B2 (Tan and Le 2019)", |_, classes| efficientnet(2, classes)),
    imagenet("efficientnet_b3", "EfficientNet-B3 (Tan and Le 2019)", |_, classes| efficientnet(3, classes)),
    imagenet("efficientnet_b4", "EfficientNet-B4 (Tan and Le 2019)", |_, classes| efficientnet(4, classes)),
    imagenet("efficientnet_b5", "EfficientNet-B5 (Tan and Le 2019)", |_, classes| efficientnet(5, classes)),
    imagenet("efficientnet_b6", "EfficientNet-B6 (Tan and Le 2019)", |_, classes| efficientnet(6, classes)),
    imagenet("efficientnet_b7", "EfficientNet-B7 (Tan and Le 2019)", |_, classes| efficientnet(7, classes)),
    imagenet("convnext_tiny", "ConvNeXt-Tiny (Liu et al. 2022)", convnext::tiny),
    imagenet("vit_tiny", "vision transformer ViT-Ti of patches of 16 pixels (Touvron et al. 2021)", vit::tiny),
    imagenet("vit_small", "vision transformer ViT-S of patches of 16 pixels (Touvron et al. 2021)", vit::small),
    imagenet("vit_tiny_conv", "ViT-Ti with convolutions in front (Xiao et al. 2021)", vit::tiny_conv),
];

/// The model `name` of the zoo for images of `input` (height, width, channels), which ends in this many numbers and tells
/// as many classes apart; `None` where there is none of that name.
pub fn build(name: &str, input: [usize; 3], classes: usize) -> Option<Model> {
    let entry = ZOO.iter().find(|entry| entry.name == name)?;
    let task = Arc::new(Classification::new(classes));
    let network = (entry.build)(input, classes);
    Some(Model { name: name.to_string(), input, task, network, layers: None, teacher: None })
}
