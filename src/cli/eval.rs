//! `gabor eval`: a trained model measured on images.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use gabor::{
    augment::Views,
    data::{DataError, Dataset, ImageSource, Labels, Loader, LoaderOptions, OpenOptions, Splits},
    plan::Tuning,
    tasks::Evaluation,
    train::{Card, Classifier, read_card},
};
use serde_json::{Value, json};

use super::{
    config::{RunConfig, open_data},
    console::Console,
    devices,
    run_folder::{WeightsChoice, config_beside, kernels_beside, weights_file},
};

/// Measure a trained model on images
///
/// Without DATA it is measured on the test images of the data that it was trained on, or on the validation images where
/// there are no test images. Of other DATA it takes the test part, if there is one, and else all images; their classes are
/// matched by name.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor eval runs/resnet18-1
  gabor eval runs/resnet18-1 --split val --weights last
  gabor eval runs/resnet18-1/best.safetensors new-flowers --json
  gabor eval runs/resnet18-1/best-12.safetensors")]
pub struct EvalArgs {
    /// A run folder or a .safetensors file
    run: PathBuf,
    /// The folder of the data [default: that of the run]
    data: Option<PathBuf>,
    /// Which weights of a run folder [default: best]
    #[arg(long, value_enum)]
    weights: Option<WeightsChoice>,
    /// Which images
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Images a step [default: as in training]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: Option<u32>,
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

impl EvalArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let weights = weights_file(&self.run, self.weights)?;
        let card = read_card(&weights)?;
        let config = config_beside(&weights)?;
        let batch = self.batch_size.map_or(config.recipe.batch_size(), |batch| batch as usize);
        let executor = devices::open(&self.device, self.tune, kernels_beside(&weights)?)?;
        let mut classifier = Classifier::load_for(&weights, executor, batch, self.tta)?;

        let (splits, own) = self.open(&config, &card)?;
        let split = self.split.unwrap_or(match (&splits.test, &splits.val) {
            (Some(_), _) if own || !splits.divided => Split::Test,
            (None, Some(_)) if own => Split::Val,
            _ if own => Split::Train,
            _ => Split::All,
        });
        if own && self.split.is_none() && split != Split::Test {
            tracing::warn!("{} has no test images: these are the {} images", splits.train.name(), split.of());
        }
        let options = LoaderOptions { strict: config.images.strict, ..LoaderOptions::new(batch) };
        let loader = |set| Ok(Loader::new(with_classes(set, &card.classes)?, options.clone())?);
        let loaders = sets(splits, split)?.into_iter().map(loader).collect::<Result<Vec<Loader>>>()?;
        let bar = console.bar("evaluating", loaders.iter().map(|loader| loader.dataset().len()).sum());
        let evaluation = classifier.evaluate(&loaders, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();

        let mut figures = json!({
            "model": card.model,
            "weights": weights,
            "device": classifier.device(),
            "split": split.name(),
            "tta": self.tta,
            "classes": card.classes,
            "task": card.task,
        });
        if let (Some(figures), Value::Object(measured)) = (figures.as_object_mut(), serde_json::to_value(&evaluation)?)
        {
            figures.extend(measured);
        }
        console.json(self.json).result(&figures, table(split, &evaluation))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The data, and whether it is that of the run.
    fn open(&self, config: &RunConfig, card: &Card) -> Result<(Splits, bool)> {
        let [height, width, channels] = card.input;
        let as_trained = OpenOptions {
            height_width: Some((height, width)),
            channels: Some(channels),
            fit: card.fit.into(),
            ..config.images.clone()
        };
        let own = match (&self.data, &config.data) {
            (None, _) => true,
            (Some(given), Some(own)) => same_place(given, own),
            (Some(_), None) => false,
        };
        // Other data has its own parts, or none.
        let apart = |trained| OpenOptions { validation: None, folds: None, fold: None, group: None, ..trained };
        let options = if own { as_trained } else { apart(as_trained) };
        let path = self.data.as_deref().or(config.data.as_deref());
        Ok((open_data(path, &options)?, own))
    }
}

fn same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
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
        bail!(
            "{} has classes that the model does not know: {}; it was trained on {}",
            set.name(),
            unknown.join(", "),
            classes.join(", ")
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

/// Confusion matrices of more classes than this are not for reading.
const MOST_CLASSES_SHOWN: usize = 20;

fn table(split: Split, evaluation: &Evaluation) -> String {
    let mut text = String::new();
    let names = evaluation.metrics.iter().map(|metric| metric.name.chars().count()).max().unwrap_or(0).max(14);
    let head = |text: &mut String, name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<names$}  {value}");
    };
    head(&mut text, "images", &format!("{} ({})", evaluation.images, split.name()));
    evaluation.metrics.iter().for_each(|metric| head(&mut text, &metric.name, &metric.shown()));
    head(&mut text, "loss", &format!("{:.4}", evaluation.loss));
    let Some(first) = evaluation.per_class.first() else { return text };

    let matrix = evaluation.confusion.as_ref().filter(|matrix| matrix.len() <= MOST_CLASSES_SHOWN);
    let cell = matrix.and_then(|m| m.iter().flatten().max()).map_or(1, |most| most.to_string().len()).max(3);
    let width = evaluation.per_class.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(5);
    let columns: Vec<usize> = first.metrics.iter().map(|metric| metric.name.chars().count().max(8)).collect();
    let _ = write!(text, "\n{:<width$}  {:>7}", "class", "images");
    for (metric, column) in first.metrics.iter().zip(&columns) {
        let _ = write!(text, "  {:>column$}", metric.name);
    }
    text.push_str(if matrix.is_some() { "  predicted as (columns in the order of the rows)\n" } else { "\n" });
    for (at, class) in evaluation.per_class.iter().enumerate() {
        let _ = write!(text, "{:<width$}  {:>7}", class.class, class.images);
        for (metric, column) in class.metrics.iter().zip(&columns) {
            let shown = if metric.value.is_nan() { "-".to_string() } else { metric.shown() };
            let _ = write!(text, "  {shown:>column$}");
        }
        if let Some(matrix) = matrix {
            text.push(' ');
            for count in &matrix[at] {
                let _ = write!(text, " {count:>cell$}");
            }
        }
        text.push('\n');
    }
    text
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
