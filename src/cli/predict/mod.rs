//! `gabor predict`: what is in images.

mod files;
mod sort;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
};

use anyhow::{Error, Result};
use clap::Args;
use gabor::{
    data::{DataError, DecodeLimits, ImageDecoder, ImageSize},
    tasks::{MultiLabel, SEPARATOR},
    train::{Card, Prediction, read_card},
};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{
    console::{self, Console, Flags},
    inference::InferenceArgs,
    output::Output,
};
pub use files::find as find_images;
use sort::Sorter;

/// Say what is in images
///
/// Prints the most probable classes of each image; those that it is said to be of are marked *, where it can be of several. Images that cannot be read are reported, and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor predict runs/resnet18-1 rose.jpg tulip.png
  gabor predict runs/resnet18-1 photos --top 1 --threshold 0.8 --csv photos.csv
  gabor predict runs/resnet18-1 photos --sort sorted
  find photos -newer yesterday -name '*.jpg' | gabor predict runs/resnet18-1 - --json")]
pub struct PredictArgs {
    /// A run folder or a .safetensors file
    run: PathBuf,
    /// Image files of any size, folders of them, patterns such as 'photos/*.jpg', or - for a list of paths on standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How many classes to print
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Leave out classes of a lower probability than this [default: none]
    #[arg(long, value_name = "P", value_parser = share)]
    threshold: Option<f32>,
    /// Write the likeliest class of each image, its probability and that of every class to this file; of a model of several classes
    /// an image, all that it is said to be of, with | between them
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Copy each image into a folder in DIR that is called as its likeliest class, or `unsure` where that is below the threshold
    #[arg(long, value_name = "DIR")]
    sort: Option<PathBuf>,
    /// Link images there in place of copying them
    #[arg(long, requires = "sort")]
    link: bool,
    #[command(flatten)]
    inference: InferenceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Images that go through the network at a time.
const BATCH: usize = 32;

/// Batches that are decoded ahead.
const AHEAD: usize = 2;

/// Where images go whose class is not sure.
const UNSURE: &str = "unsure";

/// How a file of predictions begins.
const CSV_MARK: &str = "image,class,probability,error";

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "give a probability from 0 to 1".into())
}

/// Some of the images, decoded.
struct Decoded<'a> {
    paths: &'a [PathBuf],
    /// Of those that can be read, one after the other.
    pixels: Vec<u8>,
    results: Vec<Result<(), DataError>>,
}

impl PredictArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let weights = self.inference.weights_of(&self.run)?;
        let card = read_card(&weights)?;
        let [height, width, channels] = card.input;
        let size = ImageSize::new(height, width, channels);
        let decoder = ImageDecoder { size, fit: card.fit, limits: DecodeLimits::default() };
        let images = files::find(&self.images)?;
        let batch = images.len().min(BATCH);
        let mut classifier = self.inference.load(&weights, batch, console)?;

        let bar = match images.len() > batch {
            true => console.bar("predicting", images.len()),
            false => ProgressBar::hidden(),
        };
        let mut told = Told::new(&self, &card)?;
        thread::scope(|scope| -> Result<()> {
            let (sender, receiver) = mpsc::sync_channel(AHEAD);
            scope.spawn(|| {
                let sender = sender;
                for paths in images.chunks(batch) {
                    // The receiver is gone where the device has failed.
                    if sender.send(decode(paths, decoder)).is_err() {
                        break;
                    }
                }
            });
            for Decoded { paths, pixels, results } in receiver {
                let mut predictions = classifier.predict(&pixels, card.classes.len())?.into_iter();
                for (path, result) in paths.iter().zip(results) {
                    match result {
                        Ok(()) => told.tell(path, predictions.next().unwrap_or_default())?,
                        Err(error) => bar.suspend(|| told.fail(path, error))?,
                    }
                }
                bar.suspend(|| console.text(told.text()))?;
                bar.inc(paths.len() as u64);
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        told.end(console, json!({"model": card.model, "device": classifier.device()}))
    }
}

/// Reads images with all threads.
fn decode(paths: &[PathBuf], decoder: ImageDecoder) -> Decoded<'_> {
    let bytes = decoder.size.bytes();
    let mut pixels = vec![0; paths.len() * bytes];
    let read = |(image, path): (&mut [u8], &PathBuf)| decoder.read(path, image);
    let results: Vec<Result<(), DataError>> = pixels.par_chunks_mut(bytes).zip(paths).map(read).collect();
    let readable = results.iter().enumerate().filter(|(_, result)| result.is_ok());
    let kept: Vec<usize> = readable.map(|(at, _)| at).collect();
    for (to, from) in kept.iter().enumerate() {
        pixels.copy_within(from * bytes..(from + 1) * bytes, to * bytes);
    }
    pixels.truncate(kept.len() * bytes);
    Decoded { paths, pixels, results }
}

/// What is told of the images, in all the ways that were asked for.
struct Told<'a> {
    args: &'a PredictArgs,
    text: String,
    objects: Vec<Value>,
    table: Option<(Output, csv::Writer<Vec<u8>>)>,
    sorter: Option<Sorter>,
    classes: usize,
    /// Whether an image is of several classes.
    several: bool,
    /// The folder for images whose class is not sure.
    unsure: String,
    failed: bool,
}

impl<'a> Told<'a> {
    fn new(args: &'a PredictArgs, Card { classes, task, .. }: &Card) -> Result<Self> {
        let mut table = None;
        if let Some(path) = &args.csv {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(CSV_MARK.split(',').chain(classes.iter().map(String::as_str)))?;
            table = Some((Output::new(path, CSV_MARK)?, writer));
        }
        let sorter = args.sort.clone().map(|folder| Sorter::new(folder, args.link));
        Ok(Self {
            args,
            text: String::new(),
            objects: Vec::new(),
            table,
            sorter,
            classes: classes.len(),
            several: task == MultiLabel::NAME,
            unsure: if classes.iter().any(|class| class == UNSURE) { format!("_{UNSURE}") } else { UNSURE.into() },
            failed: false,
        })
    }

    /// Takes in an image and all classes, the likeliest first.
    fn tell(&mut self, path: &Path, predictions: Vec<Prediction>) -> Result<()> {
        let Some(best) = predictions.first() else { return Ok(()) };
        let threshold = self.args.threshold.unwrap_or(0.0);
        if let Some((_, writer)) = &mut self.table {
            let mut all = predictions.clone();
            all.sort_by_key(|prediction| prediction.index);
            let chosen: Vec<&str> = predictions.iter().filter(|p| p.chosen).map(|p| p.class.as_str()).collect();
            let probability = if self.several { String::new() } else { best.probability.to_string() };
            let fields = [path.display().to_string(), chosen.join(SEPARATOR), probability, String::new()];
            writer.write_record(fields.into_iter().chain(all.iter().map(|p| p.probability.to_string())))?;
        }
        if let Some(sorter) = &mut self.sorter {
            let is_sure = best.probability >= threshold && (best.chosen || self.args.threshold.is_some());
            sorter.put(path, if is_sure { &best.class } else { &self.unsure })?;
        }
        let shown = predictions.iter().take(self.args.top as usize).filter(|p| p.probability >= threshold);
        let shown: Vec<&Prediction> = shown.collect();
        if self.args.json {
            self.objects.push(json!({"image": path, "predictions": shown}));
            return Ok(());
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}", path.display());
        for Prediction { class, probability, chosen, .. } in shown {
            let mark = if self.several && *chosen { '*' } else { ' ' };
            let _ = writeln!(self.text, "{mark}{:>7.2}%  {class}", 100.0 * probability);
        }
        Ok(())
    }

    /// Takes in an image that cannot be read.
    fn fail(&mut self, path: &Path, error: DataError) -> Result<()> {
        self.failed = true;
        if let Some((_, writer)) = &mut self.table {
            let fields = [path.display().to_string(), String::new(), String::new(), error.to_string()];
            writer.write_record(fields.into_iter().chain(vec![String::new(); self.classes]))?;
        }
        if self.args.json {
            self.objects.push(json!({"image": path, "error": error.to_string()}));
        }
        console::print_error(&Error::from(error), &Flags::default());
        Ok(())
    }

    /// What there is to print so far, once.
    fn text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Writes what is written at the end, and gives the exit code.
    fn end(self, console: Console, mut about: Value) -> Result<ExitCode> {
        if let Some((output, writer)) = self.table {
            output.write(&writer.into_inner().map_err(csv::IntoInnerError::into_error)?)?;
        }
        if let Some(sorter) = &self.sorter {
            console.note(sorter)?;
        }
        about["images"] = self.objects.into();
        console.result(&about, "")?;
        Ok(if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
