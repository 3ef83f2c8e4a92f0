//! What can go wrong with data, each with the file it is about and what to do.

use std::path::PathBuf;

/// An error of the data room. Every message names the file or the setting it is about and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The path given as data does not exist.
    #[error(
        "{} does not exist: give a folder of images (one folder a class), or one with IDX or CIFAR files",
        path.display()
    )]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },

    /// The path given as data is a file.
    #[error("{} is a file, not a folder: unpack it and give the folder", path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },

    /// The operating system refused to read or write a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file of labels cannot be understood.
    #[error("{}: {reason}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        reason: String,
    },

    /// A folder that holds neither IDX nor CIFAR files nor class folders.
    #[error(
        "{} holds no data set ({found}): put the images of each class into a folder of their own, named after the \
         class",
        path.display()
    )]
    UnknownFormat {
        /// The folder.
        path: PathBuf,
        /// What there was instead.
        found: String,
    },

    /// A folder without IDX or CIFAR files, in a build that decodes no image files.
    #[error(
        "{} holds neither IDX nor CIFAR files, and gabor was built without the feature images, by which it reads \
         folders of images",
        path.display()
    )]
    NoDecoder {
        /// The folder.
        path: PathBuf,
    },

    /// Images that could be read when the data was opened are gone or damaged now, most of them.
    #[error(
        "{lost} of the {images} images of {name} cannot be read any more, the last one for this reason: {source}; see \
         that the data is there"
    )]
    MostImagesLost {
        /// Where the images come from.
        name: String,
        /// How many are lost.
        lost: usize,
        /// How many there were.
        images: usize,
        /// What is wrong with the last one.
        source: Box<DataError>,
    },

    /// One file of a set of files is there and another is not.
    #[error(
        "{} is missing beside {beside}: download the data set again, or give the folder that holds all of it",
        path.display()
    )]
    MissingFile {
        /// The file that was expected.
        path: PathBuf,
        /// The file that made it expected.
        beside: String,
    },

    /// A file does not start with the bytes that its format starts with.
    #[error(
        "{} is not what its name says: it starts with {found:#010x} where an IDX file of this kind starts with \
         {expected:#010x}; download it again", path.display()
    )]
    BadMagic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes, big endian.
        found: u32,
        /// The magic number of the format.
        expected: u32,
    },

    /// A file is longer or shorter than its header or its format says.
    #[error(
        "{} has the wrong length: {found} bytes where {expected} were expected; it is truncated or damaged, download \
         it again",
        path.display()
    )]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Its length, or what is known of it.
        found: String,
        /// The length that it should have.
        expected: String,
    },

    /// A binary data file cannot be read as its format.
    #[error("{} is damaged: {reason}; download it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file of images and its file of labels have different numbers of items.
    #[error(
        "{} holds {images} images but {} holds {labels} labels: they are not of one set, download both again",
        images_path.display(), labels_path.display()
    )]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// How many images it has.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// How many labels it has.
        labels: usize,
    },

    /// A label that is no index of a class.
    #[error(
        "{}: item {index} has label {label}, but there are {classes} classes (labels 0 to {}); the file is damaged, or \
         classes.txt beside it has to name all classes, one a line", path.display(), classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// The file, or the name of the data set.
        path: PathBuf,
        /// Index of the item in the file.
        index: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },

    /// A file of class names has the wrong number of names.
    #[error("{} names {found} classes where the data has {expected}: write one name a line", path.display())]
    ClassNames {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },

    /// A class folder of the training set without a usable image.
    #[error(
        "class folder {} has no {}image{}: add images to it, or remove the folder",
        path.display(), if *unreadable > 0 { "readable " } else { "" }, of_instead(instead)
    )]
    EmptyClass {
        /// The folder.
        path: PathBuf,
        /// How many images it has that cannot be read.
        unreadable: usize,
        /// What it has of formats that are not read, if anything.
        instead: String,
    },

    /// All images are of one class, so there is nothing to learn.
    #[error(
        "{} has only the class {class:?}: a classifier needs images of at least two classes, each in a folder of its \
         own",
        path.display()
    )]
    OneClass {
        /// The data.
        path: PathBuf,
        /// The only class.
        class: String,
    },

    /// The folder of the only class is the one that holds the folders of classes.
    #[error(
        "{} has only the folder {folder}, which would be the one class, and in it lie the folders {}: if these are the \
         classes, give {} as the data",
        path.display(), below.join(", "), path.join(folder).display()
    )]
    TooDeep {
        /// The data.
        path: PathBuf,
        /// Its only folder.
        folder: String,
        /// Names of the folders in it, the first of them.
        below: Vec<String>,
    },

    /// A class folder of the validation or test set that the training set does not have.
    #[error("{} is a class that the training set does not have: its classes are {known}", path.display())]
    UnknownClass {
        /// The folder.
        path: PathBuf,
        /// The classes of the training set.
        known: String,
    },

    /// One image cannot be read.
    #[error("{}: {reason}; replace or remove it", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// Images cannot be read, and the options were strict about it.
    #[error(
        "{count} of {total} images cannot be read; the first is {}: {reason}. Replace or remove them, or leave out \
         `strict` to skip them", path.display()
    )]
    UnreadableImages {
        /// How many cannot be read.
        count: usize,
        /// Of how many.
        total: usize,
        /// The first of them.
        path: PathBuf,
        /// What is wrong with the first.
        reason: String,
    },

    /// A split leaves a part without images.
    #[error(
        "{images} images are too few for the split {ratio}: its {part} part would be empty; add images or choose \
         another `split`"
    )]
    EmptySplit {
        /// How many images there are to split.
        images: usize,
        /// The ratio asked for.
        ratio: String,
        /// The part that would be empty.
        part: &'static str,
    },

    /// A setting that makes no sense.
    #[error("{0}")]
    Option(String),

    /// A thread of the loader ended without having made its batches.
    #[error(
        "a loader thread ended before batch {batch} was made: this is a fault in an image source, its panic message is \
         above"
    )]
    LoaderThread {
        /// The batch that was waited for.
        batch: usize,
    },

    /// No mirror could give a file.
    #[error(
        "cannot download {file}:\n  {}\ncheck the network, give another home with a base URL, or put the file into \
         {} by hand",
        attempts.join("\n  "), folder.display()
    )]
    Download {
        /// Name of the file.
        file: String,
        /// Where it would have been put.
        folder: PathBuf,
        /// What went wrong, one line a mirror.
        attempts: Vec<String>,
    },

    /// An archive holds an entry that points outside the folder that it is unpacked into.
    #[error(
        "{} is not safe to unpack: its entry {entry:?} points outside the folder; nothing more was unpacked",
        path.display()
    )]
    UnsafeArchive {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
}

fn of_instead(instead: &str) -> String {
    if instead.is_empty() { String::new() } else { format!(", but {instead}, which are not read") }
}

impl DataError {
    /// An I/O error that names its file.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
