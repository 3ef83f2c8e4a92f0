//! What was found, as a page of pictures.

use gabor::{
    audit::thumbnail,
    data::Dataset,
    report::{
        grouped,
        page::{Section, page, picture},
    },
};
use maud::{Markup, html};
use rayon::prelude::*;

use super::{
    found::{Finding, told},
    kind::Kind,
};

/// The longer side of a picture, in pixels, at most.
const LONGEST: usize = 160;
/// Findings of each kind that are shown, at most.
const SHOWN: usize = 200;

/// The page. `notes` are what else is to be told.
pub fn sheet(data: &str, images: &Dataset, kinds: &[Kind], findings: &[Finding], notes: &[String]) -> String {
    let of = |kind: Kind| findings.iter().filter(move |finding| finding.kind == kind);
    let summary = html! {
        p { (grouped(images.len())) " images. Nothing was changed; list.csv holds all that was found, the worst first." }
        table {
            caption { "What was found" }
            thead { tr { th { "Kind" } th { "Images" } } }
            tbody { @for kind in kinds {
                tr { th scope="row" { (kind.name()) } td { (grouped(of(*kind).count())) } }
            } }
        }
        @for note in notes { p { (note) } }
    };
    let mut sections = vec![Section::new("summary", "Summary", summary)];
    for &kind in kinds {
        let all: Vec<&Finding> = of(kind).collect();
        if !all.is_empty() {
            let heading = format!("{} ({})", kind.name(), grouped(all.len()));
            sections.push(Section::new(kind.name(), heading, pictures(kind, images, &all)));
        }
    }
    page(&format!("What is wrong with {data}"), &sections)
}

fn pictures(kind: Kind, images: &Dataset, findings: &[&Finding]) -> Markup {
    let shown = &findings[..findings.len().min(SHOWN)];
    let items: Vec<Markup> = shown.par_iter().map(|finding| item(images, finding)).collect();
    html! {
        p { (kind.about()) }
        ul.pictures { @for item in items { (item) } }
        @if findings.len() > SHOWN {
            p { (grouped(findings.len() - SHOWN)) " more are in list.csv." }
        }
    }
}

fn item(images: &Dataset, finding: &Finding) -> Markup {
    let Finding { kind, image, part, class, other, score, index, copy_of, .. } = finding;
    html! {
        li {
            @if let Some(index) = index { (figure(images, *index)) }
            @if let Some(index) = copy_of { (figure(images, *index)) }
            div { b { (class) } @if !other.is_empty() { " " (told(*kind)) " " b { (other) } } }
            @if let Some(score) = score { div { "score " (format!("{score:.4}")) } }
            div.faint { (image) " " (part) }
        }
    }
}

/// An image as a picture, with its name for who does not see it.
fn figure(images: &Dataset, index: usize) -> Markup {
    let address = thumbnail(images, index, LONGEST).map(|(pixels, size)| picture(&pixels, size)).unwrap_or_default();
    html! { img src=(address) alt=(images.image_name(index)) loading="lazy"; }
}
