//! Dividing a data set into training, validation and test parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::random::{shuffle, stream};
use super::{DataError, Dataset, Labels};

/// The ratio of training, validation and test images, such as 7:2:1, or 9:1 for no test part. Any positive numbers do;
/// only their ratio counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SplitRatio {
    /// Share of the training part.
    pub train: f64,
    /// Share of the validation part.
    pub val: f64,
    /// Share of the test part; 0 for none.
    pub test: f64,
}

impl Default for SplitRatio {
    /// 7:2:1.
    fn default() -> Self {
        Self { train: 7.0, val: 2.0, test: 1.0 }
    }
}

impl FromStr for SplitRatio {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let shares: Option<Vec<f64>> = text.split(':').map(|share| share.trim().parse().ok()).collect();
        let (train, val, test) = match shares.as_deref() {
            Some(&[train, val]) => (train, val, 0.0),
            Some(&[train, val, test]) => (train, val, test),
            _ => (f64::NAN, f64::NAN, f64::NAN),
        };
        let positive = |share: f64| share.is_finite() && share > 0.0;
        if positive(train) && positive(val) && (test == 0.0 || positive(test)) {
            Ok(Self { train, val, test })
        } else {
            Err(DataError::Option(format!(
                "{text:?} is no split: give training:validation:test such as 7:2:1, or training:validation such as 9:1"
            )))
        }
    }
}

impl TryFrom<String> for SplitRatio {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<SplitRatio> for String {
    fn from(ratio: SplitRatio) -> Self {
        ratio.to_string()
    }
}

impl fmt::Display for SplitRatio {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.train, self.val)?;
        if self.test > 0.0 { write!(f, ":{}", self.test) } else { Ok(()) }
    }
}

/// The parts of a split.
pub(super) struct Parts {
    pub train: Dataset,
    pub val: Dataset,
    pub test: Option<Dataset>,
}

/// Divides `set` in `ratio`, stratified: each part gets its share of each class and of the whole. `seed` decides which
/// images these are. The images of a part keep the order of the set.
pub(super) fn stratified(set: &Dataset, ratio: SplitRatio, seed: u64) -> Result<Parts, DataError> {
    let [train, val, test] = match set.labels() {
        Labels::Classes(labels) => by_class(labels, set.classes().len(), ratio, seed),
        Labels::Rows { width, values } => by_rows(values, *width, ratio, seed),
    };
    let part = |mut indices: Vec<usize>, part: &'static str| {
        if indices.is_empty() {
            return Err(DataError::EmptySplit { images: set.len(), ratio: ratio.to_string(), part });
        }
        indices.sort_unstable();
        Ok(set.subset(&indices))
    };
    Ok(Parts {
        train: part(train, "training")?,
        val: part(val, "validation")?,
        test: if ratio.test > 0.0 { Some(part(test, "test")?) } else { None },
    })
}

/// The parts of images of one class each: of each class its share, to within one image, and of the whole, exactly
/// rounded. Every class keeps at least one training image.
fn by_class(labels: &[u32], classes: usize, ratio: SplitRatio, seed: u64) -> [Vec<usize>; 3] {
    let mut by_class = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(index);
    }
    let whole = ratio.train + ratio.val + ratio.test;
    // Rounding what has been given out so far, not each class by itself, makes up in the next class for what this one
    // lost.
    let share_of_first = |images: usize, share: f64| (images as f64 * share / whole).round() as usize;
    let (mut train, mut val, mut test) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = 0;
    for (class, mut images) in by_class.into_iter().enumerate() {
        shuffle(&mut images, &mut stream(seed, class as u64));
        let share = |share| share_of_first(seen + images.len(), share) - share_of_first(seen, share);
        let (mut val_count, mut test_count) = (share(ratio.val), share(ratio.test));
        seen += images.len();
        while val_count + test_count >= images.len() && val_count + test_count > 0 {
            let larger = if val_count >= test_count { &mut val_count } else { &mut test_count };
            *larger -= 1;
        }
        val.extend_from_slice(&images[..val_count]);
        test.extend_from_slice(&images[val_count..val_count + test_count]);
        train.extend_from_slice(&images[val_count + test_count..]);
    }
    [train, val, test]
}

/// The parts of images of several classes each, by iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the
/// images of the rarest class are given out first, each to the part that lacks most of that class.
fn by_rows(values: &[f32], width: usize, ratio: SplitRatio, seed: u64) -> [Vec<usize>; 3] {
    let is_of = |image: usize, class: usize| values[image * width + class] > 0.5;
    let images = values.len() / width.max(1);
    let mut remaining: Vec<usize> = (0..images).collect();
    shuffle(&mut remaining, &mut stream(seed, 0));
    let mut counts: Vec<usize> =
        (0..width).map(|class| (0..images).filter(|&image| is_of(image, class)).count()).collect();
    let whole = ratio.train + ratio.val + ratio.test;
    let shares = [ratio.train, ratio.val, ratio.test].map(|share| share / whole);
    // What each part still lacks: of each class, and in all.
    let mut lacks = shares.map(|share| counts.iter().map(|&count| count as f64 * share).collect::<Vec<f64>>());
    let mut lacks_in_all = shares.map(|share| images as f64 * share);
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    while !remaining.is_empty() {
        let rarest = (0..width).filter(|&class| counts[class] > 0).min_by_key(|&class| counts[class]);
        let (given, kept) = remaining.into_iter().partition(|&image| rarest.is_none_or(|class| is_of(image, class)));
        remaining = kept;
        let given: Vec<usize> = given;
        for image in given {
            let need = |part: usize| (rarest.map_or(0.0, |class| lacks[part][class]), lacks_in_all[part]);
            // The first of equal ones, so that training comes first.
            let part = (1..3).fold(0, |best, part| if need(part) > need(best) { part } else { best });
            parts[part].push(image);
            lacks_in_all[part] -= 1.0;
            for class in (0..width).filter(|&class| is_of(image, class)) {
                lacks[part][class] -= 1.0;
                counts[class] -= 1;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::ImageSize;

    /// A set whose image `i` is the two bytes of `i`.
    fn set(class_counts: &[usize]) -> Dataset {
        let labels: Vec<u32> =
            class_counts.iter().enumerate().flat_map(|(class, &count)| vec![class as u32; count]).collect();
        let pixels = (0..labels.len()).flat_map(|index| (index as u16).to_le_bytes()).collect();
        let classes = (0..class_counts.len()).map(|class| class.to_string()).collect();
        Dataset::from_pixels("set", pixels, ImageSize::new(1, 2, 1), labels, classes).unwrap()
    }

    fn ids(set: &Dataset) -> BTreeSet<u16> {
        let id = |index| {
            let mut pixels = [0; 2];
            set.read(index, &mut pixels).unwrap();
            u16::from_le_bytes(pixels)
        };
        (0..set.len()).map(id).collect()
    }

    #[test]
    fn ratios_are_read_and_written() {
        assert_eq!("7:2:1".parse::<SplitRatio>().unwrap(), SplitRatio::default());
        assert_eq!("9:1".parse::<SplitRatio>().unwrap().to_string(), "9:1");
        assert_eq!(" 0.8 : 0.1:0.1".parse::<SplitRatio>().unwrap().to_string(), "0.8:0.1:0.1");
        for wrong in ["", "7", "7:2:1:1", "7:-2:1", "0:1", "a:b", "inf:1", "7:0:1"] {
            let error = wrong.parse::<SplitRatio>().unwrap_err().to_string();
            assert!(error.contains("7:2:1"), "{wrong}: {error}");
        }
    }

    #[test]
    fn each_class_is_divided_in_the_ratio() {
        let parts = stratified(&set(&[100, 50, 10]), SplitRatio::default(), 0).unwrap();
        assert_eq!(parts.train.class_counts(), [70, 35, 7]);
        assert_eq!(parts.val.class_counts(), [20, 10, 2]);
        assert_eq!(parts.test.unwrap().class_counts(), [10, 5, 1]);
    }

    #[test]
    fn images_of_several_classes_are_divided_by_each() {
        // Class 0 is of every image, class 1 of every second, class 2 of every tenth.
        let values = (0..200u16).flat_map(|at| [1.0, f32::from(at % 2), f32::from(u16::from(at % 10 == 0))]).collect();
        let pixels = (0..200u16).flat_map(u16::to_le_bytes).collect();
        let labels = Labels::Rows { width: 3, values };
        let classes = vec!["a".into(), "b".into(), "c".into()];
        let set = Dataset::from_pixels("set", pixels, ImageSize::new(1, 2, 1), labels, classes).unwrap();
        let parts = stratified(&set, SplitRatio::default(), 3).unwrap();
        let test = parts.test.unwrap();
        assert_eq!(parts.train.class_counts(), [140, 70, 14]);
        assert_eq!(parts.val.class_counts(), [40, 20, 4]);
        assert_eq!(test.class_counts(), [20, 10, 2]);
        let all: BTreeSet<u16> = [&parts.train, &parts.val, &test].into_iter().flat_map(ids).collect();
        assert_eq!(all.len(), 200);
        assert_ne!(ids(&parts.val), ids(&stratified(&set, SplitRatio::default(), 4).unwrap().val));
    }

    #[test]
    fn the_seed_decides() {
        let val = |seed| ids(&stratified(&set(&[100, 50]), "9:1".parse().unwrap(), seed).unwrap().val);
        assert_eq!(val(1), val(1));
        assert_ne!(val(1), val(2));
    }

    #[test]
    fn classes_of_three_images_still_fill_all_parts_together() {
        let parts = stratified(&set(&[3; 20]), SplitRatio::default(), 0).unwrap();
        assert_eq!((parts.train.len(), parts.val.len(), parts.test.unwrap().len()), (42, 12, 6));
    }

    #[test]
    fn too_few_images_are_refused() {
        let error = stratified(&set(&[1, 1]), SplitRatio::default(), 0).map(|_| ()).unwrap_err();
        assert!(matches!(error, DataError::EmptySplit { images: 2, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole_and_do_not_overlap(
            counts in prop::collection::vec(1usize..40, 2..12), val in 1u32..5, test in 0u32..5, seed: u64,
        ) {
            let whole = set(&counts);
            let ratio = SplitRatio { train: 5.0, val: val.into(), test: test.into() };
            let Ok(parts) = stratified(&whole, ratio, seed) else { return Ok(()) };
            let (train, val_ids) = (ids(&parts.train), ids(&parts.val));
            let test_ids = parts.test.as_ref().map(ids).unwrap_or_default();
            prop_assert_eq!(train.len() + val_ids.len() + test_ids.len(), whole.len());
            let all: BTreeSet<u16> = train.into_iter().chain(val_ids).chain(test_ids).collect();
            prop_assert_eq!(all.len(), whole.len());
            prop_assert!(parts.train.class_counts().iter().all(|&count| count > 0));
            for (count, class) in counts.iter().zip(parts.val.class_counts()) {
                let share = *count as f64 * f64::from(val) / (5.0 + f64::from(val + test));
                prop_assert!((class as f64 - share).abs() <= 1.0 + 1e-9);
            }
        }
    }
}
