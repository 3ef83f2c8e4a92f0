//! The arguments of `gabor train`, over those of a configuration file.

use std::{mem::discriminant, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use clap::Args;
use gabor::{augment::Preset, nn::GroupRule, ops::Optimizer};

use super::{folds, run};
use crate::cli::{config::RunConfig, console::Console, given::Given, run_folder::RunFolder, values};

/// Train a model on images
///
/// Trains on the folder DATA: IDX files as MNIST has them, CIFAR binary files, or images in a subfolder a class,
/// optionally below train, val and test. Without DATA it trains on the part of MNIST that comes with gabor.
///
/// The run folder gets config.toml, metrics.csv (a row an epoch), classes.txt, data.json (by which a run that goes on sees
/// whether the images are still the same), the weights last.safetensors and best.safetensors, and resume.safetensors, from
/// which the run can go on bit for bit. The best epoch is the one with
/// the best validation accuracy, or training accuracy where there are no validation images; its weights are measured on
/// the test images at the end.
///
/// With --folds the run folder gets a run folder for each fold, fold-1 and so on, and the figures that are printed are
/// the mean and the standard deviation over them. --resume goes on with the folds that are not finished.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor train
  gabor train flowers --model resnet18 --image-size 64 --epochs 30 --schedule cosine
  gabor train flowers --folds 5
  gabor train flowers --model resnet18 --pretrained resnet18 --image-size 224 --unfreeze-at 3
  gabor train flowers --optimizer sgd --lr 0.1 --weight-decay 5e-4 --nesterov
  gabor train --resume runs/resnet18-1 --epochs 60
  gabor train --config runs/resnet18-1/config.toml --seed 2

Ctrl-C ends a run after the present step, with a checkpoint; --resume goes on from there.")]
pub struct TrainArgs {
    #[command(flatten)]
    pub(super) settings: SettingArgs,
    /// The run folder [default: runs/MODEL-N, with the next free number]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    resume: Option<PathBuf>,
    /// Go on though the images are not those that the run began with
    #[arg(long, help_heading = "Run", group = "with_resume")]
    allow_changed_data: bool,
    /// Print what happens as JSON, an object a line: run, step, vitals, epoch, checkpoint, finding and, at the end, result
    #[arg(long, help_heading = "Run", group = "with_resume")]
    json: bool,
    /// Show curves, speed, findings and the hardest images on the whole terminal
    #[arg(long, help_heading = "Run", group = "with_resume", conflicts_with = "json")]
    tui: bool,
}

/// What is trained, on what, how and where.
#[derive(Args)]
pub struct SettingArgs {
    #[command(flatten)]
    given: Given<RunConfig>,
    #[command(flatten)]
    parts: PartArgs,
    /// Settings from a TOML file such as the config.toml of a run; flags take precedence
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
}

/// Flags for a part of a setting each.
#[derive(Args)]
#[command(next_help_heading = "Training")]
struct PartArgs {
    /// Momentum of sgd, rmsprop or muon [default: 0.9 for sgd, 0 for rmsprop, 0.95 for muon]
    #[arg(long, value_name = "X")]
    momentum: Option<f64>,
    /// Use Nesterov's momentum in sgd
    #[arg(long)]
    nesterov: bool,
    /// Leave the parameters of this name as they are; * stands for any characters, as in layer1.*
    #[arg(long, value_name = "PATTERN")]
    freeze: Vec<String>,
    /// Factor of the learning rate of the parameters of this name, as in fc.*=10
    #[arg(long, value_name = "PATTERN=X", value_parser = values::of_pattern)]
    lr_scale: Vec<(String, f64)>,
    /// Weight decay of the parameters of this name; biases and norms have none of themselves
    #[arg(long, value_name = "PATTERN=X", value_parser = values::of_pattern)]
    decay: Vec<(String, f64)>,
}

/// The momentum that --optimizer sgd has.
const SGD_MOMENTUM: f64 = 0.9;

impl TrainArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        ensure!(!self.tui || console.shows_progress(), "--tui shows what --quiet does not: give one of them");
        let console = console.json(self.json).tui(self.tui);
        if let Some(folder) = &self.resume {
            let folder = RunFolder::of_stopped_run(folder)?;
            let config = self.settings.overlay(RunConfig::read_of_run(&folder.config())?)?;
            if config.is_of_folds() {
                return folds::resume(config, &folder, self.allow_changed_data, console);
            }
            return run::resume(config, &folder, self.allow_changed_data, console)?.tell(console);
        }
        ensure!(!self.allow_changed_data, "--allow-changed-data is for a run that goes on: give --resume with it");
        let (config, out) = (self.settings.of_new_run()?, self.out.as_deref());
        if config.is_of_folds() {
            folds::start(config, out, console)
        } else {
            run::start(config, out, console)?.tell(console)
        }
    }
}

impl SettingArgs {
    /// The configuration of a run that begins.
    pub fn of_new_run(&self) -> Result<RunConfig> {
        let base = match &self.config {
            Some(path) => RunConfig::read(path)?,
            None => RunConfig::default(),
        };
        let mut config = self.overlay(base)?;
        // It may be another one than that of the run whose configuration this is.
        config.teacher_sha256 = None;
        // Not in a run that is resumed: it goes on as it began.
        config.recipe.augment.preset.get_or_insert(Preset::Auto);
        Ok(config)
    }

    /// `config` with the flags that were given in place of what it says.
    pub(super) fn overlay(&self, mut config: RunConfig) -> Result<RunConfig> {
        let optimizer = config.recipe.optimizer;
        self.given.apply(&mut config)?;
        config.recipe.optimizer = self.parts.optimizer(optimizer, config.recipe.optimizer)?;
        config.recipe.groups.extend(self.parts.groups());
        Ok(config)
    }
}

impl PartArgs {
    /// Parameters that are trained differently.
    fn groups(&self) -> impl Iterator<Item = GroupRule> {
        let rule = |pattern: &String| GroupRule { pattern: pattern.clone(), ..GroupRule::default() };
        let frozen = self.freeze.iter().map(move |pattern| GroupRule { frozen: Some(true), ..rule(pattern) });
        let rates = self.lr_scale.iter();
        let rates = rates.map(move |(pattern, x)| GroupRule { learning_rate: Some(*x), ..rule(pattern) });
        let decays = self.decay.iter();
        let decays = decays.map(move |(pattern, x)| GroupRule { weight_decay: Some(*x), ..rule(pattern) });
        frozen.chain(rates).chain(decays)
    }

    /// The optimizer `named`, with the settings of `base` where that is the same one, and the flags' own.
    fn optimizer(&self, base: Optimizer, named: Optimizer) -> Result<Optimizer> {
        let mut optimizer = match named {
            _ if discriminant(&named) == discriminant(&base) => base,
            Optimizer::Sgd { nesterov, .. } => Optimizer::Sgd { momentum: SGD_MOMENTUM, nesterov },
            named => named,
        };
        if let Some(given) = self.momentum {
            match &mut optimizer {
                Optimizer::Sgd { momentum, .. }
                | Optimizer::RmsProp { momentum, .. }
                | Optimizer::Muon { momentum, .. } => *momentum = given,
                _ => bail!("--momentum is for --optimizer sgd, rmsprop or muon"),
            }
        }
        if self.nesterov {
            match &mut optimizer {
                Optimizer::Sgd { nesterov, .. } => *nesterov = true,
                _ => bail!("--nesterov is for --optimizer sgd"),
            }
        }
        Ok(optimizer)
    }
}
