//! The small real data set that ships inside the library.

use std::path::Path;

use super::{DataError, LabelKind, OpenOptions, Splits, idx};

/// The share of the training images that is held out for validation where the options name none.
const VALIDATION: f64 = 0.1;

/// The first 10,000 training and the first 2,000 test images of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), part of
/// the library so that a fresh program has something real to train on. A tenth of the training images, by class, is for
/// validation, so that the best epoch is not chosen by what was trained on.
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
    options.agree().map_err(DataError::Option)?;
    let options = &OpenOptions { validation: options.validation.or(Some(VALIDATION)), ..options.clone() };
    if options.label_kind == Some(LabelKind::MultiLabel) {
        return Err(DataError::Option(format!("images of {NAME} are of one class each")));
    }
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
        let val = splits.val.as_ref().unwrap();
        assert_eq!((splits.train.len(), val.len(), test.len()), (9_000, 1_000, 2_000));
        assert!(val.class_counts().iter().all(|count| (85..=114).contains(count)), "{:?}", val.class_counts());
        assert_eq!(splits.image_size(), ImageSize::new(28, 28, 1));
        assert_eq!(test.labels().classes().unwrap()[..5], [7, 2, 1, 0, 4]);
        let counts = splits.train.class_counts().into_iter().zip(val.class_counts());
        assert_eq!(counts.map(|(train, val)| train + val).min(), Some(863));
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
        let options = OpenOptions { validation: Some(VALIDATION), ..OpenOptions::default() };
        let (files, embedded) = (data::open(folder, &options).unwrap(), bundled(&OpenOptions::default()).unwrap());
        assert_eq!(files.train.labels(), embedded.train.labels());
        assert_eq!(Normalisation::of(&files.train).unwrap(), Normalisation::of(&embedded.train).unwrap());
    }

    #[test]
    fn another_share_can_be_held_out() {
        let options = OpenOptions { validation: Some(0.25), ..OpenOptions::default() };
        let splits = bundled(&options).unwrap();
        assert_eq!((splits.train.len(), splits.val.unwrap().len()), (7_500, 2_500));
    }
}
