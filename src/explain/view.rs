//! Where in an image lies what a network sees of it.

use crate::data::{Fit, ImageSize};

/// Where in an image lies what a network sees of it, in shares of the height and of the width of either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The upper left corner of what is seen, in the image; outside of it where grey was added.
    corner: [f64; 2],
    /// Extents of what is seen, in the image.
    extents: [f64; 2],
}

impl View {
    /// Of an image of this size, of which a network sees one of `seen` by this fit.
    pub fn of(image: ImageSize, seen: ImageSize, fit: Fit) -> Self {
        let [height, width] = [image.height, image.width].map(|side| side as f64);
        let [rows, columns] = [seen.height, seen.width].map(|side| side as f64);
        // Pixels of the image for a pixel that is seen.
        let [down, across] = match fit {
            Fit::Crop => [(height / rows).min(width / columns); 2],
            Fit::Pad => [(height / rows).max(width / columns); 2],
            Fit::Stretch => [height / rows, width / columns],
        };
        let extents = [rows * down / height, columns * across / width];
        Self { corner: extents.map(|extent| (1.0 - extent) / 2.0), extents }
    }

    /// Where in what is seen a place of the image lies; `None` where it is not seen.
    pub fn seen(&self, down: f64, across: f64) -> Option<(f64, f64)> {
        let down = (down - self.corner[0]) / self.extents[0];
        let across = (across - self.corner[1]) / self.extents[1];
        [down, across].iter().all(|share| (0.0..=1.0).contains(share)).then_some((down, across))
    }

    /// Where in the image a place lies that is seen; at its edge for one of added grey.
    pub fn in_image(&self, down: f64, across: f64) -> (f64, f64) {
        let place = |at: usize, share: f64| (self.corner[at] + share * self.extents[at]).clamp(0.0, 1.0);
        (place(0, down), place(1, across))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fit_shows_its_part_of_the_image() {
        let (wide, square) = (ImageSize::new(10, 20, 3), ImageSize::new(5, 5, 3));
        let cropped = View::of(wide, square, Fit::Crop);
        assert_eq!(cropped.seen(0.5, 0.25), Some((0.5, 0.0)));
        assert_eq!((cropped.seen(0.5, 0.2), cropped.in_image(0.0, 0.5)), (None, (0.0, 0.5)));
        let padded = View::of(wide, square, Fit::Pad);
        assert_eq!(padded.seen(0.0, 0.25), Some((0.25, 0.25)));
        assert_eq!(padded.in_image(0.0, 1.0), (0.0, 1.0));
        let stretched = View::of(wide, square, Fit::Stretch);
        assert_eq!(stretched.seen(0.1, 0.9), Some((0.1, 0.9)));
    }
}
