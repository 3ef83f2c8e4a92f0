//! A run for each fold, and what came out over all of them.

use std::{collections::BTreeMap, fmt::Write, fs, io, path::Path, process::ExitCode};

use anyhow::{Context, Error, Result, ensure};
use gabor::{
    data::OpenOptions,
    models::Architecture,
    train::{read_card, write_whole},
};
use serde_json::{Map, Value, json};

use super::run::{self, Ended};
use crate::cli::{
    config::RunConfig,
    console::Console,
    run_folder::{RunFolder, weights_file},
};

/// What a fold reached, in its folder once it is finished.
const FIGURES: &str = "figures.json";

/// Trains anew.
pub fn start(mut config: RunConfig, out: Option<&Path>, console: Console) -> Result<ExitCode> {
    // Before there is a folder, and before a number of folds sizes anything.
    config.check().map_err(Error::msg)?;
    config.make_paths_absolute();
    run::find_teacher(&mut config)?;
    let folder = RunFolder::create(out, config.model.as_ref().map_or("folds", Architecture::name))?;
    config.write(&folder.config())?;
    let result = run(&config, &folder, false, console);
    if result.is_err() && !folder.fold(1).exists() {
        folder.discard();
    }
    result
}

/// Goes on with the folds in `folder` that are not finished; their data may have changed only where that is `allowed`.
pub fn resume(config: RunConfig, folder: &RunFolder, allowed: bool, console: Console) -> Result<ExitCode> {
    config.check().map_err(Error::msg)?;
    ensure!(
        config.recipe == RunConfig::read_of_run(&folder.config())?.recipe,
        "the folds in {0} are trained alike, and those that are finished would not be trained like the others: begin \
         anew with gabor train --config {1} and another --out",
        folder.path().display(),
        folder.config().display()
    );
    run(&config, folder, allowed, console)
}

fn run(config: &RunConfig, folder: &RunFolder, allowed: bool, console: Console) -> Result<ExitCode> {
    let count = config.images.folds.unwrap_or_default();
    let mut all = Vec::with_capacity(count);
    for number in 1..=count {
        let path = folder.fold(number);
        if let Some(figures) = read(&path.join(FIGURES))? {
            all.push(figures);
            continue;
        }
        console.note(format!("fold {number} of {count}"))?;
        let images = OpenOptions { fold: Some(number), ..config.images.clone() };
        let config = RunConfig { images, ..config.clone() };
        let begun = RunFolder::of_stopped_run(&path).ok();
        let ended = match begun {
            Some(folder) => run::resume(config, &folder, allowed, console)?,
            None => {
                let mut others = (1..=count).map(|other| folder.fold(other)).filter(|other| *other != path);
                let earlier = others.find(|other| other.is_dir());
                let card = earlier.as_ref().and_then(|earlier| read_card(&weights_file(earlier, None).ok()?).ok());
                let config = match card {
                    Some(card) => RunConfig { images: run::sized_as(&card, config.images), ..config },
                    None => config,
                };
                run::start_like(config, Some(&path), earlier.as_deref().filter(|_| !allowed), console)?
            }
        };
        if !ended.finished {
            let place = folder.path().display();
            let text = format!("stopped in fold {number} of {count}; go on with gabor train --resume {place}\n");
            let figures = json!({"run": folder.path(), "finished": false, "folds": all});
            return Ended { finished: false, figures, text }.tell(console);
        }
        console.note(ended.text.trim_end())?;
        write_whole(&path.join(FIGURES), &serde_json::to_vec_pretty(&ended.figures)?)?;
        all.push(ended.figures);
    }
    summary(folder, all).tell(console)
}

/// The figures of a finished fold; none, where it is not finished.
fn read(path: &Path) -> Result<Option<Value>> {
    match fs::read(path) {
        Ok(text) => {
            let damaged = || format!("{} is damaged: remove the folder that it is in", path.display());
            serde_json::from_slice(&text).map(Some).with_context(damaged)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Mean and standard deviation of each figure that all folds have.
fn summary(folder: &RunFolder, all: Vec<Value>) -> Ended {
    let mut text = format!("over {} folds, mean and standard deviation\n", all.len());
    let [mut means, mut deviations] = [const { BTreeMap::new() }; 2];
    for part in ["train", "val", "best", "test"] {
        let figures: Vec<&Map<String, Value>> = all.iter().filter_map(|fold| fold[part].as_object()).collect();
        for name in figures.first().into_iter().flat_map(|first| first.keys()).filter(|name| *name != "images") {
            let values: Vec<f64> = figures.iter().filter_map(|figures| figures.get(name)?.as_f64()).collect();
            if values.len() < all.len() {
                continue;
            }
            let [mean, deviation] = mean_and_deviation(&values);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<40}  {mean:.4} ± {deviation:.4}", format!("{part} {}", name.replace('_', " ")));
            for (all, value) in [(&mut means, mean), (&mut deviations, deviation)] {
                all.entry(part).or_insert_with(Map::new).insert(name.clone(), value.into());
            }
        }
    }
    let _ = writeln!(text, "the runs are in {}", folder.path().display());
    let figures = json!({"run": folder.path(), "finished": true, "folds": all, "mean": means, "std": deviations});
    Ended { finished: true, figures, text }
}

/// The deviation is that of a sample, with one less than the number of values below.
fn mean_and_deviation(values: &[f64]) -> [f64; 2] {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    [mean, (squares / (count - 1.0).max(1.0)).sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 3.0]), [2.0, 1.0]);
        assert_eq!(mean_and_deviation(&[0.5]), [0.5, 0.0]);
    }
}
