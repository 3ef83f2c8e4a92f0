//! The parts of a data set side by side.

use std::sync::Arc;

use crate::data::{DataError, Dataset, ImageSize, ImageSource, Labels};

/// The images of several parts of a data set as one, in the order of the parts.
#[derive(Clone, Debug)]
pub struct Pool {
    /// All images.
    pub images: Dataset,
    /// Names of the parts, each with the index of the image behind its last one.
    parts: Vec<(String, usize)>,
}

impl Pool {
    /// That of parts with these names, which have the same classes and the same size of images.
    ///
    /// # Errors
    /// If some label images with one class and others with several, or there is no part.
    pub fn of(parts: Vec<(String, Dataset)>) -> Result<Self, DataError> {
        let Some((_, first)) = parts.first() else {
            return Err(DataError::Option("there is no part of a data set to look at".into()));
        };
        let (name, size, classes) = (first.name().to_string(), first.image_size(), first.classes().to_vec());
        let (fit, labels) = (first.fit(), labels_of(&parts)?);
        let groups: Option<Vec<&[u32]>> = parts.iter().map(|(_, set)| set.groups()).collect();
        let groups = groups.map(|groups| groups.concat());
        let mut ends = Vec::with_capacity(parts.len());
        let mut together = Together { sets: Vec::new(), places: Vec::new() };
        for (at, (part, set)) in parts.into_iter().enumerate() {
            together.places.extend((0..set.len()).map(|index| (at, index)));
            together.sets.push(set);
            ends.push((part, together.places.len()));
        }
        let images = Dataset::new(&name, Arc::new(together), size, labels, classes)?.with_fit(fit);
        let images = match groups {
            Some(groups) => images.with_groups(groups),
            None => images,
        };
        Ok(Self { images, parts: ends })
    }

    /// The name of the part that image `index` is of.
    pub fn part(&self, index: usize) -> &str {
        self.parts.iter().find(|(_, end)| index < *end).map_or("", |(name, _)| name)
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

/// The labels of all parts.
fn labels_of(parts: &[(String, Dataset)]) -> Result<Labels, DataError> {
    let mut all = parts[0].1.labels().clone();
    for (_, set) in &parts[1..] {
        match (&mut all, set.labels()) {
            (Labels::Classes(all), Labels::Classes(more)) => all.extend(more),
            (Labels::Rows { values, .. }, Labels::Rows { values: more, .. }) => values.extend(more),
            _ => {
                let message = "labels images with one class in one part and with several in another";
                return Err(DataError::Option(format!("{} {message}", set.name())));
            }
        }
    }
    Ok(all)
}

/// The images of several data sets, one after the other.
struct Together {
    sets: Vec<Dataset>,
    /// Of each image the data set and the index in it.
    places: Vec<(usize, usize)>,
}

impl ImageSource for Together {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn name(&self, index: usize) -> String {
        let (set, at) = self.places[index];
        self.sets[set].image_name(at)
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        let (set, at) = self.places[index];
        self.sets[set].read(at, out)
    }

    fn original(&self, index: usize) -> Result<Option<(Vec<u8>, ImageSize)>, DataError> {
        let (set, at) = self.places[index];
        self.sets[set].original(at).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Label;

    #[test]
    fn images_keep_their_parts_labels_and_pixels() {
        let set = |name: &str, pixels: Vec<u8>, labels: Vec<u32>| {
            let classes = vec!["a".into(), "b".into()];
            (name.to_string(), Dataset::from_pixels(name, pixels, ImageSize::new(1, 1, 1), labels, classes).unwrap())
        };
        let pool = Pool::of(vec![set("train", vec![5, 6], vec![0, 1]), set("test", vec![7], vec![1])]).unwrap();
        assert_eq!((pool.images.len(), pool.part(1), pool.part(2)), (3, "train", "test"));
        assert_eq!((pool.images.image_name(2), pool.images.labels().get(2)), ("test #0".into(), Label::Class(1)));
        assert_eq!(pool.images.original(2).unwrap().0, [7]);
        assert!(Pool::of(Vec::new()).is_err());
    }
}
