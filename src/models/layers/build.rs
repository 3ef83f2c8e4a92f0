//! The layers of a list, built.

use super::{LayerSpec, NamedLayer, Pool, Units};
use crate::{
    graph::{GraphError, Value},
    nn::{
        AveragePool2d, BatchNorm, Builder, Cbam, Conv2d, Dense, Dropout, Flatten, GlobalAveragePool, GlobalMaxPool,
        Layer, LayerNorm, MaxPool2d, Scale, Sequential, SqueezeExcite, StochasticDepth,
    },
};

/// Layers one after the other, for so many classes.
pub(super) fn sequence(layers: &[NamedLayer], classes: usize) -> Sequential {
    layers.iter().fold(Sequential::new(), |all, NamedLayer { name, layer }| {
        let built = Spec { layer: layer.clone(), classes };
        match name {
            Some(name) => all.named(name.clone(), built),
            None => all.add(built),
        }
    })
}

/// A layer for so many classes.
struct Spec {
    layer: LayerSpec,
    classes: usize,
}

impl Layer for Spec {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        match &self.layer {
            LayerSpec::Conv { channels, kernel, stride, padding, dilation, groups, bias, init, activation } => {
                let conv = Conv2d::new(*channels, *kernel).stride(*stride).padding(padding.padding());
                let conv = conv.dilation(*dilation).groups(*groups).init(*init).activation(*activation);
                if *bias { conv } else { conv.no_bias() }.forward(builder, x)
            }
            LayerSpec::Dense { units, bias, init, activation } => {
                let units = match units {
                    Units::Number(units) => *units,
                    Units::Classes(_) => self.classes,
                };
                let dense = Dense::new(units).init(*init).activation(*activation);
                if *bias { dense } else { dense.no_bias() }.forward(builder, x)
            }
            LayerSpec::BatchNorm { epsilon } => BatchNorm::new().epsilon(*epsilon).forward(builder, x),
            LayerSpec::LayerNorm { epsilon } => LayerNorm::new(*epsilon).forward(builder, x),
            LayerSpec::Activation { function } => function.forward(builder, x),
            LayerSpec::MaxPool(Pool { size, stride, padding }) => {
                let pool = MaxPool2d::new(*size).stride(stride.unwrap_or(*size));
                pool.padding(padding.padding()).forward(builder, x)
            }
            LayerSpec::AveragePool(Pool { size, stride, padding }) => {
                let pool = AveragePool2d::new(*size).stride(stride.unwrap_or(*size));
                pool.padding(padding.padding()).forward(builder, x)
            }
            LayerSpec::GlobalAveragePool => GlobalAveragePool.forward(builder, x),
            LayerSpec::GlobalMaxPool => GlobalMaxPool.forward(builder, x),
            LayerSpec::Flatten => Flatten.forward(builder, x),
            LayerSpec::Dropout { rate } => Dropout::new(*rate).forward(builder, x),
            LayerSpec::Scale { factor } => Scale::new(*factor).forward(builder, x),
            LayerSpec::SqueezeExcite { squeezed } => SqueezeExcite::new(*squeezed).forward(builder, x),
            LayerSpec::Cbam { squeezed } => Cbam::new(*squeezed).forward(builder, x),
            LayerSpec::Block { repeat: 1, layers } => sequence(layers, self.classes).forward(builder, x),
            LayerSpec::Block { repeat, layers } => {
                let block = sequence(layers, self.classes);
                (0..*repeat).try_fold(x, |x, at| builder.layer(&at.to_string(), &block, x))
            }
            LayerSpec::Residual { layers, shortcut, drop, activation } => {
                let y = sequence(layers, self.classes).forward(builder, x)?;
                let y = builder.layer("stochastic_depth", &StochasticDepth::new(*drop), y)?;
                let shortcut = match shortcut.is_empty() {
                    true => x,
                    false => builder.layer("shortcut", &sequence(shortcut, self.classes), x)?,
                };
                let [branch, beside] = [y, shortcut].map(|value| builder.shape(value).clone());
                if branch != beside {
                    return Err(builder.error(format!(
                        "its layers make {branch} and what is added to them is {beside}: give it a `shortcut` that makes \
                         {branch}, such as a conv with kernel = 1, their stride and their channels"
                    )));
                }
                let sum = builder.graph.add(y, shortcut)?;
                activation.forward(builder, sum)
            }
        }
    }

    fn kind(&self) -> &'static str {
        self.layer.kind()
    }
}
