//! Opening a path: which format it has, its options, and what comes out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cache::Cached;
use super::dataset::MemoryImages;
use super::split::stratified;
use super::{DataError, Dataset, DecodeLimits, Fit, ImageSize, LabelKind, SplitRatio, cifar, folder, idx, label_file};

/// How to open data. The defaults suit most data sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenOptions {
    /// A file that says what is in the images of a folder: CSV with a path and a class, a path and a column a class, or a
    /// path and several classes in a cell; or a path and a class a line. `None`: as the folder itself is laid out.
    pub labels: Option<PathBuf>,
    /// How many classes an image has. `None`: as the file of labels looks.
    pub labels_are: Option<LabelKind>,
    /// Height and width that images are converted to. `None`: their own size; for a folder of images, the size of its
    /// images if a sample of 64 all have one size, else 224x224.
    pub height_width: Option<(usize, usize)>,
    /// 1 for grey, 3 for RGB. `None`: as the images are; for a folder of images, grey if a sample of 64 all are.
    pub channels: Option<usize>,
    /// What to do about another aspect ratio.
    pub fit: Fit,
    /// How to divide data that has only one set of images.
    pub split: SplitRatio,
    /// The share of the training images (0 to 1, exclusive) to take as validation part where the data has a test part
    /// but no validation part. `None`: no validation part then.
    pub validation: Option<f64>,
    /// Seed of the split.
    pub seed: u64,
    /// Fail on images that cannot be read, instead of skipping them with a warning.
    pub strict: bool,
    /// The bytes of memory that decoded images may take; images beyond are decoded again each time.
    pub cache_bytes: usize,
    /// Decode also the images that the cache cannot hold once on opening, so that unreadable ones are found and skipped
    /// now. Without it such an image ends the epoch that meets it with an error.
    pub verify: bool,
    /// What one image may cost to decode.
    pub limits: DecodeLimits,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            labels: None,
            labels_are: None,
            height_width: None,
            channels: None,
            fit: Fit::default(),
            split: SplitRatio::default(),
            validation: None,
            seed: 0,
            strict: false,
            cache_bytes: 2 << 30,
            verify: true,
            limits: DecodeLimits::default(),
        }
    }
}

impl OpenOptions {
    pub(super) fn check(&self) -> Result<(), DataError> {
        if self.labels.is_none() && self.labels_are == Some(LabelKind::Multi) {
            let message = "several classes an image need a file of labels that says which";
            return Err(DataError::Option(message.into()));
        }
        match self.validation {
            Some(share) if !(share > 0.0 && share < 1.0) => Err(DataError::Option(format!(
                "a validation share of {share} is not possible: give a number between 0 and 1, such as 0.1"
            ))),
            _ => self.target(ImageSize::new(1, 1, 1)).check(),
        }
    }

    /// The size to convert images of size `native` to.
    pub(super) fn target(&self, native: ImageSize) -> ImageSize {
        let (height, width) = self.height_width.unwrap_or((native.height, native.width));
        ImageSize::new(height, width, self.channels.unwrap_or(native.channels))
    }
}

/// An opened data set: its training part, and validation and test parts where it has them or was divided. All have the
/// same classes and the same image size.
#[derive(Debug)]
pub struct Splits {
    /// What to train on.
    pub train: Dataset,
    /// What to choose the best epoch by.
    pub val: Option<Dataset>,
    /// What to measure the result on.
    pub test: Option<Dataset>,
    /// Whether the data had only one set of images, which was divided by [`OpenOptions::split`].
    pub divided: bool,
    /// Images left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// Files in class folders left out because their names are not those of images.
    pub ignored_files: usize,
}

impl Splits {
    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Height, width and channels of all images.
    pub fn image_size(&self) -> ImageSize {
        self.train.image_size()
    }
}

/// An image left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub reason: String,
}

/// Opens the folder `path`:
/// - MNIST-like IDX files (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`), plain or `.gz`. A file
///   `classes.txt` names the classes, one a line; without it they are the ten digits;
/// - CIFAR-10 (`data_batch_1.bin` ..., `test_batch.bin`) or CIFAR-100 (`train.bin`, `test.bin`, fine labels) binary
///   files;
/// - class folders of images (`cat/1.jpg`, `dog/2.png`), or folders `train`, `val` and `test` of such.
///
/// With [`OpenOptions::labels`] it is any folder of images, and the file says which of them and what is in them.
///
/// Data with only one set of images is divided by [`OpenOptions::split`].
///
/// # Errors
/// If there is no data, it is damaged, has fewer than two classes or an empty one, or an option is impossible.
pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Splits, DataError> {
    open_with_progress(path, options, &|_, _| {})
}

/// As [`open`], and tells `progress` how many images of an image folder have been decoded, of how many; each of its
/// parts (training, validation, test) counts from 0. It is called from many threads.
///
/// # Errors
/// As [`open`].
pub fn open_with_progress(
    path: impl AsRef<Path>,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Splits, DataError> {
    let path = path.as_ref();
    options.check()?;
    if !path.exists() {
        return Err(DataError::NotFound { path: path.into() });
    }
    if !path.is_dir() {
        return Err(DataError::NotAFolder { path: path.into() });
    }
    let opened = if let Some(labels) = &options.labels {
        label_file::open(path, labels, options, progress)?
    } else if idx::is_in(path) {
        idx::open(path, options)?
    } else if cifar::is_in(path) {
        cifar::open(path, options)?
    } else {
        folder::open(path, options, progress)?
    };
    opened.divide(path, options)
}

/// What a format makes of a path: the parts that the data itself has.
pub(super) struct Opened {
    pub train: Dataset,
    pub val: Option<Dataset>,
    pub test: Option<Dataset>,
    pub skipped: Vec<Skipped>,
    pub ignored_files: usize,
}

impl Opened {
    /// Adds the parts that the options ask for.
    pub fn divide(self, path: &Path, options: &OpenOptions) -> Result<Splits, DataError> {
        let Self { mut train, mut val, mut test, skipped, ignored_files } = self;
        let labels = train.labels().classes().unwrap_or_default();
        if let Some(&first) = labels.first()
            && labels.iter().all(|&label| label == first)
        {
            return Err(DataError::OneClass { path: path.into(), class: train.classes()[first as usize].clone() });
        }
        let divided = val.is_none() && test.is_none();
        let ratio = match (&val, &test, options.validation) {
            (None, None, _) => Some(options.split),
            (None, Some(_), Some(share)) => Some(SplitRatio { train: 1.0 - share, val: share, test: 0.0 }),
            _ => None,
        };
        if let Some(ratio) = ratio {
            let parts = stratified(&train, ratio, options.seed)?;
            train = parts.train;
            val = Some(parts.val);
            test = test.or(parts.test);
        }
        let [val, test] = [val, test].map(|part| part.map(|part| part.with_fit(options.fit)));
        Ok(Splits { train: train.with_fit(options.fit), val, test, divided, skipped, ignored_files })
    }
}

/// A data set of `pixels` of size `native`, converted as the options say; what is converted is cached up to
/// `cache_bytes`, which becomes what is left of it.
pub(super) fn in_memory(
    path: &Path,
    pixels: Vec<u8>,
    native: ImageSize,
    labels: Vec<u32>,
    classes: &[String],
    options: &OpenOptions,
    cache_bytes: &mut usize,
) -> Result<Dataset, DataError> {
    let name = path.display().to_string();
    let target = options.target(native);
    let images = MemoryImages { name: name.clone(), pixels, native, target, fit: options.fit };
    if native == target {
        return Dataset::new(&name, Arc::new(images), target, labels, classes.to_vec());
    }
    let (cached, _) = Cached::fill(images, target.bytes(), *cache_bytes, false, &|| {});
    *cache_bytes -= cached.bytes();
    Dataset::new(&name, Arc::new(cached), target, labels, classes.to_vec())
}

/// Names of classes in `path`, one a line, of at most `most` classes.
pub(super) fn read_class_names(path: &Path, most: usize) -> Result<Vec<String>, DataError> {
    let text = std::fs::read_to_string(path).map_err(DataError::io(path))?;
    let names = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let found = names().take(most + 1).count();
    if found > most {
        return Err(DataError::Damaged {
            path: path.into(),
            reason: format!("it names {} classes, and there can be {most} at most", names().count()),
        });
    }
    Ok(names().map(String::from).collect())
}
