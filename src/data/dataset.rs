//! A set of labelled images of one size, wherever they come from.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::size::convert;
use super::{DataError, Fit, ImageSize, Labels};

/// Classes of a data set, at most: more than any public set of images has.
pub const MOST_CLASSES: usize = 65_536;

/// Where a data set's images come from. Implement it to train on images of another origin; all methods are called from
/// many threads at once.
pub trait ImageSource: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a person calls the image: its path, or its number in a file.
    fn name(&self, index: usize) -> String;

    /// Writes image `index` as u8 HWC pixels to `out`, which has the bytes of one image of the data set's size. The
    /// same index gives the same pixels each time.
    ///
    /// # Errors
    /// If the image cannot be read.
    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError>;

    /// Image `index` in the size that it has itself, as u8 HWC pixels, where that may be another than the data set's.
    ///
    /// # Errors
    /// If the image cannot be read.
    fn original(&self, _index: usize) -> Result<Option<(Vec<u8>, ImageSize)>, DataError> {
        Ok(None)
    }

    /// A number that tells the pixels of image `index` from all others, where it is known without reading the image
    /// from its file.
    fn digest(&self, _index: usize) -> Option<u64> {
        None
    }
}

/// The [`ImageSource::digest`] of pixels.
pub(super) fn digest(pixels: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(pixels);
    hasher.finish()
}

/// A set of labelled images of one size, with the names of the classes. Cloning is cheap: the images are shared.
#[derive(Clone)]
pub struct Dataset {
    name: Arc<str>,
    source: Arc<dyn ImageSource>,
    /// Which images of the source are in this set; a split or a skipped image makes it a part of the source.
    members: Arc<[u32]>,
    /// What is to be recognised in each member.
    labels: Arc<Labels>,
    /// What group each member is of, if they are of any.
    groups: Option<Arc<[u32]>>,
    classes: Arc<[String]>,
    size: ImageSize,
    fit: Fit,
}

impl Dataset {
    /// A data set of all images of `source`, with a label for each.
    ///
    /// # Errors
    /// If the numbers of images and labels differ, a label is no index into `classes`, a row has not one finite number for
    /// each of them, or a class has a line break in its name.
    pub fn new(
        name: &str,
        source: Arc<dyn ImageSource>,
        size: ImageSize,
        labels: impl Into<Labels>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        size.check()?;
        let labels = labels.into();
        if source.len() != labels.len() {
            return Err(DataError::CountMismatch {
                images_path: name.into(),
                images: source.len(),
                labels_path: name.into(),
                labels: labels.len(),
            });
        }
        if classes.len() > MOST_CLASSES {
            return Err(DataError::Option(format!("{name} has {} classes, more than {MOST_CLASSES}", classes.len())));
        }
        if let Some(class) = classes.iter().find(|class| class.contains(['\n', '\r'])) {
            let message = "has a line break in its name: rename it";
            return Err(DataError::Option(format!("{name}: the class {class:?} {message}")));
        }
        match &labels {
            Labels::Classes(labels) => check_labels(Path::new(name), labels, classes.len())?,
            Labels::Rows { width, values } => check_rows(name, *width, values, classes.len())?,
        }
        let members = (0..index(source.len())?).collect();
        let (labels, classes, fit) = (labels.into(), classes.into(), Fit::default());
        Ok(Self { name: name.into(), source, members, labels, groups: None, classes, size, fit })
    }

    /// A data set of images in memory: `pixels` holds them one after the other, each of `size` in HWC order.
    ///
    /// # Errors
    /// As [`Dataset::new`], or if `pixels` are no whole number of images.
    pub fn from_pixels(
        name: &str,
        pixels: Vec<u8>,
        size: ImageSize,
        labels: impl Into<Labels>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        size.check()?;
        if !pixels.len().is_multiple_of(size.bytes()) {
            return Err(DataError::Option(format!(
                "{name}: {} bytes are no whole number of {size} images",
                pixels.len()
            )));
        }
        let source = MemoryImages { name: name.into(), pixels, native: size, target: size, fit: Fit::default() };
        Self::new(name, Arc::new(source), size, labels, classes)
    }

    /// Where the images come from, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Height, width and channels of every image.
    pub fn image_size(&self) -> ImageSize {
        self.size
    }

    /// Names of the classes; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How images of another aspect ratio were brought to this size.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// Notes how images of another aspect ratio were brought to this size.
    pub fn with_fit(self, fit: Fit) -> Self {
        Self { fit, ..self }
    }

    /// Notes what group each image is of: images of one group stay together when the set is divided.
    ///
    /// # Panics
    /// If there is not one group an image.
    pub fn with_groups(self, groups: Vec<u32>) -> Self {
        assert_eq!(groups.len(), self.len(), "each image has a group");
        Self { groups: Some(groups.into()), ..self }
    }

    /// The group of each image, if they are of any.
    pub fn groups(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    /// What is to be recognised in each image.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How many images each class has. Of rows, those count whose number is above 1/2.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        match &*self.labels {
            Labels::Classes(labels) => labels.iter().for_each(|&label| counts[label as usize] += 1),
            Labels::Rows { width, values } => {
                for row in values.chunks_exact((*width).max(1)) {
                    counts.iter_mut().zip(row).for_each(|(count, value)| *count += usize::from(*value > 0.5));
                }
            }
        }
        counts
    }

    /// Weights of the classes that make each class count the same in the loss, whatever its number of images: `images /
    /// (classes * images of the class)`, and 0 for a class without images.
    pub fn balanced_class_weights(&self) -> Vec<f32> {
        let even_share = self.len() as f32 / self.classes.len() as f32;
        self.class_counts().into_iter().map(|count| if count == 0 { 0.0 } else { even_share / count as f32 }).collect()
    }

    /// Weights of the images of each class against those that are not of it, which make both count the same in the loss:
    /// `other images / images of the class`, and 1 for a class without images.
    pub fn balanced_positive_weights(&self) -> Vec<f32> {
        let weight = |count: usize| if count == 0 { 1.0 } else { (self.len() - count) as f32 / count as f32 };
        self.class_counts().into_iter().map(weight).collect()
    }

    /// What a person calls image `index`: its path, or its number in a file.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn image_name(&self, index: usize) -> String {
        self.source.name(self.members[index] as usize)
    }

    /// Writes the u8 HWC pixels of image `index` to `out`, which has [`ImageSize::bytes`] bytes.
    ///
    /// # Errors
    /// If the image cannot be read.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`] or `out` has another length.
    pub fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        assert_eq!(out.len(), self.size.bytes(), "the output has the bytes of one image");
        self.source.read(self.members[index] as usize, out)
    }

    /// The u8 HWC pixels of image `index` in the size that it has itself, as in its file, and that size.
    ///
    /// # Errors
    /// If the image cannot be read.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn original(&self, index: usize) -> Result<(Vec<u8>, ImageSize), DataError> {
        if let Some(original) = self.source.original(self.members[index] as usize)? {
            return Ok(original);
        }
        let mut pixels = vec![0; self.size.bytes()];
        self.read(index, &mut pixels)?;
        Ok((pixels, self.size))
    }

    /// A number that tells the pixels of image `index` from all others, where its source knows one.
    pub(super) fn digest(&self, index: usize) -> Option<u64> {
        self.source.digest(self.members[index] as usize)
    }

    /// The data set of the images `indices` of this one, in that order.
    ///
    /// # Panics
    /// If an index is not below [`Dataset::len`].
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self {
            members: indices.iter().map(|&index| self.members[index]).collect(),
            labels: self.labels.select(indices.iter().copied()).into(),
            groups: self.groups().map(|groups| indices.iter().map(|&index| groups[index]).collect()),
            ..self.clone()
        }
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("images", &self.len())
            .field("size", &self.size)
            .field("classes", &self.classes.len())
            .finish()
    }
}

/// Images are counted in 32 bits.
fn index(images: usize) -> Result<u32, DataError> {
    u32::try_from(images).map_err(|_| DataError::Option(format!("{images} images are more than a data set can hold")))
}

fn check_rows(name: &str, width: usize, values: &[f32], classes: usize) -> Result<(), DataError> {
    if width != classes || !values.len().is_multiple_of(width.max(1)) {
        return Err(DataError::Option(format!(
            "{name}: {} numbers in rows of {width} do not label images of {classes} classes: each needs one a class",
            values.len()
        )));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            Err(DataError::Option(format!("{name}: number {} of label {} is {}", at % width, at / width, values[at])))
        }
        None => Ok(()),
    }
}

pub(super) fn check_labels(path: &Path, labels: &[u32], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(index) => Err(DataError::LabelOutOfRange { path: path.into(), index, label: labels[index], classes }),
        None => Ok(()),
    }
}

/// Images in memory, in their own size, converted to the target size when read.
pub(super) struct MemoryImages {
    pub name: String,
    pub pixels: Vec<u8>,
    pub native: ImageSize,
    pub target: ImageSize,
    pub fit: Fit,
}

impl ImageSource for MemoryImages {
    fn len(&self) -> usize {
        self.pixels.len() / self.native.bytes()
    }

    fn name(&self, index: usize) -> String {
        format!("{} #{index}", self.name)
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        let bytes = self.native.bytes();
        let pixels = &self.pixels[index * bytes..][..bytes];
        if self.native == self.target {
            out.copy_from_slice(pixels);
        } else {
            convert(pixels, self.native, self.target, self.fit, out);
        }
        Ok(())
    }

    fn original(&self, index: usize) -> Result<Option<(Vec<u8>, ImageSize)>, DataError> {
        let bytes = self.native.bytes();
        Ok(Some((self.pixels[index * bytes..][..bytes].to_vec(), self.native)))
    }

    fn digest(&self, index: usize) -> Option<u64> {
        let bytes = self.native.bytes();
        Some(digest(&self.pixels[index * bytes..][..bytes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(ToString::to_string).collect()
    }

    fn three_images() -> Dataset {
        let size = ImageSize::new(1, 2, 1);
        Dataset::from_pixels("three", vec![1, 2, 3, 4, 5, 6], size, vec![0, 1, 1], names(&["a", "b"])).unwrap()
    }

    #[test]
    fn images_labels_and_names_belong_together() {
        let set = three_images();
        let mut pixels = [0; 2];
        set.read(2, &mut pixels).unwrap();
        assert_eq!(pixels, [5, 6]);
        assert_eq!(
            (set.len(), set.labels().classes(), set.image_name(2)),
            (3, Some(&[0, 1, 1][..]), "three #2".to_string())
        );
        assert_eq!(set.class_counts(), [1, 2]);
        assert_eq!(set.balanced_class_weights(), [1.5, 0.75]);
    }

    #[test]
    fn an_image_has_its_own_size_whatever_the_data_set_has() {
        let images = MemoryImages {
            name: "wide".into(),
            pixels: vec![1, 2, 3, 4],
            native: ImageSize::new(1, 4, 1),
            ..one_by_two()
        };
        let set = Dataset::new("wide", Arc::new(images), ImageSize::new(1, 2, 1), vec![0], names(&["a"])).unwrap();
        assert_eq!(set.original(0).unwrap(), (vec![1, 2, 3, 4], ImageSize::new(1, 4, 1)));
        assert_eq!(three_images().original(1).unwrap(), (vec![3, 4], ImageSize::new(1, 2, 1)));
    }

    fn one_by_two() -> MemoryImages {
        let size = ImageSize::new(1, 2, 1);
        MemoryImages { name: String::new(), pixels: Vec::new(), native: size, target: size, fit: Fit::Stretch }
    }

    #[test]
    fn a_subset_of_a_subset_still_finds_its_images() {
        let set = three_images().subset(&[2, 0]).subset(&[1]);
        let mut pixels = [0; 2];
        set.read(0, &mut pixels).unwrap();
        assert_eq!((pixels, set.labels().classes()), ([1, 2], Some(&[0][..])));
    }

    #[test]
    fn counts_and_labels_are_checked() {
        let size = ImageSize::new(1, 2, 1);
        let set = |labels: Vec<u32>| Dataset::from_pixels("three", vec![0; 6], size, labels, names(&["a", "b"]));
        assert!(matches!(set(vec![0, 1]), Err(DataError::CountMismatch { images: 3, labels: 2, .. })));
        assert!(matches!(set(vec![0, 1, 2]), Err(DataError::LabelOutOfRange { index: 2, label: 2, classes: 2, .. })));
    }
}
