//! Dividing a data set into training, validation and test parts.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::{fmt, mem};

use serde::{Deserialize, Serialize};

use super::stratify::{by_class, by_group, by_rows, dealt};
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

/// Divides `set` in `ratio`, stratified: each part gets its share of each class and of the whole, as far as groups that
/// stay together allow it. `seed` decides which images these are. The images of a part keep the order of the set.
pub(super) fn stratified(set: &Dataset, ratio: SplitRatio, seed: u64) -> Result<Parts, DataError> {
    let shares = [ratio.train, ratio.val, ratio.test];
    let mut parts = match (set.groups(), set.labels()) {
        (Some(groups), labels) => {
            let parts = shares.iter().filter(|share| **share > 0.0).count();
            enough_groups(groups, parts, &format!("the {parts} parts of `split` {ratio}"))?;
            by_group(groups, labels, &shares, seed)
        }
        (None, Labels::Classes(labels)) => by_class(labels, set.classes().len(), ratio, seed).into(),
        (None, Labels::Rows { width, values }) => by_rows(values, *width, &shares, seed),
    };
    let mut part = |at: usize, part: &'static str| {
        let mut indices = mem::take(&mut parts[at]);
        if indices.is_empty() {
            return Err(DataError::EmptySplit { images: set.len(), ratio: ratio.to_string(), part });
        }
        indices.sort_unstable();
        Ok(set.subset(&indices))
    };
    Ok(Parts {
        train: part(0, "training")?,
        val: part(1, "validation")?,
        test: if ratio.test > 0.0 { Some(part(2, "test")?) } else { None },
    })
}

/// Refuses to divide images of fewer groups than there are parts.
fn enough_groups(groups: &[u32], parts: usize, what: &str) -> Result<(), DataError> {
    let count = groups.iter().collect::<BTreeSet<_>>().len();
    if count >= parts {
        return Ok(());
    }
    Err(DataError::Option(format!("the images are of {count} groups by `group`, which are too few for {what}")))
}

impl Dataset {
    /// The training and the validation part of fold `number`, from 1 on, of `of` folds: the validation parts of all folds are the
    /// whole. The folds are alike in their classes, as far as groups that stay together allow it; `seed` decides which images
    /// they have.
    ///
    /// # Errors
    /// If there are too few images or groups of them.
    ///
    /// # Panics
    /// If `number` is not one of the folds.
    pub fn fold(&self, number: usize, of: usize, seed: u64) -> Result<(Self, Self), DataError> {
        let shares = vec![1.0; of];
        let folds = match (self.groups(), self.labels()) {
            (Some(groups), labels) => {
                enough_groups(groups, of, &format!("{of} `folds`"))?;
                by_group(groups, labels, &shares, seed)
            }
            (None, Labels::Classes(labels)) => dealt(labels, self.classes().len(), of, seed),
            (None, Labels::Rows { width, values }) => by_rows(values, *width, &shares, seed),
        };
        if folds.iter().any(Vec::is_empty) {
            return Err(DataError::Option(format!("{} images are too few for {of} `folds`", self.len())));
        }
        let mut is_val = vec![false; self.len()];
        folds[number - 1].iter().for_each(|&image| is_val[image] = true);
        let part = |val: bool| self.subset(&(0..self.len()).filter(|&image| is_val[image] == val).collect::<Vec<_>>());
        Ok((part(false), part(true)))
    }
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
    fn groups_stay_together_and_the_ratio_is_kept_nearly() {
        // Groups of 1 to 9 images of two classes.
        let groups: Vec<u32> = (0..60).flat_map(|group| vec![group; 1 + group as usize % 9]).collect();
        let labels: Vec<u32> = (0..groups.len() as u32).map(|image| image % 3 / 2).collect();
        let pixels = (0..groups.len() as u16).flat_map(u16::to_le_bytes).collect();
        let set = Dataset::from_pixels("set", pixels, ImageSize::new(1, 2, 1), labels, vec!["a".into(), "b".into()]);
        let set = set.unwrap().with_groups(groups);
        let parts = stratified(&set, SplitRatio::default(), 0).unwrap();
        let test = parts.test.unwrap();
        let of = |set: &Dataset| set.groups().unwrap().iter().copied().collect::<BTreeSet<u32>>();
        let all: Vec<BTreeSet<u32>> = [&parts.train, &parts.val, &test].map(of).into();
        assert_eq!(all.iter().map(BTreeSet::len).sum::<usize>(), 60, "no group is in two parts");
        for (part, share) in [(&parts.train, 0.7), (&parts.val, 0.2), (&test, 0.1)] {
            for (count, total) in part.class_counts().into_iter().zip(set.class_counts()) {
                assert!((count as f64 / total as f64 - share).abs() < 0.03, "{:?} for {share}", part.class_counts());
            }
        }
        let again = stratified(&set, SplitRatio::default(), 0).unwrap();
        assert_eq!(ids(&again.val), ids(&parts.val));
        assert_ne!(ids(&stratified(&set, SplitRatio::default(), 1).unwrap().val), ids(&parts.val));
    }

    #[test]
    fn folds_are_alike_and_each_image_is_validated_on_once() {
        let whole = set(&[50, 23, 7]);
        let mut seen = BTreeSet::new();
        for number in 1..=5 {
            let (train, val) = whole.fold(number, 5, 0).unwrap();
            assert_eq!((train.len(), val.len()), (64, 16));
            let counts = val.class_counts();
            assert!(counts[0] == 10 && (4..=5).contains(&counts[1]) && (1..=2).contains(&counts[2]), "{counts:?}");
            assert!(ids(&train).is_disjoint(&ids(&val)));
            seen.extend(ids(&val));
        }
        assert_eq!(seen.len(), 80);
        let pairs = set(&[2; 9]);
        assert!((1..=6).all(|n| pairs.fold(n, 6, 3).unwrap().0.class_counts().iter().all(|&count| count > 0)));
        assert!(set(&[1, 1]).fold(1, 3, 0).unwrap_err().to_string().contains("2 images are too few for 3 `folds`"));
    }

    #[test]
    fn folds_keep_groups_and_rows_of_classes() {
        let grouped = set(&[20, 20]).with_groups((0..40).map(|image| image % 20 / 2).collect());
        let of = |set: &Dataset| set.groups().unwrap().iter().copied().collect::<BTreeSet<u32>>();
        for number in 1..=5 {
            let (train, val) = grouped.fold(number, 5, 0).unwrap();
            assert_eq!(val.class_counts(), [4, 4]);
            assert!(of(&train).is_disjoint(&of(&val)));
        }
        assert!(grouped.fold(1, 11, 0).unwrap_err().to_string().contains("10 groups by `group`"));
    }

    #[test]
    fn as_many_groups_as_parts_are_one_each_and_fewer_are_refused() {
        let grouped = |groups: &[u32]| stratified(&set(&[3, 3]).with_groups(groups.into()), SplitRatio::default(), 0);
        let parts = grouped(&[0, 0, 1, 1, 2, 2]).unwrap();
        assert_eq!((parts.train.len(), parts.val.len(), parts.test.unwrap().len()), (2, 2, 2));
        let error = grouped(&[0, 0, 0, 1, 1, 1]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("2 groups by `group`") && error.contains("3 parts of `split` 7:2:1"), "{error}");
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
