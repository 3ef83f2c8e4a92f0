//! Dividing labels into parts that are alike in their classes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::random::{shuffle, stream};
use super::{Label, Labels, SplitRatio};

/// The parts of images of one class each: of each class its share, to within one image, and of the whole, exactly
/// rounded. Every class keeps at least one training image.
pub(super) fn by_class(labels: &[u32], classes: usize, ratio: SplitRatio, seed: u64) -> [Vec<usize>; 3] {
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
pub(super) fn by_rows(values: &[f32], width: usize, shares: &[f64], seed: u64) -> Vec<Vec<usize>> {
    let is_of = |image: usize, class: usize| values[image * width + class] > 0.5;
    let images = values.len() / width.max(1);
    let mut remaining: Vec<usize> = (0..images).collect();
    shuffle(&mut remaining, &mut stream(seed, 0));
    let mut counts: Vec<usize> =
        (0..width).map(|class| (0..images).filter(|&image| is_of(image, class)).count()).collect();
    let whole: f64 = shares.iter().sum();
    // What each part still lacks: of each class, and in all.
    let share_of = |count: usize| shares.iter().map(move |share| count as f64 * share / whole);
    let mut lacks: Vec<Vec<f64>> = counts.iter().map(|&count| share_of(count).collect()).collect();
    let mut lacks_in_all: Vec<f64> = share_of(images).collect();
    let mut parts = vec![Vec::new(); shares.len()];
    while !remaining.is_empty() {
        let rarest = (0..width).filter(|&class| counts[class] > 0).min_by_key(|&class| counts[class]);
        let (given, kept) = remaining.into_iter().partition(|&image| rarest.is_none_or(|class| is_of(image, class)));
        remaining = kept;
        let given: Vec<usize> = given;
        for image in given {
            let need = |part: usize| (rarest.map_or(0.0, |class| lacks[class][part]), lacks_in_all[part]);
            // The first of equal ones, so that training comes first.
            let part = (1..shares.len()).fold(0, |best, part| if need(part) > need(best) { part } else { best });
            parts[part].push(image);
            lacks_in_all[part] -= 1.0;
            for class in (0..width).filter(|&class| is_of(image, class)) {
                lacks[class][part] -= 1.0;
                counts[class] -= 1;
            }
        }
    }
    parts
}

/// The parts of images that stay together by groups: the largest group is given out first, each to the part that lacks
/// most of what it has, by class and in all. No part stays empty while another has several groups.
pub(super) fn by_group(groups: &[u32], labels: &Labels, shares: &[f64], seed: u64) -> Vec<Vec<usize>> {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    groups.iter().enumerate().for_each(|(image, group)| members.entry(*group).or_default().push(image));
    let mut members: Vec<Vec<usize>> = members.into_values().collect();
    shuffle(&mut members, &mut stream(seed, 0));
    members.sort_by_key(|images| Reverse(images.len()));

    // What images are counted by: their classes, and that they are images.
    let kinds = |image: usize| -> Vec<Option<usize>> {
        let classes: Vec<usize> = match labels.get(image) {
            Label::Class(class) => vec![class as usize],
            Label::Row(row) => (0..row.len()).filter(|&class| row[class] > 0.5).collect(),
        };
        classes.into_iter().map(Some).chain([None]).collect()
    };
    let count = |images: &[usize]| {
        let mut counts: BTreeMap<Option<usize>, f64> = BTreeMap::new();
        images.iter().flat_map(|&image| kinds(image)).for_each(|kind| *counts.entry(kind).or_default() += 1.0);
        counts
    };
    let totals = count(&(0..groups.len()).collect::<Vec<_>>());
    let whole: f64 = shares.iter().sum();
    let mut lacks: Vec<BTreeMap<Option<usize>, f64>> = shares
        .iter()
        .map(|share| totals.iter().map(|(&kind, total)| (kind, total * share / whole)).collect())
        .collect();
    let mut parts: Vec<Vec<Vec<usize>>> = vec![Vec::new(); shares.len()];
    for images in members {
        let counts = count(&images);
        let need =
            |part: usize| -> f64 { counts.iter().map(|(kind, count)| count / totals[kind] * lacks[part][kind]).sum() };
        let part = (1..shares.len()).fold(0, |best, part| if need(part) > need(best) { part } else { best });
        for (kind, count) in counts {
            lacks[part].entry(kind).and_modify(|lack| *lack -= count);
        }
        parts[part].push(images);
    }
    for part in (0..shares.len()).filter(|&part| shares[part] > 0.0) {
        let richest = (0..shares.len()).max_by_key(|&part| parts[part].len()).unwrap_or(part);
        if parts[part].is_empty() && parts[richest].len() > 1 {
            // The last is the smallest.
            let smallest = parts[richest].pop();
            parts[part].extend(smallest);
        }
    }
    parts.into_iter().map(|groups| groups.concat()).collect()
}

/// Equal parts of images of one class each: those of each class in turn, dealt like cards.
pub(super) fn dealt(labels: &[u32], classes: usize, parts: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut by_class = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(index);
    }
    for (class, images) in by_class.iter_mut().enumerate() {
        shuffle(images, &mut stream(seed, class as u64));
    }
    let mut dealt = vec![Vec::new(); parts];
    by_class.into_iter().flatten().enumerate().for_each(|(at, image)| dealt[at % parts].push(image));
    dealt
}
