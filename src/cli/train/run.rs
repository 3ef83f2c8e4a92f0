//! A run from its configuration to its result.

use std::{path::Path, process::ExitCode, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Error, Result, bail, ensure};
use gabor::{
    data::{Dataset, Fingerprints, Loader, LoaderOptions, Normalisation, OpenOptions, Order, Splits},
    models::{Architecture, Teacher},
    plan::Choices,
    report::{About, Diagnosis, EpochLog, ProgressBar, StepLog, TensorBoardLog, VitalsLog},
    tasks,
    train::{Card, Outcome, Pretrained, Progress, Session, StopReason, Trainer, check_monitor, read_card},
};
use serde_json::{Map, Value};

use super::{
    doctor::{Doctor, warn},
    judged::Judged,
    summary,
    tui::Tui,
};
use crate::cli::{
    compare::flatten,
    config::{RunConfig, open_data},
    console::Console,
    devices, interrupt, pretrained,
    run_folder::{RunFolder, read_data, weights_file},
    values::Normalise,
};

/// How a run ended.
pub struct Ended {
    /// Whether it was not stopped before its end.
    pub finished: bool,
    /// What it reached, as JSON and as text.
    pub figures: Value,
    pub text: String,
}

impl Ended {
    /// Prints it, and gives the exit code that says so.
    pub fn tell(&self, console: Console) -> Result<ExitCode> {
        let mut figures = self.figures.clone();
        figures["event"] = "result".into();
        console.result(&figures, &self.text)?;
        Ok(if self.finished { ExitCode::SUCCESS } else { ExitCode::from(interrupt::EXIT_CODE) })
    }
}

/// Trains anew.
pub fn start(config: RunConfig, out: Option<&Path>, console: Console) -> Result<Ended> {
    start_like(config, out, None, console)
}

/// Trains anew, on the data of an `earlier` run with another fold.
pub fn start_like(
    mut config: RunConfig,
    out: Option<&Path>,
    earlier: Option<&Path>,
    console: Console,
) -> Result<Ended> {
    config.make_paths_absolute();
    let (job, session) = Job::begin(config, console)?;
    if let Some(earlier) = earlier
        && let Some(data) = read_data(earlier)?
        && let Some(change) = job.fingerprints().changes_since_fold(&data)
    {
        bail!(
            "the data has changed since the run in {} began: {change}. Put it back as it was, or go on with it as it is by \
             --allow-changed-data",
            earlier.display()
        );
    }
    let folder = RunFolder::create(out, &session.model().name)?;
    job.config.write(&folder.config())?;
    folder.write_kernels(&session.kernels())?;
    folder.write_classes(job.splits.classes())?;
    folder.write_data(&job.fingerprints())?;
    let result = job.run(session, &folder, None, console);
    if result.is_err() && !folder.holds_results() {
        folder.discard();
    }
    result
}

/// Goes on with the run in `folder`, whose data may be another than it began with only where that is `allowed`.
pub fn resume(config: RunConfig, folder: &RunFolder, allowed: bool, console: Console) -> Result<Ended> {
    let card = read_card(&folder.resume())?;
    // The normalisation and the size as they were chosen when the run began: the weights were trained for them.
    let images = sized_as(&card, config.images);
    let config = RunConfig { images, ..config };
    let normalisation = |_: &RunConfig, _: &Dataset| Ok(card.normalisation.clone());
    let (job, mut session) = Job::prepare(config, data_of, normalisation, folder.read_kernels()?, console)?;
    ensure!(
        card.classes == job.splits.classes(),
        "the data has changed: the run in {} tells {} apart, and the classes of the data are {}",
        folder.path().display(),
        card.classes.join(", "),
        job.splits.classes().join(", ")
    );
    let data = job.check_data(folder, allowed)?;
    let progress = session.resume(folder.path())?;
    if progress.best.is_some() && !folder.best().is_file() {
        bail!(
            "{} is missing, the weights of epoch {}, which was the best: put it back, or copy {} to its place, whose weights \
             are then taken for the best so far",
            folder.best().display(),
            progress.best_epoch,
            folder.last().display()
        );
    }
    if progress.best.is_some() {
        session.check_weights(&folder.best()).with_context(|| {
            format!(
                "the weights of epoch {}, which was the best, cannot be read: put the file back as it was, or copy {} to its \
                 place, whose weights are then taken for the best so far",
                progress.best_epoch,
                folder.last().display()
            )
        })?;
    }
    let batches = job.splits.train.len().div_ceil(job.config.recipe.batch_size());
    // Where nothing is trained any more, the run stays what its configuration says that it is.
    if progress.step < job.config.recipe.total_steps(batches) {
        job.config.write(&folder.config())?;
        folder.write_data(&data)?;
    }
    folder.write_kernels(&session.kernels())?;
    job.run(session, folder, Some(progress), console)
}

/// The data that a configuration names.
fn data_of(config: &RunConfig) -> Result<Splits> {
    Ok(open_data(config.data.as_deref(), &config.images)?)
}

/// The options by which images are brought to the size that a model was trained for.
pub fn sized_as(card: &Card, options: OpenOptions) -> OpenOptions {
    let [height, width, channels] = card.input;
    OpenOptions { height_width: Some((height, width)), channels: Some(channels), fit: card.fit.into(), ..options }
}

/// What a run is about.
pub struct Job {
    pub config: RunConfig,
    pub splits: Splits,
    /// Whether the network was chosen because it suits the images.
    pub suiting: bool,
    /// Whether the size of batches was.
    pub batch_suits: bool,
    /// What it began with, where these are the weights of a file.
    pub begun: Option<String>,
}

impl Job {
    /// What a new run is about, with its session at its beginning.
    pub fn begin(config: RunConfig, console: Console) -> Result<(Self, Session)> {
        Self::begin_on(config, data_of, console)
    }

    /// As [`Job::begin`], on the data that `open` gives.
    pub fn begin_on(
        mut config: RunConfig,
        open: impl FnOnce(&RunConfig) -> Result<Splits>,
        console: Console,
    ) -> Result<(Self, Session)> {
        let pretrained = config.pretrained.as_deref().map(pretrained::open).transpose()?;
        if let Some(pretrained) = &pretrained {
            // Grey images are as bright in each channel of weights for colours.
            config.images.channels.get_or_insert(pretrained.channels());
            config.model = config.model.or_else(|| pretrained.architecture());
        }
        let normalisation = |config: &RunConfig, train: &Dataset| {
            // Weights for other channels do not fit, which is told where they are read.
            let fitting = pretrained.as_ref().filter(|weights| weights.channels() == train.image_size().channels);
            config.normalise.resolve(train, fitting.map(|pretrained| pretrained.normalisation().0))
        };
        let (mut job, mut session) = Self::prepare(config, open, normalisation, Choices::default(), console)?;
        if let Some(pretrained) = &pretrained {
            let begun = session.begin_with(pretrained, job.splits.classes())?;
            job.begun = Some(format!("{}: {begun}{}", pretrained.path().display(), job.normalised(pretrained)));
        }
        Ok((job, session))
    }

    fn prepare(
        mut config: RunConfig,
        open: impl FnOnce(&RunConfig) -> Result<Splits>,
        normalisation: impl Fn(&RunConfig, &Dataset) -> Result<Normalisation>,
        kernels: Choices,
        console: Console,
    ) -> Result<(Self, Session)> {
        // First what needs no data: opening that can take a while.
        config.check().map_err(Error::msg)?;
        let executor = devices::open(&config.device, config.tune, kernels, console)?;
        let splits = open(&config)?;
        // What is odd about the data is odd in each fold.
        if config.images.fold.is_none_or(|fold| fold == 1) {
            warn(splits.findings.iter().map(ToString::to_string));
        }
        // Also before there is a folder.
        config.recipe.sample.weights(&splits.train)?;
        let size = splits.image_size();
        let input = [size.height, size.width, size.channels];
        let batch_suits = config.recipe.batch_size.is_none();
        config.recipe.suit_batch_size(splits.train.len());
        if splits.sizing.has_ends() {
            config.recipe.augment.keep_ends(input);
        }
        let task = tasks::for_data(&splits.train, config.recipe.balance_classes);
        let suiting = config.model.is_none();
        let architecture = config.model.get_or_insert_with(|| Architecture::suiting(input, splits.images()));
        let mut model = architecture.build(input, splits.classes().len()).map_err(Error::msg)?.with_task(task);
        if let Some((teacher, card)) = find_teacher(&mut config)? {
            ensure!(
                card.classes == splits.classes(),
                "the `teacher` tells {} apart, and the classes of the data are {}: give one that was trained for the same",
                card.classes.join(", "),
                splits.classes().join(", ")
            );
            model = model.with_teacher(teacher);
        }
        let normalisation = normalisation(&config, &splits.train)?;
        if config.images.fold.is_none_or(|fold| fold == 1) {
            let batches = splits.train.len().div_ceil(config.recipe.batch_size());
            warn(config.recipe.without_effect(&model, batches));
        }
        let session = Session::new(executor, model, config.recipe.clone(), normalisation)?;
        check_monitor(&session, splits.val.as_ref())?;
        Ok((Self { config, splits, suiting, batch_suits, begun: None }, session))
    }

    /// That images are normalised as pretrained weights want it, where they are.
    fn normalised(&self, pretrained: &Pretrained) -> String {
        match self.config.normalise {
            Normalise::Auto => format!("; images are normalised {}", pretrained.normalisation().1),
            _ => String::new(),
        }
    }

    /// What tells its data from other data.
    fn fingerprints(&self) -> Fingerprints {
        self.config.fingerprints(&self.splits)
    }

    /// What tells its data from other data, which must be what the run in `folder` began with unless others are `allowed`.
    fn check_data(&self, folder: &RunFolder, allowed: bool) -> Result<Fingerprints> {
        let data = self.fingerprints();
        let changes = read_data(folder.path())?.map_or(Vec::new(), |earlier| data.changes_since(&earlier)).join(", ");
        ensure!(
            allowed || changes.is_empty(),
            "the data has changed since the run in {} began: {changes}. Put it back as it was, or go on with it as it is by \
             --allow-changed-data",
            folder.path().display()
        );
        Ok(data)
    }

    fn run(
        &self,
        mut session: Session,
        folder: &RunFolder,
        resumed: Option<Progress>,
        console: Console,
    ) -> Result<Ended> {
        console.note(summary::of_run(self, &session, folder, resumed.as_ref()))?;
        if let Some(mut events) = console.events() {
            events.write("run", summary::begun(self, &session, folder, resumed.as_ref())?)?;
        }
        let mut board = self.board(folder, resumed.as_ref())?;
        if let Some(board) = &mut board {
            board.graph(session.model())?;
        }
        if resumed.is_none() {
            folder.forget_findings()?;
        }
        let mut doctor = Doctor::new(self.diagnosis(&session), folder.path().into(), console);
        let outcome = self.train(&mut session, folder, resumed, (&mut doctor, board.as_mut()), console)?;
        let symptoms = doctor.end()?;
        let finished = outcome.reason != StopReason::Stopped;
        let judged = if finished { self.judge(&mut session, folder, &outcome.progress, console)? } else { None };
        let test = judged.as_ref().filter(|judged| judged.is_test).map(|judged| judged.evaluation.clone());
        if let Some(judged) = &judged {
            self.report(&session, folder, &outcome.progress, judged);
        }
        if let Some(board) = board.as_mut().filter(|_| finished) {
            board.end(outcome.progress.step, judged.as_ref().map(Judged::shown).as_ref())?;
        }
        let text = summary::of_outcome(self, &session, folder, &outcome, test.as_ref());
        let mut figures = summary::figures(self, &session, folder, &outcome, test.as_ref());
        if let Some(findings) = figures["findings"].as_array_mut() {
            findings.extend(symptoms.into_iter().map(Value::from));
        }
        Ok(Ended { finished, figures, text })
    }

    fn train(
        &self,
        session: &mut Session,
        folder: &RunFolder,
        resumed: Option<Progress>,
        (doctor, board): (&mut Doctor, Option<&mut TensorBoardLog>),
        console: Console,
    ) -> Result<Outcome> {
        let stop = interrupt::stop_flag()?;
        let train = self.training_loader()?;
        let validation = self.splits.val.clone().map(|set| self.loader(set)).transpose()?;
        let (mut epochs, mut steps) = self.logs(folder, resumed.as_ref())?;
        let count = self
            .config
            .recipe
            .total_steps(train.batches())
            .div_ceil(self.config.recipe.steps_an_epoch(train.batches()) as u64);
        let mut vitals = VitalsLog::open(&folder.vitals(), resumed.as_ref())?;
        let mut events = console.events();
        let batches = self.config.recipe.steps_an_epoch(train.batches());
        let title = format!("{} on {}, {}", session.model().name, self.config.data_name(), session.device());
        let about = || About { title, epochs: count, batches, images: self.splits.train.clone() };
        let mut tui = if console.is_tui() { Tui::open(about())? } else { None };
        let has_bar = console.shows_progress() && tui.is_none();
        let mut bar = has_bar.then(|| ProgressBar::new(count, batches, console.lines()));

        let mut trainer = Trainer::new(session, &train)
            .checkpoints(folder.path(), Duration::from_secs_f64(self.config.checkpoint_every))
            .stop_flag(stop.clone())
            .observer(&mut epochs);
        if self.config.look_every > 0 {
            trainer = trainer.look_every(self.config.look_every);
        }
        if let Some(count) = self.config.keep_best {
            trainer = trainer.keep_best(count);
        }
        if let Some(steps) = &mut steps {
            trainer = trainer.observer(steps);
        }
        if let Some(board) = board {
            trainer = trainer.observer(board);
        }
        if let Some(bar) = &mut bar {
            trainer = trainer.observer(bar);
        }
        if let Some(tui) = &mut tui {
            trainer = trainer.observer(&mut tui.dashboard);
        }
        if let Some(events) = &mut events {
            trainer = trainer.observer(events);
        }
        trainer = trainer.observer(&mut vitals).observer(doctor);
        if let Some(validation) = &validation {
            trainer = trainer.validation(validation);
        }
        if let Some(progress) = resumed {
            trainer = trainer.resume(progress)?;
        }
        let outcome = trainer.run()?;
        // There is nothing left to save: from now on the first Ctrl-C ends the process.
        stop.store(true, Ordering::Relaxed);
        Ok(outcome)
    }

    pub fn training_loader(&self) -> Result<Loader> {
        let recipe = &self.config.recipe;
        let has_classes = self.splits.train.labels().classes().is_some();
        let options = LoaderOptions {
            order: Order::Shuffled { seed: recipe.seed },
            class_weights: (recipe.balance_classes && has_classes).then(|| self.splits.train.balanced_class_weights()),
            image_weights: recipe.sample.weights(&self.splits.train)?,
            strict: self.config.images.strict,
            ..LoaderOptions::new(recipe.batch_size())
        };
        Ok(Loader::new(self.splits.train.clone(), options)?)
    }

    pub(super) fn loader(&self, set: Dataset) -> Result<Loader> {
        let strict = self.config.images.strict;
        Ok(Loader::new(set, LoaderOptions { strict, ..LoaderOptions::new(self.config.recipe.batch_size()) })?)
    }

    fn logs(&self, folder: &RunFolder, resumed: Option<&Progress>) -> Result<(EpochLog, Option<StepLog>)> {
        let (metrics, steps) = (folder.metrics(), folder.steps());
        let epochs = match resumed {
            Some(progress) => EpochLog::resume(&metrics, progress)?,
            None => EpochLog::create(&metrics)?,
        };
        let steps = self.config.log_steps.then(|| match resumed {
            Some(progress) => StepLog::resume(&steps, progress),
            None => StepLog::create(&steps),
        });
        Ok((epochs, steps.transpose()?))
    }

    /// What looks at how the run goes.
    fn diagnosis(&self, session: &Session) -> Diagnosis {
        let recipe = session.recipe();
        let classes = self.splits.classes().len() as f64;
        let guessing = if self.splits.train.labels().classes().is_some() { classes.ln() } else { 2f64.ln() };
        // Weights that were trained do not guess, and other losses are not that of guessing.
        let is_known = self.begun.is_none() && session.model().teacher.is_none() && recipe.focal.is_none();
        let diagnosis = Diagnosis::new(is_known.then_some(guessing), recipe.warmup_steps);
        // The losses of images that are mixed with others are not theirs.
        if session.augmentation().mixes_labels() { diagnosis } else { diagnosis.images(self.splits.train.clone()) }
    }

    /// The event file of TensorBoard, where one is asked for.
    fn board(&self, folder: &RunFolder, resumed: Option<&Progress>) -> Result<Option<TensorBoardLog>> {
        if !self.config.tensorboard {
            return Ok(None);
        }
        let mut settings = Map::new();
        flatten("", &serde_json::to_value(&self.config)?, &mut settings);
        Ok(Some(TensorBoardLog::create(
            folder.path(),
            self.splits.classes(),
            &settings,
            resumed.map(|progress| progress.step),
        )?))
    }
}

/// The teacher that the configuration names, which must be the one that it knows where it knows one.
pub fn find_teacher(config: &mut RunConfig) -> Result<Option<(Teacher, Card)>> {
    let Some(path) = &config.teacher else { return Ok(None) };
    let file = weights_file(path, None).context("there is no `teacher` to learn from")?;
    let teacher = Teacher::load(&file)?;
    let digest = teacher.digest();
    ensure!(
        config.teacher_sha256.as_ref().is_none_or(|known| *known == digest),
        "the `teacher` {} is another one than when the run began: put that one back, or begin anew",
        file.display()
    );
    config.teacher_sha256 = Some(digest);
    Ok(Some((teacher, read_card(&file)?)))
}
