//! LeNet-5.

use crate::{
    nn::{Activation, AveragePool2d, Conv2d, Dense, Flatten, Layer, Sequential},
    ops::Padding,
};

/// LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) as it is taught today: full connections between the convolutions,
/// tanh, average pooling. Images of 28 pixels are padded by 2, as the paper's 32 pixels were.
pub fn build(input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    let padding = if input[0] < 32 || input[1] < 32 { Padding::all(2) } else { Padding::Valid };
    let network = Sequential::new()
        .add(Conv2d::new(6, 5).padding(padding).activation(Activation::Tanh))
        .add(AveragePool2d::new(2))
        .add(Conv2d::new(16, 5).activation(Activation::Tanh))
        .add(AveragePool2d::new(2))
        .add(Flatten)
        .add(Dense::new(120).activation(Activation::Tanh))
        .add(Dense::new(84).activation(Activation::Tanh))
        .add(Dense::new(classes));
    Box::new(network)
}
