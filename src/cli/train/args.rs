//! The arguments of `gabor train`, over those of a configuration file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use gabor::{
    data::{Fit, SplitRatio},
    gpu::Tuning,
    nn::GroupRule,
    ops::Optimizer,
    train::Schedule,
};

use super::run;
use crate::cli::{
    config::RunConfig,
    console::Console,
    run_folder::RunFolder,
    values::{self, Normalise},
};

/// Train a model on images
///
/// Trains on the folder DATA: IDX files as MNIST has them, CIFAR binary files, or images in a subfolder a class,
/// optionally below train, val and test. Without DATA it trains on the part of MNIST that comes with gabor.
///
/// The run folder gets config.toml, metrics.csv (a row an epoch), classes.txt, the weights last.safetensors and
/// best.safetensors, and resume.safetensors, from which the run can go on bit for bit. The best epoch is the one with
/// the best validation accuracy, or training accuracy where there are no validation images; its weights are measured on
/// the test images at the end.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor train
  gabor train flowers --model resnet18 --image-size 64 --epochs 30 --schedule cosine
  gabor train flowers --optimizer sgd --lr 0.1 --weight-decay 5e-4 --nesterov
  gabor train --resume runs/resnet18-1 --epochs 60
  gabor train --config runs/resnet18-1/config.toml --seed 2

Ctrl-C ends a run after the present step, with a checkpoint; --resume goes on from there.")]
pub struct TrainArgs {
    /// The folder of the data [default: the bundled part of MNIST]
    data: Option<PathBuf>,

    /// The network; `gabor models` tells more [default: seed-cnn]
    #[arg(long, value_name = "NAME", value_parser = values::model(), help_heading = "Model and device")]
    model: Option<String>,
    /// What to compute on: auto (the best GPU, else the CPU), gpu, cpu, or the number or a part of the name of a device
    /// of `gabor devices` [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Model and device")]
    device: Option<String>,
    /// How to choose kernels on a GPU; the choice is kept in the run folder [default: quick]
    #[arg(long, value_name = "HOW", value_parser = values::tuning(), help_heading = "Model and device")]
    tune: Option<Tuning>,
    /// Compute cheap values again in the backward pass instead of keeping them: less memory, more time
    #[arg(long, help_heading = "Model and device")]
    recompute: bool,
    /// Threads to compute with on the CPU [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Model and device")]
    threads: Option<usize>,

    /// How many times to go through the training images [default: 10]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<usize>,
    /// Images a step [default: 128]
    #[arg(long, value_name = "N", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Batches whose gradients are added up for a step: as batches of N times the size, in the memory of one [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    accumulate: Option<usize>,
    /// Leave the parameters of this name as they are; * stands for any characters, as in layer1.*
    #[arg(long, value_name = "PATTERN", help_heading = "Training")]
    freeze: Vec<String>,
    /// Factor of the learning rate of the parameters of this name, as in fc.*=10
    #[arg(long, value_name = "PATTERN=X", value_parser = values::of_pattern, help_heading = "Training")]
    lr_scale: Vec<(String, f64)>,
    /// Weight decay of the parameters of this name; biases and norms have none of themselves
    #[arg(long, value_name = "PATTERN=X", value_parser = values::of_pattern, help_heading = "Training")]
    decay: Vec<(String, f64)>,
    /// Learning rate, whatever the optimizer [default: 0.001]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    lr: Option<f64>,
    /// How the learning rate varies over the run; step is a tenth after each third [default: constant]
    #[arg(long, value_name = "NAME", value_parser = values::schedule(), help_heading = "Training")]
    schedule: Option<Schedule>,
    /// Steps over which the learning rate rises at the start [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    warmup_steps: Option<u64>,
    /// The rule by which weights follow gradients [default: adam]
    #[arg(long, value_name = "NAME", value_parser = values::optimizer(), help_heading = "Training")]
    optimizer: Option<Optimizer>,
    /// Momentum of sgd or rmsprop [default: 0.9 for sgd, 0 for rmsprop]
    #[arg(long, value_name = "X", help_heading = "Training")]
    momentum: Option<f64>,
    /// Use Nesterov's momentum in sgd
    #[arg(long, help_heading = "Training")]
    nesterov: bool,
    /// Weight decay: L2 in the gradient, decoupled in adamw; not of biases and norms [default: 0]
    #[arg(long, value_name = "X", help_heading = "Training")]
    weight_decay: Option<f64>,
    /// Share of the target that is spread over all classes [default: 0]
    #[arg(long, value_name = "X", help_heading = "Training")]
    label_smoothing: Option<f64>,
    /// Scale gradients down to this Euclidean norm
    #[arg(long, value_name = "X", help_heading = "Training")]
    clip_norm: Option<f64>,
    /// Cut elements of gradients to this magnitude
    #[arg(long, value_name = "X", help_heading = "Training")]
    clip_value: Option<f64>,
    /// Weigh classes by the inverse of their frequency in the loss
    #[arg(long, help_heading = "Training")]
    balance_classes: bool,
    /// Seed of initial weights, order of images and dropout [default: 0]
    #[arg(long, value_name = "N", value_parser = seed(), help_heading = "Training")]
    seed: Option<u64>,
    /// End after this many steps
    #[arg(long, value_name = "N", help_heading = "Training")]
    max_steps: Option<u64>,

    /// Size to convert images to: N or HxW [default: their own, or 224 for a folder of many sizes]
    #[arg(long, value_name = "SIZE", value_parser = values::image_size, help_heading = "Images")]
    image_size: Option<(usize, usize)>,
    /// 1 for grey, 3 for RGB [default: as the images are]
    #[arg(long, value_name = "N", value_parser = ["1", "3"], help_heading = "Images")]
    channels: Option<String>,
    /// What to do about another aspect ratio [default: crop]
    #[arg(long, value_name = "HOW", value_parser = values::fit(), help_heading = "Images")]
    fit: Option<Fit>,
    /// Normalisation: data (the training images' mean and standard deviation), imagenet, none (pixels / 255), or
    /// MEAN/STD with a number a channel, of pixels in 0..1 [default: data]
    #[arg(long, value_name = "HOW", help_heading = "Images")]
    normalise: Option<Normalise>,
    /// Ratio of training, validation and test images of data without such parts, or of only training and validation
    /// images such as 9:1 [default: 7:2:1]
    #[arg(long, value_name = "RATIO", help_heading = "Images")]
    split: Option<SplitRatio>,
    /// Seed of the split, apart from --seed so that runs of many seeds are measured on the same images [default: 0]
    #[arg(long, value_name = "N", value_parser = seed(), help_heading = "Images")]
    split_seed: Option<u64>,
    /// Share of the training images to validate on, for data with test but no validation images [default: none]
    #[arg(long, value_name = "SHARE", help_heading = "Images")]
    validation: Option<f64>,
    /// Fail on images that cannot be read instead of skipping them
    #[arg(long, help_heading = "Images")]
    strict: bool,
    /// Memory for decoded images in MiB [default: 2048]
    #[arg(long, value_name = "N", help_heading = "Images")]
    cache_mib: Option<usize>,

    /// The run folder [default: runs/MODEL-N, with the next free number]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder; only --epochs, --max-steps, --device, --threads, --checkpoint-every,
    /// --log-steps and --json may come with it
    #[arg(long, value_name = "DIR", conflicts_with_all = FIXED, help_heading = "Run")]
    resume: Option<PathBuf>,
    /// Settings from a TOML file such as the config.toml of a run; flags take precedence
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Seconds between checkpoints within an epoch; 0 for one after each step [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Run")]
    checkpoint_every: Option<f64>,
    /// Log each step to steps.csv
    #[arg(long, help_heading = "Run")]
    log_steps: bool,
    /// Print one JSON object at the end, and nothing else on standard output
    #[arg(long, help_heading = "Run")]
    json: bool,
}

/// What stays as it is when a run is resumed.
const FIXED: [&str; 32] = [
    "accumulate",
    "freeze",
    "lr_scale",
    "decay",
    "data",
    "model",
    "tune",
    "recompute",
    "batch_size",
    "lr",
    "schedule",
    "warmup_steps",
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "label_smoothing",
    "clip_norm",
    "clip_value",
    "balance_classes",
    "seed",
    "image_size",
    "channels",
    "fit",
    "normalise",
    "split",
    "split_seed",
    "validation",
    "strict",
    "cache_mib",
    "out",
    "config",
];

/// The momentum that --optimizer sgd has.
const SGD_MOMENTUM: f64 = 0.9;

/// Seeds that TOML can hold.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

impl TrainArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        if let Some(folder) = &self.resume {
            let folder = RunFolder::of_stopped_run(folder)?;
            let config = self.overlay(RunConfig::read(&folder.config())?)?;
            return run::resume(config, &folder, console);
        }
        let base = match &self.config {
            Some(path) => RunConfig::read(path)?,
            None => RunConfig::default(),
        };
        run::start(self.overlay(base)?, self.out.as_deref(), console)
    }

    /// `config` with the flags that were given in place of what it says.
    fn overlay(&self, mut config: RunConfig) -> Result<RunConfig> {
        fn set<T: Clone>(place: &mut T, given: &Option<T>) {
            if let Some(given) = given {
                *place = given.clone();
            }
        }
        fn set_some<T: Clone>(place: &mut Option<T>, given: &Option<T>) {
            if given.is_some() {
                place.clone_from(given);
            }
        }
        set_some(&mut config.data, &self.data);
        set(&mut config.model, &self.model);
        set(&mut config.device, &self.device);
        set(&mut config.tune, &self.tune);
        set(&mut config.normalise, &self.normalise);
        set(&mut config.checkpoint_every, &self.checkpoint_every);
        config.log_steps |= self.log_steps;

        let images = &mut config.images;
        set_some(&mut images.height_width, &self.image_size);
        set_some(&mut images.channels, &self.channels.as_ref().and_then(|channels| channels.parse().ok()));
        set(&mut images.fit, &self.fit);
        set(&mut images.split, &self.split);
        set(&mut images.seed, &self.split_seed);
        set_some(&mut images.validation, &self.validation);
        images.strict |= self.strict;
        set(&mut images.cache_bytes, &self.cache_mib.map(|mib| mib.saturating_mul(1 << 20)));

        let recipe = &mut config.recipe;
        set(&mut recipe.epochs, &self.epochs);
        set(&mut recipe.batch_size, &self.batch_size);
        set(&mut recipe.accumulate, &self.accumulate);
        let rule = |pattern: &String| GroupRule { pattern: pattern.clone(), ..GroupRule::default() };
        let groups = &mut recipe.groups;
        groups.extend(self.freeze.iter().map(|pattern| GroupRule { frozen: Some(true), ..rule(pattern) }));
        let rates = self.lr_scale.iter();
        groups.extend(rates.map(|(pattern, x)| GroupRule { learning_rate: Some(*x), ..rule(pattern) }));
        let decays = self.decay.iter();
        groups.extend(decays.map(|(pattern, x)| GroupRule { weight_decay: Some(*x), ..rule(pattern) }));
        set(&mut recipe.learning_rate, &self.lr);
        set(&mut recipe.schedule, &self.schedule);
        set(&mut recipe.warmup_steps, &self.warmup_steps);
        set(&mut recipe.weight_decay, &self.weight_decay);
        set(&mut recipe.label_smoothing, &self.label_smoothing);
        set_some(&mut recipe.clip_norm, &self.clip_norm);
        set_some(&mut recipe.clip_value, &self.clip_value);
        recipe.recompute |= self.recompute;
        recipe.balance_classes |= self.balance_classes;
        set(&mut recipe.seed, &self.seed);
        set_some(&mut recipe.max_steps, &self.max_steps);
        recipe.optimizer = self.optimizer(recipe.optimizer)?;
        Ok(config)
    }

    /// The optimizer that the flags make of `base`, whose settings stay where --optimizer names the same one.
    fn optimizer(&self, base: Optimizer) -> Result<Optimizer> {
        let same_kind = |other: Optimizer| std::mem::discriminant(&other) == std::mem::discriminant(&base);
        let mut optimizer = match self.optimizer {
            Some(Optimizer::Sgd { nesterov, .. }) if !same_kind(Optimizer::Sgd { momentum: 0.0, nesterov }) => {
                Optimizer::Sgd { momentum: SGD_MOMENTUM, nesterov }
            }
            Some(named) if !same_kind(named) => named,
            _ => base,
        };
        if let Some(given) = self.momentum {
            match &mut optimizer {
                Optimizer::Sgd { momentum, .. } | Optimizer::RmsProp { momentum, .. } => *momentum = given,
                _ => bail!("--momentum is for --optimizer sgd or rmsprop"),
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
