//! The folder of a run: where it is and the names of what is in it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use gabor::{
    data::{Fingerprints, Splits},
    plan::Choices,
    train::{BEST, LAST, RESUME, read_card, write_whole},
};

use serde::de::DeserializeOwned;

use super::config::RunConfig;

const CONFIG: &str = "config.toml";
const KERNELS: &str = "kernels.json";
const DATA: &str = "data.json";
const LOCK: &str = "run.lock";
const CLASSES: &str = "classes.txt";
pub const METRICS: &str = "metrics.csv";
const STEPS: &str = "steps.csv";
/// What happened inside of the network.
pub const VITALS: &str = "vitals.jsonl";
/// What was found wrong with how the run went.
pub const FINDINGS: &str = "findings.txt";
/// The page of the run.
pub const REPORT: &str = "report.html";
/// The folder of its figures.
pub const FIGURES: &str = "figures";
/// How the names of TensorBoard's files begin.
const EVENTS: &str = "events.out.tfevents.";

/// The folder of a run, which is this process's alone while it holds this.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked. The system unlocks it when the process ends, however it does.
    _lock: File,
}

/// The name of a file in a folder that is not a run's, and that a run would replace or remove.
fn foreign_file(folder: &Path) -> io::Result<Option<String>> {
    if folder.join(LOCK).exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let own =
            [CONFIG, KERNELS, DATA, CLASSES, METRICS, STEPS, VITALS, FINDINGS, REPORT, FIGURES, BEST, LAST, RESUME]
                .contains(&name.as_str());
        if own || name.starts_with("best-") || name.ends_with(".part") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

impl RunFolder {
    /// A new folder: `out`, or else `runs/MODEL-N` with the next free number. A run that ended there before its first
    /// checkpoint is begun anew.
    pub fn create(out: Option<&Path>, model: &str) -> Result<Self> {
        let cannot_make = |path: &Path| format!("cannot make the run folder {}", path.display());
        if let Some(out) = out {
            fs::create_dir_all(out).with_context(|| cannot_make(out))?;
            if let Some(file) = foreign_file(out).with_context(|| cannot_make(out))? {
                bail!(
                    "{} holds {file}, and is no run folder: give another --out, so that nothing is replaced",
                    out.display()
                );
            }
            let folder = Self::lock(out)?;
            if folder.resume().exists() || folder.fold(1).exists() {
                bail!("{0} holds a run already: go on with it by --resume {0}, or give another --out", out.display());
            }
            if folder.last().exists() || folder.best().exists() {
                bail!("{} holds weights of a run: give another --out, so that nothing is replaced", out.display());
            }
            return Ok(folder);
        }
        let runs = Path::new("runs");
        fs::create_dir_all(runs).with_context(|| cannot_make(runs))?;
        for number in 1u64.. {
            let path = runs.join(format!("{model}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Self::lock(&path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| cannot_make(&path)),
            }
        }
        bail!("no run folder is left in {}", runs.display())
    }

    /// The folder of a run that was stopped.
    pub fn of_stopped_run(path: &Path) -> Result<Self> {
        let config = path.join(CONFIG);
        if !config.is_file() {
            bail!("{} is no run folder: it has no {CONFIG}", path.display());
        }
        let folder = Self::lock(path)?;
        if folder.resume().is_file() || RunConfig::read_of_run(&config)?.is_of_folds() {
            return Ok(folder);
        }
        if folder.last().exists() || folder.best().exists() {
            bail!(
                "{} is missing, without which the run cannot go on; its weights can still be used, also to begin another run \
                 with them by --pretrained {}",
                folder.resume().display(),
                path.display()
            );
        } else {
            bail!(
                "the run in {} ended before its first checkpoint: begin anew with gabor train --config {} --out {0}",
                path.display(),
                config.display()
            );
        }
    }

    /// Takes the folder for this process, and removes what a process that was killed left half-written.
    fn lock(path: &Path) -> Result<Self> {
        let file = path.join(LOCK);
        let cannot = || format!("cannot lock {}", file.display());
        let mut lock =
            File::options().read(true).write(true).create(true).truncate(false).open(&file).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&file).unwrap_or_default();
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                bail!("the run in {} is going on in {holder}: wait for its end, or stop it", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        lock.set_len(0).with_context(cannot)?;
        write!(lock, "{}", process()).with_context(cannot)?;
        for entry in fs::read_dir(path).with_context(cannot)?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "part") {
                fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Removes the folder of a run that could not begin. What else is in it stays.
    pub fn discard(self) {
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let events = names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(EVENTS));
        let own = [CONFIG, CLASSES, DATA, KERNELS, METRICS, VITALS, FINDINGS, LOCK].map(String::from);
        for file in events.chain(own) {
            // Where it cannot be removed, it is left behind, and the error that is told is why the run could not begin.
            let _ = fs::remove_file(self.path.join(file));
        }
        let _ = fs::remove_dir(&self.path);
    }

    /// Whether a run in it has come to a checkpoint, to the end of an epoch or to steps that it logged.
    pub fn holds_results(&self) -> bool {
        let lines = |path: PathBuf| fs::read_to_string(path).map_or(0, |text| text.lines().count());
        self.resume().exists() || self.steps().exists() || lines(self.metrics()) > 1
    }

    /// The folder of the run for a fold, in that of the run for all folds.
    pub fn fold(&self, number: usize) -> PathBuf {
        self.path.join(format!("fold-{number}"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    pub fn steps(&self) -> PathBuf {
        self.path.join(STEPS)
    }

    pub fn vitals(&self) -> PathBuf {
        self.path.join(VITALS)
    }

    /// Removes what was found wrong with an earlier run, which ended before its first checkpoint.
    pub fn forget_findings(&self) -> Result<()> {
        let path = self.path.join(FINDINGS);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    pub fn last(&self) -> PathBuf {
        self.path.join(LAST)
    }

    pub fn resume(&self) -> PathBuf {
        self.path.join(RESUME)
    }

    /// The kernels that the run computes with, so that it goes on with the same ones.
    pub fn read_kernels(&self) -> Result<Choices> {
        kernels_in(&self.path)
    }

    /// Writes the kernels that the run computes with, where there was a choice.
    pub fn write_kernels(&self, kernels: &Choices) -> Result<()> {
        if kernels.is_empty() {
            return Ok(());
        }
        Ok(write_whole(&self.path.join(KERNELS), &serde_json::to_vec_pretty(kernels)?)?)
    }

    /// Writes what tells the data of the run from other data.
    pub fn write_data(&self, data: &Fingerprints) -> Result<()> {
        Ok(write_whole(&self.path.join(DATA), &serde_json::to_vec_pretty(data)?)?)
    }

    /// Writes the names of the classes, one a line.
    pub fn write_classes(&self, classes: &[String]) -> Result<()> {
        Ok(write_whole(&self.path.join(CLASSES), (classes.join("\n") + "\n").as_bytes())?)
    }
}

/// What a person finds this process by.
fn process() -> String {
    let host = sysinfo::System::host_name().unwrap_or_else(|| "this machine".to_string());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let clock = |seconds: u64| format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60);
    format!("process {} on {host}, since {} UTC", std::process::id(), clock(since))
}

/// Which weights of a run to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsChoice {
    /// Those of the best epoch
    Best,
    /// Those of the last checkpoint
    Last,
}

/// The weights file that `run`, a run folder or itself a weights file, stands for: of a folder, the best weights (the
/// last ones, where there are no best ones yet) unless `choice` says which.
pub fn weights_file(run: &Path, choice: Option<WeightsChoice>) -> Result<PathBuf> {
    if run.is_file() {
        return Ok(run.into());
    }
    if !run.is_dir() {
        bail!("{} does not exist: give a run folder, such as runs/seed-cnn-1, or a .safetensors file", run.display());
    }
    let first_fold = run.join("fold-1");
    if first_fold.is_dir() && !run.join(LAST).is_file() {
        bail!("{} holds a run for each fold: give one of them, such as {}", run.display(), first_fold.display());
    }
    let (best, last) = (run.join(BEST), run.join(LAST));
    let path = match choice {
        Some(WeightsChoice::Best) => best,
        None if best.is_file() => best,
        Some(WeightsChoice::Last) | None => last,
    };
    if choice.is_none() && path.ends_with(LAST) && read_card(&path).is_ok_and(|card| card.progress.best.is_some()) {
        bail!(
            "{} is missing, the weights of the best epoch: put it back, or give {}, those of the last one",
            run.join(BEST).display(),
            path.display()
        );
    }
    if !path.is_file() {
        bail!("{} has no weights: there is no {} in it", run.display(), path.file_name().unwrap_or_default().display());
    }
    Ok(path)
}

/// The configuration in the folder of a weights file; none, where the file was taken elsewhere.
pub fn config_beside(weights: &Path) -> Result<Option<RunConfig>> {
    let path = weights.with_file_name(CONFIG);
    path.is_file().then(|| RunConfig::read_of_run(&path)).transpose()
}

/// What tells the data that the run in a folder began with from other data; none where it began before that was kept.
pub fn read_data(folder: &Path) -> Result<Option<Fingerprints>> {
    read_json(&folder.join(DATA))
}

/// Warns where the data of the run that a weights file is of has changed since: it is divided anew, so that images that the model
/// was trained on may be among those that it is measured on.
pub fn warn_of_changes(weights: &Path, config: &RunConfig, splits: &Splits) -> Result<()> {
    let Some(earlier) = read_data(weights.parent().unwrap_or(Path::new("")))? else { return Ok(()) };
    let changes = config.fingerprints(splits).changes_since(&earlier).join(", ");
    if !changes.is_empty() {
        tracing::warn!(
            "the data has changed since {} was trained: {changes}. It is divided anew, so that images that it was trained on may be \
             among those that it is measured on: put the data back as it was, or measure it on other images by DATA",
            weights.display()
        );
    }
    Ok(())
}

/// The kernels that the run in the folder of a weights file computes with; none, where the file was taken elsewhere.
pub fn kernels_beside(weights: &Path) -> Result<Choices> {
    kernels_in(weights.parent().unwrap_or(Path::new("")))
}

fn kernels_in(folder: &Path) -> Result<Choices> {
    Ok(read_json(&folder.join(KERNELS))?.unwrap_or_default())
}

/// What a file says, where there is one.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged: remove it", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
