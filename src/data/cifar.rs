//! The binary files of CIFAR-10 and CIFAR-100: records of one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes
//! of a 32x32 image, a plane of 1,024 a colour.
//!
//! Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009, and the data's web page.

use std::fs;
use std::path::{Path, PathBuf};

use super::dataset::check_labels;
use super::open::{InMemory, Opened, read_class_names};
use super::{DataError, Dataset, ImageSize, MOST_CLASSES, OpenOptions};

const SIZE: ImageSize = ImageSize::new(32, 32, 3);
const PLANE: usize = SIZE.height * SIZE.width;

/// What differs between the two sets.
struct Layout {
    classes: usize,
    /// Bytes before the pixels; the last is the label.
    label_bytes: usize,
    train: &'static [&'static str],
    test: &'static str,
    class_names: &'static str,
}

const CIFAR10: Layout = Layout {
    classes: 10,
    label_bytes: 1,
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    class_names: "batches.meta.txt",
};

const CIFAR100: Layout = Layout {
    classes: 100,
    label_bytes: 2,
    train: &["train.bin"],
    test: "test.bin",
    class_names: "fine_label_names.txt",
};

/// Whether `folder` holds CIFAR training files.
pub(super) fn is_in(folder: &Path) -> bool {
    layout(folder).is_some()
}

fn layout(folder: &Path) -> Option<&'static Layout> {
    [&CIFAR10, &CIFAR100].into_iter().find(|layout| layout.train.iter().any(|name| folder.join(name).is_file()))
}

/// Opens the CIFAR files of `folder`.
pub(super) fn open(folder: &Path, options: &OpenOptions) -> Result<Opened, DataError> {
    let layout = layout(folder).ok_or_else(|| DataError::NotFound { path: folder.into() })?;
    let classes = class_names(&folder.join(layout.class_names), layout.classes)?;
    let mut memory = InMemory::new(options);
    let mut open_set = |names: &[&str]| -> Result<Dataset, DataError> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for name in names {
            read(&require(folder, name)?, layout, &mut pixels, &mut labels)?;
        }
        let path = if let [name] = names { folder.join(name) } else { folder.into() };
        memory.set(&path, pixels, SIZE, labels, &classes)
    };
    let train = open_set(layout.train)?;
    let test = if folder.join(layout.test).is_file() { Some(open_set(&[layout.test])?) } else { None };
    Ok(memory.opened(train, test))
}

fn require(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(DataError::MissingFile { path, beside: "the other CIFAR files".into() }) }
}

fn class_names(path: &Path, classes: usize) -> Result<Vec<String>, DataError> {
    if !path.exists() {
        return Ok((0..classes).map(|class| class.to_string()).collect());
    }
    let names = read_class_names(path, MOST_CLASSES)?;
    if names.len() == classes {
        Ok(names)
    } else {
        Err(DataError::ClassNames { path: path.into(), found: names.len(), expected: classes })
    }
}

/// Appends the images and labels of a file, the pixels from planes to HWC order.
fn read(path: &Path, layout: &Layout, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<(), DataError> {
    let bytes = fs::read(path).map_err(DataError::io(path))?;
    let record = layout.label_bytes + SIZE.bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(DataError::WrongLength {
            path: path.into(),
            found: bytes.len().to_string(),
            expected: format!("a multiple of {record}"),
        });
    }
    let file_labels: Vec<u32> =
        bytes.chunks_exact(record).map(|record| u32::from(record[layout.label_bytes - 1])).collect();
    check_labels(path, &file_labels, layout.classes)?;
    labels.extend(file_labels);
    pixels.reserve(bytes.len() / record * SIZE.bytes());
    for record in bytes.chunks_exact(record) {
        let planes = &record[layout.label_bytes..];
        pixels.extend((0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    /// A record of `label_bytes` whose red plane is all `label`, green 100 and blue the pixel's number.
    fn record(label_bytes: &[u8], label: u8) -> Vec<u8> {
        let blue = (0..PLANE).map(|at| at as u8);
        label_bytes.iter().copied().chain([label; PLANE]).chain([100; PLANE]).chain(blue).collect()
    }

    fn cifar10() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, name) in CIFAR10.train.iter().enumerate() {
            let number = number as u8;
            fs::write(folder.path().join(name), [record(&[number], number), record(&[9], 9)].concat()).unwrap();
        }
        fs::write(folder.path().join(CIFAR10.test), record(&[3], 3)).unwrap();
        folder
    }

    fn open(folder: &Path) -> Result<data::Splits, DataError> {
        data::open(folder, &OpenOptions::default())
    }

    #[test]
    fn cifar10_is_read_in_the_order_of_its_files() {
        let folder = cifar10();
        let splits = open(folder.path()).unwrap();
        assert_eq!(splits.train.labels().classes(), Some(&[0, 9, 1, 9, 2, 9, 3, 9, 4, 9][..]));
        assert_eq!(splits.test.as_ref().unwrap().labels().classes(), Some(&[3][..]));
        let mut pixels = vec![0; SIZE.bytes()];
        splits.train.read(4, &mut pixels).unwrap();
        assert_eq!(pixels[..6], [2, 100, 0, 2, 100, 1]);
        assert_eq!(splits.classes()[9], "9");
    }

    #[test]
    fn cifar100_has_fine_labels_and_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let names: String = (0..100).map(|class| format!("class {class}\n")).collect();
        fs::write(folder.path().join("fine_label_names.txt"), names).unwrap();
        let train = [record(&[19, 99], 1), record(&[3, 0], 2)].concat();
        fs::write(folder.path().join("train.bin"), train.clone()).unwrap();
        fs::write(folder.path().join("test.bin"), train).unwrap();
        let splits = open(folder.path()).unwrap();
        assert_eq!(splits.train.labels().classes(), Some(&[99, 0][..]));
        assert_eq!(splits.classes()[99], "class 99");
    }

    #[test]
    fn grey_networks_get_grey_images() {
        let folder = cifar10();
        let options = OpenOptions { channels: Some(1), ..OpenOptions::default() };
        let splits = data::open(folder.path(), &options).unwrap();
        let mut pixels = vec![0; PLANE];
        splits.train.read(0, &mut pixels).unwrap();
        assert_eq!(pixels[..2], [59, 59]);
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        let folder = cifar10();
        let path = folder.path().join("data_batch_3.bin");
        let error_of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = open(folder.path()).unwrap_err();
            assert!(error.to_string().contains("data_batch_3.bin"), "{error}");
            error
        };
        let good = record(&[1], 1);
        assert!(matches!(error_of(&good[..3000]), DataError::WrongLength { .. }));
        assert!(matches!(error_of(&[]), DataError::WrongLength { .. }));
        assert!(matches!(error_of(&record(&[10], 1)), DataError::LabelOutOfRange { label: 10, classes: 10, .. }));
        fs::remove_file(&path).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(&error, DataError::MissingFile { path: missing, .. } if *missing == path), "{error}");
        fs::write(&path, good).unwrap();
        fs::write(folder.path().join(CIFAR10.class_names), "cat\ndog\n").unwrap();
        assert!(matches!(open(folder.path()), Err(DataError::ClassNames { found: 2, expected: 10, .. })));
    }
}
