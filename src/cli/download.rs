//! `gabor download`: public data sets and pretrained weights.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gabor::data::download::{Progress, PublicSet, PublicWeights, download, download_weights};
use indicatif::{ProgressBar, ProgressStyle};

use super::{console::Console, pretrained, values};

/// Download a public data set, or pretrained weights
///
/// Files come from their public homes and are checked; what is there already is not downloaded again, and a download that
/// was cut off goes on where it stopped.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  gabor download cifar10                    Into datasets/cifar10
  gabor train datasets/cifar10 --epochs 8   Train on it
  gabor download weights resnet18           What --pretrained resnet18 begins with"
)]
pub struct DownloadArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// The data set
    #[arg(value_parser = values::public_set(), required = true)]
    name: Option<PublicSet>,
    /// The folder to put it into [default: datasets/NAME]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Another home: the URL of a file less its name
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

#[derive(Subcommand)]
enum What {
    Weights(WeightsArgs),
}

/// Download weights of a model that were trained on ImageNet
///
/// gabor train begins with them by --pretrained NAME; of another folder than the default one by --pretrained FILE.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor download weights resnet18
  gabor train flowers --model resnet18 --pretrained resnet18 --image-size 224")]
struct WeightsArgs {
    /// The model
    #[arg(value_parser = values::public_weights())]
    name: PublicWeights,
    /// The folder to put them into [default: weights in gabor's cache folder]
    #[arg(value_name = "DIR")]
    to: Option<PathBuf>,
    /// Another home: the URL of the file less its name
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

impl DownloadArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        if let Some(What::Weights(args)) = self.what {
            return args.run(console);
        }
        let name = self.name.context("name a data set")?;
        let folder = self.to.unwrap_or_else(|| Path::new("datasets").join(name.name()));
        let mut bar = Bar::new()?;
        download(name, &folder, self.base_url.as_deref(), &mut |progress| bar.show(&progress))?;
        bar.bar.finish_and_clear();
        console.note(format_args!("{name} is in {}", folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl WeightsArgs {
    fn run(self, console: Console) -> Result<ExitCode> {
        let folder = match self.to {
            Some(folder) => folder,
            None => pretrained::folder()?,
        };
        let mut bar = Bar::new()?;
        let base_url = self.base_url.as_deref();
        let path = download_weights(self.name, &folder, base_url, &mut |progress| bar.show(&progress))?;
        bar.bar.finish_and_clear();
        console.note(format_args!("the weights of {} are in {}", self.name.model, path.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How far a download is.
struct Bar {
    bar: ProgressBar,
    file: String,
}

impl Bar {
    fn new() -> Result<Self> {
        let template = "{prefix} {bar:24} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left";
        let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(template)?);
        Ok(Self { bar, file: String::new() })
    }

    fn show(&mut self, progress: &Progress<'_>) {
        if self.file != progress.file {
            self.file = progress.file.to_string();
            self.bar.reset();
            self.bar.set_prefix(self.file.clone());
        }
        if let Some(total) = progress.total {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.received);
    }
}
