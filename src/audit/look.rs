//! One look at each image, in the size that it has itself.

use std::hash::{DefaultHasher, Hasher};

use rayon::prelude::*;

use super::{
    appearance::Appearance,
    small::{Small, reduced, resized},
};
use crate::data::{DataError, Dataset, ImageSize};

/// What is known of an image once it was looked at.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its own size.
    pub size: ImageSize,
    /// Tells its pixels from all others.
    pub(super) digest: u64,
    pub(super) small: Small,
    pub(super) appearance: Appearance,
}

impl Look {
    fn of(pixels: &[u8], size: ImageSize) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(pixels);
        Self { size, digest: hasher.finish(), small: Small::of(pixels, size), appearance: Appearance::of(pixels, size) }
    }
}

/// Looks at each image, with all threads; `on_image` is called after each. An image that cannot be read has the error in its place.
pub fn look(images: &Dataset, on_image: &(dyn Fn() + Sync)) -> Vec<Result<Look, DataError>> {
    let see = |index: usize| {
        let look = images.original(index).map(|(pixels, size)| Look::of(&pixels, size));
        on_image();
        look
    };
    (0..images.len()).into_par_iter().map(see).collect()
}

/// Image `index`, made smaller where its longer side has more than `longest` pixels: u8 HWC pixels and their size.
///
/// # Errors
/// If the image cannot be read.
///
/// # Panics
/// If `index` is not below the number of images.
pub fn thumbnail(images: &Dataset, index: usize, longest: usize) -> Result<(Vec<u8>, ImageSize), DataError> {
    let (pixels, size) = images.original(index)?;
    let smaller = reduced(size, longest);
    Ok((resized(&pixels, size, smaller), smaller))
}
