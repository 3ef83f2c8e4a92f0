//! `gabor summary`: a model layer by layer.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use gabor::{
    data::height_width,
    models::{Architecture, Model, ZOO},
    report::Summary,
    train::read_card,
};

use super::{console::Console, run_folder::weights_file, values};

/// Show a model layer by layer: shapes, parameters, operations
///
/// Output shapes are those of one image. Operations are those of one image in inference, a multiplication and an addition being
/// two. Names are those that the patterns of --freeze, --lr-scale and --decay are for: conv1.* stands for all parameters of
/// conv1.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor summary resnet18
  gabor summary lenet5 --image-size 28 --channels 1 --classes 10
  gabor summary runs/resnet18-1")]
pub struct SummaryArgs {
    /// A network of the zoo, a .toml file of layers, a run folder or a .safetensors file
    model: String,
    /// Size of the images: N or HxW [default: what a network of the zoo is usually shown with]
    #[arg(long, value_name = "SIZE", value_parser = height_width)]
    image_size: Option<(usize, usize)>,
    /// 1 for grey, 3 for RGB [default: what a network of the zoo is usually shown with]
    #[arg(long, value_name = "N", value_parser = ["1", "3"])]
    channels: Option<String>,
    /// Number of classes [default: what a network of the zoo is usually shown with]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    classes: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl SummaryArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let summary = Summary::of(&self.model()?)?;
        console.json(self.json).result(&summary, &summary)?;
        Ok(ExitCode::SUCCESS)
    }

    fn model(&self) -> Result<Model> {
        let path = Path::new(&self.model);
        if let Some(entry) = ZOO.iter().find(|entry| entry.name == self.model) {
            return self.sized(&Architecture::from(entry.name), entry.input, entry.classes);
        }
        if path.extension().is_some_and(|ending| ending == "toml") {
            return self.sized(&values::read_layers(path)?, [32, 32, 3], 10);
        }
        let names: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
        ensure!(
            path.exists(),
            "{} is no run folder, no .safetensors file, no .toml file of layers and no model; the models are {}",
            self.model,
            names.join(", ")
        );
        let own = self.image_size.is_none() && self.channels.is_none() && self.classes.is_none();
        ensure!(own, "{} says its sizes itself: leave --image-size, --channels and --classes out", self.model);
        let file = weights_file(path, None)?;
        let card = read_card(&file)?;
        let model = card.architecture().build(card.input, card.classes.len());
        model.map_err(Error::msg).with_context(|| format!("{} cannot be shown", file.display()))
    }

    /// The model for images and classes as they were asked for, or else for these.
    fn sized(
        &self,
        architecture: &Architecture,
        [height, width, channels]: [usize; 3],
        classes: usize,
    ) -> Result<Model> {
        let (height, width) = self.image_size.unwrap_or((height, width));
        let channels = match &self.channels {
            Some(channels) => channels.parse()?,
            None => channels,
        };
        let classes = self.classes.map_or(classes, |classes| classes as usize);
        architecture.build([height, width, channels], classes).map_err(Error::msg)
    }
}
