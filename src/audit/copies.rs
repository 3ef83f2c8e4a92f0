//! Images that are there twice.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::{
    Look,
    hash::HashIndex,
    small::{Likeness, Small, resized},
};
use crate::data::{DataError, Dataset, ImageSize};

/// Images of less contrast in levels are no copies unless their pixels are the same: of one brightness all are alike.
const FLAT: f32 = 4.0;
/// Copies correlate at least so much.
const CORRELATION: f32 = 0.98;
/// Levels that may be left between copies of one size. It is what encoding as JPEG of quality 60 leaves, where the handwritten
/// digits of MNIST that are most alike (ones, all of them) differ by more: among its 60,000 training images a few pairs do not.
const RESIDUAL: f32 = 3.5;
/// Levels that may be left between copies of different sizes, which resampling adds to.
const RESIDUAL_OF_SIZES: f32 = 4.5;
/// Images of different sizes are looked at more closely where their small pictures correlate so much,
const WORTH_A_LOOK: f32 = 0.95;
/// and their proportions differ by no more than such a factor.
const PROPORTIONS: f32 = 1.12;
/// Pixels of a side of images that are compared also with some pixels cut off: of larger ones that changes nothing.
const CROPPED: usize = 128;

/// An image that is the same as an earlier one, or a variant of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copy {
    /// The image.
    pub image: usize,
    /// The first image that it is a copy of.
    pub of: usize,
    /// Whether they have the same size and the same pixels.
    pub exact: bool,
    /// The correlation of their small pictures; 1 of exact ones.
    pub similarity: f32,
}

/// The images that are copies of earlier ones, by [`look`](super::look) at `images`, in their order: exact ones, and those that were
/// encoded anew, resized, made somewhat brighter or darker, or cut by one pixel on any sides. Images without a look are passed over.
///
/// Near copies are found by perceptual hashes that differ in at most 7 of 63 bits, and are compared by pictures of 16x16.
///
/// # Errors
/// If an image that was looked at cannot be read any more.
pub fn copies(images: &Dataset, looks: &[Option<Look>]) -> Result<Vec<Copy>, DataError> {
    let mut first: HashMap<(ImageSize, u64), usize> = HashMap::new();
    let mut copies = Vec::new();
    let mut distinct = Vec::new();
    for (image, look) in looks.iter().enumerate() {
        let Some(look) = look else { continue };
        let of = *first.entry((look.size, look.digest)).or_insert(image);
        if of != image {
            copies.push(Copy { image, of, exact: true, similarity: 1.0 });
        } else if look.small.contrast >= FLAT {
            distinct.push((image, look));
        }
    }
    copies.extend(Comparison::new(images, distinct).near()?);
    copies.sort_unstable_by_key(|copy| copy.image);
    Ok(copies)
}

/// Images no two of which are the same.
struct Comparison<'a> {
    images: &'a Dataset,
    distinct: Vec<(usize, &'a Look)>,
    sizes: HashSet<ImageSize>,
}

impl<'a> Comparison<'a> {
    fn new(images: &'a Dataset, distinct: Vec<(usize, &'a Look)>) -> Self {
        let sizes = distinct.iter().map(|(_, look)| look.size).collect();
        Self { images, distinct, sizes }
    }

    /// For each image the first one that it is a near copy of.
    fn near(&self) -> Result<Vec<Copy>, DataError> {
        let hashes: Vec<u64> = self.distinct.iter().map(|(_, look)| look.small.hash).collect();
        let index = HashIndex::new(&hashes);
        let pairs = (0..self.distinct.len()).into_par_iter().map(|at| self.pairs_of(at, &index));
        let pairs: Vec<Vec<Copy>> = pairs.collect::<Result<_, DataError>>()?;
        let mut best: HashMap<usize, Copy> = HashMap::new();
        for pair in pairs.into_iter().flatten() {
            let kept = best.entry(pair.image).or_insert(pair);
            if pair.of < kept.of {
                *kept = pair;
            }
        }
        Ok(best.into_values().collect())
    }

    /// The pairs that number `at` is one of: as the later one where both are whole, and as the one that was cut.
    fn pairs_of(&self, at: usize, index: &HashIndex) -> Result<Vec<Copy>, DataError> {
        let (image, look) = self.distinct[at];
        let mut pairs = Vec::new();
        let mut add = |other: usize, likeness: Likeness| {
            let (image, of) = (image.max(other), image.min(other));
            pairs.push(Copy { image, of, exact: false, similarity: likeness.correlation });
        };
        let mut of_other_sizes = Vec::new();
        index.near(look.small.hash, |found| {
            let (other, others) = self.distinct[found];
            if found >= at {
                return;
            }
            let Some(likeness) = look.small.likeness(&others.small) else { return };
            if others.size == look.size {
                if likeness.is_of_copies(RESIDUAL) {
                    add(other, likeness);
                }
            } else if likeness.correlation >= WORTH_A_LOOK && same_proportions(look.size, others.size) {
                of_other_sizes.push((found, likeness));
            }
        });
        let cuts = self.cuts(look.size);
        if of_other_sizes.is_empty() && cuts.is_empty() {
            return Ok(pairs);
        }
        let (pixels, size) = self.images.original(image)?;
        for (found, likeness) in of_other_sizes {
            let likeness = self.at_one_size(&pixels, size, found, likeness)?;
            if likeness.is_of_copies(RESIDUAL_OF_SIZES) {
                add(self.distinct[found].0, likeness);
            }
        }
        for cut in cuts {
            let (pixels, size) = cut.of(&pixels, size);
            let small = Small::of(&pixels, size);
            index.near(small.hash, |found| {
                let (other, others) = self.distinct[found];
                let likeness = small.likeness(&others.small).filter(|_| others.size == size);
                if let Some(likeness) = likeness.filter(|likeness| likeness.is_of_copies(RESIDUAL)) {
                    add(other, likeness);
                }
            });
        }
        Ok(pairs)
    }

    /// The better one of a likeness and that to number `other` where each side is brought to the shorter one of the two.
    fn at_one_size(
        &self,
        pixels: &[u8],
        size: ImageSize,
        other: usize,
        likeness: Likeness,
    ) -> Result<Likeness, DataError> {
        let (others, size_of_others) = self.images.original(self.distinct[other].0)?;
        let common = |channels| ImageSize {
            height: size.height.min(size_of_others.height),
            width: size.width.min(size_of_others.width),
            channels,
        };
        let [own, others] = [(pixels, size), (&others[..], size_of_others)].map(|(pixels, size)| {
            let common = common(size.channels);
            Small::of(&resized(pixels, size, common), common)
        });
        let closer = own.likeness(&others).filter(|closer| closer.residual < likeness.residual);
        Ok(closer.unwrap_or(likeness))
    }

    /// What can be cut off images of this size so that they are as large as another image.
    fn cuts(&self, size: ImageSize) -> Vec<Cut> {
        if size.height.max(size.width) > CROPPED || size.height.min(size.width) <= 2 {
            return Vec::new();
        }
        let all = (1..16).map(|sides: usize| Cut { sides: [0, 1, 2, 3].map(|side| sides >> side & 1) });
        all.filter(|cut| self.sizes.contains(&cut.size(size))).collect()
    }
}

impl Likeness {
    fn is_of_copies(self, residual: f32) -> bool {
        self.correlation >= CORRELATION && self.residual <= residual
    }
}

fn same_proportions(a: ImageSize, b: ImageSize) -> bool {
    let aspect = |size: ImageSize| size.width as f32 / size.height as f32;
    let factor = aspect(a) / aspect(b);
    factor.max(factor.recip()) <= PROPORTIONS
}

/// Pixels cut off at the top, the bottom, the left and the right.
#[derive(Clone, Copy)]
struct Cut {
    sides: [usize; 4],
}

impl Cut {
    fn size(self, size: ImageSize) -> ImageSize {
        let [top, bottom, left, right] = self.sides;
        ImageSize { height: size.height - top - bottom, width: size.width - left - right, ..size }
    }

    /// What is left of an image.
    fn of(self, pixels: &[u8], from: ImageSize) -> (Vec<u8>, ImageSize) {
        let size = self.size(from);
        let [top, _, left, _] = self.sides;
        let rows = pixels.chunks_exact(from.width * from.channels).skip(top).take(size.height);
        let kept = rows.flat_map(|row| &row[left * from.channels..][..size.width * from.channels]);
        (kept.copied().collect(), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::look, data::bundled};

    /// The looks at images, all of which can be read.
    fn looks(images: &Dataset) -> Vec<Option<Look>> {
        look(images, &|| ()).into_iter().map(Result::ok).collect()
    }

    #[test]
    fn digits_that_look_alike_are_no_copies() {
        let images = bundled(&Default::default()).unwrap().train;
        let images = images.subset(&(0..3000).collect::<Vec<_>>());
        assert_eq!(copies(&images, &looks(&images)).unwrap(), []);
    }

    #[test]
    fn copies_are_found_and_flat_images_are_none_unless_they_are_the_same() {
        let images = bundled(&Default::default()).unwrap().train;
        let size = images.image_size();
        let mut pixels: Vec<u8> = (0..4).flat_map(|index| images.original(index).unwrap().0).collect();
        let brighter: Vec<u8> = pixels[size.bytes()..2 * size.bytes()].iter().map(|v| v / 10 * 9 + 20).collect();
        pixels.extend(brighter);
        pixels.extend_from_within(2 * size.bytes()..3 * size.bytes());
        for level in [100, 101, 100] {
            pixels.extend(vec![level; size.bytes()]);
        }
        let images = Dataset::from_pixels("some", pixels, size, vec![0; 9], vec!["a".into()]).unwrap();
        let found = copies(&images, &looks(&images)).unwrap();
        let pairs: Vec<(usize, usize, bool)> = found.iter().map(|copy| (copy.image, copy.of, copy.exact)).collect();
        assert_eq!(pairs, [(4, 1, false), (5, 2, true), (8, 6, true)]);
    }

    #[test]
    fn a_cut_leaves_what_is_inside() {
        let size = ImageSize::new(3, 3, 1);
        let (left, cut) = Cut { sides: [1, 0, 0, 1] }.of(&[1, 2, 3, 4, 5, 6, 7, 8, 9], size);
        assert_eq!((left, cut), (vec![4, 5, 7, 8], ImageSize::new(2, 2, 1)));
    }
}
