//! `gabor predict`: what is in images.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use gabor::{
    augment::Views,
    data::{DecodeLimits, ImageDecoder, ImageSize},
    plan::Tuning,
    train::{Classifier, Prediction, read_card},
};
use serde_json::{Value, json};

use super::{
    console::{self, Console, Flags},
    devices,
    run_folder::{WeightsChoice, kernels_beside, weights_file},
};

/// Say what is in images
///
/// Prints the most probable classes of each image. Images that cannot be read are reported, and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor predict runs/resnet18-1 rose.jpg tulip.png
  gabor predict runs/resnet18-1 --top 1 --json photos/*.jpg")]
pub struct PredictArgs {
    /// A run folder or a .safetensors file
    run: PathBuf,
    /// Image files of any size
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How many classes to print
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Which weights of a run folder [default: best]
    #[arg(long, value_enum)]
    weights: Option<WeightsChoice>,
    /// Average the network's output over views of each image (test-time augmentation)
    #[arg(long, value_name = "VIEWS", default_value = "none")]
    tta: Views,
    /// What to compute on: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// How to choose kernels on a GPU, where the run has not chosen
    #[arg(long, value_name = "HOW", default_value = "off")]
    tune: Tuning,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Images that go through the network at a time.
const BATCH: usize = 32;

impl PredictArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let weights = weights_file(&self.run, self.weights)?;
        let card = read_card(&weights)?;
        let [height, width, channels] = card.input;
        let size = ImageSize::new(height, width, channels);
        let decoder = ImageDecoder { size, fit: card.fit, limits: DecodeLimits::default() };
        let batch = self.images.len().min(BATCH);
        let mut classifier = Classifier::load_for(
            &weights,
            devices::open(&self.device, self.tune, kernels_beside(&weights)?)?,
            batch,
            self.tta,
        )?;

        let (mut text, mut objects) = (String::new(), Vec::new());
        let mut failed = false;
        for paths in self.images.chunks(batch) {
            let mut pixels = Vec::with_capacity(paths.len() * size.bytes());
            let mut read = Vec::with_capacity(paths.len());
            for path in paths {
                let mut image = vec![0; size.bytes()];
                let result = decoder.read(path, &mut image);
                if result.is_ok() {
                    pixels.extend(image);
                }
                read.push(result);
            }
            let mut predictions = classifier.predict(&pixels, self.top as usize)?.into_iter();
            for (path, result) in paths.iter().zip(read) {
                match result {
                    Ok(()) => {
                        let predictions = predictions.next().unwrap_or_default();
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{}\n{}", path.display(), table(&predictions));
                        objects.push(json!({"image": path, "predictions": predictions}));
                    }
                    Err(error) => {
                        failed = true;
                        objects.push(json!({"image": path, "error": error.to_string()}));
                        console::print_error(&error.into(), &Flags::default());
                    }
                }
            }
        }
        let result = json!({"model": card.model, "device": classifier.device(), "images": Value::from(objects)});
        console.json(self.json).result(&result, text)?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn table(predictions: &[Prediction]) -> String {
    predictions.iter().map(|p| format!("{:>8.2}%  {}\n", 100.0 * p.probability, p.class)).collect()
}
