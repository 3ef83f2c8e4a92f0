//! `gabor download`: public data sets.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;
use gabor::data::download::{PublicSet, download};
use indicatif::{ProgressBar, ProgressStyle};

use super::{console::Console, values};

/// Download a public data set
///
/// Files come from the set's public homes and are checked; what is there already is not downloaded again, and a
/// download that was cut off goes on where it stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor download cifar10                    Into datasets/cifar10
  gabor train datasets/cifar10 --epochs 8   Train on it")]
pub struct DownloadArgs {
    /// The data set
    #[arg(value_parser = values::public_set())]
    name: PublicSet,
    /// The folder to put it into [default: datasets/NAME]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Another home: the URL of a file less its name
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

impl DownloadArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let folder = self.to.unwrap_or_else(|| Path::new("datasets").join(self.name.name()));
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template(
            "{prefix} {bar:24} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left",
        )?);
        let mut file = String::new();
        download(self.name, &folder, self.base_url.as_deref(), &mut |progress| {
            if file != progress.file {
                file = progress.file.to_string();
                bar.reset();
                bar.set_prefix(file.clone());
            }
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.received);
        })?;
        bar.finish_and_clear();
        console.note(format_args!("{} is in {}", self.name, folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
