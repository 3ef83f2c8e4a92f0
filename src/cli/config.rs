//! Everything that describes a run, as it stands in `config.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, ensure};
use gabor::{
    data::{self, DataError, Fingerprints, OpenOptions, SplitRatio, Splits},
    models::Architecture,
    plan::Tuning,
    train::{Recipe, write_whole},
};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    run_folder::weights_file,
    values::{LAYERS, ModelParser, Normalise, read_layers},
};

/// The last line of the configuration of a run, by which one is known that was cut off.
const END: &str = "# end of the configuration";

/// Seconds between checkpoints, at most: 30 years.
const MOST_SECONDS: f64 = 1e9;

/// Epochs whose weights are kept, at most.
const MOST_KEPT: usize = 10_000;

gabor::settings! {
    /// A run: what, on which data, how and where.
    #[command(next_help_heading = "Model and device")]
    pub struct RunConfig {
        /// The folder of the data [default: the bundled part of MNIST]
        #[arg(help_heading = None)]
        pub data: Option<PathBuf> = None;
        /// The network: one that `gabor models` lists, or a .toml file of layers [default: one that suits size and number of the
        /// images]
        #[arg(long, value_name = "NAME", value_parser = ModelParser)]
        pub model: Option<Architecture> = None, check check_model;
        /// Begin with the weights of a file, of a run folder, or of a model of `gabor download weights NAME`: gabor's own, or
        /// torchvision's or timm's as safetensors or what torch.save writes of a state dict
        #[arg(long, value_name = "NAME|FILE")]
        pub pretrained: Option<PathBuf> = None;
        /// What to compute on: auto (the best GPU, else the CPU), gpu, cpu, or the number or a part of the name of a
        /// device of `gabor devices`
        #[arg(long, value_name = "NAME", group = "with_resume")]
        pub device: String = "auto".into();
        /// How to choose kernels on a GPU; the choice is kept in the run folder
        #[arg(long, value_name = "HOW")]
        pub tune: Tuning = Tuning::Quick;
        /// How the model is trained.
        #[command(flatten)]
        pub recipe: Recipe = Recipe::default(), check Recipe::check;
        /// Learn from this trained model as well (distillation): a run folder or a .safetensors file
        #[arg(long, value_name = "RUN|FILE", help_heading = "Training")]
        pub teacher: Option<PathBuf> = None;
        /// What tells the teacher from all others, so that a run that goes on has the same.
        #[arg(skip)]
        pub teacher_sha256: Option<String> = None;
        /// How the data is opened.
        #[command(flatten)]
        pub images: OpenOptions = OpenOptions::default(), check OpenOptions::check;
        /// Normalisation: auto (as --pretrained weights were trained with, else data), data (the training images' mean and
        /// standard deviation), imagenet, none (pixels / 255), or MEAN/STD with a number a channel, of pixels in 0..1
        #[arg(long, value_name = "HOW", help_heading = "Images")]
        pub normalise: Normalise = Normalise::Auto;
        /// Seconds between checkpoints within an epoch; 0 for one after each step
        #[arg(long, value_name = "SECONDS", help_heading = "Run", group = "with_resume")]
        pub checkpoint_every: f64 = 60.0, in 0.0..=MOST_SECONDS;
        /// Keep the weights of the N best epochs, each as best-EPOCH.safetensors [default: of the best one]
        #[arg(long, value_name = "N", help_heading = "Run", group = "with_resume")]
        pub keep_best: Option<usize> = None, in 1..=MOST_KEPT;
        /// Look into the network after each N steps: gradients, updates, dead channels; 0 for never
        #[arg(long, value_name = "N", help_heading = "Run", group = "with_resume")]
        pub look_every: u64 = 100, in 0..;
        /// Log each step to steps.csv
        #[arg(long, help_heading = "Run", group = "with_resume")]
        pub log_steps: bool = false;
        /// Write the figures of steps and epochs into the run folder as TensorBoard reads them: tensorboard --logdir runs
        #[arg(long, help_heading = "Run", group = "with_resume")]
        pub tensorboard: bool = false;
    }
}

/// Checks the network that is asked for.
fn check_model(model: &Option<Architecture>) -> Result<(), String> {
    model.as_ref().map_or(Ok(()), Architecture::check)
}

impl RunConfig {
    /// What tells its data from other data.
    pub fn fingerprints(&self, splits: &Splits) -> Fingerprints {
        splits.fingerprints(self.data.as_deref().unwrap_or(Path::new("")))
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("{} is no configuration of a run", path.display()))?;
        if let Some(Architecture::Zoo(name)) = &config.model
            && name.ends_with(LAYERS)
        {
            config.model = Some(read_layers(&path.parent().unwrap_or(Path::new("")).join(name))?);
        }
        config
            .check()
            .map_err(Error::msg)
            .with_context(|| format!("{} has a setting that cannot be", path.display()))?;
        Ok(config)
    }

    /// Reads that of a run, which is whole or none.
    pub fn read_of_run(path: &Path) -> Result<Self> {
        let config = Self::read(path)?;
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            text.trim_end().ends_with(END),
            "{} is incomplete, as it does not end in \"{END}\": settings are missing in it. Put it back as it was, or add that \
             line where it is as you want it",
            path.display()
        );
        Ok(config)
    }

    /// Makes it mean the same data and the same teacher from any folder. Where there is none, opening it says so.
    pub fn make_paths_absolute(&mut self) {
        if let Some(teacher) = &mut self.teacher
            && let Ok(file) = weights_file(teacher, None)
        {
            *teacher = file;
        }
        let images = [&mut self.images.labels, &mut self.images.disk_cache];
        for path in [&mut self.data, &mut self.teacher, &mut self.pretrained].into_iter().chain(images).flatten() {
            *path = path.canonicalize().unwrap_or_else(|_| path.clone());
        }
    }

    /// Whether it stands for a run for each fold, not for one run.
    pub fn is_of_folds(&self) -> bool {
        self.images.folds.is_some() && self.images.fold.is_none()
    }

    /// What a person calls the data.
    pub fn data_name(&self) -> String {
        self.data.as_ref().map_or("bundled MNIST".into(), |path| path.display().to_string())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let settings = self.text().with_context(|| format!("cannot write {}", path.display()))?;
        let text = format!("{settings}\n{END}\n");
        Ok(write_whole(path, text.as_bytes())?)
    }

    /// As a file of settings.
    pub fn text(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// The options for other data than that of a run with these: it has its own parts, or none.
pub fn of_other_data(options: OpenOptions) -> OpenOptions {
    OpenOptions { split: SplitRatio::default(), validation: None, folds: None, fold: None, group: None, ..options }
}

/// Opens the data at `path`, or the bundled data, showing how far it is where that takes a while.
pub fn open_data(path: Option<&Path>, options: &OpenOptions) -> Result<Splits, DataError> {
    // A file of labels alone is of images beside it.
    let beside = options.labels.as_ref().map(|labels| labels.parent().unwrap_or(Path::new("")));
    let beside = beside.map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
    let Some(path) = path.or(beside) else { return data::bundled(options) };
    let style = ProgressStyle::with_template("reading images {bar:24} {pos}/{len}  {eta} left");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let splits = data::open_with_progress(path, options, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    splits
}

#[cfg(test)]
mod tests {
    use super::*;
    use gabor::{data::Normalisation, ops::Optimizer, train::Schedule};

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let config = RunConfig {
            data: Some("/somewhere/flowers".into()),
            normalise: Normalise::Given(Normalisation { mean: vec![0.1307], std: vec![0.3081] }),
            images: OpenOptions { height_width: Some((48, 64)), validation: Some(0.1), ..OpenOptions::default() },
            recipe: Recipe {
                optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: true },
                schedule: Schedule::Step { factor: 0.1, every: 1.0 / 3.0 },
                learning_rate: 1.0 / 3.0,
                clip_norm: Some(1.0),
                ..Recipe::default()
            },
            ..RunConfig::default()
        };
        config.write(&path).unwrap();
        assert_eq!(RunConfig::read(&path).unwrap(), config);
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let config: RunConfig = toml::from_str("model = \"lenet5\"\n[recipe]\nepochs = 3\n").unwrap();
        assert_eq!((config.model, config.recipe.epochs), (Some("lenet5".into()), 3));
        assert_eq!(config.recipe.learning_rate, Recipe::default().learning_rate);
        assert!(toml::from_str::<RunConfig>("learning-rate = 3\n").is_err());
    }
}
