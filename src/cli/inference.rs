//! How a trained model is loaded.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gabor::{
    augment::Views,
    plan::Tuning,
    train::{Classifier, Inferred},
};

use super::{
    console::Console,
    devices,
    run_folder::{WeightsChoice, kernels_beside, weights_file},
};

/// Which weights of a run are taken, what of an image they are given, and what computes.
#[derive(Args)]
pub struct InferenceArgs {
    /// Which weights of a run folder [default: best]
    #[arg(long, value_enum)]
    weights: Option<WeightsChoice>,
    /// Average the network's output over views of each image (test-time augmentation)
    #[arg(long, value_name = "VIEWS", default_value = "none")]
    pub tta: Views,
    /// What to compute on: auto, gpu, cpu, or the number or a part of the name of a device
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// How to choose kernels on a GPU, where the run has not chosen
    #[arg(long, value_name = "HOW", default_value = "off")]
    tune: Tuning,
}

impl InferenceArgs {
    /// The weights file that a run folder, or a file, stands for.
    pub fn weights_of(&self, run: &Path) -> Result<PathBuf> {
        weights_file(run, self.weights)
    }

    /// The model of a weights file, for batches of so many images.
    pub fn load(&self, weights: &Path, batch: usize, console: Console) -> Result<Classifier> {
        let executor = devices::open(&self.device, self.tune, kernels_beside(weights)?, console)?;
        Ok(Classifier::load_for(weights, executor, &Inferred { batch, views: self.tta, embeddings: false })?)
    }
}
