//! `gabor eval`: a trained model measured on images.

mod calibrate;
mod predictions;
mod table;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use gabor::{
    data::{DataError, Dataset, ImageSource, Labels, Loader, LoaderOptions, Splits},
    metrics::{McNemar, mcnemar},
    report::page::{GENERATOR, Judged},
    tasks::{Evaluation, Predictions},
    train::{Card, read_card},
};
use serde_json::{Value, json};

use super::{
    config::{RunConfig, of_other_data, open_data},
    console::Console,
    inference::InferenceArgs,
    output::Output,
    place::same_place,
    run_folder::{config_beside, read_data, warn_of_changes},
    train::sized_as,
};

/// Measure a trained model on images
///
/// Without DATA it is measured on the test images of the data that it was trained on, or on the validation images where
/// there are no test images. Of other DATA it takes the test part, if there is one, and else all images; their classes are
/// matched by name.
///
/// Figures have the names and the values of scikit-learn. Means are over the classes that have images: macro, each class
/// counting alike, and weighted, by its number of images. Ranges hold a figure with a probability of 95%: they come of drawing
/// as many images with replacement, 1,000 times. The calibration error is how far accuracy is off confidence.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor eval runs/resnet18-1
  gabor eval runs/resnet18-1 --split val --weights last
  gabor eval runs/resnet18-1 --csv predictions.csv --curves curves.csv
  gabor eval runs/resnet18-1 new-flowers --page new-flowers.html
  gabor eval runs/resnet18-1 --calibrate
  gabor eval runs/resnet18-1 --against runs/resnet18-2 --against runs/vit_tiny-1
  gabor eval runs/resnet18-1/best.safetensors new-flowers --json
  gabor eval runs/resnet18-1/best-12.safetensors")]
pub struct EvalArgs {
    /// A run folder or a .safetensors file
    run: PathBuf,
    /// The folder of the data [default: that of the run]
    data: Option<PathBuf>,
    /// Measure also this one, on the same images, and say how sure it is that one of the two is better (McNemar's test)
    #[arg(long, value_name = "RUN|FILE")]
    against: Vec<PathBuf>,
    /// Fit the temperature by which the network's output is divided to these images, so that classes are as probable as they are
    /// said to be (Guo et al. 2017), or where images are of several classes the threshold of each, for the highest F1; and keep them
    /// in the weights file: take other images than those that it is tested on [default: the validation images]
    #[arg(long, conflicts_with_all = ["against", "tta"])]
    calibrate: bool,
    #[command(flatten)]
    inference: InferenceArgs,
    /// Which images
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Images a step [default: as in training]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: Option<u32>,
    /// Write what RUN says of each image to this file: its class, the one that it is taken for, the probability of each, the loss
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the curves of precision against recall and of ROC of RUN to this CSV file: for each class and each probability at which
    /// a curve turns, what is right and wrong from there on
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
    /// Write the figures of RUN with curves and the mistakes as pictures to this file, a page for a browser; of one part of the data
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    Test,
    Val,
    Train,
    All,
}

impl Split {
    /// What its images are called.
    fn of(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Val => "validation",
            Self::Train => "training",
            Self::All => "training, validation and test",
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// A model and the images that it is judged by, to be shown.
pub struct Shown {
    pub weights: PathBuf,
    pub card: Card,
    pub config: RunConfig,
    pub device: String,
    /// Number of the images of each part of the data.
    pub counts: Vec<(&'static str, usize)>,
    pub part: &'static str,
    pub evaluation: Evaluation,
    pub predictions: Predictions,
    pub images: Dataset,
}

/// Measures the model of a run on the test images of its data, or on the validation images where there are none.
pub fn shown(run: &Path, inference: &InferenceArgs, console: Console) -> Result<Shown> {
    let weights = inference.weights_of(run)?;
    let config = config_beside(&weights)?
        .with_context(|| format!("there is no config.toml beside {}: give a run folder", weights.display()))?;
    let card = read_card(&weights)?;
    let splits = open_data(config.data.as_deref(), &sized_as(&card, config.images.clone()))?;
    warn_of_changes(&weights, &config, &splits)?;
    let counts = counts(&splits);
    let split = match (&splits.test, &splits.val) {
        (Some(_), _) => Split::Test,
        (None, Some(_)) => Split::Val,
        (None, None) => Split::Train,
    };
    let set = sets(splits, split)?.into_iter().next().context("there are no images")?;
    let images = with_classes(set, &card.classes)?;
    let of = Measuring { inference, batch: config.recipe.batch_size(), strict: config.images.strict };
    let Measured { weights, card, device, predictions, evaluation } =
        of.measure(weights, card, vec![images.clone()], console)?;
    Ok(Shown { weights, card, config, device, counts, part: split.of(), evaluation, predictions, images })
}

/// How many images each part of some data has.
pub fn counts(splits: &Splits) -> Vec<(&'static str, usize)> {
    let parts =
        [("training", Some(&splits.train)), ("validation", splits.val.as_ref()), ("test", splits.test.as_ref())];
    parts.into_iter().filter_map(|(part, set)| Some((part, set?.len()))).collect()
}

/// How models are measured.
struct Measuring<'a> {
    inference: &'a InferenceArgs,
    batch: usize,
    strict: bool,
}

impl Measuring<'_> {
    fn measure(&self, weights: PathBuf, card: Card, sets: Vec<Dataset>, console: Console) -> Result<Measured> {
        let mut classifier = self.inference.load(&weights, self.batch, console)?;
        let options = LoaderOptions { strict: self.strict, ..LoaderOptions::new(self.batch) };
        let loader = |set| Ok(Loader::new(with_classes(set, &card.classes)?, options.clone())?);
        let loaders = sets.into_iter().map(loader).collect::<Result<Vec<Loader>>>()?;
        let bar = console.bar("evaluating", loaders.iter().map(|loader| loader.dataset().len()).sum());
        let predictions = classifier.predictions(&loaders, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let evaluation = classifier.judge(&predictions);
        Ok(Measured { weights, card, device: classifier.device(), predictions, evaluation })
    }
}

/// A model, and what it says of the images.
#[derive(Clone)]
struct Measured {
    weights: PathBuf,
    card: Card,
    device: String,
    predictions: Predictions,
    evaluation: Evaluation,
}

impl Measured {
    /// A page of its figures on these images.
    fn page(&self, split: Split, images: &Dataset) -> String {
        let facts = [
            ("model", self.card.model.clone()),
            ("weights", self.weights.display().to_string()),
            ("data", images.name().to_string()),
            ("device", self.device.clone()),
        ];
        let Self { evaluation, predictions, .. } = self;
        let judged = Judged { part: split.of(), evaluation, predictions, images };
        let title = format!("{} on {}", self.card.model, images.name());
        judged.page(&title, &facts.map(|(name, fact)| (name.to_string(), fact)))
    }
}

/// The counts of a row over their sum; none where that is 0.
fn shares(row: &[u64]) -> Option<Vec<f64>> {
    let sum: u64 = row.iter().sum();
    (sum > 0).then(|| row.iter().map(|count| *count as f64 / sum as f64).collect())
}

impl EvalArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let weights = self.inference.weights_of(&self.run)?;
        let config = config_beside(&weights)?;
        let [csv, curves, page] = Output::several([
            (self.csv.as_ref(), predictions::CSV_MARK),
            (self.curves.as_ref(), predictions::CURVES_MARK),
            (self.page.as_ref(), GENERATOR),
        ])?;
        ensure!(
            config.is_some() || self.data.is_some(),
            "there is no config.toml beside {} that says what data it was trained on: give DATA",
            weights.display()
        );
        let config = config.unwrap_or_default();
        let card = read_card(&weights)?;
        let (splits, own) = self.open(&config, &card, &weights)?;
        if own && self.data.is_none() {
            warn_of_changes(&weights, &config, &splits)?;
        }
        if own && self.calibrate && self.split == Some(Split::Test) {
            tracing::warn!("it is fitted to the test images: figures on them tell no longer how it does on others");
        }
        let split = self.choose(&splits, own);
        let sets_of_first = sets(splits, split)?;
        let images = match (&page, &sets_of_first[..]) {
            (None, _) => None,
            (Some(_), [set]) => Some(with_classes(set.clone(), &card.classes)?),
            (Some(_), _) => bail!("--page shows one part of the data: give --split train, val or test with it"),
        };
        let mut first = self.measure(weights, card, &config, sets_of_first, console)?;
        if self.calibrate {
            first = calibrate::calibrated(first, console)?;
        }
        if let Some(csv) = csv {
            csv.write(&predictions::csv(&first.predictions)?)?;
        }
        if let Some(curves) = curves {
            curves.write(&predictions::curves(&first.predictions)?)?;
        }
        if let (Some(page), Some(images)) = (page, &images) {
            page.write(first.page(split, images).as_bytes())?;
        }
        let mut others = Vec::new();
        for run in &self.against {
            let weights = self.inference.weights_of(run)?;
            let card = read_card(&weights)?;
            let (splits, _) = self.open(&config, &card, &first.weights)?;
            let other = self.measure(weights, card, &config, sets(splits, split)?, console)?;
            ensure!(
                other.predictions.images == first.predictions.images,
                "{} is not measured on the same images as {}: some of them changed or became unreadable meanwhile",
                other.weights.display(),
                first.weights.display()
            );
            others.push(other);
        }

        let mut figures = self.figures(&first, split)?;
        if !others.is_empty() {
            let all = others.iter().map(|other| {
                let mut figures = self.figures(other, split)?;
                figures["mcnemar"] = serde_json::to_value(between(&first, other))?;
                Ok(figures)
            });
            figures["against"] = all.collect::<Result<Vec<Value>>>()?.into();
        }
        let text = table::of(split, &first.evaluation) + &table::of_several(&first, &others);
        console.result(&figures, text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Which part of the data to take.
    fn choose(&self, splits: &Splits, own: bool) -> Split {
        if self.calibrate && own && self.split.is_none() {
            return Split::Val;
        }
        let split = self.split.unwrap_or(match (&splits.test, &splits.val) {
            (Some(_), _) if own || !splits.divided => Split::Test,
            (None, Some(_)) if own => Split::Val,
            _ if own => Split::Train,
            _ => Split::All,
        });
        if own && self.split.is_none() && split != Split::Test {
            tracing::warn!("{} has no test images: these are the {} images", splits.train.name(), split.of());
        }
        split
    }

    fn measure(
        &self,
        weights: PathBuf,
        card: Card,
        config: &RunConfig,
        sets: Vec<Dataset>,
        console: Console,
    ) -> Result<Measured> {
        let batch = self.batch_size.map_or(config.recipe.batch_size(), |batch| batch as usize);
        let of = Measuring { inference: &self.inference, batch, strict: config.images.strict };
        of.measure(weights, card, sets, console)
    }

    fn figures(&self, measured: &Measured, split: Split) -> Result<Value> {
        let mut figures = json!({
            "model": measured.card.model,
            "weights": measured.weights,
            "device": measured.device,
            "split": split.name(),
            "tta": self.inference.tta,
            "temperature": measured.card.temperature.unwrap_or(1.0),
            "classes": measured.card.classes,
            "task": measured.card.task,
        });
        if let (Some(figures), Value::Object(found)) =
            (figures.as_object_mut(), serde_json::to_value(&measured.evaluation)?)
        {
            figures.extend(found);
        }
        if let Some(matrix) = &measured.evaluation.confusion {
            figures["confusion_normalised"] = matrix.iter().map(|row| json!(shares(row))).collect();
        }
        Ok(figures)
    }

    /// The data, and whether it is that of the run that `weights` are of, though it was moved as a whole.
    fn open(&self, config: &RunConfig, card: &Card, weights: &Path) -> Result<(Splits, bool)> {
        let as_trained = sized_as(card, config.images.clone());
        let Some(given) = &self.data else {
            let moved = || "this is the data that the run was trained on: where it was moved, give its place as DATA";
            return Ok((open_data(config.data.as_deref(), &as_trained).with_context(moved)?, true));
        };
        if config.data.as_ref().is_some_and(|own| same_place(given, own)) {
            return Ok((open_data(Some(given), &as_trained)?, true));
        }
        if let Some(own) = read_data(weights.parent().unwrap_or(Path::new("")))?
            && let Ok(splits) = open_data(Some(given), &as_trained)
            && splits.fingerprints(given) == own
        {
            return Ok((splits, true));
        }
        Ok((open_data(Some(given), &of_other_data(as_trained))?, false))
    }
}

/// Whether one of two models tells more of the images right.
fn between(first: &Measured, other: &Measured) -> McNemar {
    let [first, other] = [first, other].map(|measured| measured.predictions.are_right());
    let only = |own: &[bool], others: &[bool]| own.iter().zip(others).filter(|(own, other)| **own && !**other).count();
    mcnemar(only(&first, &other) as u64, only(&other, &first) as u64)
}

/// The parts of the data that `split` names.
fn sets(splits: Splits, split: Split) -> Result<Vec<Dataset>> {
    let name = splits.train.name().to_string();
    let part = match split {
        Split::All => return Ok([Some(splits.train), splits.val, splits.test].into_iter().flatten().collect()),
        Split::Train => Some(splits.train),
        Split::Val => splits.val,
        Split::Test => splits.test,
    };
    match part {
        Some(set) => Ok(vec![set]),
        None => bail!("{name} has no {} part; --split all takes all images", split.name()),
    }
}

/// `set` with the classes of the model, matched by name.
fn with_classes(set: Dataset, classes: &[String]) -> Result<Dataset> {
    if set.classes() == classes {
        return Ok(set);
    }
    let number = |name: &String| classes.iter().position(|class| class == name).map(|at| at as u32);
    let unknown: Vec<&str> = set.classes().iter().filter(|name| number(name).is_none()).map(String::as_str).collect();
    if !unknown.is_empty() {
        /// Names that are listed, at most.
        const LISTED: usize = 20;
        let listed = |names: &[&str]| {
            let more = if names.len() > LISTED { ", ..." } else { "" };
            names[..names.len().min(LISTED)].join(", ") + more
        };
        let known: Vec<&str> = classes.iter().map(String::as_str).collect();
        bail!(
            "{} has classes that the model does not know: {}; it was trained on {}. Leave their images out, or rename the classes \
             that are called otherwise",
            set.name(),
            listed(&unknown),
            listed(&known)
        );
    }
    let numbers: Vec<u32> = set.classes().iter().filter_map(number).collect();
    let labels = match set.labels() {
        Labels::Classes(labels) => Labels::Classes(labels.iter().map(|&label| numbers[label as usize]).collect()),
        Labels::Rows { width, values } => {
            let mut renumbered = vec![0.0; values.len() / width * classes.len()];
            for (to, from) in renumbered.chunks_mut(classes.len()).zip(values.chunks(*width)) {
                numbers.iter().zip(from).for_each(|(&number, value)| to[number as usize] = *value);
            }
            Labels::Rows { width: classes.len(), values: renumbered }
        }
    };
    let (name, size) = (set.name().to_string(), set.image_size());
    Ok(Dataset::new(&name, Arc::new(Images(set)), size, labels, classes.to_vec())?)
}

/// The images of a data set without its labels.
struct Images(Dataset);

impl ImageSource for Images {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self, index: usize) -> String {
        self.0.image_name(index)
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        self.0.read(index, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gabor::data::ImageSize;

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn classes_are_matched_by_name() {
        let size = ImageSize::new(1, 1, 1);
        let set = Dataset::from_pixels("two", vec![10, 20], size, vec![0, 1], names(&["b", "c"])).unwrap();
        let matched = with_classes(set.clone(), &names(&["a", "b", "c"])).unwrap();
        assert_eq!(matched.labels().classes(), Some(&[1, 2][..]));
        let rows = Labels::Rows { width: 2, values: vec![1.0, 0.0, 0.0, 1.0] };
        let set_of_rows = Dataset::from_pixels("two", vec![10, 20], size, rows, names(&["c", "a"])).unwrap();
        let expected = Labels::Rows { width: 3, values: vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0] };
        assert_eq!(with_classes(set_of_rows, &names(&["a", "b", "c"])).unwrap().labels(), &expected);
        let mut pixel = [0];
        matched.read(1, &mut pixel).unwrap();
        assert_eq!(pixel, [20]);
        let error = with_classes(set, &names(&["a", "b"])).unwrap_err().to_string();
        assert!(error.contains("does not know: c"), "{error}");
    }
}
