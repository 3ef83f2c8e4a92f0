//! Opening a path: which format it has, its options, and what comes out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cache::{Budget, Cached};
use super::dataset::MemoryImages;
use super::split::stratified;
use super::{
    DataError, Dataset, Finding, FitChoice, ImageSize, ImageSource, LabelKind, Sizing, SplitRatio, cifar, finding, idx,
    leaks,
};
#[cfg(feature = "images")]
use super::{folder, label_file};
use crate::settings::between;

/// More folds than anyone trains.
const MOST_FOLDS: usize = 1000;

crate::settings! {
    /// How to open data. The defaults suit most data sets.
    #[command(next_help_heading = "Images")]
    pub struct OpenOptions {
        /// A file that says what is in the images of DATA: a CSV of a path and a class, of a path and several classes in a
        /// cell (a.jpg,red|round), of a path and a column a class with 1 and 0; or a path and a class a line.
        #[arg(long, value_name = "FILE")]
        pub labels: Option<PathBuf> = None;
        /// Whether an image is of one class or of several [default: as the file of labels looks].
        #[arg(long = "task", value_name = "NAME")]
        pub label_kind: Option<LabelKind> = None;
        /// Size to convert images to: N or HxW [default: their own, or of many or large ones at most about as many pixels as 224x224].
        #[arg(long = "image-size", value_name = "SIZE", value_parser = height_width)]
        pub height_width: Option<(usize, usize)> = None, check check_sides;
        /// 1 for grey, 3 for RGB [default: as the images are].
        #[arg(long, value_name = "N", value_parser = channels())]
        pub channels: Option<usize> = None, check check_channels;
        /// What to do about another aspect ratio.
        #[arg(long, value_name = "HOW")]
        pub fit: FitChoice = FitChoice::Auto;
        /// Ratio of training, validation and test images of data without such parts, or of only training and validation
        /// images such as 9:1.
        #[arg(long, value_name = "RATIO")]
        pub split: SplitRatio = SplitRatio::default();
        /// Seed of the split, apart from that of training so that runs of many seeds are measured on the same images.
        #[arg(long, value_name = "N")]
        #[serde(alias = "seed")]
        pub split_seed: u64 = 0, in 0..;
        /// The column of the file of labels by which images stay together when they are divided, such as a patient or a
        /// camera.
        #[arg(long, value_name = "COLUMN")]
        pub group: Option<String> = None;
        /// Divide the training images into this many folds and train once for each, with it as the validation images, in
        /// place of a split.
        #[arg(long, value_name = "K", conflicts_with_all = ["split", "validation"])]
        pub folds: Option<usize> = None, in 2..=MOST_FOLDS;
        /// Train for this one of the folds alone [default: for each].
        #[arg(long, value_name = "N")]
        pub fold: Option<usize> = None, in 1..=MOST_FOLDS;
        /// Share of the training images to validate on, for data without validation images [default: as --split says, and
        /// none where there are test images].
        #[arg(long, value_name = "SHARE")]
        pub validation: Option<f64> = None, in between(0.0, 1.0);
        /// Fail on images that cannot be read instead of skipping them.
        #[arg(long)]
        pub strict: bool = false;
        /// Memory for decoded images in MiB [default: 2048].
        #[arg(long = "cache-mib", value_name = "N", value_parser = mebibytes)]
        pub cache_bytes: usize = 2 << 30, in 0..;
        /// A folder for a file of the decoded images that memory does not hold, so that each is decoded once; the file goes when
        /// the run ends [default: decode them in each epoch].
        #[arg(long, value_name = "DIR", group = "with_resume")]
        pub disk_cache: Option<PathBuf> = None;
        /// Decode also the images that the cache cannot hold once on opening, so that unreadable ones are found and
        /// skipped now, and copies on both sides of the split too. Without it such an image ends the epoch that meets it
        /// with an error.
        #[arg(skip)]
        pub verify: bool = true;
        /// What one image may cost to decode.
        #[arg(skip)]
        pub limits: DecodeLimits = DecodeLimits::default();
    }
}

/// Height and width from the side of a square, `N`, or `HxW`.
///
/// # Errors
/// If the text is neither.
pub fn height_width(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|side| *side > 0);
    let sides = match text.split_once(['x', 'X']) {
        Some((height, width)) => side(height).zip(side(width)),
        None => side(text).map(|side| (side, side)),
    };
    sides.ok_or_else(|| "give the side of a square such as 64, or height and width such as 48x64".to_string())
}

#[cfg(feature = "cli")]
fn channels() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(["1", "3"]).try_map(|text| text.parse::<usize>())
}

#[cfg(feature = "cli")]
fn mebibytes(text: &str) -> Result<usize, std::num::ParseIntError> {
    Ok(text.parse::<usize>()?.saturating_mul(1 << 20))
}

fn check_sides(sides: &Option<(usize, usize)>) -> Result<(), String> {
    let (height, width) = sides.unwrap_or((1, 1));
    ImageSize::new(height, width, 1).check().map_err(|error| error.to_string())
}

fn check_channels(channels: &Option<usize>) -> Result<(), String> {
    ImageSize::new(1, 1, channels.unwrap_or(1)).check().map_err(|error| error.to_string())
}

impl OpenOptions {
    /// Checks every option, and that they go together.
    pub(super) fn agree(&self) -> Result<(), String> {
        self.check()?;
        if let (None, Some(group)) = (&self.labels, &self.group) {
            return Err(format!("`group` {group} is a column of a file of `labels`, and none was given"));
        }
        match (self.folds, self.fold) {
            (None, Some(fold)) => Err(format!("`fold` {fold} is one of `folds`: say of how many")),
            (Some(folds), None) => Err(format!("`fold` says which of the {folds} `folds` to open")),
            (Some(folds), Some(fold)) if fold > folds => Err(format!("`fold` is {fold} of only {folds} `folds`")),
            (Some(_), _) if self.validation.is_some() => {
                Err("`folds` and `validation` both say what to validate on: give one of them".into())
            }
            _ if self.validation.is_some() && self.split != SplitRatio::default() => {
                Err("`split` and `validation` both say what to validate on: give one of them".into())
            }
            _ => Ok(()),
        }
    }
}

/// What one image may cost, so that a small file that claims a huge picture (a decompression bomb) is refused before it
/// is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeLimits {
    /// The longest side in pixels.
    pub max_side: u32,
    /// The most bytes, of the file and of the decoded picture with the decoder's working memory.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// Sides of up to 32,768 pixels and 512 MiB.
    fn default() -> Self {
        Self { max_side: 32_768, max_bytes: 512 << 20 }
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
    /// Whether the data had only one set of images, which was divided here.
    pub divided: bool,
    /// The size that the images were brought to, how, and why so.
    pub sizing: Sizing,
    /// Images left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// Files in class folders left out because their names are not those of images that are read.
    pub ignored_files: usize,
    /// What a person should know of the data before training on it.
    pub findings: Vec<Finding>,
}

impl Splits {
    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Number of images, those of all parts.
    pub fn images(&self) -> usize {
        let others = [&self.val, &self.test].into_iter().flatten();
        self.train.len() + others.map(Dataset::len).sum::<usize>()
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
/// Data with only one set of images is divided by [`OpenOptions::split`], and training images are by
/// [`OpenOptions::folds`].
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
    options.agree().map_err(DataError::Option)?;
    if options.labels.is_none() && options.label_kind == Some(LabelKind::MultiLabel) {
        let message = "`label_kind` multi-label needs a file of `labels` that says which classes each image is of";
        return Err(DataError::Option(message.into()));
    }
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

/// Stands in for the module that reads folders of images, in a build that decodes none.
#[cfg(not(feature = "images"))]
mod folder {
    use super::*;

    pub fn open(path: &Path, _: &OpenOptions, _: &(dyn Fn(usize, usize) + Sync)) -> Result<Opened, DataError> {
        Err(DataError::NoDecoder { path: path.into() })
    }
}

/// Stands in for the module that reads files of labels, likewise.
#[cfg(not(feature = "images"))]
mod label_file {
    use super::*;

    pub fn open(
        path: &Path,
        _: &Path,
        _: &OpenOptions,
        _: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Opened, DataError> {
        Err(DataError::NoDecoder { path: path.into() })
    }
}

/// What a format makes of a path: the parts that the data itself has.
pub(super) struct Opened {
    pub train: Dataset,
    pub val: Option<Dataset>,
    pub test: Option<Dataset>,
    pub sizing: Sizing,
    pub skipped: Vec<Skipped>,
    pub ignored_files: usize,
    pub findings: Vec<Finding>,
}

impl Opened {
    /// Data that has this part alone, of which there is nothing to say.
    pub fn of(train: Dataset, sizing: Sizing) -> Self {
        let (skipped, findings) = (Vec::new(), Vec::new());
        Self { train, val: None, test: None, sizing, skipped, ignored_files: 0, findings }
    }

    /// Adds the parts that the options ask for.
    pub fn divide(self, path: &Path, options: &OpenOptions) -> Result<Splits, DataError> {
        let Self { mut train, mut val, mut test, sizing, skipped, ignored_files, mut findings } = self;
        let labels = train.labels().classes().unwrap_or_default();
        if let Some(&first) = labels.first()
            && labels.iter().all(|&label| label == first)
        {
            return Err(DataError::OneClass { path: path.into(), class: train.classes()[first as usize].clone() });
        }
        let divided = val.is_none() && test.is_none();
        let ratio = match (&val, &test, options.validation) {
            (None, _, Some(share)) => Some(SplitRatio { train: 1.0 - share, val: share, test: 0.0 }),
            (None, None, None) => Some(options.split),
            (Some(_), _, Some(_)) => {
                let message = "has validation images of its own: leave `validation` out";
                return Err(DataError::Option(format!("{} {message}", path.display())));
            }
            (_, _, None) => None,
        };
        if !divided && options.split != SplitRatio::default() {
            let message = "has parts of its own, which `split` does not change: leave it out; a `validation` share of the \
                           training images can be taken where there are no validation images";
            return Err(DataError::Option(format!("{} {message}", path.display())));
        }
        if let (Some(folds), Some(number)) = (options.folds, options.fold) {
            if val.is_some() {
                let (name, message) = (path.display(), "has validation images of its own: train on it without `folds`");
                return Err(DataError::Option(format!("{name} {message}")));
            }
            let (rest, part) = train.fold(number, folds, options.split_seed)?;
            train = rest;
            val = Some(part);
        } else if let Some(ratio) = ratio {
            let parts = stratified(&train, ratio, options.split_seed)?;
            train = parts.train;
            val = Some(parts.val);
            test = test.or(parts.test);
        }
        findings.extend(finding::of_classes(&train, val.as_ref(), test.as_ref(), divided));
        findings.extend(leaks::between(&train, val.as_ref(), test.as_ref()));
        Ok(Splits { train, val, test, divided, sizing, skipped, ignored_files, findings })
    }
}

/// What is common to data sets of pixels in memory, and adds up over them.
pub(super) struct InMemory<'a> {
    options: &'a OpenOptions,
    /// What is left of the budget for what is converted.
    cache_bytes: usize,
    /// What the first one is brought to, and all others with it.
    sizing: Option<Sizing>,
}

impl<'a> InMemory<'a> {
    pub fn new(options: &'a OpenOptions) -> Self {
        Self { options, cache_bytes: options.cache_bytes, sizing: None }
    }

    /// A data set of `pixels` of size `native`, converted as the options say.
    pub fn set(
        &mut self,
        path: &Path,
        pixels: Vec<u8>,
        native: ImageSize,
        labels: Vec<u32>,
        classes: &[String],
    ) -> Result<Dataset, DataError> {
        let name = path.display().to_string();
        let Sizing { size: target, fit, .. } = *self.sizing.get_or_insert_with(|| Sizing::of(&[native], self.options));
        let images = MemoryImages { name: name.clone(), pixels, native, target, fit };
        let source: Arc<dyn ImageSource> = if native == target {
            Arc::new(images)
        } else {
            let budget = Budget { memory: self.cache_bytes, disk: None };
            let (cached, _) = Cached::fill(images, target.bytes(), budget, false, &|| {});
            self.cache_bytes -= cached.bytes();
            Arc::new(cached)
        };
        Ok(Dataset::new(&name, source, target, labels, classes.to_vec())?.with_fit(fit))
    }

    /// The data of a training set and perhaps a test set.
    pub fn opened(self, train: Dataset, test: Option<Dataset>) -> Opened {
        let sizing = self.sizing.unwrap_or_else(|| Sizing::of(&[train.image_size()], self.options));
        Opened { test, ..Opened::of(train, sizing) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_of_images() {
        assert_eq!(height_width("64"), Ok((64, 64)));
        assert_eq!(height_width("48x64"), Ok((48, 64)));
        for text in ["", "0", "x3", "4x", "1x2x3", "-1"] {
            assert!(height_width(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_earlier_name_of_a_setting_is_read() {
        let options: OpenOptions = toml::from_str("seed = 3\n").unwrap();
        assert_eq!(options.split_seed, 3);
    }
}
