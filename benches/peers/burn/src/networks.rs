//! The networks of the workloads, in burn's layers.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

/// An image classifier: from NCHW images to logits.
pub trait Network: Module {
    /// Logits of shape `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;
}

/// Two 3x3 convolutions of 32 and 64 channels, each with ReLU and a max pool by 2, then dense layers of 128 and
/// `classes`.
#[derive(Module, Debug)]
pub struct SeedCnn {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    dense1: Linear,
    dense2: Linear,
}

impl SeedCnn {
    /// For square images of this side.
    pub fn new(side: usize, channels: usize, classes: usize, device: &Device) -> Self {
        let last = ((side - 2) / 2 - 2) / 2;
        Self {
            conv1: Conv2dConfig::new([channels, 32], [3, 3]).init(device),
            conv2: Conv2dConfig::new([32, 64], [3, 3]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            dense1: LinearConfig::new(last * last * 64, 128).init(device),
            dense2: LinearConfig::new(128, classes).init(device),
        }
    }
}

impl Network for SeedCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(images)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        self.dense2.forward(relu(self.dense1.forward(x.flatten(1, 3))))
    }
}

/// A convolution without bias, then batch norm.
#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        let pad = kernel / 2;
        let conv = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false)
            .init(device);
        Self { conv, norm: BatchNormConfig::new(channels[1]).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// `relu(body(x) + shortcut(x))`, with ReLU between the body's convolutions, and a projection where shapes differ.
#[derive(Module, Debug)]
struct Residual {
    body: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl Residual {
    fn new(input: usize, output: usize, stride: usize, body: Vec<ConvNorm>, device: &Device) -> Self {
        let same = input == output && stride == 1;
        Self { body, shortcut: (!same).then(|| ConvNorm::new([input, output], 1, stride, device)) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.shortcut {
            Some(projection) => projection.forward(x.clone()),
            None => x.clone(),
        };
        let body = self.body.iter().enumerate().fold(x, |x, (at, layer)| {
            let x = layer.forward(x);
            if at + 1 == self.body.len() { x } else { relu(x) }
        });
        relu(body + shortcut)
    }
}

/// A residual network.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: ConvNorm,
    pool: Option<MaxPool2d>,
    blocks: Vec<Residual>,
    dense: Linear,
}

impl ResNet {
    /// ResNet-18 for small images: a 3x3 stem of stride 1, no max pool.
    pub fn resnet18_cifar(classes: usize, device: &Device) -> Self {
        let stem = ConvNorm::new([3, 64], 3, 1, device);
        let block = |input, width, stride| {
            let body =
                vec![ConvNorm::new([input, width], 3, stride, device), ConvNorm::new([width, width], 3, 1, device)];
            Residual::new(input, width, stride, body, device)
        };
        Self::new(stem, None, [2, 2, 2, 2], 1, block, classes, device)
    }

    /// ResNet-50 v1.5: the stride of a block is in its 3x3 convolution.
    pub fn resnet50(classes: usize, device: &Device) -> Self {
        let stem = ConvNorm::new([3, 64], 7, 2, device);
        let pool = MaxPool2dConfig::new([3, 3])
            .with_strides([2, 2])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init();
        let block = |input, width, stride| {
            let body = vec![
                ConvNorm::new([input, width], 1, 1, device),
                ConvNorm::new([width, width], 3, stride, device),
                ConvNorm::new([width, 4 * width], 1, 1, device),
            ];
            Residual::new(input, 4 * width, stride, body, device)
        };
        Self::new(stem, Some(pool), [3, 4, 6, 3], 4, block, classes, device)
    }

    fn new(
        stem: ConvNorm,
        pool: Option<MaxPool2d>,
        depths: [usize; 4],
        expansion: usize,
        block: impl Fn(usize, usize, usize) -> Residual,
        classes: usize,
        device: &Device,
    ) -> Self {
        let (mut blocks, mut channels) = (Vec::new(), 64);
        for (stage, depth) in depths.into_iter().enumerate() {
            let width = 64 << stage;
            for at in 0..depth {
                blocks.push(block(channels, width, if stage > 0 && at == 0 { 2 } else { 1 }));
                channels = expansion * width;
            }
        }
        Self { stem, pool, blocks, dense: LinearConfig::new(channels, classes).init(device) }
    }
}

impl Network for ResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(images));
        if let Some(pool) = &self.pool {
            x = pool.forward(x);
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.dense.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}
