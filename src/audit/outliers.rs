//! Images unlike all others of their class.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::robust::{median, robust_z};
use crate::{data::Label, tasks::Predictions};

/// The nearest neighbours whose mean distance counts.
pub const NEIGHBOURS: usize = 10;
/// Images of a class among which neighbours are sought, so that the work does not grow with the square of their number.
const MOST_COMPARED: usize = 5_000;
/// Images of a class, at least, for there to be something to be unlike of.
const FEWEST: usize = 2 * NEIGHBOURS;
/// Standard deviations above the median that make an outlier, of the logarithm of distances, whose distribution is skewed.
const FAR: f64 = 4.0;
/// The shortest distance that counts: that of images that are the same.
const SHORTEST: f64 = 1e-6;

/// An image unlike all others of its class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Its place among the predictions.
    pub image: usize,
    /// The mean distance to its nearest neighbours of the same class.
    pub distance: f64,
    /// The median of that distance over its class.
    pub usual: f64,
    /// How far it is beyond the median, in robust standard deviations of the logarithm.
    pub deviations: f64,
}

/// The images whose embeddings lie far from those of the same class, the farthest first. `predictions` are those of one model, as
/// the embeddings of two have nothing to do with each other. The distance is that of cosine similarity, 1 less it (0 to 2), the mean to the
/// [`NEIGHBOURS`] nearest images of the class (Ramaswamy, Rastogi and Shim, Efficient Algorithms for Mining Outliers from
/// Large Data Sets, 2000).
///
/// An image that is of several classes is compared with those of the same ones. Classes of fewer than 20 images have none.
pub fn outliers(predictions: &Predictions) -> Vec<Outlier> {
    let width = predictions.embeddings.len() / predictions.len().max(1);
    if width == 0 {
        return Vec::new();
    }
    let unit: Vec<Vec<f32>> = predictions.embeddings.chunks_exact(width).map(unit).collect();
    let mut classes: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (image, (_, label)) in predictions.iter().enumerate() {
        classes.entry(classes_of(label)).or_default().push(image);
    }
    let of_class = |images: &Vec<usize>| {
        let distances = distances(&unit, images);
        let logarithms: Vec<f64> = distances.iter().map(|distance| distance.max(SHORTEST).ln()).collect();
        let usual = median(&distances).unwrap_or(0.0);
        let far = images.iter().zip(distances).zip(robust_z(&logarithms)).filter(|(_, z)| *z > FAR);
        far.map(|((&image, distance), deviations)| Outlier { image, distance, usual, deviations }).collect::<Vec<_>>()
    };
    let mut found: Vec<Outlier> = classes.values().filter(|images| images.len() >= FEWEST).flat_map(of_class).collect();
    found.sort_by(|a, b| b.deviations.total_cmp(&a.deviations));
    found
}

fn classes_of(label: Label) -> Vec<usize> {
    match label {
        Label::Class(class) => vec![class as usize],
        Label::Row(row) => (0..row.len()).filter(|&class| row[class] > 0.5).collect(),
    }
}

/// A vector of the same direction and the length 1; one of length 0 stays.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / if length > 0.0 { length } else { 1.0 }).collect()
}

/// The mean distance of each of some images to its nearest neighbours among them.
fn distances(unit: &[Vec<f32>], images: &[usize]) -> Vec<f64> {
    let step = images.len().div_ceil(MOST_COMPARED).max(1);
    let distance = |&image: &usize| {
        let others = images.iter().step_by(step).filter(|other| **other != image);
        let mut all: Vec<f32> = others.map(|&other| 1.0 - dot(&unit[image], &unit[other])).collect();
        let count = NEIGHBOURS.min(all.len());
        all.select_nth_unstable_by(count - 1, f32::total_cmp);
        all[..count].iter().map(|distance| f64::from(distance.max(0.0))).sum::<f64>() / count as f64
    };
    images.par_iter().map(distance).collect()
}

/// In sums apart, as vector instructions take them.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const APART: usize = 16;
    let mut sums = [0f32; APART];
    let (whole_a, rest_a) = a.as_chunks::<APART>();
    let (whole_b, rest_b) = b.as_chunks::<APART>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for at in 0..APART {
            sums[at] += a[at] * b[at];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Labels;

    #[test]
    fn what_lies_apart_from_its_class_is_found_even_beside_another_class() {
        // Two classes, each in a direction of its own, and one of the first class that lies with the second.
        let mut state = 12_345u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state) / f64::from(1u32 << 31) - 1.0) as f32
        };
        let mut direction = |class: usize| {
            let mut vector: [f32; 8] = std::array::from_fn(|_| noise());
            vector[class] += 10.0;
            vector
        };
        let embeddings: Vec<f32> = (0..61).flat_map(|at| direction(if at == 60 { 1 } else { at % 2 })).collect();
        let labels = (0..61).map(|at| if at == 60 { 0 } else { at % 2 }).collect();
        let predictions = Predictions {
            classes: vec!["a".into(), "b".into()],
            images: (0..61).map(|at: u32| at.to_string()).collect(),
            answers: vec![0.5; 122],
            labels: Labels::Classes(labels),
            losses: vec![0.0; 61],
            thresholds: Vec::new(),
            embeddings,
        };
        let found = outliers(&predictions);
        assert_eq!(found.iter().map(|outlier| outlier.image).collect::<Vec<_>>(), [60]);
        assert!(found[0].distance > 0.5 && found[0].usual < 0.05, "{found:?}");
        assert_eq!(outliers(&Predictions { embeddings: Vec::new(), ..predictions }), []);
    }

    #[test]
    fn a_product_has_all_terms() {
        let a: Vec<f32> = (0..37).map(|at| at as f32).collect();
        assert_eq!(dot(&a, &a), (0..37).map(|at| (at * at) as f32).sum::<f32>());
    }
}
