//! The images that are explained.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail, ensure};
use gabor::{
    data::{DecodeLimits, Fit, ImageDecoder, ImageSize},
    explain::{Picture, View},
    train::Card,
};

use super::input_size;
use crate::cli::{
    console::{self, Flags},
    predict::find_images,
};

/// Pixels that the longer side of a picture has at most, where the image has more.
const MOST: usize = 640;

/// Pixels that it has at least: small images are enlarged.
const LEAST: usize = 224;

/// An image file.
pub struct Image {
    pub path: PathBuf,
    /// What its pictures are called after: no two images have the same.
    pub stem: String,
    /// Its own size.
    pub size: ImageSize,
    /// The whole image, of a size to be looked at.
    pub picture: Picture,
    /// What the network sees of it, u8 `[height, width, channels]`.
    pub pixels: Vec<u8>,
    /// Where in the image that lies.
    pub view: View,
}

/// Reads the images that are named; whether some cannot be read, which are told.
pub fn read(named: &[PathBuf], card: &Card) -> Result<(Vec<Image>, bool)> {
    if let Some(folder) = named.iter().find(|path| path.is_dir()) {
        let folder = folder.display();
        bail!("{folder} is a folder: name the images, or those of a folder by a pattern such as '{folder}/*'");
    }
    let mut stems = HashSet::new();
    let (mut images, mut unreadable) = (Vec::new(), Vec::new());
    for path in find_images(named)? {
        match Image::read(&path, card, &mut stems) {
            Ok(image) => images.push(image),
            Err(error) => unreadable.push(error),
        }
    }
    if images.is_empty() {
        return Err(unreadable.pop().unwrap_or_else(|| anyhow!("there are no images")));
    }
    unreadable.iter().for_each(|error| console::print_error(error, &Flags::default()));
    Ok((images, !unreadable.is_empty()))
}

impl Image {
    fn read(path: &Path, card: &Card, stems: &mut HashSet<String>) -> Result<Self> {
        ensure!(!path.is_dir(), "{} is a folder: name the images in it", path.display());
        let limits = DecodeLimits::default();
        let size = ImageDecoder::size_of(path, limits)?;
        let decoded = |size: ImageSize, fit| -> Result<Vec<u8>> {
            let mut pixels = vec![0; size.bytes()];
            ImageDecoder { size, fit, limits }.read(path, &mut pixels)?;
            Ok(pixels)
        };
        let seen = input_size(card);
        let shown = shown_size(size);
        let picture = Picture { size: shown, pixels: decoded(shown, Fit::Stretch)? };
        let picture = picture.enlarged(LEAST.div_ceil(shown.height.max(shown.width)));
        let pixels = decoded(seen, card.fit)?;
        let stem = free_stem(&path.file_stem().unwrap_or_default().to_string_lossy(), stems);
        Ok(Self { path: path.into(), stem, size, picture, pixels, view: View::of(size, seen, card.fit) })
    }
}

/// The size, no longer than what is looked at, of the proportions of an image.
fn shown_size(size: ImageSize) -> ImageSize {
    let longer = size.height.max(size.width);
    let [height, width] =
        [size.height, size.width].map(|side| if longer > MOST { (side * MOST / longer).max(1) } else { side });
    ImageSize { height, width, ..size }
}

/// The stem, with a number where another image has it already; letters of either case being the same, as some disks take them.
fn free_stem(stem: &str, taken: &mut HashSet<String>) -> String {
    let names = std::iter::once(stem.to_string()).chain((2u64..).map(|number| format!("{stem}-{number}")));
    let mut free = names.filter(|name| taken.insert(name.to_lowercase()));
    free.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_images_are_called_alike() {
        let mut taken = HashSet::new();
        let given = ["rose", "Rose", "rose-2", "rose", "tulip"];
        let stems: Vec<String> = given.iter().map(|stem| free_stem(stem, &mut taken)).collect();
        assert_eq!(stems, ["rose", "Rose-2", "rose-2-2", "rose-3", "tulip"]);
    }

    #[test]
    fn large_images_are_made_smaller_and_keep_their_proportions() {
        assert_eq!(shown_size(ImageSize::new(3000, 4000, 3)), ImageSize::new(480, 640, 3));
        assert_eq!(shown_size(ImageSize::new(28, 20, 1)), ImageSize::new(28, 20, 1));
        assert_eq!(shown_size(ImageSize::new(1, 6400, 1)), ImageSize::new(1, 640, 1));
    }
}
