//! What plotters draws pictures on: pixels, with text from a font of bitmaps, as no font of the system is needed for it.

use std::convert::Infallible;

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters_backend::{
    BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;

/// A picture under the pen.
pub struct Canvas<'a>(pub &'a mut RgbImage);

type Drawn<T> = Result<T, DrawingErrorKind<Infallible>>;

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Drawn<()> {
        Ok(())
    }

    fn present(&mut self) -> Drawn<()> {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, BackendColor { alpha, rgb: (r, g, b) }: BackendColor) -> Drawn<()> {
        let place = u32::try_from(x).ok().zip(u32::try_from(y).ok());
        if let Some(Rgb(under)) = place.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
            for (under, over) in under.iter_mut().zip([r, g, b]) {
                *under = (f64::from(*under) * (1.0 - alpha) + f64::from(over) * alpha).round() as u8;
            }
        }
        Ok(())
    }

    /// Characters that the font has not are shown as a question mark.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn<()> {
        let (width, height) = self.estimate_text_size(text, style)?;
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => 0,
            HPos::Center => -(width as i32) / 2,
            HPos::Right => -(width as i32),
        };
        let top = match anchor.v_pos {
            VPos::Top => 0,
            VPos::Center => -(height as i32) / 2,
            VPos::Bottom => -(height as i32),
        };
        let BackendColor { alpha, rgb } = style.color();
        let advance = get_raster_width(WEIGHT, HEIGHT) as i32;
        for (at, character) in (0..).zip(text.chars()) {
            let raster = get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT));
            let rows = raster.iter().flat_map(|raster| raster.rows());
            for (row, pixels) in (0..).zip(rows) {
                for (column, strength) in (0..).zip(pixels.iter()) {
                    let (dx, dy) = style.transform().transform(left + at * advance + column, top + row);
                    let alpha = alpha * f64::from(*strength) / 255.0;
                    self.draw_pixel((x + dx, y + dy), BackendColor { alpha, rgb })?;
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(&self, text: &str, _: &S) -> Drawn<(u32, u32)> {
        let width = get_raster_width(WEIGHT, HEIGHT) * text.chars().count();
        Ok((width as u32, HEIGHT.val() as u32))
    }
}
