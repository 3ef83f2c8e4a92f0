//! Mistakes as pictures.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::Judged;
use crate::{data::Label, report::page::picture, tasks::Predictions};

/// Pictures of a pair of classes, and of the page, at most.
const SHOWN: (usize, usize) = (8, 240);

/// Images of a class that were taken for another, those of the highest loss first.
pub struct Pair {
    class: usize,
    taken_for: usize,
    images: Vec<usize>,
    /// Those that are not shown.
    left_out: usize,
}

impl Pair {
    /// By which it is linked to.
    pub fn anchor(&self) -> String {
        format!("mistakes-{}-{}", self.class, self.taken_for)
    }
}

/// The mistakes by true class and the class that they were taken for; none where an image can be of several classes.
pub fn pairs(judged: &Judged<'_>) -> BTreeMap<(usize, usize), Pair> {
    let predictions = judged.predictions;
    let mut pairs: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    let (of_pair, mut left) = SHOWN;
    for at in by_loss(predictions) {
        let (answer, Label::Class(class)) = (predictions.answer(at), predictions.labels.get(at)) else { continue };
        let (class, taken_for) = (class as usize, Predictions::likeliest(answer));
        if class == taken_for {
            continue;
        }
        let pair =
            pairs.entry((class, taken_for)).or_insert(Pair { class, taken_for, images: Vec::new(), left_out: 0 });
        if left > 0 && pair.images.len() < of_pair {
            pair.images.push(at);
            left -= 1;
        } else {
            pair.left_out += 1;
        }
    }
    pairs.retain(|_, pair| !pair.images.is_empty());
    pairs
}

/// The places of the images, those of the highest loss first.
fn by_loss(predictions: &Predictions) -> Vec<usize> {
    let mut places: Vec<usize> = (0..predictions.len()).collect();
    places.sort_by(|a, b| predictions.losses[*b].total_cmp(&predictions.losses[*a]));
    places
}

/// All that are shown.
pub fn section(judged: &Judged<'_>, pairs: &BTreeMap<(usize, usize), Pair>) -> Markup {
    let predictions = judged.predictions;
    if predictions.labels.classes().is_none() {
        return several(judged);
    }
    let mut ordered: Vec<&Pair> = pairs.values().collect();
    ordered.sort_by_key(|pair| std::cmp::Reverse(pair.images.len() + pair.left_out));
    html! {
        @if ordered.is_empty() { p { "Each image was taken for what it is." } }
        @for pair in ordered {
            @let (class, taken_for) = (predictions.class(pair.class), predictions.class(pair.taken_for));
            h3 id=(pair.anchor()) { (class) " taken for " (taken_for) ": " (pair.images.len() + pair.left_out) }
            ul.pictures {
                @for at in &pair.images {
                    @let probability = format!("{:.1}%", 100.0 * predictions.answer(*at)[pair.taken_for]);
                    (one(judged, *at, &format!("{class}, taken for {taken_for} at {probability}")))
                }
            }
            @if pair.left_out > 0 { p.faint { "and " (pair.left_out) " more" } }
        }
    }
}

/// Images of any number of classes of which not all were told right.
fn several(judged: &Judged<'_>) -> Markup {
    let predictions = judged.predictions;
    let names = |is: &dyn Fn(usize) -> bool| {
        let names: Vec<String> =
            (0..predictions.classes.len()).filter(|at| is(*at)).map(|at| predictions.class(at)).collect();
        if names.is_empty() { "none".to_string() } else { names.join(", ") }
    };
    let right = predictions.are_right();
    let wrong: Vec<usize> = by_loss(predictions).into_iter().filter(|at| !right[*at]).collect();
    html! {
        p { (wrong.len()) " of " (predictions.len()) " images are not told right in each class." }
        ul.pictures {
            @for at in wrong.iter().take(SHOWN.1 / 4) {
                @let is = names(&|class| predictions.labels.get(*at).is_of(class));
                @let told = names(&|class| predictions.are_of(class, predictions.answer(*at)[class]));
                (one(judged, *at, &format!("is {is}; told {told}")))
            }
        }
    }
}

/// An image with what is wrong about it.
fn one(judged: &Judged<'_>, at: usize, words: &str) -> Markup {
    let size = judged.images.image_size();
    let mut pixels = vec![0; size.bytes()];
    // What became unreadable meanwhile has no picture.
    let source = judged.images.read(at, &mut pixels).map_or_else(|_| String::new(), |()| picture(&pixels, size));
    let name = &judged.predictions.images[at];
    html! {
        li {
            img src=(source) alt={ (name) ": " (words) } loading="lazy";
            (words) br; span.faint { (name) ", loss " (format!("{:.2}", judged.predictions.losses[at])) }
        }
    }
}
