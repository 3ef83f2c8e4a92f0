//! `gabor explain`: what a trained network looks at.

mod images;
mod look;
mod nearest;
mod page;
mod place;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gabor::{
    data::ImageSize,
    explain::{Explainer, Occlusion, nearest_name},
    plan::{Executor, Tuning},
    train::{Card, Classifier, Inferred, TrainError, read_card},
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{
    console::Console,
    devices,
    run_folder::{WeightsChoice, kernels_beside, weights_file},
};
use look::{Explained, Look};
use place::{PAGE, Place};

/// Show what a trained network looks at
///
/// Makes pictures of each image, and the page explain.html of all of them, which is one file:
///
/// Grad-CAM shows which places of a layer speak for the class (Selvaraju et al. 2017). Occlusion shows where the class becomes less
/// probable when a patch hides that part of the image (Zeiler and Fergus 2014). Both are colours over the image: dark violet for
/// nothing, yellow for the most. The filters are the weights of the first convolution. Feature maps are what layers make of the
/// image, of each the 16 channels of the largest means. The nearest images are those training images whose embeddings are most
/// alike, by the cosine of their angle.
///
/// Of a vision transformer, the places are the patches of the image, as the attention of a block is given them.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor explain runs/resnet18-1 rose.jpg
  gabor explain runs/resnet18-1 'photos/*.jpg' --method gradcam,occlusion --class tulip
  gabor explain runs/resnet18-1 rose.jpg --layer layer3.1 --layers 'layer?.1,conv1'
  gabor explain runs/resnet18-1 rose.jpg --patch 32 --stride 8 --out rose")]
pub struct ExplainArgs {
    /// A run folder or a .safetensors file
    run: PathBuf,
    /// Image files of any size, patterns such as 'photos/*.jpg', or - for a list of paths on standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// What to show, of these with commas between [default: all]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    method: Vec<Method>,
    /// The class that Grad-CAM and occlusion are about [default: the most probable one of each image]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// The layer or block that Grad-CAM is taken of; a wrong name lists those that there are [default: the last one with several places]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// The layers whose feature maps are shown: names or patterns with commas between, or all [default: the last one of each size]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    layers: Vec<String>,
    /// Pixels of a side of the patch that hides a part of what the network sees [default: a fifth of the shorter side]
    #[arg(long, value_name = "N")]
    patch: Option<usize>,
    /// Pixels from one place of the patch to the next [default: half a patch]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// How many of the nearest training images; 0 for none [default: 8]
    #[arg(long, value_name = "N")]
    nearest: Option<usize>,
    /// The folder of the pictures and the page [default: explain in the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which weights of a run folder [default: best]
    #[arg(long, value_enum)]
    weights: Option<WeightsChoice>,
    /// What to compute on: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Something that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    Gradcam,
    Occlusion,
    Filters,
    Features,
    Nearest,
}

impl Method {
    /// What a person calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Gradcam => "Grad-CAM",
            Self::Occlusion => "occlusion",
            Self::Filters => "filters",
            Self::Features => "feature maps",
            Self::Nearest => "nearest images",
        }
    }
}

/// The nearest training images that are shown where nothing says how many.
const NEAREST: usize = 8;

/// Images that go through the network at a time.
const BATCH: usize = 32;

/// What could not be shown, and why.
struct LeftOut {
    method: Method,
    reason: String,
}

impl LeftOut {
    fn figures(&self) -> Value {
        let method = self.method.to_possible_value().map(|value| value.get_name().to_string());
        json!({"method": method, "reason": self.reason})
    }
}

impl ExplainArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let weights = weights_file(&self.run, self.weights)?;
        let card = read_card(&weights)?;
        let device = devices::open_device(&self.device)?;
        let kernels = kernels_beside(&weights)?;
        let executor = || device.executor(Tuning::Off, kernels.clone());
        let explainer = Explainer::load(&weights, executor())?;
        let class = self.class.as_deref().map(|name| class_of(&card, name)).transpose()?;
        let mut look = Look::new(&self, explainer, class)?;
        let (images, failed) = images::read(&self.images, &card)?;
        self.tell_without_effect();

        let nearest = self.nearest.unwrap_or(NEAREST);
        let wants_nearest = self.shows(Method::Nearest) && nearest > 0;
        let (mut classifier, mut left_out) = classifier(&weights, &executor, wants_nearest)?;
        let wants_nearest = wants_nearest && left_out.is_empty();

        let place = Place::new(self.out.as_deref(), &weights)?;
        let mut explained = Vec::new();
        let bar = match look.places() {
            0 => ProgressBar::hidden(),
            places => console.bar("hiding parts", places * images.len()),
        };
        for image in &images {
            explained.push(look.at(image, &mut classifier, &place, &bar)?);
        }
        bar.finish_and_clear();
        let filters = look.filters(&place)?;
        left_out.append(&mut look.left_out);
        if wants_nearest {
            match nearest::find(&weights, &card, &images, &mut classifier, nearest, console) {
                Ok(found) => explained.iter_mut().zip(found).for_each(|(one, found)| one.nearest = found),
                Err(error) => left_out.push(LeftOut { method: Method::Nearest, reason: format!("{error:#}") }),
            }
        }
        for LeftOut { method, reason } in &left_out {
            tracing::warn!("no {}: {reason}", method.name());
        }

        let of = page::Shown {
            card: &card,
            weights: &weights,
            images: &explained,
            filters: filters.as_ref(),
            left_out: &left_out,
        };
        let page = place.write(PAGE, page::of(&of).as_bytes())?;
        let figures = json!({
            "model": card.model,
            "weights": weights,
            "device": classifier.device(),
            "page": page,
            "filters": filters.as_ref().map(|filters| &filters.path),
            "images": explained.iter().map(Explained::figures).collect::<Vec<Value>>(),
            "left_out": left_out.iter().map(LeftOut::figures).collect::<Vec<Value>>(),
        });
        console.result(&figures, text(&explained, &page))?;
        let is_missed = |left: &LeftOut| self.method.contains(&left.method);
        let is_whole = !failed && !left_out.iter().any(is_missed);
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Warns of what is given for something that is not shown.
    fn tell_without_effect(&self) {
        let for_these = |flag: &str, given: bool, methods: &[Method]| {
            if given && !methods.iter().any(|method| self.shows(*method)) {
                let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
                tracing::warn!("{flag} has no effect: it is for {}, which --method leaves out", names.join(" and "));
            }
        };
        for_these("--class", self.class.is_some(), &[Method::Gradcam, Method::Occlusion]);
        for_these("--layer", self.layer.is_some(), &[Method::Gradcam]);
        for_these("--layers", !self.layers.is_empty(), &[Method::Features]);
        for_these("--patch", self.patch.is_some(), &[Method::Occlusion]);
        for_these("--stride", self.stride.is_some(), &[Method::Occlusion]);
        for_these("--nearest", self.nearest.is_some(), &[Method::Nearest]);
    }

    /// Whether it is asked for.
    fn shows(&self, method: Method) -> bool {
        self.method.is_empty() || self.method.contains(&method)
    }

    /// The patch that hides parts of images of this size.
    fn occlusion(&self, input: [usize; 3]) -> Result<Occlusion> {
        let suiting = Occlusion::suiting(input);
        let patch = self.patch.unwrap_or(suiting.patch);
        let stride = self.stride.unwrap_or((patch / 2).max(1));
        let occlusion = Occlusion { patch, stride };
        if self.patch.is_some() || self.stride.is_some() {
            occlusion.check(input)?;
        }
        Ok(occlusion)
    }
}

/// The model, that tells embeddings too if they are asked for and it has any; what has to be left out where it has none.
fn classifier(
    weights: &Path,
    executor: &dyn Fn() -> Box<dyn Executor>,
    embeddings: bool,
) -> Result<(Classifier, Vec<LeftOut>)> {
    let inferred = Inferred { batch: BATCH, embeddings, ..Inferred::default() };
    match Classifier::load_for(weights, executor(), &inferred) {
        Err(TrainError::Graph(error)) if embeddings => {
            let left_out = LeftOut { method: Method::Nearest, reason: error.to_string() };
            let inferred = Inferred { embeddings: false, ..inferred };
            Ok((Classifier::load_for(weights, executor(), &inferred)?, vec![left_out]))
        }
        loaded => Ok((loaded?, Vec::new())),
    }
}

/// The number of a class by its name.
fn class_of(card: &Card, name: &str) -> Result<usize> {
    /// Names that are listed, at most.
    const LISTED: usize = 50;
    card.classes.iter().position(|class| class == name).with_context(|| {
        let near =
            nearest_name(name, &card.classes).map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
        let listed: Vec<&str> = card.classes.iter().take(LISTED).map(String::as_str).collect();
        let more = if card.classes.len() > LISTED { ", ..." } else { "" };
        format!("the model knows no class {name}{near}: it knows {}{more}", listed.join(", "))
    })
}

/// What a person is told.
fn text(explained: &[Explained<'_>], page: &Path) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for one in explained {
        let _ = writeln!(text, "{}", one.image.path.display());
        for prediction in &one.predictions {
            let _ = writeln!(text, "{:>8.2}%  {}", 100.0 * prediction.probability, prediction.class);
        }
        for picture in one.pictures() {
            let _ = writeln!(text, "  {}", picture.display());
        }
    }
    let _ = writeln!(text, "page  {}", page.display());
    text
}

/// The size of the images that a network takes.
fn input_size(card: &Card) -> ImageSize {
    let [height, width, channels] = card.input;
    ImageSize::new(height, width, channels)
}
