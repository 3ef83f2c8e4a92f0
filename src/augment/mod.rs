//! Augmentation: other views of the training images, drawn anew each time that one is trained on.
//!
//! [`Augmentation`] says how far images may be turned, moved, recoloured and mixed. For each batch the host draws a few numbers
//! an image, [`Draws`], from the step and the image's place alone, so that a resumed run draws the same; the device does the
//! work on pixels, in one pass for geometry, one for colours and one for mixing.

mod draws;
mod numbers;
mod policy;
mod settings;
mod views;

pub use draws::{Drawn, Draws};
pub use policy::Policy;
pub use settings::{Augmentation, Preset};
pub use views::Views;

use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    ops::{ColourOptions, LOOK, MIX, Resampling},
    tensor::TensorType,
};

/// The feeds of what is drawn.
const MAPS: &str = "augmentation/maps";
const LOOKS: &str = "augmentation/looks";
const SEEDS: &str = "augmentation/seeds";
const MIXES: &str = "augmentation/mixes";
const SHARES: &str = "augmentation/shares";

impl Augmentation {
    /// Images u8 `[batch, height, width, channels]` varied and then normalised by the mean and the standard deviation f32
    /// `[channels]`, f32 of the same shape. Appends a feed for each of the tensors of [`Draws`].
    ///
    /// # Errors
    /// If the types are others than these.
    pub fn apply(&self, graph: &mut Graph, images: Value, mean: Value, deviation: Value) -> Result<Value, GraphError> {
        if self.is_identity() {
            return graph.normalise_images(images, mean, deviation);
        }
        let batch = graph.shape(images).first().copied().unwrap_or_default();
        let maps = graph.feed(MAPS, TensorType::f32([batch, 6]));
        let resampling = Resampling {
            interpolation: self.interpolation.unwrap_or_default(),
            fill: self.fill_mode.unwrap_or_default(),
            fill_value: self.fill_value.unwrap_or_default() as f32,
        };
        let mut x = graph.resample(images, maps, resampling)?;
        if self.has_colours() {
            let looks = graph.feed(LOOKS, TensorType::f32([batch, LOOK]));
            let seeds = graph.feed(SEEDS, TensorType::u32([batch]));
            let options = ColourOptions {
                contrast: self.has_contrast(),
                blur: self.blur.unwrap_or_default() > 0.0,
                noise: self.noise.unwrap_or_default() > 0.0,
            };
            x = graph.colour(x, looks, seeds, options)?;
        }
        let normalised = (Expr::Input(0) / 255.0 - Expr::Input(1)) / Expr::Input(2);
        x = graph.pointwise("normalise", normalised, &[x, mean, deviation])?;
        if self.has_boxes() || self.mixes_labels() {
            let mixes = graph.feed(MIXES, TensorType::f32([batch, MIX]));
            x = graph.mix_images(x, mixes)?;
        }
        Ok(x)
    }

    /// The feed of the share that each image of a batch has in what is made of it: the rest is that of its partner. `None` where
    /// images are not mixed.
    pub fn shares(&self, graph: &mut Graph, batch: usize) -> Option<Value> {
        self.mixes_labels().then(|| graph.feed(SHARES, TensorType::f32([batch])))
    }
}
