//! Image files (JPEG, PNG, WebP, BMP, GIF, TIFF) to the pixels that a network takes.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};

use super::size::convert;
use super::{DataError, DecodeLimits, Fit, ImageSize};

/// The extensions, in lower case, of the files that are taken for images.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// Reads image files of any size and colour type as u8 HWC images of one size.
///
/// The format is taken from the content, whatever the file is called. The camera's orientation (EXIF) is applied,
/// transparency is dropped, 16 bits and floating-point colours become 8 bits, and of an animation the first frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageDecoder {
    /// The size to decode to.
    pub size: ImageSize,
    /// What to do about another aspect ratio.
    pub fit: Fit,
    /// What one image may cost.
    pub limits: DecodeLimits,
}

impl ImageDecoder {
    /// Reads the image at `path` into `out`, which has [`ImageSize::bytes`] bytes.
    ///
    /// # Errors
    /// [`DataError::Image`] if the file cannot be read, is no image, is truncated or damaged, or is over the limits.
    pub fn read(&self, path: &Path, out: &mut [u8]) -> Result<(), DataError> {
        self.try_read(path, out).map_err(|reason| DataError::Image { path: path.into(), reason })
    }

    /// The size of the image at `path` as it is, from its header alone, with the camera's orientation applied.
    ///
    /// # Errors
    /// [`DataError::Image`] if the file cannot be read, is no image, or is over the limits.
    pub fn size_of(path: &Path, limits: DecodeLimits) -> Result<ImageSize, DataError> {
        probe(path, limits).map_err(|reason| DataError::Image { path: path.into(), reason })
    }

    fn try_read(&self, path: &Path, out: &mut [u8]) -> Result<(), String> {
        let (pixels, size) = self.decode(path)?;
        convert(&pixels, size, self.size, self.fit, out);
        Ok(())
    }

    /// The pixels of the image at `path` in its own size, and that size.
    ///
    /// # Errors
    /// As [`ImageDecoder::read`].
    pub fn original(&self, path: &Path) -> Result<(Vec<u8>, ImageSize), DataError> {
        self.decode(path).map_err(|reason| DataError::Image { path: path.into(), reason })
    }

    fn decode(&self, path: &Path) -> Result<(Vec<u8>, ImageSize), String> {
        let bytes = read_file(path, self.limits)?;
        let image = decode(&bytes, self.limits)?;
        let (height, width) = (image.height() as usize, image.width() as usize);
        let image = if is_float(&image) { to_unit_range(image) } else { image };
        Ok(if image.color().has_color() {
            (image.into_rgb8().into_raw(), ImageSize::new(height, width, 3))
        } else {
            (image.into_luma8().into_raw(), ImageSize::new(height, width, 1))
        })
    }
}

/// The size of the image at `path` from its header alone, as it would be decoded.
pub(crate) fn probe(path: &Path, limits: DecodeLimits) -> Result<ImageSize, String> {
    let bytes = read_file(path, limits)?;
    let mut decoder = open(&bytes, limits)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    let size = ImageSize::new(height as usize, width as usize, channels);
    Ok(match decoder.orientation().unwrap_or(Orientation::NoTransforms) {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            ImageSize { height: size.width, width: size.height, ..size }
        }
        _ => size,
    })
}

fn read_file(path: &Path, limits: DecodeLimits) -> Result<Vec<u8>, String> {
    let file = fs::metadata(path).map_err(|error| error.to_string())?;
    // A pipe is waited for until somebody writes to it.
    if !file.is_file() {
        return Err("it is no file".into());
    }
    let length = file.len();
    if length > limits.max_bytes {
        return Err(format!("the file has {length} bytes, more than the limit of {}", limits.max_bytes));
    }
    fs::read(path).map_err(|error| error.to_string())
}

fn open(bytes: &[u8], limits: DecodeLimits) -> Result<impl image::ImageDecoder, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    match reader.format() {
        None => return Err("not an image of a known format (JPEG, PNG, WebP, BMP, GIF, TIFF)".into()),
        Some(ImageFormat::Jpeg) if !has_jpeg_end(bytes) => {
            return Err("the file is truncated: a JPEG without its end-of-image marker".into());
        }
        Some(_) => {}
    }
    let mut decoder_limits = Limits::no_limits();
    decoder_limits.max_image_width = Some(limits.max_side);
    decoder_limits.max_image_height = Some(limits.max_side);
    decoder_limits.max_alloc = Some(limits.max_bytes);
    reader.limits(decoder_limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    if decoder.total_bytes() > limits.max_bytes {
        let (width, height) = decoder.dimensions();
        return Err(format!("an image of {width}x{height} is over the limit of {} bytes", limits.max_bytes));
    }
    Ok(decoder)
}

fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<DynamicImage, String> {
    let mut decoder = open(bytes, limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn is_float(image: &DynamicImage) -> bool {
    matches!(image, DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_))
}

/// Floating-point colours as numbers of 0 to 1. Programs write them in that range, or as bytes or 16 bits have them:
/// the brightest one tells which.
fn to_unit_range(image: DynamicImage) -> DynamicImage {
    let mut image = image.into_rgb32f();
    let brightest = image.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
    let white = [1.0, 255.0, 65_535.0].into_iter().find(|white| brightest <= *white).unwrap_or(brightest);
    image.iter_mut().for_each(|value| *value = if value.is_nan() { 0.0 } else { *value / white });
    image.into()
}

/// Whether the picture of a JPEG file ends. The decoder paints what is missing of a truncated file grey and calls it
/// good, so this looks for an end-of-image marker (FF D9) behind the header of the first scan: entropy-coded data does
/// not contain it, and a thumbnail's own is inside a segment before.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            START_OF_SCAN => break,
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => break,
            },
        }
    }
    bytes.get(at..).is_some_and(|rest| rest.windows(2).rev().any(|window| window == [0xff, 0xd9]))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn gradient(width: u32, height: u32) -> DynamicImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, 90])).into()
    }

    fn decoder(channels: usize) -> ImageDecoder {
        ImageDecoder { size: ImageSize::new(16, 16, channels), fit: Fit::Crop, limits: DecodeLimits::default() }
    }

    fn read(path: &Path, decoder: ImageDecoder) -> Result<Vec<u8>, DataError> {
        let mut out = vec![0; decoder.size.bytes()];
        decoder.read(path, &mut out).map(|()| out)
    }

    fn reason(result: Result<Vec<u8>, DataError>) -> String {
        match result {
            Err(DataError::Image { reason, .. }) => reason,
            other => panic!("not an image error: {other:?}"),
        }
    }

    #[test]
    fn every_format_decodes_and_every_truncated_one_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for extension in IMAGE_EXTENSIONS {
            let path = folder.path().join(format!("image.{extension}"));
            gradient(40, 30).save(&path).unwrap();
            let pixels = read(&path, decoder(3)).unwrap();
            let middle: [u8; 3] = pixels[(8 * 16 + 8) * 3..][..3].try_into().unwrap();
            for (value, expected) in middle.into_iter().zip([105i32, 110, 90]) {
                assert!((i32::from(value) - expected).abs() < 20, "{extension}: {middle:?}");
            }
            let bytes = fs::read(&path).unwrap();
            for kept in [bytes.len() / 2, bytes.len() * 9 / 10, 20, 0] {
                fs::write(&path, &bytes[..kept]).unwrap();
                let message = reason(read(&path, decoder(3)));
                assert!(!message.is_empty(), "{extension} cut to {kept} bytes");
            }
        }
    }

    #[test]
    fn damage_anywhere_is_an_error_or_a_picture_but_no_panic() {
        use rand_chacha::rand_core::RngCore;

        let folder = tempfile::tempdir().unwrap();
        let mut rng = crate::data::random::stream(0, 0);
        for extension in IMAGE_EXTENSIONS {
            let path = folder.path().join(format!("image.{extension}"));
            gradient(40, 30).save(&path).unwrap();
            let good = fs::read(&path).unwrap();
            for _ in 0..200 {
                let mut bytes = good.clone();
                for _ in 0..3 {
                    let at = rng.next_u32() as usize % bytes.len();
                    bytes[at] = rng.next_u32() as u8;
                }
                let _ = decode(&bytes, DecodeLimits::default());
            }
        }
    }

    #[test]
    fn colour_types_become_what_the_network_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        let images: [(DynamicImage, u8); 4] = [
            (GrayImage::from_pixel(20, 20, Luma([77])).into(), 77),
            (RgbaImage::from_pixel(20, 20, Rgba([77, 77, 77, 10])).into(), 77),
            (image::ImageBuffer::from_pixel(20, 20, Luma([77u16 * 257])).into(), 77),
            (image::ImageBuffer::from_pixel(20, 20, image::LumaA([77u8, 3])).into(), 77),
        ];
        for (image, value) in images {
            image.save(&path).unwrap();
            for channels in [1, 3] {
                assert_eq!(read(&path, decoder(channels)).unwrap(), vec![value; 16 * 16 * channels]);
            }
        }
    }

    #[test]
    fn floating_point_colours_are_read_in_the_range_that_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tiff");
        for white in [1.0f32, 255.0, 65_535.0, 1e6] {
            let half = |x: u32| [f32::NAN, -1.0, white / 2.0, white][x as usize / 8];
            let image = image::Rgb32FImage::from_fn(32, 32, |x, _| Rgb([half(x); 3]));
            DynamicImage::from(image).save(&path).unwrap();
            let pixels = read(&path, ImageDecoder { size: ImageSize::new(32, 32, 3), ..decoder(3) }).unwrap();
            let at = |x: usize| pixels[3 * x];
            assert_eq!([at(0), at(8), at(16), at(24)], [0, 0, 128, 255], "{white}");
        }
    }

    #[test]
    fn the_content_decides_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("really-a-png.jpg");
        gradient(20, 20).save_with_format(&path, ImageFormat::Png).unwrap();
        assert!(read(&path, decoder(3)).is_ok());
        assert_eq!(probe(&path, DecodeLimits::default()).unwrap(), ImageSize::new(20, 20, 3));
    }

    #[test]
    fn what_is_no_image_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.jpg");
        fs::write(&path, "<html>404</html>").unwrap();
        assert!(reason(read(&path, decoder(3))).contains("not an image"));
        assert!(!reason(read(&folder.path().join("missing.jpg"), decoder(3))).is_empty());
    }

    #[test]
    fn decompression_bombs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.png");
        // 16 million black pixels in a file of a few kilobytes.
        GrayImage::new(4096, 4096).save(&path).unwrap();
        let bounded = |limits| ImageDecoder { limits, ..decoder(1) };
        let small_side = DecodeLimits { max_side: 1024, ..DecodeLimits::default() };
        let small_bytes = DecodeLimits { max_bytes: 1 << 20, ..DecodeLimits::default() };
        assert!(read(&path, decoder(1)).is_ok());
        assert!(!reason(read(&path, bounded(small_side))).is_empty());
        assert!(reason(read(&path, bounded(small_bytes))).contains("limit"));
    }

    #[test]
    fn a_thumbnail_or_trailing_data_does_not_confuse_the_end_of_a_jpeg() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.jpg");
        gradient(40, 30).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        // An application segment that holds a thumbnail's end marker, as cameras write.
        let thumbnail = [0xff, 0xe1, 0x00, 0x06, 0xff, 0xda, 0xff, 0xd9];
        let with_thumbnail = [&bytes[..2], &thumbnail, &bytes[2..]].concat();
        assert!(has_jpeg_end(&with_thumbnail));
        assert!(!has_jpeg_end(&with_thumbnail[..with_thumbnail.len() - 2]));
        assert!(has_jpeg_end(&[&bytes[..], &[1, 2, 0xff, 0xda, 3]].concat()));
    }
}
