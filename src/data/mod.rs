//! Labelled images: opening, splitting, decoding and feeding them to training.
//!
//! ```no_run
//! use gabor::data::{self, Loader, LoaderOptions, Normalisation, OpenOptions, Order};
//!
//! # fn main() -> Result<(), data::DataError> {
//! let splits = data::open("flowers", &OpenOptions { height_width: Some((64, 64)), ..OpenOptions::default() })?;
//! let normalisation = Normalisation::of(&splits.train)?;
//! let order = Order::Shuffled { seed: 0 };
//! let loader = Loader::new(splits.train, LoaderOptions { order, ..LoaderOptions::new(32) })?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     // ... a step on batch.images, batch.labels and batch.weights ...
//!     loader.recycle(batch);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`open`] finds out what a folder holds (IDX files, CIFAR binary files, with the feature `images` class folders of
//!   images) and returns [`Splits`] of [`Dataset`]s; [`bundled`] is the small part of MNIST that ships with this crate;
//!   `download` (with the feature of that name) fetches whole public sets.
//! - A [`Dataset`] gives any image by its index as u8 pixels in HWC order, all of one size.
//! - A [`Loader`] makes batches ahead of training on other threads. Which images a batch holds depends on the seed, the
//!   epoch and the batch's number alone, so that a resumed run sees exactly what the uninterrupted one would have.
//! - Images stay u8 all the way; [`Normalisation`] is applied by the first kernel of a step.

mod bundled;
mod cache;
mod cifar;
mod dataset;
#[cfg(feature = "images")]
mod decode;
#[cfg(feature = "download")]
pub mod download;
mod error;
mod finding;
mod fingerprint;
#[cfg(feature = "images")]
mod folder;
mod idx;
#[cfg(feature = "images")]
mod label_file;
mod labels;
mod leaks;
mod loader;
mod open;
mod random;
mod sampling;
mod size;
mod sizing;
mod split;
mod statistics;
mod stratify;

pub use bundled::bundled;
pub use dataset::{Dataset, ImageSource, MOST_CLASSES};
#[cfg(feature = "images")]
pub use decode::{IMAGE_EXTENSIONS, ImageDecoder};
pub use error::DataError;
pub use finding::Finding;
pub use fingerprint::{Fingerprint, Fingerprints};
#[cfg(feature = "images")]
pub use folder::images_in;
pub use labels::{Label, LabelKind, Labels};
pub use loader::{Batch, Epoch, Loader, LoaderOptions, Order};
pub use open::{DecodeLimits, OpenOptions, Skipped, Splits, height_width, open, open_with_progress};
pub use sampling::Sampling;
pub(crate) use size::convert;
pub use size::{Fit, ImageSize};
pub use sizing::{FitChoice, Sizing};
pub use split::SplitRatio;
pub use statistics::Normalisation;
