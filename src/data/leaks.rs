//! Images that are on both sides of a split.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Dataset, Finding};

/// How many pairs of images a finding names.
const NAMED: usize = 3;

/// The images of the validation and test part that are the same as one of a part before it, pixel by pixel.
pub(super) fn between(train: &Dataset, val: Option<&Dataset>, test: Option<&Dataset>) -> Vec<Finding> {
    let parts = [("training", Some(train)), ("validation", val), ("test", test)];
    let mut seen: Vec<(&str, &Dataset, HashMap<u64, usize>)> = Vec::new();
    let mut findings = Vec::new();
    for (part, set) in parts.into_iter().filter_map(|(part, set)| Some((part, set?))) {
        let digests: Vec<Option<u64>> = (0..set.len()).into_par_iter().map(|index| set.digest(index)).collect();
        for (earlier, other, known) in &seen {
            let same: Vec<(usize, usize)> = digests
                .iter()
                .enumerate()
                .filter_map(|(index, digest)| Some((*known.get(digest.as_ref()?)?, index)))
                .collect();
            if !same.is_empty() {
                let name = |&(a, b): &(usize, usize)| (other.image_name(a), set.image_name(b));
                let examples = same.iter().take(NAMED).map(name).collect();
                findings.push(Finding::Leak { parts: [earlier, part], images: same.len(), examples });
            }
        }
        let known = digests.iter().enumerate().filter_map(|(index, digest)| Some(((*digest)?, index))).collect();
        seen.push((part, set, known));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageSize;

    fn set(name: &str, pixels: &[u8]) -> Dataset {
        let labels = vec![0; pixels.len()];
        Dataset::from_pixels(name, pixels.to_vec(), ImageSize::new(1, 1, 1), labels, vec!["a".into()]).unwrap()
    }

    #[test]
    fn the_same_images_are_found_between_any_two_parts() {
        let (train, val, test) = (set("train", &[1, 2, 3, 3]), set("val", &[4, 5, 2]), set("test", &[6, 4, 2]));
        assert_eq!(between(&train, Some(&set("val", &[4, 5])), None), []);
        let leak = |parts, images, examples: &[(&str, &str)]| Finding::Leak {
            parts,
            images,
            examples: examples.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect(),
        };
        assert_eq!(
            between(&train, Some(&val), Some(&test)),
            [
                leak(["training", "validation"], 1, &[("train #1", "val #2")]),
                leak(["training", "test"], 1, &[("train #1", "test #2")]),
                leak(["validation", "test"], 2, &[("val #0", "test #1"), ("val #2", "test #2")]),
            ]
        );
    }
}
