//! What a trained network looks at, and pictures of it.
//!
//! ```no_run
//! use std::path::Path;
//! use gabor::{device, explain::Explainer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut explainer = Explainer::load(Path::new("runs/resnet18-1/best.safetensors"), device::open("auto")?)?;
//! let image = vec![0; explainer.model().input.iter().product()];
//! let layer = explainer.default_layer()?.path.clone();
//! let map = explainer.grad_cam(&image, 3, &layer)?;
//! let (row, column, _) = map.peak();
//! # Ok(())
//! # }
//! ```
//!
//! - [`Explainer`] looks inside of a network: [`Explainer::grad_cam`], [`Explainer::feature_maps`], [`Explainer::filters`].
//! - [`Occlusion`] asks a [`Classifier`](crate::train::Classifier) what it says of an image of which parts are hidden.
//! - [`nearest`] finds the images whose embeddings are most alike.
//! - A [`Picture`] shows a [`Map`] over an image, or many maps side by side.

mod error;
mod explainer;
mod grad_cam;
mod layers;
mod map;
mod nearest;
mod occlusion;
mod picture;
#[cfg(test)]
mod tests;
mod view;

pub use error::ExplainError;
pub use explainer::{Explainer, FeatureMaps, Filters};
pub use grad_cam::{class_activation, grad_cam_graph};
pub use layers::{MapLayer, nearest_name};
pub use map::Map;
pub use nearest::{Neighbour, nearest};
pub use occlusion::Occlusion;
pub use picture::{Picture, viridis};
pub use view::View;
