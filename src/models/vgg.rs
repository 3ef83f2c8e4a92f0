//! VGG-11.

use crate::{
    nn::{Conv2d, Dense, Dropout, Fan, Flatten, GlobalAveragePool, Init, Layer, MaxPool2d, Sequential},
    ops::Padding,
};

/// VGG-11, configuration A of Simonyan and Zisserman (2014). For images of 64 pixels or less the three dense layers
/// are one after a global average pool, as is usual for CIFAR.
pub fn vgg11(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    let small = input[0].max(input[1]) <= 64;
    let mut network = Sequential::new();
    for (at, widths) in [&[64][..], &[128], &[256, 256], &[512, 512], &[512, 512]].into_iter().enumerate() {
        for width in widths {
            let conv = Conv2d::new(*width, 3).padding(Padding::all(1)).init(Init::HeNormal(Fan::In)).relu();
            network = network.add(conv);
        }
        // An image of 32 pixels is a single one after five halvings; smaller ones stop earlier.
        if input[0].min(input[1]) >> (at + 1) > 0 {
            network = network.add(MaxPool2d::new(2));
        }
    }
    let network = if small {
        network.add(GlobalAveragePool)
    } else {
        network
            .add(Flatten)
            .add(Dense::new(4096).init(Init::TruncatedNormal(0.01)).relu())
            .add(Dropout::new(0.5))
            .add(Dense::new(4096).init(Init::TruncatedNormal(0.01)).relu())
            .add(Dropout::new(0.5))
    };
    Box::new(network.add(Dense::new(classes)))
}
