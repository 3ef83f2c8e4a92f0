//! The small real data set that ships inside the library.

use std::path::Path;

use super::{DataError, OpenOptions, Splits, idx};

/// The first 10,000 training and the first 2,000 test images of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), part of
/// the library so that a fresh program has something real to train on.
///
/// # Errors
/// If an option is impossible.
pub fn bundled(options: &OpenOptions) -> Result<Splits, DataError> {
    const NAME: &str = "bundled MNIST";
    let train: [&[u8]; 2] = [
        include_bytes!("../../data/mnist/train-images-idx3-ubyte.gz"),
        include_bytes!("../../data/mnist/train-labels-idx1-ubyte.gz"),
    ];
    let test: [&[u8]; 2] = [
        include_bytes!("../../data/mnist/t10k-images-idx3-ubyte.gz"),
        include_bytes!("../../data/mnist/t10k-labels-idx1-ubyte.gz"),
    ];
    options.check()?;
    idx::open_bytes(NAME, train, test, options)?.divide(Path::new(NAME), options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, ImageSize, Normalisation};

    #[test]
    fn it_is_the_beginning_of_mnist() {
        let splits = bundled(&OpenOptions::default()).unwrap();
        let test = splits.test.as_ref().unwrap();
        assert_eq!((splits.train.len(), test.len(), splits.val.is_none()), (10_000, 2_000, true));
        assert_eq!(splits.image_size(), ImageSize::new(28, 28, 1));
        assert_eq!(splits.train.labels()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
        assert_eq!(test.labels()[..5], [7, 2, 1, 0, 4]);
        assert_eq!(splits.train.class_counts().iter().min(), Some(&863));
    }

    #[test]
    fn its_statistics_are_near_those_of_whole_mnist() {
        let statistics = Normalisation::of(&bundled(&OpenOptions::default()).unwrap().train).unwrap();
        assert!((statistics.mean[0] - 0.1307).abs() < 2e-3, "{statistics:?}");
        assert!((statistics.std[0] - 0.3081).abs() < 2e-3, "{statistics:?}");
    }

    #[test]
    fn the_files_of_the_checkout_are_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist");
        let (files, embedded) =
            (data::open(folder, &OpenOptions::default()).unwrap(), bundled(&OpenOptions::default()).unwrap());
        assert_eq!(files.train.labels(), embedded.train.labels());
        assert_eq!(Normalisation::of(&files.train).unwrap(), Normalisation::of(&embedded.train).unwrap());
    }

    #[test]
    fn a_validation_part_is_stratified() {
        let options = OpenOptions { validation: Some(0.1), ..OpenOptions::default() };
        let splits = bundled(&options).unwrap();
        let val = splits.val.unwrap();
        assert_eq!((splits.train.len(), val.len(), splits.test.unwrap().len()), (9_000, 1_000, 2_000));
        assert!(val.class_counts().iter().all(|count| (85..=114).contains(count)), "{:?}", val.class_counts());
    }
}
