//! Whether data is still what it was.

use std::{
    fs,
    path::{MAIN_SEPARATOR, Path},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Dataset, Label, Splits};

/// What tells a set of images from another: how many there are, and the SHA-256 of the path of each below the folder of the
/// data, the size of its file, and its label. Contents are not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many images.
    pub images: usize,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// The fingerprint of each part of some data, and of all together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the training images.
    pub train: Fingerprint,
    /// Of the validation images.
    pub val: Option<Fingerprint>,
    /// Of the test images.
    pub test: Option<Fingerprint>,
    /// Of all images, however they are divided; none in files that are older than this.
    #[serde(default)]
    pub all: Option<Fingerprint>,
}

impl Dataset {
    /// What tells it from other data; paths are those below `root`, so that data that was moved as a whole stays the same.
    pub fn fingerprint(&self, root: &Path) -> Fingerprint {
        Fingerprint::of(&self.image_digests(root))
    }

    /// The SHA-256 of what tells each image from others.
    fn image_digests(&self, root: &Path) -> Vec<Digest> {
        let root = root.display().to_string();
        let below = |name: &str| {
            let rest = name.strip_prefix(&root).unwrap_or(name);
            rest.trim_start_matches(MAIN_SEPARATOR).replace(MAIN_SEPARATOR, "/")
        };
        let size = |path: &str| fs::metadata(path).map_or(0, |file| file.len());
        // Of images that lie in one file, it is that file's.
        let whole = size(self.name());
        let digest = |index: usize| {
            let mut hasher = Sha256::new();
            let name = self.image_name(index);
            hasher.update(below(&name));
            let bytes = match size(&name) {
                0 => whole,
                bytes => bytes,
            };
            hasher.update(bytes.to_le_bytes());
            match self.labels().get(index) {
                Label::Class(class) => hasher.update(class.to_le_bytes()),
                Label::Row(row) => row.iter().for_each(|number| hasher.update(number.to_le_bytes())),
            }
            hasher.finalize().into()
        };
        (0..self.len()).map(digest).collect()
    }
}

/// A SHA-256.
type Digest = [u8; 32];

impl Fingerprint {
    /// That of the images that have these digests, in this order.
    fn of(images: &[Digest]) -> Self {
        let digest = Sha256::digest(images.as_flattened());
        Self { images: images.len(), sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl Splits {
    /// The fingerprint of each part; paths are those below `root`.
    pub fn fingerprints(&self, root: &Path) -> Fingerprints {
        let digests = |set: &Dataset| set.image_digests(root);
        let train = digests(&self.train);
        let [val, test] = [&self.val, &self.test].map(|part| part.as_ref().map(digests));
        let of = |part: &Option<Vec<Digest>>| part.as_deref().map(Fingerprint::of);
        let parts = [Some(&train), val.as_ref(), test.as_ref()];
        let mut all: Vec<Digest> = parts.into_iter().flatten().flatten().copied().collect();
        all.sort_unstable();
        Fingerprints {
            train: Fingerprint::of(&train),
            val: of(&val),
            test: of(&test),
            all: Some(Fingerprint::of(&all)),
        }
    }
}

impl Fingerprints {
    /// What has changed since `earlier`, such as `84 training images then and 80 now`; none where nothing has.
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let train = (Some(&earlier.train), Some(&self.train), "training");
        let val = (earlier.val.as_ref(), self.val.as_ref(), "validation");
        let test = (earlier.test.as_ref(), self.test.as_ref(), "test");
        let change = |(then, now, name): (Option<&Fingerprint>, Option<&Fingerprint>, &str)| {
            let [before, after] = [then, now].map(|part| part.map_or(0, |part| part.images));
            match (then == now, before == after) {
                (true, _) => None,
                (false, true) => Some(format!("other {name} images, as many as then ({after})")),
                (false, false) => Some(format!("{before} {name} images then and {after} now")),
            }
        };
        [train, val, test].into_iter().filter_map(change).collect()
    }

    /// What has changed since `earlier`, of the same images divided otherwise, likewise.
    pub fn changes_since_fold(&self, earlier: &Self) -> Option<String> {
        let (then, now) = (earlier.all.as_ref()?, self.all.as_ref()?);
        (then != now).then(|| format!("{} images then and {} now, or others", then.images, now.images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    fn set(pixels: Vec<u8>, labels: Vec<u32>) -> Dataset {
        Dataset::from_pixels("dots", pixels, ImageSize::new(1, 1, 1), labels, vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn other_images_and_labels_are_told() {
        let root = Path::new("dots");
        let of = |labels: Vec<u32>| Fingerprints {
            train: set(vec![1; labels.len()], labels.clone()).fingerprint(root),
            val: Some(set(vec![2, 3], vec![0, 1]).fingerprint(root)),
            test: None,
            all: Some(set(vec![1; labels.len()], labels).fingerprint(root)),
        };
        let earlier = of(vec![0, 1, 0]);
        assert_eq!(of(vec![0, 1, 0]).changes_since(&earlier), [""; 0]);
        assert_eq!(of(vec![0, 1, 1]).changes_since(&earlier), ["other training images, as many as then (3)"]);
        assert_eq!(of(vec![0, 1]).changes_since(&earlier), ["3 training images then and 2 now"]);
        assert_eq!(of(vec![0, 1, 0]).changes_since_fold(&earlier), None);
        assert_eq!(of(vec![0, 1]).changes_since_fold(&earlier).unwrap(), "3 images then and 2 now, or others");
        let without = Fingerprints { val: None, ..earlier.clone() };
        assert_eq!(without.changes_since(&earlier), ["2 validation images then and 0 now"]);
    }

    #[test]
    fn a_file_of_another_size_is_another_and_a_moved_folder_is_not() {
        let [here, there] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let of = |folder: &Path, bytes: usize| {
            fs::write(folder.join("images"), vec![0; bytes]).unwrap();
            let name = folder.join("images").display().to_string();
            let size = ImageSize::new(1, 1, 1);
            let set = Dataset::from_pixels(&name, vec![1, 2], size, vec![0, 1], vec!["a".into(), "b".into()]).unwrap();
            set.fingerprint(folder)
        };
        let first = of(here.path(), 10);
        assert_eq!(of(there.path(), 10), first);
        assert_ne!(of(here.path(), 11), first);
    }
}
