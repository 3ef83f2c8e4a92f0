//! IDX, the format of MNIST and its relatives: a big-endian header (magic number, then one u32 a dimension) and u8
//! values.
//!
//! Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::dataset::check_labels;
use super::open::{InMemory, Opened, read_class_names};
use super::{DataError, Dataset, ImageSize, OpenOptions};

const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;
/// Labels that a byte tells apart.
const LABELS: usize = 256;
/// The most bytes that a header may announce.
const MAX_BYTES: u64 = 64 << 30;
/// Bytes of which a packed file is unpacked twice, at first only to count them.
const LARGE: u64 = 256 << 20;

/// Contents of a file of images.
struct Images {
    pixels: Vec<u8>,
    count: usize,
    size: ImageSize,
}

/// Whether `folder` holds IDX training files.
pub(super) fn is_in(folder: &Path) -> bool {
    find(folder, "train-images", 3).is_some() || find(folder, "train-labels", 1).is_some()
}

/// Opens the IDX files of `folder`.
pub(super) fn open(folder: &Path, options: &OpenOptions) -> Result<Opened, DataError> {
    let names_path = folder.join("classes.txt");
    let classes = if names_path.exists() { read_class_names(&names_path, LABELS)? } else { digits() };
    let mut memory = InMemory::new(options);
    let mut open_set = |prefix: &str| {
        let images_path = require(folder, &format!("{prefix}-images"), 3)?;
        let labels_path = require(folder, &format!("{prefix}-labels"), 1)?;
        let images = read_images(&images_path, || open_file(&images_path))?;
        let labels = read_labels(&labels_path, || open_file(&labels_path))?;
        dataset([&images_path, &labels_path], images, labels, &classes, &mut memory)
    };
    let train = open_set("train")?;
    let has_test = find(folder, "t10k-images", 3).is_some() || find(folder, "t10k-labels", 1).is_some();
    let test = if has_test { Some(open_set("t10k")?) } else { None };
    Ok(memory.opened(train, test))
}

/// Opens IDX files that are in memory: those of the training and of the test set, each a file of images and a file of
/// labels of the ten digits.
pub(super) fn open_bytes(
    name: &str,
    train: [&[u8]; 2],
    test: [&[u8]; 2],
    options: &OpenOptions,
) -> Result<Opened, DataError> {
    let mut memory = InMemory::new(options);
    let mut open_set = |prefix: &str, [images, labels]: [&[u8]; 2]| {
        let path = |kind| Path::new(name).join(format!("{prefix}-{kind}"));
        let (images_path, labels_path) = (path("images"), path("labels"));
        let images = read_images(&images_path, || Ok(images))?;
        let labels = read_labels(&labels_path, || Ok(labels))?;
        dataset([&images_path, &labels_path], images, labels, &digits(), &mut memory)
    };
    let (train, test) = (open_set("train", train)?, open_set("test", test)?);
    Ok(memory.opened(train, Some(test)))
}

fn digits() -> Vec<String> {
    (0..10).map(|digit| digit.to_string()).collect()
}

fn dataset(
    [images_path, labels_path]: [&Path; 2],
    images: Images,
    labels: Vec<u32>,
    classes: &[String],
    memory: &mut InMemory,
) -> Result<Dataset, DataError> {
    if images.count != labels.len() {
        return Err(DataError::CountMismatch {
            images_path: images_path.into(),
            images: images.count,
            labels_path: labels_path.into(),
            labels: labels.len(),
        });
    }
    check_labels(labels_path, &labels, classes.len())?;
    memory.set(images_path, images.pixels, images.size, labels, classes)
}

/// The spellings of the name of an IDX file that are found in the world.
fn candidates(folder: &Path, stem: &str, dimensions: usize) -> [PathBuf; 4] {
    let name = |separator, ending| folder.join(format!("{stem}{separator}idx{dimensions}-ubyte{ending}"));
    [name('-', ""), name('-', ".gz"), name('.', ""), name('.', ".gz")]
}

fn find(folder: &Path, stem: &str, dimensions: usize) -> Option<PathBuf> {
    candidates(folder, stem, dimensions).into_iter().find(|path| path.is_file())
}

fn require(folder: &Path, stem: &str, dimensions: usize) -> Result<PathBuf, DataError> {
    find(folder, stem, dimensions).ok_or_else(|| {
        let [path, ..] = candidates(folder, stem, dimensions);
        DataError::MissingFile { path, beside: "the other IDX files".into() }
    })
}

fn open_file(path: &Path) -> Result<BufReader<File>, DataError> {
    File::open(path).map(BufReader::new).map_err(DataError::io(path))
}

fn read_images<R: BufRead>(path: &Path, open: impl Fn() -> Result<R, DataError>) -> Result<Images, DataError> {
    let ([count, height, width], pixels) = read(path, open, IMAGES_MAGIC)?;
    Ok(Images { pixels, count, size: ImageSize::new(height, width, 1) })
}

fn read_labels<R: BufRead>(path: &Path, open: impl Fn() -> Result<R, DataError>) -> Result<Vec<u32>, DataError> {
    let ([_], labels) = read(path, open, LABELS_MAGIC)?;
    Ok(labels.into_iter().map(u32::from).collect())
}

/// Reads an IDX file of N dimensions, unpacking it if it is gzip, whatever its name says.
fn read<const N: usize, R: BufRead>(
    path: &Path,
    open: impl Fn() -> Result<R, DataError>,
    magic: u32,
) -> Result<([usize; N], Vec<u8>), DataError> {
    let mut file = open()?;
    let start = file.fill_buf().map_err(DataError::io(path))?;
    if !start.starts_with(&[0x1f, 0x8b]) {
        return parse(path, file, magic);
    }
    // A small file may unpack to more than memory holds: before so much is kept, it is seen to be there.
    let (_, bytes) = header::<N>(path, GzDecoder::new(open()?), magic)?;
    if bytes > LARGE {
        let mut unpacked = GzDecoder::new(open()?);
        let found = io::copy(&mut unpacked, &mut io::sink()).map_err(|error| damaged(path, error.to_string()))?;
        check_length(path, bytes + header_bytes::<N>(), found)?;
    }
    parse(path, GzDecoder::new(file), magic)
}

fn damaged(path: &Path, reason: String) -> DataError {
    DataError::Damaged { path: path.into(), reason }
}

const fn header_bytes<const N: usize>() -> u64 {
    4 * (1 + N as u64)
}

/// The extents that the header says, and the number of bytes that follow it.
fn header<const N: usize>(path: &Path, mut file: impl Read, magic: u32) -> Result<([usize; N], u64), DataError> {
    let mut read_u32 = || {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(|error| damaged(path, format!("its header cannot be read ({error})")))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = read_u32()?;
    if found != magic {
        return Err(DataError::BadMagic { path: path.into(), found, expected: magic });
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = read_u32()? as usize;
    }
    let bytes = dimensions
        .iter()
        .try_fold(1u64, |product, &dimension| product.checked_mul(dimension as u64))
        .filter(|bytes| (1..=MAX_BYTES).contains(bytes))
        .ok_or_else(|| damaged(path, format!("its header says {dimensions:?} values, which cannot be")))?;
    Ok((dimensions, bytes))
}

fn check_length(path: &Path, expected: u64, found: u64) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    Err(DataError::WrongLength { path: path.into(), found: found.to_string(), expected: expected.to_string() })
}

fn parse<const N: usize>(path: &Path, mut file: impl Read, magic: u32) -> Result<([usize; N], Vec<u8>), DataError> {
    let (dimensions, bytes) = header(path, &mut file, magic)?;
    // The buffer grows with what there is to read: a header cannot make it large by itself.
    let mut values = Vec::new();
    file.take(bytes + 1).read_to_end(&mut values).map_err(|error| damaged(path, error.to_string()))?;
    check_length(path, bytes + header_bytes::<N>(), values.len() as u64 + header_bytes::<N>())?;
    Ok((dimensions, values))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::data::{self, FitChoice};

    fn images(count: u32, height: u32, width: u32) -> Vec<u8> {
        let header = [IMAGES_MAGIC, count, height, width].into_iter().flat_map(u32::to_be_bytes);
        header.chain((0..count * height * width).map(|value| value as u8)).collect()
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        let header = [LABELS_MAGIC, labels.len() as u32].into_iter().flat_map(u32::to_be_bytes);
        header.chain(labels.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A folder with a training set of four 2x3 images and, with `test`, a test set of two.
    fn folder(test: bool) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        write("train-images-idx3-ubyte", images(4, 2, 3));
        write("train-labels-idx1-ubyte.gz", gzip(&labels(&[5, 0, 4, 1])));
        if test {
            write("t10k-images.idx3-ubyte.gz", gzip(&images(2, 2, 3)));
            write("t10k-labels-idx1-ubyte", labels(&[7, 2]));
        }
        folder
    }

    fn error(folder: &Path) -> DataError {
        data::open(folder, &OpenOptions::default()).unwrap_err()
    }

    #[test]
    fn plain_and_packed_files_in_their_spellings_are_read() {
        let folder = folder(true);
        let splits = data::open(folder.path(), &OpenOptions::default()).unwrap();
        assert_eq!(splits.train.labels().classes(), Some(&[5, 0, 4, 1][..]));
        assert_eq!(splits.image_size(), ImageSize::new(2, 3, 1));
        assert_eq!(splits.classes(), digits());
        let test = splits.test.unwrap();
        let mut pixels = [0; 6];
        test.read(1, &mut pixels).unwrap();
        assert_eq!(
            (pixels, test.labels().classes(), splits.val.is_none()),
            ([6, 7, 8, 9, 10, 11], Some(&[7, 2][..]), true)
        );
    }

    #[test]
    fn a_validation_part_is_taken_when_asked_for() {
        let folder = folder(true);
        let options = OpenOptions { validation: Some(0.5), ..OpenOptions::default() };
        // Each class has one image, which training keeps.
        assert!(matches!(data::open(folder.path(), &options), Err(DataError::EmptySplit { .. })));
        let options = OpenOptions { validation: Some(1.5), ..OpenOptions::default() };
        assert!(data::open(folder.path(), &options).unwrap_err().to_string().contains("`validation` is 1.5"));
    }

    #[test]
    fn images_are_converted_to_the_size_of_the_model() {
        let folder = folder(true);
        let fit = FitChoice::Crop;
        let options = OpenOptions { height_width: Some((8, 8)), channels: Some(3), fit, ..OpenOptions::default() };
        let splits = data::open(folder.path(), &options).unwrap();
        let mut pixels = vec![0; 8 * 8 * 3];
        splits.train.read(3, &mut pixels).unwrap();
        assert!(pixels.iter().all(|value| (18..=23).contains(value)), "{pixels:?}");
    }

    #[test]
    fn names_of_classes_come_from_classes_txt() {
        let folder = folder(true);
        let path = folder.path().join("classes.txt");
        fs::write(&path, "a\nb\nc\nd\ne\nf\ng\nh\n\n").unwrap();
        let splits = data::open(folder.path(), &OpenOptions::default()).unwrap();
        assert_eq!(splits.classes().last().unwrap(), "h");
        fs::write(&path, "a\nb\n").unwrap();
        assert!(matches!(error(folder.path()), DataError::LabelOutOfRange { label: 5, index: 0, classes: 2, .. }));
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        let folder = folder(false);
        let path = folder.path().join("train-images-idx3-ubyte");
        let good = images(4, 2, 3);
        let error_of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = error(folder.path());
            assert!(error.to_string().contains("train-images-idx3-ubyte"), "{error}");
            error
        };
        assert!(matches!(error_of(&good[..good.len() - 1]), DataError::WrongLength { .. }));
        assert!(matches!(error_of(&[&good[..], &[0]].concat()), DataError::WrongLength { .. }));
        assert!(matches!(error_of(&good[..10]), DataError::Damaged { .. }));
        assert!(matches!(error_of(&[]), DataError::Damaged { .. }));
        assert!(matches!(error_of(&labels(&[1, 2])), DataError::BadMagic { found: LABELS_MAGIC, .. }));
        assert!(matches!(error_of(&images(3, 2, 3)), DataError::CountMismatch { images: 3, labels: 4, .. }));
        assert!(matches!(error_of(&images(0, 2, 3)), DataError::Damaged { .. }));
        let packed = gzip(&good);
        assert!(matches!(error_of(&packed[..packed.len() - 12]), DataError::Damaged { .. }));
        let huge = [IMAGES_MAGIC, u32::MAX, u32::MAX, u32::MAX].map(u32::to_be_bytes).concat();
        assert!(matches!(error_of(&huge), DataError::Damaged { .. }));
    }

    #[test]
    fn a_packed_file_that_is_not_what_its_header_says_is_refused_before_memory_is_taken() {
        let header = [IMAGES_MAGIC, 1 << 20, 32, 32].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
        let packed = gzip(&[&header[..], &[0; 5000]].concat());
        let error = read::<3, _>(Path::new("images"), || Ok(&packed[..]), IMAGES_MAGIC).unwrap_err();
        assert!(matches!(&error, DataError::WrongLength { found, .. } if found == "5016"), "{error}");
    }

    #[test]
    fn more_classes_than_labels_can_tell_apart_are_refused() {
        let folder = folder(true);
        fs::write(folder.path().join("classes.txt"), "name\n".repeat(200_000)).unwrap();
        let message = error(folder.path()).to_string();
        assert!(message.contains("names 200000 classes") && message.contains("256"), "{message}");
    }

    #[test]
    fn labels_are_checked() {
        let folder = folder(false);
        let path = folder.path().join("train-labels-idx1-ubyte.gz");
        fs::write(&path, labels(&[1, 2, 10, 3])).unwrap();
        let message = error(folder.path()).to_string();
        assert!(message.contains("item 2 has label 10") && message.contains("classes.txt"), "{message}");
        fs::write(&path, labels(&[3, 3, 3, 3])).unwrap();
        assert!(matches!(error(folder.path()), DataError::OneClass { class, .. } if class == "3"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(error(folder.path()), DataError::MissingFile { .. }));
    }
}
