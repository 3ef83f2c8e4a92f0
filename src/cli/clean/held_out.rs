//! What models say of images that they were not trained on.

use std::path::Path;

use anyhow::{Result, ensure};
use gabor::{
    data::{Dataset, Labels, Loader, LoaderOptions, OpenOptions, Splits},
    report::{ProgressBar, grouped},
    tasks::Predictions,
    train::{Classifier, Inferred, Session, TrainError, Trainer, read_card},
};

use crate::cli::{
    config::{RunConfig, open_data},
    console::Console,
    devices,
    run_folder::{kernels_beside, weights_file},
    train::{Job, sized_as},
};

/// The name of the weights of a fold, which are read at once and not kept.
const WEIGHTS: &str = "fold";

/// What is said of images, a model at a time.
#[derive(Default)]
pub struct HeldOut {
    pub by_model: Vec<Predictions>,
    /// Why there are no embeddings.
    pub without_embeddings: Option<String>,
}

impl HeldOut {
    /// Trains for each of so many folds of the images, and asks each model about the images of its fold. `opened` is how they were
    /// opened.
    pub fn by_training(
        config: &RunConfig,
        images: &Dataset,
        folds: usize,
        opened: &Splits,
        console: Console,
    ) -> Result<Self> {
        let mut all = Self::default();
        for number in 1..=folds {
            console.note(format_args!("training without fold {number} of {folds}"))?;
            let (train, held_out) = images.fold(number, folds, config.images.split_seed)?;
            let splits = Splits {
                train,
                val: None,
                test: None,
                divided: opened.divided,
                sizing: opened.sizing,
                skipped: Vec::new(),
                ignored_files: 0,
                findings: Vec::new(),
            };
            // By the number of the fold it is known what was warned of before.
            let images = OpenOptions { folds: Some(folds), fold: Some(number), ..config.images.clone() };
            let (job, mut session) = Job::begin_on(RunConfig { images, ..config.clone() }, |_| Ok(splits), console)?;
            train_to_the_end(&job, &mut session, console)?;
            all.ask_session(&job, session, held_out, console)?;
        }
        Ok(all)
    }

    /// Asks the models of a run of folds, each about the images of its fold, and the first one about the test images.
    pub fn by_folds(config: &RunConfig, run: &Path, classes: &[String], console: Console) -> Result<Self> {
        let mut all = Self::default();
        for number in 1..=config.images.folds.unwrap_or_default() {
            let weights = weights_file(&run.join(format!("fold-{number}")), None)?;
            check_classes(&weights, classes)?;
            let images = OpenOptions { fold: Some(number), ..config.images.clone() };
            let splits = open_data(config.data.as_deref(), &sized_as(&read_card(&weights)?, images))?;
            let test = splits.test.filter(|_| number == 1);
            all.ask(config, &weights, splits.val.into_iter().chain(test).collect(), console)?;
        }
        Ok(all)
    }

    /// Asks the model of a run about all images.
    pub fn by_run(config: &RunConfig, weights: &Path, images: Dataset, console: Console) -> Result<Self> {
        let mut all = Self::default();
        all.ask(config, weights, vec![images], console)?;
        Ok(all)
    }

    fn ask_session(&mut self, job: &Job, mut session: Session, held_out: Dataset, console: Console) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let card = session.card(&held_out, &gabor::train::Progress::default());
        session.keep_weights(folder.path(), WEIGHTS, &card)?;
        drop(session);
        let weights = folder.path().join(WEIGHTS).with_extension("safetensors");
        self.ask(&job.config, &weights, vec![held_out], console)
    }

    fn ask(&mut self, config: &RunConfig, weights: &Path, sets: Vec<Dataset>, console: Console) -> Result<()> {
        let batch = config.recipe.batch_size();
        let load = |embeddings| -> Result<Classifier, anyhow::Error> {
            let executor = devices::open(&config.device, config.tune, kernels_beside(weights)?, console)?;
            Ok(Classifier::load_for(weights, executor, &Inferred { batch, embeddings, ..Inferred::default() })?)
        };
        let mut classifier = match load(self.without_embeddings.is_none()) {
            Err(error) if matches!(error.downcast_ref(), Some(TrainError::Graph(_))) => {
                self.without_embeddings = Some(error.to_string());
                load(false)?
            }
            loaded => loaded?,
        };
        let options = LoaderOptions { strict: config.images.strict, ..LoaderOptions::new(batch) };
        let loaders = sets.into_iter().map(|set| Loader::new(set, options.clone())).collect::<Result<Vec<_>, _>>()?;
        let bar = console.bar("asking the model about", loaders.iter().map(|loader| loader.dataset().len()).sum());
        self.by_model.push(classifier.predictions(&loaders, &mut |done| bar.set_position(done as u64))?);
        bar.finish_and_clear();
        Ok(())
    }

    /// What all models say together, of images of one class each.
    pub fn joined(&self) -> Predictions {
        let mut all = Predictions::default();
        let mut labels = Vec::new();
        for predictions in &self.by_model {
            all.classes.clone_from(&predictions.classes);
            all.images.extend_from_slice(&predictions.images);
            all.answers.extend_from_slice(&predictions.answers);
            all.losses.extend_from_slice(&predictions.losses);
            labels.extend_from_slice(predictions.labels.classes().unwrap_or_default());
        }
        all.labels = Labels::Classes(labels);
        all
    }
}

fn train_to_the_end(job: &Job, session: &mut Session, console: Console) -> Result<()> {
    let loader = job.training_loader()?;
    let steps = job.config.recipe.steps_an_epoch(loader.batches());
    let epochs = job.config.recipe.total_steps(loader.batches()).div_ceil(steps as u64);
    let mut bar = console.shows_progress().then(|| ProgressBar::new(epochs, steps, console.lines()));
    let mut trainer = Trainer::new(session, &loader);
    if let Some(bar) = &mut bar {
        trainer = trainer.observer(bar);
    }
    trainer.run()?;
    Ok(())
}

/// Refuses a model that tells other classes apart than the data has.
pub fn check_classes(weights: &Path, classes: &[String]) -> Result<()> {
    let card = read_card(weights)?;
    ensure!(
        card.classes == classes,
        "{} tells {} apart, and the classes of the data are {}: give --run a run on the same classes, or leave it out",
        weights.display(),
        card.classes.join(", "),
        classes.join(", ")
    );
    Ok(())
}

/// The images of classes that each fold can have one of, and what is said of the others.
pub fn enough_for(images: &Dataset, folds: usize) -> (Dataset, Option<String>) {
    let Some(labels) = images.labels().classes() else { return (images.clone(), None) };
    let counts = images.class_counts();
    let few = |class: usize| counts[class] < folds;
    let kept: Vec<usize> = (0..images.len()).filter(|&image| !few(labels[image] as usize)).collect();
    let left_out: Vec<String> = (0..counts.len())
        .filter(|&class| few(class))
        .map(|class| format!("{} ({})", images.classes()[class], grouped(counts[class])))
        .collect();
    let note = format!(
        "classes of fewer images than the {folds} folds are not judged for wrong labels and outliers: {}",
        left_out.join(", ")
    );
    (images.subset(&kept), (!left_out.is_empty()).then_some(note))
}
