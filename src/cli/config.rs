//! Everything that describes a run, as it stands in `config.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use gabor::{
    data::{self, DataError, OpenOptions, Splits},
    gpu::Tuning,
    train::{Recipe, write_whole},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::values::{self, Normalise};

/// A run: what, on which data, how and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The folder of the data; none for the bundled part of MNIST.
    pub data: Option<PathBuf>,
    /// A name of the zoo.
    pub model: String,
    /// What to compute on.
    pub device: String,
    /// How much time may go into finding fast kernels on a GPU.
    pub tune: Tuning,
    /// How images are normalised.
    pub normalise: Normalise,
    /// Seconds between checkpoints within an epoch.
    pub checkpoint_every: f64,
    /// Whether each step is logged.
    pub log_steps: bool,
    /// How the data is opened.
    pub images: OpenOptions,
    /// How the model is trained.
    pub recipe: Recipe,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            data: None,
            model: "seed-cnn".into(),
            device: "auto".into(),
            tune: Tuning::Quick,
            normalise: Normalise::Data,
            checkpoint_every: 60.0,
            log_steps: false,
            images: OpenOptions::default(),
            recipe: Recipe::default(),
        }
    }
}

impl RunConfig {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("{} is no configuration of a run", path.display()))?;
        config.check().with_context(|| format!("{} has a setting that cannot be", path.display()))?;
        Ok(config)
    }

    /// Checks what can be checked without the data.
    pub fn check(&self) -> Result<()> {
        self.recipe.check().map_err(anyhow::Error::msg)?;
        let seconds = self.checkpoint_every;
        ensure!(
            Duration::try_from_secs_f64(seconds).is_ok(),
            "checkpoint_every {seconds} must be a number of seconds, 0 or more"
        );
        values::check_model(&self.model)
    }

    /// What a person calls the data.
    pub fn data_name(&self) -> String {
        self.data.as_ref().map_or("bundled MNIST".into(), |path| path.display().to_string())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(write_whole(path, text.as_bytes())?)
    }
}

/// Opens the data at `path`, or the bundled data, showing how far it is where that takes a while.
pub fn open_data(path: Option<&Path>, options: &OpenOptions) -> Result<Splits, DataError> {
    let Some(path) = path else { return data::bundled(options) };
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
        assert_eq!((config.model.as_str(), config.recipe.epochs), ("lenet5", 3));
        assert_eq!(config.recipe.learning_rate, Recipe::default().learning_rate);
        assert!(toml::from_str::<RunConfig>("learning-rate = 3\n").is_err());
    }
}
