//! Files that a run leaves behind: weights for inference, and everything that a run needs to go on.
//!
//! Both are safetensors files with one metadata entry, `gabor`, a JSON text. Weights of convolutions are
//! `[kh, kw, in, out]`, of dense layers `[in, out]`. They are written beside their place and renamed into it.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::{Kept, Measure, Session, TrainError, tensors::AVERAGE, weights::Weights};
use crate::{
    data::{Dataset, Fit, ImageSize, MOST_CLASSES, Normalisation},
    models::{Architecture, Model, layers::Network},
    nn::Parameters,
    plan::Executor,
    tasks::{self, Classification},
    tensor::Tensor,
    weights::OWN,
};

/// Weights after the last checkpoint.
pub const LAST: &str = "last.safetensors";
/// Weights of the best epoch.
pub const BEST: &str = "best.safetensors";
/// What a run needs to go on.
pub const RESUME: &str = "resume.safetensors";

/// What a weights file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the model.
    pub model: String,
    /// Its layers, where it is none of the zoo but a list of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Network>,
    /// Height, width and channels of its images.
    pub input: [usize; 3],
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// How images are normalised.
    pub normalisation: Normalisation,
    /// How images of another aspect ratio are brought to the size.
    #[serde(default)]
    pub fit: Fit,
    /// Name of the task.
    #[serde(default = "classification")]
    pub task: String,
    /// What the network's output is divided by, so that classes are as probable as they are said to be ([`keep_temperature`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// For each class the probability above which an image is said to be of it, where images are of several classes and not
    /// [`THRESHOLD`](crate::tasks::THRESHOLD) does for all ([`keep_thresholds`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<f32>>,
    /// How far training had come.
    pub progress: Progress,
}

/// The task of files that do not say it.
fn classification() -> String {
    Classification::NAME.into()
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps an epoch.
    pub batches: usize,
    /// Best value so far of the figure by which epochs are compared: the task's first one of the validation images, or of
    /// the training images where there are no others; the loss where there is none.
    pub best: Option<f64>,
    /// The epoch of the best value, counted from 1.
    pub best_epoch: u64,
    /// The epochs whose weights are kept beside the best ones, the best first
    /// ([`Trainer::keep_best`](super::Trainer::keep_best)).
    pub kept: Vec<Kept>,
    /// Best value so far that was better than the one before by [`Recipe::min_delta`](super::Recipe::min_delta).
    pub plateau_best: Option<f64>,
    /// Its epoch, or the one in which the learning rate was lowered since.
    pub plateau_epoch: u64,
    /// Epochs since there was such a value.
    pub epochs_without_better: u64,
    /// Factor of the learning rate that an observer has set, or that came of lowering it.
    pub learning_rate_factor: f64,
    /// Loss times weight, summed over the present epoch.
    pub loss_sum: f64,
    /// Weights, summed over the present epoch.
    pub weight_sum: f64,
    /// The task's figures, summed over the images of the present epoch.
    pub metric_sums: Vec<f64>,
    /// Images seen in the present epoch.
    pub images: usize,
}

impl Default for Progress {
    /// Of a run that begins.
    fn default() -> Self {
        Self {
            step: 0,
            batches: 0,
            best: None,
            best_epoch: 0,
            kept: Vec::new(),
            plateau_best: None,
            plateau_epoch: 0,
            epochs_without_better: 0,
            learning_rate_factor: 1.0,
            loss_sum: 0.0,
            weight_sum: 0.0,
            metric_sums: Vec::new(),
            images: 0,
        }
    }
}

impl Card {
    /// The network that it is of.
    pub fn architecture(&self) -> Architecture {
        Architecture::new(&self.model, self.layers.clone())
    }

    /// What the card says that cannot be, and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(layers) = &self.layers {
            layers.check().map_err(|error| format!("its layers: {error}"))?;
        }
        let [height, width, channels] = self.input;
        let input = ImageSize { height, width, channels };
        input.check().map_err(|error| format!("its input: {error}"))?;
        self.normalisation.check(channels).map_err(|error| error.to_string())?;
        if self.classes.is_empty() || self.classes.len() > MOST_CLASSES {
            return Err(format!("it has {} classes: there are 1 to {MOST_CLASSES}", self.classes.len()));
        }
        if self.temperature.is_some_and(|temperature| !(temperature > 0.0 && temperature.is_finite())) {
            return Err("its temperature is no positive number".into());
        }
        if let Some(thresholds) = &self.thresholds {
            if thresholds.len() != self.classes.len() {
                return Err(format!("it has {} thresholds for {} classes", thresholds.len(), self.classes.len()));
            }
            if thresholds.iter().any(|threshold| !(0.0..=1.0).contains(threshold)) {
                return Err("a threshold is no number from 0 to 1".into());
            }
        }
        let Progress { step, batches, loss_sum, weight_sum, .. } = self.progress;
        if step > u64::from(u32::MAX) || batches > u32::MAX as usize {
            return Err(format!(
                "it says that {step} steps of {batches} an epoch were done: a run has at most {}",
                u32::MAX
            ));
        }
        let sums = [loss_sum, weight_sum, self.progress.learning_rate_factor]
            .into_iter()
            .chain(self.progress.metric_sums.iter().copied());
        if sums.into_iter().any(|sum| !sum.is_finite()) {
            return Err("a figure of its epoch is not a number".into());
        }
        Ok(())
    }
}

impl Progress {
    /// Takes in what an epoch came to, which is `whole` unless the run ends within it; whether it is the best so far. What a run
    /// that ended within an epoch came to is the best only where no epoch was completed before, and gives way to the whole epoch.
    pub(super) fn take_in(&mut self, measure: Measure, epoch: u64, whole: bool) -> bool {
        if self.best_epoch == epoch {
            (self.best, self.best_epoch) = (None, 0);
        }
        let best = measure.is_better_than(self.best, 0.0) && (whole || self.best.is_none());
        if best {
            (self.best, self.best_epoch) = (Some(measure.value), epoch);
        }
        best
    }

    /// Epochs completed.
    pub fn epochs(&self) -> u64 {
        self.step / self.batches.max(1) as u64
    }
}

/// Reads what a weights file says of itself.
///
/// # Errors
/// If the file is missing, truncated, or was not written by this program.
pub fn read_card(path: &Path) -> Result<Card, TrainError> {
    card_of(path)
}

/// The model of a weights file, without its weights.
///
/// # Errors
/// As [`read_card`], or if its model or task is not built in.
pub fn open_model(path: &Path) -> Result<(Model, Card), TrainError> {
    let card = card_of(path)?;
    let unknown = |what: &str, name: &str| TrainError::Checkpoint {
        path: path.to_path_buf(),
        message: format!("its {what} is {name}, which is not built in: load it with Classifier::with_model"),
    };
    let classes = card.classes.len();
    let model = card.architecture().build(card.input, classes).map_err(|_| unknown("model", &card.model))?;
    let task = tasks::build(&card.task, classes).ok_or_else(|| unknown("task", &card.task))?;
    Ok((model.with_task(task), card))
}

/// Sets parameters, whose variables an executor has, to those of a weights file.
///
/// # Errors
/// If the file is missing, truncated or of another model, or the device fails.
pub fn load_parameters(path: &Path, parameters: &Parameters, executor: &mut dyn Executor) -> Result<(), TrainError> {
    Weights::open(path)?.fill(parameters, executor)
}

/// Keeps a temperature in a weights file.
///
/// # Errors
/// As [`read_card`], or if the file cannot be written, which then stays as it was.
pub fn keep_temperature(path: &Path, temperature: f64) -> Result<(), TrainError> {
    keep(path, &|card| Card { temperature: Some(temperature), ..card })
}

/// Keeps thresholds in a weights file, for each class the probability above which an image is said to be of it.
///
/// # Errors
/// As [`keep_temperature`].
pub fn keep_thresholds(path: &Path, thresholds: &[f32]) -> Result<(), TrainError> {
    keep(path, &|card| Card { thresholds: Some(thresholds.to_vec()), ..card })
}

/// Writes a weights file again, with another card.
fn keep(path: &Path, changed: &dyn Fn(Card) -> Card) -> Result<(), TrainError> {
    let file = Weights::open(path)?;
    let card = changed(file.card.clone());
    write(path, &card, &file.tensors()?)
}

pub(super) fn card_of(path: &Path) -> Result<Card, TrainError> {
    Ok(Weights::open(path)?.card)
}

/// Writes `bytes` to `path` so that at any moment either the old or the new content is there in full: into a file
/// beside it, named `.part`, which then takes its place.
///
/// # Errors
/// If a file cannot be written; what was at `path` stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let written = if is_stream(path) {
        OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(bytes))
    } else {
        // What a link leads to is replaced, not the link.
        let place = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let part = part_of(&place);
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &place)
        };
        write().inspect_err(|_| drop(fs::remove_file(&part)))
    };
    written.map_err(|source| TrainError::File { path: path.to_path_buf(), source })
}

/// Whether a path is of something that is written to, not replaced: a device, a pipe, an open file of a process.
fn is_stream(path: &Path) -> bool {
    let is_special = |file: Metadata| !file.is_file() && !file.is_dir();
    let of_system = ["/dev/", "/proc/"].iter().any(|folder| path.starts_with(folder));
    (of_system && path.exists()) || fs::metadata(path).is_ok_and(is_special)
}

/// Whether [`write_whole`] can write a file: told before the work is done of which it is the result. What is there stays.
///
/// # Errors
/// If nothing can be written there.
pub fn check_writable(path: &Path) -> Result<(), TrainError> {
    let check = || {
        if path.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if is_stream(path) {
            return Ok(());
        }
        let part = part_of(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
        File::create(&part)?;
        fs::remove_file(&part)
    };
    check().map_err(|source| TrainError::File { path: path.to_path_buf(), source })
}

/// Where a file is written before it takes its place.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_os_string();
    part.push(".part");
    part.into()
}

fn write(path: &Path, card: &Card, tensors: &[(String, Tensor)]) -> Result<(), TrainError> {
    let broken = |message: String| TrainError::Checkpoint { path: path.to_path_buf(), message };
    let views = tensors
        .iter()
        .map(|(name, tensor)| {
            TensorView::new(Dtype::F32, tensor.shape().to_vec(), tensor.bytes())
                .map(|view| (name.as_str(), view))
                .map_err(|error| broken(format!("tensor {name}: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let json = serde_json::to_string(card).map_err(|error| broken(error.to_string()))?;
    let metadata = HashMap::from([(OWN.to_string(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| broken(error.to_string()))?;
    write_whole(path, &bytes)
}

/// What inference needs of a session's tensors: the parameters, or their moving averages where there are any.
fn weights(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let average = |name: &str| tensors.iter().find(|(given, _)| given.strip_prefix(AVERAGE) == Some(name));
    let parameters = tensors.iter().filter(|(name, _)| !name.contains('/'));
    parameters.map(|(name, own)| (name.clone(), average(name).map_or(own, |(_, average)| average).clone())).collect()
}

/// Removes the file, where there is one.
fn remove(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TrainError::File { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Removes the weights of epochs in `folder` that are not among `kept` any more.
pub(super) fn prune(folder: &Path, kept: &[Kept]) -> Result<(), TrainError> {
    let failed = |source| TrainError::File { path: folder.to_path_buf(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let epoch = entry.file_name().to_str().and_then(Kept::epoch_of);
        if epoch.is_some_and(|epoch| kept.iter().all(|kept| kept.epoch != epoch)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

impl Session {
    /// What a weights file of this session, trained on `data`, says of itself.
    pub fn card(&self, data: &Dataset, progress: &Progress) -> Card {
        Card {
            model: self.model.name.clone(),
            layers: self.model.layers.clone(),
            input: self.model.input,
            classes: data.classes().to_vec(),
            normalisation: self.normalisation.clone(),
            fit: data.fit(),
            task: self.model.task.name().into(),
            temperature: None,
            thresholds: None,
            progress: progress.clone(),
        }
    }

    /// Writes the weights as `NAME.safetensors` into `folder`.
    ///
    /// # Errors
    /// If the device fails or the file cannot be written.
    pub fn keep_weights(&mut self, folder: &Path, name: &str, card: &Card) -> Result<(), TrainError> {
        let weights = weights(&self.tensors()?);
        write(&folder.join(format!("{name}.safetensors")), card, &weights)
    }

    /// Removes the weights that [`Session::keep_weights`] wrote as `NAME.safetensors` into `folder`, where they are still there.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn discard_weights(&self, folder: &Path, name: &str) -> Result<(), TrainError> {
        remove(&folder.join(format!("{name}.safetensors")))
    }

    /// Writes `last.safetensors`, with `best` also `best.safetensors`, and `resume.safetensors` into `folder`.
    ///
    /// # Errors
    /// If a weight is not finite, the device fails or a file cannot be written; files that were there stay whole.
    pub fn save(&mut self, folder: &Path, card: &Card, best: bool) -> Result<(), TrainError> {
        let tensors = self.tensors()?;
        let weights = weights(&tensors);
        let is_finite = |tensor: &Tensor| tensor.as_f32().is_none_or(|values| values.iter().all(|x| x.is_finite()));
        if let Some((name, _)) = weights.iter().find(|(_, tensor)| !is_finite(tensor)) {
            return Err(TrainError::WeightsNotFinite { parameter: name.clone(), step: card.progress.step });
        }
        if best {
            write(&folder.join(BEST), card, &weights)?;
        }
        write(&folder.join(LAST), card, &weights)?;
        write(&folder.join(RESUME), card, &tensors)
    }

    /// Goes on from the `resume.safetensors` of `folder` and returns how far that run had come.
    ///
    /// # Errors
    /// If the file is missing, truncated, or of another model, data set or optimizer.
    pub fn resume(&mut self, folder: &Path) -> Result<Progress, TrainError> {
        let path = folder.join(RESUME);
        let file = Weights::open(&path)?;
        if (&file.card.model, file.card.input) != (&self.model.name, self.model.input) {
            let message = format!(
                "it is a checkpoint of {} for images of {:?}, not of {} for {:?}",
                file.card.model, file.card.input, self.model.name, self.model.input
            );
            return Err(TrainError::Checkpoint { path, message });
        }
        if file.card.layers != self.model.layers {
            let message = format!("it is a checkpoint of other layers than those of {}", self.model.name);
            return Err(TrainError::Checkpoint { path, message });
        }
        self.restore(|name, shape| file.tensor(name, shape))?;
        self.set_step(file.card.progress.step);
        Ok(file.card.progress)
    }

    /// Checks that a weights file can be read and is of the same model.
    ///
    /// # Errors
    /// As [`Self::load_weights`].
    pub fn check_weights(&self, path: &Path) -> Result<(), TrainError> {
        let file = Weights::open(path)?;
        self.parameters.iter().try_for_each(|parameter| file.tensor(&parameter.name, &parameter.shape).map(drop))
    }

    /// Begins with the weights of a weights file of the same model; moments and counters begin anew.
    ///
    /// # Errors
    /// If the file is missing, truncated or of another model.
    pub fn load_weights(&mut self, path: &Path) -> Result<(), TrainError> {
        let file = Weights::open(path)?;
        self.restore(|name, shape| match name.split_once('/') {
            Some(("average", own)) => file.tensor(own, shape),
            Some(_) => Ok(Tensor::f32(shape, vec![0.0; shape.elements()])),
            None => file.tensor(name, shape),
        })
    }
}
