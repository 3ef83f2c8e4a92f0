//! Pages: one file each, which needs no network, is readable in the dark and in print, and is usable with a keyboard and by a
//! screen reader.

mod run;

pub use run::{Judged, RunReport};

use std::io::Cursor;

use base64::{Engine, prelude::BASE64_STANDARD};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::data::ImageSize;

/// What stands near the beginning of each page, by which it is known.
pub const GENERATOR: &str = r#"<meta name="generator" content="gabor">"#;

/// A whole page of this title. `sections` are named by their anchors, of which the navigation at the top is made.
pub fn page(title: &str, sections: &[Section]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                (PreEscaped(GENERATOR))
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Else a browser asks for /favicon.ico.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    h1 { (title) }
                    nav aria-label="Sections" {
                        ul { @for section in sections { li { a href={ "#" (section.anchor) } { (section.heading) } } } }
                    }
                }
                main id="content" {
                    @for section in sections {
                        section id=(section.anchor) aria-labelledby={ (section.anchor) "-heading" } {
                            h2 id={ (section.anchor) "-heading" } { (section.heading) }
                            (section.content)
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// A part of a page.
pub struct Section {
    /// By which it is linked to: lower-case letters and hyphens.
    pub anchor: &'static str,
    /// Its heading.
    pub heading: String,
    /// What is in it.
    pub content: Markup,
}

impl Section {
    /// One with this heading.
    pub fn new(anchor: &'static str, heading: impl Into<String>, content: Markup) -> Self {
        Self { anchor, heading: heading.into(), content }
    }
}

/// A picture as the address of an `img`, which holds it whole. `pixels` are u8 `[height, width, channels]` of 1 or 3 channels.
///
/// Empty where they are not of that size or have another number of channels.
pub fn picture(pixels: &[u8], size: ImageSize) -> String {
    png(pixels, size).map_or_else(String::new, |file| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(file)))
}

/// The same as a file (PNG).
pub(super) fn png(pixels: &[u8], size: ImageSize) -> Option<Vec<u8>> {
    let (width, height) = (size.width as u32, size.height as u32);
    let image = match size.channels {
        1 => GrayImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::from),
        3 => RgbImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::from),
        _ => None,
    };
    let mut file = Cursor::new(Vec::new());
    image?.write_to(&mut file, ImageFormat::Png).ok()?;
    Some(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_pictures_are_in_the_page() {
        let picture = picture(&[0, 255, 0, 9, 9, 9], ImageSize::new(1, 2, 3));
        let figure = html! { img src=(picture) alt="a green point & a dark one"; };
        let page = page("<run>", &[Section::new("mistakes", "Mistakes & more", figure)]);
        assert!(page.contains("<title>&lt;run&gt;</title>") && page.contains("Mistakes &amp; more</h2>"), "{page}");
        assert!(page.contains("<a href=\"#mistakes\">") && page.contains("<section id=\"mistakes\""), "{page}");
        let encoded = page.split("data:image/png;base64,").nth(1).unwrap().split('"').next().unwrap();
        let decoded = image::load_from_memory(&BASE64_STANDARD.decode(encoded).unwrap()).unwrap().to_rgb8();
        assert_eq!(decoded.into_raw(), [0, 255, 0, 9, 9, 9]);
    }

    #[test]
    fn what_is_no_picture_is_empty() {
        assert_eq!(picture(&[1, 2], ImageSize::new(1, 2, 3)), "");
        assert_eq!(picture(&[1, 2], ImageSize::new(1, 1, 2)), "");
    }
}
