//! `gabor augment`: what training makes of images.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use gabor::{
    augment::{Augmentation, Preset},
    data::{Dataset, ImageSize, OpenOptions},
    device,
    tensor::Tensor,
    train::{augmented, write_whole},
};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, imageops};

use super::{config::open_data, console::Console, given::Given, place::free_place};

/// Show what training makes of images
///
/// Writes a contact sheet: a row an image, first as it is, then as it would be trained on in each of a few steps. The
/// settings are those of `gabor train`.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor augment flowers
  gabor augment flowers --augment strong --out sheet.png
  gabor augment --augment none --rotation-range 20 --zoom-range 0.2")]
pub struct AugmentArgs {
    /// The folder of the data [default: the bundled part of MNIST]
    data: Option<PathBuf>,
    /// The picture to write, a .png file that is not there yet [default: augmented.png, or augmented-N.png with the next free
    /// number]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many images
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    images: u16,
    /// How many views of each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    views: u16,
    /// Seed of the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    augmentation: Given<Augmentation>,
    #[command(flatten)]
    options: Given<OpenOptions>,
}

/// Pixels between images.
const GAP: usize = 4;

/// Images are magnified to about so many pixels.
const CELL: usize = 64;

/// Pixels of a side of the sheet, at most.
const MOST_PIXELS: usize = 32_768;

impl AugmentArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let mut augmentation = Augmentation { preset: Some(Preset::Auto), ..Augmentation::default() };
        let mut options = OpenOptions::default();
        self.augmentation.apply(&mut augmentation)?;
        self.options.apply(&mut options)?;
        augmentation.check().map_err(Error::msg)?;
        options.check().map_err(Error::msg)?;
        let out = free_place(self.out, "augmented", "png")?;
        let splits = open_data(self.data.as_deref(), &options)?;
        let size = splits.image_size();
        let input = [size.height, size.width, size.channels];
        if splits.sizing.has_ends() {
            augmentation.keep_ends(input);
        }
        let count = usize::from(self.images).min(splits.train.len());
        let images = evenly(&splits.train, count)?;
        let mut columns = vec![images.clone()];
        let mut executor = device::open("cpu")?;
        for step in 1..=u64::from(self.views) {
            columns.push(augmented(executor.as_mut(), &augmentation, &images, self.seed, step)?);
        }
        let augmentation = augmentation.resolved(input);
        write_sheet(&out, &columns, count, size)?;
        console.note(format_args!("{augmentation}\n{count} images are in {}", out.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// So many images, from the first to the last.
fn evenly(set: &Dataset, count: usize) -> Result<Tensor> {
    let size = set.image_size();
    let mut pixels = vec![0; count * size.bytes()];
    for (at, out) in pixels.chunks_exact_mut(size.bytes()).enumerate() {
        set.read(at * set.len() / count, out)?;
    }
    Ok(Tensor::u8([count, size.height, size.width, size.channels], pixels))
}

fn write_sheet(path: &Path, columns: &[Tensor], rows: usize, size: ImageSize) -> Result<()> {
    let times = (CELL / size.height.max(size.width)).max(1);
    let [height, width] = [size.height, size.width].map(|side| side * times);
    let [sheet_height, sheet_width] = [rows * (height + GAP) + GAP, columns.len() * (width + GAP) + GAP];
    ensure!(
        sheet_height.max(sheet_width) <= MOST_PIXELS,
        "a sheet of {sheet_width}x{sheet_height} pixels is too large: ask for fewer --images or --views, or a smaller \
         --image-size"
    );
    let white = image::Rgb([255; 3]);
    let mut sheet = RgbImage::from_pixel(sheet_width as u32, sheet_height as u32, white);
    for (column, images) in columns.iter().enumerate() {
        for (row, pixels) in images.bytes().chunks_exact(size.bytes()).enumerate() {
            let (w, h) = (size.width as u32, size.height as u32);
            let picture = match size.channels {
                1 => GrayImage::from_raw(w, h, pixels.to_vec()).map(DynamicImage::ImageLuma8),
                _ => RgbImage::from_raw(w, h, pixels.to_vec()).map(DynamicImage::ImageRgb8),
            };
            let picture = picture.context("an image has as many bytes as pixels")?.into_rgb8();
            let picture = imageops::resize(&picture, width as u32, height as u32, imageops::FilterType::Nearest);
            let (left, top) = (GAP + column * (width + GAP), GAP + row * (height + GAP));
            imageops::replace(&mut sheet, &picture, left as i64, top as i64);
        }
    }
    let mut file = Cursor::new(Vec::new());
    sheet.write_to(&mut file, ImageFormat::Png)?;
    Ok(write_whole(path, file.get_ref())?)
}
