//! `gabor bench data`: how fast images are decoded.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use gabor::{
    data::{self, OpenOptions},
    report::grouped,
};
use rayon::prelude::*;
use serde_json::json;

use super::{config::open_data, console::Console};

/// Measure how fast images are read, from their files to the pixels that the network takes
///
/// Opens DIR, which reads each image once, and then reads all of them again with all threads until the time is over.
/// Training reads those images in every epoch that its cache (--cache-mib) cannot hold.
#[derive(Args)]
pub struct BenchDataArgs {
    /// A folder of images
    dir: PathBuf,
    /// Size to convert images to: N or HxW [default: their own, or of many or large ones about as many pixels as 224x224]
    #[arg(long, value_name = "SIZE", value_parser = data::height_width)]
    image_size: Option<(usize, usize)>,
    /// Seconds to read for, at least
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = super::bench::seconds)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl BenchDataArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let options = OpenOptions { height_width: self.image_size, cache_bytes: 0, ..OpenOptions::default() };
        let splits = open_data(Some(&self.dir), &options)?;
        let sets: Vec<_> =
            [Some(&splits.train), splits.val.as_ref(), splits.test.as_ref()].into_iter().flatten().collect();
        let all: Vec<_> = sets.into_iter().flat_map(|set| (0..set.len()).map(move |index| (set, index))).collect();
        let size = splits.image_size();
        let (read, started) = (AtomicUsize::new(0), Instant::now());
        while started.elapsed() < Duration::from_secs_f64(self.seconds) || read.load(Ordering::Relaxed) == 0 {
            all.par_iter().try_for_each_init(
                || vec![0; size.bytes()],
                |pixels, (set, index)| {
                    read.fetch_add(1, Ordering::Relaxed);
                    set.read(*index, pixels)
                },
            )?;
        }
        let (images, seconds) = (read.into_inner(), started.elapsed().as_secs_f64());
        let (rate, threads) = (images as f64 / seconds, rayon::current_num_threads());
        let figures = json!({
            "data": self.dir, "images": all.len(), "size": [size.height, size.width, size.channels],
            "threads": threads, "seconds": seconds, "images_per_second": rate,
        });
        let text = format!(
            "{} images/s: {} images to {}, {threads} threads, {seconds:.1} s\n",
            grouped(rate.round() as usize),
            grouped(all.len()),
            splits.sizing,
        );
        console.json(self.json).result(&figures, text)?;
        Ok(ExitCode::SUCCESS)
    }
}
