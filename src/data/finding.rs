//! What a person should know of data before training on it, though it can be trained on.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::Dataset;

/// How many things a finding names before it only counts them.
const NAMED: usize = 5;
/// A class is rare where another has this many times its images.
const RARE: usize = 20;
/// A class of so few images has none for a test part, or for a validation part either.
const FEW: usize = 2;

/// Something about data that a person should know. Its text says what to do about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// Classes of one or two images, of data that was divided.
    TooFew {
        /// Each with its number of images.
        classes: Vec<(String, usize)>,
    },
    /// Classes of which one part of the data has no image.
    Missing {
        /// The part: training, validation or test.
        part: &'static str,
        /// The classes.
        classes: Vec<String>,
    },
    /// Classes of which there are far fewer training images than of another.
    Rare {
        /// Each with its number of images.
        classes: Vec<(String, usize)>,
        /// The class with the most images, and how many.
        most: (String, usize),
    },
    /// Class folders whose images all lie in folders below them, so that these may be the classes that were meant.
    Nested {
        /// The class folders, each with the names of the folders below it.
        folders: Vec<(PathBuf, Vec<String>)>,
    },
    /// Images that are in two parts of the data, pixel by pixel the same at the size that the network takes.
    Leak {
        /// The two parts.
        parts: [&'static str; 2],
        /// How many images of the second part are also in the first.
        images: usize,
        /// Names of some of them, in the first and in the second part.
        examples: Vec<(String, String)>,
    },
    /// A file of labels of which each image may have several classes or none.
    MultiLabel {
        /// The file.
        path: PathBuf,
        /// What says so.
        why: String,
    },
    /// Images that are not read because of their format.
    NotRead {
        /// How many of each extension.
        kinds: BTreeMap<String, usize>,
    },
    /// Files that are no images.
    Ignored {
        /// How many of each extension.
        kinds: BTreeMap<String, usize>,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::TooFew { classes } => write!(
                f,
                "too few images to be divided, so that no part but the training part can count on one: {}; add images, \
                 ten of a class or more",
                counted(classes)
            ),
            Self::Missing { part: part @ "training", classes } => {
                write!(f, "no {part} image is of {}, which is why they cannot be learned", listed(classes))
            }
            Self::Missing { part, classes } => {
                write!(f, "no {part} image is of {}: the {part} figures say nothing about that", listed(classes))
            }
            Self::Rare { classes, most: (class, count) } => write!(
                f,
                "training images are uneven: {class} has {count}, and {RARE} times fewer have {}; `balance_classes` \
                 makes classes count alike",
                counted(classes)
            ),
            Self::Nested { folders } => {
                let told: Vec<String> = folders
                    .iter()
                    .map(|(folder, below)| format!("those of {} in {}", name(folder), listed(below)))
                    .collect();
                let (first, _) = &folders[0];
                write!(
                    f,
                    "images lie one folder deeper than their class: {}. The class is the upper folder, as in \
                     {}/IMAGE; where the lower ones are the classes that are meant, give {} as the data, or move them \
                     up",
                    listed(&told),
                    name(first),
                    first.display(),
                )
            }
            Self::Leak { parts: [first, second], images, examples } => {
                let pairs: Vec<String> = examples.iter().map(|(a, b)| format!("{a} is also {b}")).collect();
                write!(
                    f,
                    "{images} {second} images are the same as {first} images, so that the {second} figures look better \
                     than they are: {}; remove the copies",
                    pairs.join(", ")
                )
            }
            Self::MultiLabel { path, why } => write!(
                f,
                "{} is read as multi-label, where an image may be of several classes or of none: {why}; `label_kind` \
                 classification takes it as one class an image",
                path.display()
            ),
            Self::NotRead { kinds } => write!(
                f,
                "left out images of formats that are not read: {}; convert them to JPEG or PNG",
                by_kind(kinds, str::to_uppercase)
            ),
            Self::Ignored { kinds } => {
                let kind = |kind: &str| if kind.is_empty() { "without extension".into() } else { format!(".{kind}") };
                write!(f, "left out files that are no images: {}", by_kind(kinds, kind))
            }
        }
    }
}

/// What the numbers of images of each class say, of data that was `divided` here or came in these parts.
pub(super) fn of_classes(
    train: &Dataset,
    val: Option<&Dataset>,
    test: Option<&Dataset>,
    divided: bool,
) -> Vec<Finding> {
    let names = train.classes();
    let parts = [("training", Some(train)), ("validation", val), ("test", test)];
    let parts: Vec<(&str, Vec<usize>)> =
        parts.into_iter().filter_map(|(name, set)| Some((name, set?.class_counts()))).collect();
    let all: Vec<usize> = (0..names.len()).map(|class| parts.iter().map(|(_, counts)| counts[class]).sum()).collect();
    let is_few = |class: usize| divided && (1..=FEW).contains(&all[class]);
    let mut findings = Vec::new();
    let with_counts = |counts: &[usize], wanted: &dyn Fn(usize) -> bool| -> Vec<(String, usize)> {
        (0..names.len()).filter(|&class| wanted(class)).map(|class| (names[class].clone(), counts[class])).collect()
    };
    let few = with_counts(&all, &is_few);
    if !few.is_empty() {
        findings.push(Finding::TooFew { classes: few });
    }
    for (part, counts) in &parts {
        let missing = |class: &usize| counts[*class] == 0 && !is_few(*class);
        let classes: Vec<String> = (0..names.len()).filter(missing).map(|class| names[class].clone()).collect();
        if !classes.is_empty() {
            findings.push(Finding::Missing { part, classes });
        }
    }
    let counts = &parts[0].1;
    if let Some(most) = (0..names.len()).max_by_key(|&class| counts[class]) {
        let classes = with_counts(counts, &|class| counts[class] > 0 && counts[class] * RARE <= counts[most]);
        if !classes.is_empty() {
            findings.push(Finding::Rare { classes, most: (names[most].clone(), counts[most]) });
        }
    }
    findings
}

/// The first of them, and how many more there are.
pub(super) fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}

fn counted(classes: &[(String, usize)]) -> String {
    listed(&classes.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>())
}

/// How many there are of each kind.
pub(super) fn by_kind(kinds: &BTreeMap<String, usize>, name: impl Fn(&str) -> String) -> String {
    listed(&kinds.iter().map(|(kind, count)| format!("{count} {}", name(kind))).collect::<Vec<_>>())
}

fn name(folder: &std::path::Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    fn set(counts: &[u32]) -> Dataset {
        let labels: Vec<u32> = counts.iter().zip(0..).flat_map(|(&count, class)| vec![class; count as usize]).collect();
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        Dataset::from_pixels("set", vec![0; labels.len()], ImageSize::new(1, 1, 1), labels, classes).unwrap()
    }

    #[test]
    fn classes_are_few_missing_or_rare() {
        let even = of_classes(&set(&[7, 7, 7]), Some(&set(&[2, 2, 2])), None, true);
        assert_eq!(even, []);
        let found = of_classes(&set(&[40, 2, 30]), Some(&set(&[10, 0, 0])), None, true);
        assert_eq!(
            found,
            [
                Finding::TooFew { classes: vec![("b".into(), 2)] },
                Finding::Missing { part: "validation", classes: vec!["c".into()] },
                Finding::Rare { classes: vec![("b".into(), 2)], most: ("a".into(), 40) },
            ]
        );
        let given = of_classes(&set(&[4, 2, 0]), Some(&set(&[4, 0, 1])), None, false);
        let missing = |part, class: &str| Finding::Missing { part, classes: vec![class.into()] };
        assert_eq!(given, [missing("training", "c"), missing("validation", "b")]);
        assert!(given[0].to_string().contains("no training image is of c"), "{}", given[0]);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..8).map(|at| at.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 3 more");
        assert_eq!(listed(&names[..2]), "0, 1");
    }
}
