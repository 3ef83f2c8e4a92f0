//! What is to be recognised in images.

use serde::{Deserialize, Serialize};

/// How many classes an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// Each image is of one class.
    Classification,
    /// Each image is of any number of classes.
    MultiLabel,
}

/// What is to be recognised in each of some images.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// One class each: an index into the names of the classes.
    Classes(Vec<u32>),
    /// A row of numbers each, one for each name of a class: where an image can be of several classes, 1 for those that it
    /// is of and 0 for the others.
    Rows {
        /// Numbers a row.
        width: usize,
        /// The rows, one after the other.
        values: Vec<f32>,
    },
}

/// What is to be recognised in one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label<'a> {
    /// This class.
    Class(u32),
    /// These numbers.
    Row(&'a [f32]),
}

impl Label<'_> {
    /// Whether the image is of a class.
    pub fn is_of(&self, class: usize) -> bool {
        match self {
            Self::Class(own) => *own as usize == class,
            Self::Row(row) => row.get(class).is_some_and(|is| *is > 0.5),
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::Classes(Vec::new())
    }
}

impl From<Vec<u32>> for Labels {
    fn from(classes: Vec<u32>) -> Self {
        Self::Classes(classes)
    }
}

impl Labels {
    /// How many images they are of.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Rows { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Whether they are of none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Labels::len`].
    pub fn get(&self, index: usize) -> Label<'_> {
        match self {
            Self::Classes(classes) => Label::Class(classes[index]),
            Self::Rows { width, values } => Label::Row(&values[index * width..][..*width]),
        }
    }

    /// The class of each image, where each has one.
    pub fn classes(&self) -> Option<&[u32]> {
        match self {
            Self::Classes(classes) => Some(classes),
            Self::Rows { .. } => None,
        }
    }

    /// The labels of the images `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`Labels::len`].
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut selected = Self::default();
        selected.assign(self, indices);
        selected
    }

    /// Becomes [`Labels::select`] of others, in the memory that it has.
    pub(super) fn assign(&mut self, others: &Self, indices: impl IntoIterator<Item = usize>) {
        match (&mut *self, others) {
            (Self::Classes(own), Self::Classes(others)) => {
                own.clear();
                own.extend(indices.into_iter().map(|index| others[index]));
            }
            (Self::Rows { width, values }, Self::Rows { width: others_width, values: others }) => {
                *width = *others_width;
                values.clear();
                indices.into_iter().for_each(|index| values.extend_from_slice(&others[index * *width..][..*width]));
            }
            (_, Self::Classes(_)) => {
                *self = Self::Classes(Vec::new());
                self.assign(others, indices);
            }
            (_, Self::Rows { width, .. }) => {
                *self = Self::Rows { width: *width, values: Vec::new() };
                self.assign(others, indices);
            }
        }
    }

    /// Adds the label of another image, of the kind of those that there are.
    pub(crate) fn push(&mut self, label: Label<'_>) {
        match (&mut *self, label) {
            (Self::Classes(classes), Label::Class(class)) => classes.push(class),
            (Self::Rows { values, .. }, Label::Row(row)) => values.extend_from_slice(row),
            (_, Label::Class(class)) => *self = Self::Classes(vec![class]),
            (_, Label::Row(row)) => *self = Self::Rows { width: row.len(), values: row.to_vec() },
        }
    }

    /// Exchanges the labels of two images.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        match self {
            Self::Classes(classes) => classes.swap(a, b),
            Self::Rows { width, values } => (0..*width).for_each(|at| values.swap(a * *width + at, b * *width + at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_selected_and_exchanged_whole() {
        let rows = |values: &[f32]| Labels::Rows { width: 2, values: values.to_vec() };
        let mut labels = rows(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).select([2, 0]);
        assert_eq!((labels.len(), labels.get(0)), (2, Label::Row(&[4.0, 5.0])));
        labels.swap(0, 1);
        assert_eq!(labels, rows(&[0.0, 1.0, 4.0, 5.0]));
        labels.assign(&vec![7, 8].into(), [1]);
        assert_eq!((labels.classes(), labels.get(0)), (Some(&[8][..]), Label::Class(8)));
    }
}
