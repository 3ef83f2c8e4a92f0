//! All that is shown, as a page.

use std::path::Path;

use gabor::{
    data::ImageSize,
    explain::{Picture, viridis},
    report::page::{Section, page, picture},
    train::Card,
};
use maud::{Markup, html};

use super::{
    LeftOut,
    look::{Explained, Overlay},
    place::Drawn,
};

/// What a page shows.
pub struct Shown<'a> {
    pub card: &'a Card,
    pub weights: &'a Path,
    pub images: &'a [Explained<'a>],
    pub filters: Option<&'a Drawn>,
    pub left_out: &'a [LeftOut],
}

/// The page.
pub fn of(shown: &Shown<'_>) -> String {
    let mut sections = vec![Section::new("images", "Images", html! { @for one in shown.images { (image(one)) } })];
    if shown.images.iter().any(|one| !one.features.is_empty()) {
        sections.push(Section::new("features", "Feature maps", html! {
            p { "What layers make of the image: of each the channels of the largest means, the largest first, each from black where it \
                 is smallest to white where it is largest." }
            @for one in shown.images { (features(one)) }
        }));
    }
    if let Some(drawn) = shown.filters {
        let content = html! {
            figure {
                img src=(source(&drawn.picture)) alt="the filters of the first convolution, side by side";
                figcaption { "The weights of the first convolution, from black for the smallest of all to white for the largest." }
            }
        };
        sections.push(Section::new("filters", "Filters", content));
    }
    sections.push(Section::new("about", "How to read this", about(shown)));
    page(&format!("What {} looks at", shown.card.model), &sections)
}

/// An image with its classes, what they come of, and the training images that it is like.
fn image(one: &Explained<'_>) -> Markup {
    let (name, class) = (one.image.path.display().to_string(), &one.class.class);
    let overlay = |overlay: &Overlay, method: &str, caption: String| {
        let (row, column) = overlay.peak;
        let alt = format!("{method} of {class} over {name}: most at row {row}, column {column}");
        html! { li { img src=(source(&overlay.drawn.picture)) alt=(alt); (caption) } }
    };
    html! {
        h3 { (name) }
        ul.pictures {
            li { img src=(source(&one.image.picture)) alt=(name); "The image" }
            @if let Some((layer, grad_cam)) = &one.grad_cam {
                (overlay(grad_cam, "Grad-CAM", format!("Grad-CAM of {class}, layer {layer}")))
            }
            @if let Some((patch, occlusion)) = &one.occlusion {
                (overlay(occlusion, "Occlusion", format!(
                    "Occlusion by {0}x{0} pixels: {class} is up to {1:.1} points less probable", patch.patch, 100.0 * occlusion.most
                )))
            }
        }
        table {
            caption { "The most probable classes" }
            thead { tr { th scope="col" { "class" } th scope="col" { "probability" } } }
            tbody {
                @for prediction in &one.predictions {
                    tr { td { (prediction.class) } td { (format!("{:.2}%", 100.0 * prediction.probability)) } }
                }
            }
        }
        @if !one.nearest.is_empty() {
            p { "The training images that are most like it to the network:" }
            ul.pictures {
                @for near in &one.nearest {
                    li {
                        img src=(source(&near.picture)) alt={ "training image " (near.name) };
                        b { (near.class) } " " (format!("{:.3}", near.similarity)) br; span.faint { (near.name) }
                    }
                }
            }
        }
    }
}

/// The feature maps of an image.
fn features(one: &Explained<'_>) -> Markup {
    let name = one.image.path.display().to_string();
    html! {
        h3 { (name) }
        @for layer in &one.features {
            figure {
                img src=(source(&layer.drawn.picture)) alt={ "feature maps of " (layer.layer) " of " (name) };
                figcaption { (layer.layer) ": " (layer.channels.len()) " of " (layer.of) " channels" }
            }
        }
    }
}

/// What the colours mean, of what this is, and what is not there.
fn about(shown: &Shown<'_>) -> Markup {
    html! {
        @if !shown.left_out.is_empty() {
            h3 { "Left out" }
            ul { @for left in shown.left_out { li { (left.method.name()) ": " (left.reason) } } }
        }
        figure {
            img src=(source(&scale())) alt="from dark violet over green to yellow";
            figcaption { "From nothing to the most. What is dark grey the network does not see." }
        }
        p { b { "Grad-CAM " } "shows which places of a layer speak for the class: the layer's channels, each weighted by the mean gradient \
             of the class's output by it (Selvaraju et al. 2017). It is scaled to its own largest number." }
        p { b { "Occlusion " } "shows by how much less probable the class is where a patch of the mean colour hides the image (Zeiler and \
             Fergus 2014), on average over the patches that cover a pixel. Where the class becomes more probable it is as for nothing." }
        p { b { "Nearest images " } "are those training images whose embeddings, what the last dense layer is given, are most alike: the \
             number is the cosine of the angle between both." }
        p.faint { "Weights: " (shown.weights.display()) }
    }
}

/// The colours of a map, from the smallest to the largest number.
fn scale() -> Picture {
    let size = ImageSize::new(16, 256, 3);
    let row: Vec<u8> = (0..size.width).flat_map(|at| viridis(at as f32 / (size.width - 1) as f32)).collect();
    Picture { size, pixels: row.repeat(size.height) }
}

fn source(of: &Picture) -> String {
    picture(&of.pixels, of.size)
}
