//! The training loop: epochs of steps, validation, checkpoints, and when to stop.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    BEST, Control, EarlyStopping, EpochReport, Kept, LAST, Measure, ModelCheckpoint, Observer, Progress, RESUME,
    ReduceLrOnPlateau, Session, StepReport, TrainError,
    checkpoint::prune,
    class_losses::ClassLosses,
    monitor::{check_monitor, means},
    session::StepFigures,
    speed::Speed,
};
use crate::{
    data::{Batch, DataError, Loader},
    plan::ExecutorError,
};

/// Runs a session over data: steps, validation, checkpoints, and the observers that follow them.
pub struct Trainer<'a> {
    session: &'a mut Session,
    train: &'a Loader,
    validation: Option<&'a Loader>,
    folder: Option<PathBuf>,
    checkpoint_every: Duration,
    keep_best: Option<usize>,
    look_every: Option<u64>,
    observers: Vec<&'a mut dyn Observer>,
    stop: Arc<AtomicBool>,
    control: Control,
    /// Learning rate of the last step that was reported.
    learning_rate: f64,
    /// The losses since the network was looked into, where they are those of images of one label.
    class_losses: Option<ClassLosses>,
    progress: Progress,
    speed: Speed,
    total: u64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// All epochs, or the largest number of steps, are done.
    Finished,
    /// There was no better epoch for as long as [`Recipe::patience`](super::Recipe::patience) says.
    NotBetter,
    /// It was asked to stop.
    Stopped,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why it ended.
    pub reason: StopReason,
    /// How far it came.
    pub progress: Progress,
    /// The last epoch's report.
    pub last_epoch: Option<EpochReport>,
    /// Seconds.
    pub seconds: f64,
}

impl<'a> Trainer<'a> {
    /// Trains `session` on the images of `train`.
    pub fn new(session: &'a mut Session, train: &'a Loader) -> Self {
        let steps = session.recipe().steps_an_epoch(train.batches());
        let total = session.recipe().total_steps(train.batches());
        session.set_total_steps(total);
        let mixes_labels = session.augmentation().mixes_labels();
        Self {
            session,
            train,
            validation: None,
            folder: None,
            checkpoint_every: Duration::from_secs(300),
            keep_best: None,
            look_every: None,
            observers: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            control: Control::default(),
            learning_rate: 0.0,
            class_losses: (!mixes_labels).then(|| ClassLosses::of(train.dataset())),
            progress: Progress { batches: steps, ..Progress::default() },
            speed: Speed::new(),
            total,
        }
    }

    /// Evaluates on these images after each epoch.
    pub fn validation(mut self, loader: &'a Loader) -> Self {
        self.validation = Some(loader);
        self
    }

    /// Writes checkpoints into this folder, which must exist: after each epoch, and after this time within one.
    pub fn checkpoints(mut self, folder: impl Into<PathBuf>, every: Duration) -> Self {
        self.folder = Some(folder.into());
        self.checkpoint_every = every;
        self
    }

    /// Keeps the weights of so many of the best epochs in the folder of checkpoints, each as `best-EPOCH.safetensors`.
    pub fn keep_best(mut self, count: usize) -> Self {
        self.keep_best = Some(count);
        self
    }

    /// Looks into the network at the first step, after each `steps` steps and at the last one: [`Observer::on_vitals`]. That takes
    /// about a fourth of a step of 128 images.
    pub fn look_every(mut self, steps: u64) -> Self {
        self.look_every = Some(steps.max(1));
        self
    }

    /// Has an observer follow the run.
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observers.push(observer);
        self
    }

    /// Ends the run after the present step, with a checkpoint, once this flag is set.
    pub fn stop_flag(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Goes on from where [`Session::resume`] found the run.
    ///
    /// # Errors
    /// If the run had another number of steps an epoch: its data or its batch size were others.
    pub fn resume(mut self, progress: Progress) -> Result<Self, TrainError> {
        let steps = self.progress.batches;
        if progress.batches != steps {
            return Err(TrainError::Setting(format!(
                "the run had {} steps an epoch and this data with this batch size has {steps}: resume it with the same \
                 data and batch size",
                progress.batches,
            )));
        }
        self.progress = progress;
        Ok(self)
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// If the loss stops being a number, an image cannot be read, a file cannot be written or the device fails.
    pub fn run(mut self) -> Result<Outcome, TrainError> {
        let result = self.epochs();
        result.map_err(|error| match error {
            TrainError::Executor(ExecutorError::Lost(reason)) => {
                TrainError::DeviceLost { reason, checkpoint: self.folder.filter(|folder| has_checkpoint(folder)) }
            }
            other => other,
        })
    }

    fn epochs(&mut self) -> Result<Outcome, TrainError> {
        let started = Instant::now();
        check_monitor(self.session, self.validation.map(Loader::dataset))?;
        self.session.begin_from(self.train)?;
        if let Some(folder) = &self.folder {
            // What somebody removed is not among the best any more.
            self.progress.kept.retain(|kept| folder.join(format!("{}.safetensors", kept.name())).is_file());
        }
        let mut last_epoch = None;
        let mut reason = StopReason::Finished;
        while self.progress.step < self.total {
            let epoch_started = Instant::now();
            self.unfreeze()?;
            let finished = self.epoch()?;
            if !finished {
                self.checkpoint(false)?;
                reason = StopReason::Stopped;
                break;
            }
            last_epoch = Some(self.end_epoch(epoch_started)?);
            if self.is_out_of_patience() {
                reason = StopReason::NotBetter;
                break;
            }
            if self.is_stopped() && self.progress.step < self.total {
                reason = StopReason::Stopped;
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(Outcome { reason, progress: self.progress.clone(), last_epoch, seconds })
    }

    /// Trains all from the epoch on in which that is due.
    fn unfreeze(&mut self) -> Result<(), TrainError> {
        let after = self.session.recipe().held_back_steps(self.progress.batches);
        if self.progress.step < after {
            return Ok(());
        }
        let finished = self.session.unfreeze(after)?;
        self.report(finished)
    }

    /// The steps of the present epoch; false where the run was stopped in it.
    fn epoch(&mut self) -> Result<bool, TrainError> {
        let epoch = self.progress.epochs();
        let start = (self.progress.step % self.progress.batches as u64) as usize;
        let mut checkpointed = Instant::now();
        self.speed = Speed::new();
        let train = self.train;
        let accumulate = self.session.recipe().accumulate;
        let mut batches = train.epoch(epoch, start * accumulate).peekable();
        let mut group = Vec::with_capacity(accumulate);
        while let Some(batch) = batches.next() {
            match batch {
                Ok(batch) => group.push(batch),
                Err(source) => return Err(self.image_lost(source)),
            }
            if group.len() < accumulate && batches.peek().is_some() {
                continue;
            }
            let rate = self.learning_rate(self.session.step());
            let looks = self.looks_into(self.session.step() + 1) && self.watch()?;
            let finished = self.session.train_step_on(&mut group, rate)?;
            self.report(finished)?;
            if let Some(batch) = group.first().filter(|_| looks) {
                self.look(batch, rate)?;
            }
            group.drain(..).for_each(|batch| train.recycle(batch));
            let submitted = self.session.step();
            if submitted >= self.total {
                break;
            }
            // At the end of the epoch its report and a checkpoint follow anyway.
            let within = !submitted.is_multiple_of(self.progress.batches as u64);
            if within && self.is_stopped() {
                self.drain()?;
                return Ok(false);
            }
            if !self.control.keep.is_empty() {
                self.drain()?;
                self.keep_weights()?;
            }
            if within && self.folder.is_some() && checkpointed.elapsed() >= self.checkpoint_every {
                self.drain()?;
                self.checkpoint(false)?;
                checkpointed = Instant::now();
            }
        }
        self.drain()?;
        Ok(true)
    }

    fn looks_into(&self, step: u64) -> bool {
        let is_due = |every: u64| step == 1 || step == self.total || step.is_multiple_of(every);
        self.look_every.is_some_and(is_due) && !self.observers.is_empty()
    }

    /// Makes ready to look into the network; where there is no memory for that, it is left out from now on.
    fn watch(&mut self) -> Result<bool, TrainError> {
        match self.session.watch() {
            Ok(()) => Ok(true),
            Err(TrainError::Executor(ExecutorError::OutOfMemory { .. })) => {
                tracing::warn!("there is not enough memory to look into the network: the run goes on without");
                self.look_every = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells observers what happens inside of the network after a step on this batch.
    fn look(&mut self, batch: &Batch, learning_rate: f64) -> Result<(), TrainError> {
        if let Some(mut vitals) = self.session.vitals(batch, learning_rate)? {
            vitals.class_losses = self.class_losses.as_mut().map_or_else(Vec::new, ClassLosses::take);
            for observer in &mut self.observers {
                observer.on_vitals(&vitals, &mut self.control)?;
            }
        }
        Ok(())
    }

    /// The error of a run that an image ends, after a checkpoint where there is a folder for it.
    fn image_lost(&mut self, source: DataError) -> TrainError {
        match self.drain().and_then(|()| self.checkpoint(false)) {
            Ok(()) => TrainError::ImageLost { source, checkpoint: self.folder.clone() },
            Err(error) => error,
        }
    }

    fn drain(&mut self) -> Result<(), TrainError> {
        let finished = self.session.finish_steps()?;
        self.report(finished)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let recipe = self.session.recipe();
        let factor = recipe.schedule.factor(step, self.total, recipe.warmup_steps);
        recipe.learning_rate * factor * self.progress.learning_rate_factor
    }

    fn is_stopped(&self) -> bool {
        self.control.stop || self.stop.load(Ordering::Relaxed)
    }

    fn is_out_of_patience(&self) -> bool {
        let patience = self.session.recipe().patience;
        patience.is_some_and(|epochs| self.progress.epochs_without_better >= epochs)
    }

    /// Follows whether epochs become better, and lowers the learning rate where they do not.
    fn follow(&mut self, measure: Measure, epoch: u64) {
        let recipe = self.session.recipe();
        let progress = &mut self.progress;
        let (best, min_delta) = (progress.plateau_best, recipe.min_delta);
        if let Some(patience) = recipe.plateau {
            let least = if recipe.learning_rate > 0.0 { recipe.min_lr / recipe.learning_rate } else { 0.0 };
            let mut plateau = ReduceLrOnPlateau {
                min_delta,
                factor: recipe.plateau_factor,
                least,
                best,
                waited: epoch - 1 - progress.plateau_epoch,
                scale: progress.learning_rate_factor,
                ..ReduceLrOnPlateau::new(patience)
            };
            progress.learning_rate_factor = plateau.update(measure);
            progress.plateau_epoch = epoch - plateau.waited;
        }
        let waited = progress.epochs_without_better;
        let mut stopping = EarlyStopping { min_delta, best, waited, ..EarlyStopping::new(u64::MAX) };
        stopping.update(measure);
        (progress.plateau_best, progress.epochs_without_better) = (stopping.best, stopping.waited);
    }

    /// Takes in what observers have set.
    fn steer(&mut self) -> Result<(), TrainError> {
        if let Some(factor) = self.control.learning_rate_factor.take() {
            if !(factor >= 0.0 && factor.is_finite()) {
                let message = format!("a factor of {factor} of the learning rate is not possible: give 0 or more");
                return Err(TrainError::Setting(message));
            }
            self.progress.learning_rate_factor = factor;
        }
        Ok(())
    }

    /// Writes the weights that observers want to keep.
    fn keep_weights(&mut self) -> Result<(), TrainError> {
        for name in std::mem::take(&mut self.control.keep) {
            check_name(&name)?;
            let Some(folder) = &self.folder else {
                let message = format!("weights cannot be kept as {name}: the run has no folder for checkpoints");
                return Err(TrainError::Setting(message));
            };
            let card = self.session.card(self.train.dataset(), &self.progress);
            self.session.keep_weights(folder, &name, &card)?;
        }
        Ok(())
    }

    /// Has the weights of an epoch kept that is one of the best.
    fn keep_if_among_best(&mut self, measure: Measure, epoch: u64) {
        let (Some(count), Some(_)) = (self.keep_best, &self.folder) else { return };
        let kept = std::mem::take(&mut self.progress.kept);
        let mut checkpoint = ModelCheckpoint { kept, ..ModelCheckpoint::new(count) };
        if checkpoint.update(epoch, measure).0 {
            self.control.keep_weights(Kept { epoch, value: measure.value }.name());
        }
        self.progress.kept = checkpoint.kept;
    }

    /// Removes what observers do not want to keep any more, and the weights of epochs that are not among the best any more.
    fn discard_weights(&mut self) -> Result<(), TrainError> {
        let discarded = std::mem::take(&mut self.control.discard);
        let Some(folder) = &self.folder else { return Ok(()) };
        for name in discarded {
            check_name(&name)?;
            self.session.discard_weights(folder, &name)?;
        }
        match self.keep_best {
            Some(_) => prune(folder, &self.progress.kept),
            None => Ok(()),
        }
    }

    fn report(&mut self, finished: Vec<StepFigures>) -> Result<(), TrainError> {
        for figures in finished {
            let epoch = self.progress.epochs();
            if !figures.loss.is_finite() {
                return Err(self.not_finite(figures, epoch));
            }
            self.progress.step = figures.step;
            self.progress.loss_sum += f64::from(figures.loss) * f64::from(figures.weight);
            self.progress.weight_sum += f64::from(figures.weight);
            self.progress.metric_sums.resize(figures.metric_sums.len(), 0.0);
            self.progress.metric_sums.iter_mut().zip(&figures.metric_sums).for_each(|(sum, new)| *sum += new);
            let images = figures.losses.len();
            if let Some(classes) = &mut self.class_losses {
                classes.take_in(self.train.dataset().labels(), &figures.losses);
            }
            self.progress.images += images;
            self.speed.add(images);
            let report = StepReport {
                step: figures.step,
                epoch: epoch + 1,
                total_steps: self.total,
                loss: figures.loss,
                metrics: means(self.session.metrics(), &figures.metric_sums, images),
                losses: figures.losses,
                learning_rate: figures.learning_rate,
                images_per_second: self.speed.recent(),
            };
            self.learning_rate = figures.learning_rate;
            for observer in &mut self.observers {
                observer.on_step(&report, &mut self.control)?;
            }
            self.steer()?;
        }
        Ok(())
    }

    fn not_finite(&mut self, figures: StepFigures, epoch: u64) -> TrainError {
        match self.place_of(&figures, epoch) {
            Ok(place) => TrainError::NotFinite { loss: figures.loss, step: figures.step, epoch: epoch + 1, place },
            Err(error) => error,
        }
    }

    /// Where the first value that is not finite appeared in a step.
    fn place_of(&mut self, figures: &StepFigures, epoch: u64) -> Result<String, TrainError> {
        let accumulate = self.session.recipe().accumulate;
        let first = ((figures.step - 1) % self.progress.batches as u64) as usize * accumulate;
        for (at, number) in (first..(first + accumulate).min(self.train.batches())).enumerate() {
            let mut batch = self.train.batch(epoch, number)?;
            if let Some(place) = self.session.diagnose(&mut batch, figures.step, at)? {
                return Ok(place);
            }
        }
        Ok("a computation that the CPU repeats without it".to_string())
    }

    fn end_epoch(&mut self, started: Instant) -> Result<EpochReport, TrainError> {
        let images_per_second = self.speed.overall();
        let validation = match self.validation {
            Some(loader) => {
                let (total, observers) = (loader.dataset().len(), &mut self.observers);
                let mut progress = |done| observers.iter_mut().for_each(|observer| observer.on_evaluation(done, total));
                Some(self.session.evaluate_with_progress(loader, &mut progress)?)
            }
            None => None,
        };
        let progress = &mut self.progress;
        let train_loss = progress.loss_sum / progress.weight_sum.max(f64::MIN_POSITIVE);
        let train_metrics = means(self.session.metrics(), &progress.metric_sums, progress.images);
        let epoch = progress.step.div_ceil(progress.batches as u64);
        // The end of a run within an epoch is none: the epoch goes on when the run does.
        let whole = progress.step.is_multiple_of(progress.batches as u64);
        if whole {
            (progress.loss_sum, progress.weight_sum, progress.images) = (0.0, 0.0, 0);
            progress.metric_sums.fill(0.0);
        }
        let mut report = EpochReport {
            epoch,
            step: progress.step,
            train_loss,
            train_metrics,
            validation,
            learning_rate: self.learning_rate,
            images_per_second,
            seconds: started.elapsed().as_secs_f64(),
            logged: Vec::new(),
            best: false,
        };
        let measure = Measure::of_epoch(self.session.recipe().monitor.as_deref(), &report)?;
        report.best = self.progress.take_in(measure, epoch, whole);
        // The files of the observers first: a checkpoint must not be ahead of them.
        for observer in &mut self.observers {
            report.logged.clone_from(&self.control.logged);
            observer.on_epoch(&report, &mut self.control)?;
        }
        report.logged = std::mem::take(&mut self.control.logged);
        if whole {
            self.follow(measure, epoch);
            self.keep_if_among_best(measure, epoch);
        }
        self.steer()?;
        // What a checkpoint says is kept must be there before it.
        self.keep_weights()?;
        self.checkpoint(report.best)?;
        self.discard_weights()?;
        Ok(report)
    }

    fn checkpoint(&mut self, best: bool) -> Result<(), TrainError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let card = self.session.card(self.train.dataset(), &self.progress);
        self.session.save(folder, &card, best)?;
        for observer in &mut self.observers {
            observer.on_checkpoint(&self.progress)?;
        }
        Ok(())
    }
}

/// Fails where weights of an observer cannot have this name.
fn check_name(name: &str) -> Result<(), TrainError> {
    let taken = [BEST, LAST, RESUME].iter().any(|file| file.strip_suffix(".safetensors") == Some(name));
    if taken || name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(TrainError::Setting(format!("weights cannot be kept as {name:?}: give them another name")));
    }
    Ok(())
}

fn has_checkpoint(folder: &Path) -> bool {
    folder.join(super::checkpoint::RESUME).is_file()
}
