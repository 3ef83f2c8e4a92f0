//! What is wrong with a data set: copies of images, also on both sides of a split, images that are too dark, too bright, flat,
//! blurred, tiny or of odd proportions, labels that are probably wrong, and images unlike all others of their class.
//!
//! - [`Pool`] puts the parts of a data set side by side, so that an image is one index.
//! - [`look`] goes through the images once, in the sizes that they have themselves; [`copies`] and [`flaws`] compare what it saw.
//! - [`wrong_labels`] and [`outliers`] take what models said of images that they were not trained on.

mod appearance;
mod copies;
mod hash;
mod labels;
mod look;
mod outliers;
mod pool;
mod robust;
mod small;

pub use appearance::{Flaw, FlawKind, flaws};
pub use copies::{Copy, copies};
pub use labels::{WrongLabel, wrong_labels};
pub use look::{Look, look, thumbnail};
pub use outliers::{NEIGHBOURS, Outlier, outliers};
pub use pool::Pool;
