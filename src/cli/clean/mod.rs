//! `gabor clean`: what is wrong with a data set.

mod found;
mod held_out;
mod kind;
mod sheet;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Error, Result, bail, ensure};
use clap::{Args, Command, ValueEnum};
use gabor::{
    audit::{self, Look, Pool},
    augment::Preset,
    data::{OpenOptions, Skipped, Splits},
    tasks::Predictions,
    train::{Recipe, read_card, write_whole},
};
use serde_json::json;

use super::{
    config::{RunConfig, of_other_data, open_data},
    console::Console,
    given::Given,
    place::same_place,
    run_folder::{config_beside, weights_file},
    train::sized_as,
};
use found::Findings;
use held_out::{HeldOut, check_classes, enough_for};
use kind::Kind;

/// Find what is wrong with a data set
///
/// Looks for copies of images, exact and near, also between training, validation and test images; for labels that are probably
/// wrong and images unlike all others of their class; and for dark, overexposed, flat, blurred, tiny and oddly proportioned
/// images. Nothing is deleted or changed: what is found is in list.csv, the worst of each kind first, and with pictures in sheet.html.
///
/// The score of a wrong label is the confidence in the class that it rather should be (the order is by how far that is above the
/// class that it has), of a copy the likeness, of an outlier the distance to its class, and else what was measured of the image.
///
/// Wrong labels are found by confident learning: a network is trained for each of a few folds of all images, and asked about those
/// that it was not trained on. Of a run that `gabor train --folds` made, its own networks are asked; of another run, its settings
/// are used to train. Without wrong labels and outliers nothing is trained.
///
/// Images are divided as `gabor train` would divide them: a copy in another part is a leak.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor clean flowers
  gabor clean flowers --only leaks,duplicates,near-duplicates
  gabor clean flowers --only labels --epochs 10 --out labels
  gabor clean --run runs/resnet18-1
  gabor clean --run runs/resnet18-1 --only outliers --json")]
pub struct CleanArgs {
    /// The folder of the data [default: that of --run, or the bundled part of MNIST]
    data: Option<PathBuf>,
    /// A run on this data: its settings train the networks that are asked, or, of a run of folds, its own networks are asked
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// What to look for, apart by commas [default: all]
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// The folder for list.csv and sheet.html, in which there are none yet [default: clean, or clean-N with the next free number]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many times to go through the images of each fold: a network that is trained for long learns wrong labels by heart
    /// [default: as --run, or 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epochs: Option<u32>,
    /// Pixels of the shorter side below which an image is tiny [default: a quarter of that of the median image]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    smallest: Option<u32>,
    /// What to compute on: auto, gpu, cpu, or the number or a part of the name of a device [default: as --run, or auto]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[command(flatten)]
    options: Given<OpenOptions>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The folds that are trained for, where none are given.
const FOLDS: usize = 5;
/// How often the images of a fold are gone through, where nothing says it.
const EPOCHS: usize = 5;
/// What is written.
const LIST: &str = "list.csv";
const SHEET: &str = "sheet.html";
/// The name of the folder for it.
const FOLDER: &str = "clean";

/// The run that is named.
struct Run {
    /// The folder or file.
    path: PathBuf,
    /// Its weights; of a run of folds those of the first.
    weights: PathBuf,
    config: RunConfig,
}

impl Run {
    fn open(path: &Path) -> Result<Self> {
        let first_fold = path.join("fold-1");
        let weights = weights_file(if first_fold.is_dir() { &first_fold } else { path }, None)?;
        let beside = if first_fold.is_dir() { &path.join("weights") } else { &weights };
        let config = config_beside(beside)?;
        let config = config.with_context(|| {
            format!(
                "there is no config.toml beside {} that says how it was trained: leave --run out",
                weights.display()
            )
        })?;
        Ok(Self { path: path.into(), weights, config })
    }
}

/// What the flags come to.
struct Plan {
    config: RunConfig,
    run: Option<Run>,
    /// Whether its networks are asked, each about the images of its fold.
    asks_folds: bool,
    /// The folds that are trained for otherwise.
    folds: usize,
    kinds: Vec<Kind>,
    smallest: Option<usize>,
}

/// Says of the flags for images what they mean here.
pub fn complete(command: Command) -> Command {
    let folds =
        "Folds of all images, for each of which a network is trained that is asked about it [default: as --run, or 5]";
    command.mut_arg("folds", |arg| arg.help(folds)).mut_arg("fold", |arg| arg.hide(true))
}

impl CleanArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let out = self.out.clone();
        let plan = self.plan()?;
        let folder = make_folder(out.as_deref())?;
        let result = plan.look_into(&folder, console);
        if result.is_err() {
            // It stays where something is in it.
            let _ = fs::remove_dir(&folder);
        }
        result.map(|()| ExitCode::SUCCESS)
    }

    fn plan(self) -> Result<Plan> {
        let run = self.run.as_deref().map(Run::open).transpose()?;
        let mut config = match &run {
            Some(run) => run.config.clone(),
            None => RunConfig { recipe: Recipe { epochs: EPOCHS, ..Recipe::default() }, ..RunConfig::default() },
        };
        config.recipe.augment.preset.get_or_insert(Preset::Auto);
        config.data = self.data.or(config.data);
        let own = run.as_ref().is_some_and(|run| match (&config.data, &run.config.data) {
            (Some(data), Some(own)) => same_place(data, own),
            (data, own) => data == own,
        });
        if let Some(run) = &run {
            let as_trained = sized_as(&read_card(&run.weights)?, config.images);
            config.images = if own { as_trained } else { of_other_data(as_trained) };
        }
        config.images.fold = None;
        self.options.apply(&mut config.images)?;
        ensure!(config.images.fold.is_none(), "--fold is for gabor train: here each of the --folds has its turn");
        let folds = config.images.folds.take();
        let is_of_these = |run: &Run| run.config.is_of_folds() && run.config.images.folds == folds;
        let asks_folds = own && self.epochs.is_none() && run.as_ref().is_some_and(is_of_these);
        if asks_folds {
            (config.images.folds, config.images.fold) = (folds, Some(1));
        }
        if let Some(epochs) = self.epochs {
            (config.recipe.epochs, config.recipe.max_steps) = (epochs as usize, None);
        }
        if let Some(device) = self.device {
            config.device = device;
        }
        config.check().map_err(Error::msg)?;
        let asks_networks = |kind: &Kind| matches!(kind, Kind::Labels | Kind::Outliers);
        if self.epochs.is_some() && !self.only.is_empty() && !self.only.iter().any(asks_networks) {
            tracing::warn!("--epochs has no effect: nothing is trained for what --only asks for");
        }
        let mut kinds = if self.only.is_empty() { Kind::value_variants().to_vec() } else { self.only };
        kinds.sort_unstable();
        kinds.dedup();
        let smallest = self.smallest.map(|side| side as usize);
        Ok(Plan { config, run, asks_folds, folds: folds.unwrap_or(FOLDS), kinds, smallest })
    }
}

impl Plan {
    /// Looks into everything, and writes and tells what was found.
    fn look_into(&self, folder: &Path, console: Console) -> Result<()> {
        let splits = open_data(self.config.data.as_deref(), &self.config.images)?;
        if let Some(run) = &self.run {
            check_classes(&run.weights, splits.classes())?;
        }
        let Splits { train, val, test, .. } = &splits;
        // Of a run of folds the validation images are training images, too.
        let names = ["train", if self.asks_folds { "train" } else { "val" }, "test"];
        let parts = [Some(train), val.as_ref(), test.as_ref()].into_iter().zip(names);
        let pool = Pool::of(parts.filter_map(|(part, name)| Some((name.to_string(), part?.clone()))).collect())?;
        let mut findings = Findings::new(&pool, &self.kinds);
        findings.unreadable(&splits.skipped);
        self.look(&pool, &mut findings, console)?;
        let notes = self.ask(&pool, &splits, &mut findings, console)?;
        let findings = findings.sorted();

        let [list, page] = [LIST, SHEET].map(|name| folder.join(name));
        write_whole(&list, &found::csv(&findings)?)?;
        let data = self.config.data_name();
        write_whole(&page, sheet::sheet(&data, &pool.images, &self.kinds, &findings, &notes).as_bytes())?;
        let mut text = found::text(&self.kinds, &findings);
        notes.iter().for_each(|note| text.extend([note.as_str(), "\n"]));
        text.push_str(&format!("all of it is in {}, with pictures in {}\n", list.display(), page.display()));
        let object = json!({
            "data": data,
            "images": pool.images.len(),
            "counts": found::counts(&self.kinds, &findings),
            "findings": findings,
            "notes": notes,
            "list": list,
            "sheet": page,
        });
        console.result(&object, text)
    }

    /// Finds what the images themselves tell.
    fn look(&self, pool: &Pool, findings: &mut Findings, console: Console) -> Result<()> {
        if !self.kinds.iter().any(|kind| kind.takes_looks()) {
            return Ok(());
        }
        let bar = console.bar("looking at images", pool.images.len());
        let seen = audit::look(&pool.images, &|| bar.inc(1));
        bar.finish_and_clear();
        let mut unreadable = Vec::new();
        let looks: Vec<Option<Look>> = seen
            .into_iter()
            .enumerate()
            .map(|(index, look)| {
                let name = || pool.images.image_name(index).into();
                look.map_err(|error| unreadable.push(Skipped { path: name(), reason: error.to_string() })).ok()
            })
            .collect();
        findings.unreadable(&unreadable);
        if self.kinds.iter().any(|kind| kind.takes_copies()) {
            findings.copies(&audit::copies(&pool.images, &looks)?);
        }
        findings.flaws(&audit::flaws(&looks, self.smallest));
        Ok(())
    }

    /// Finds what models tell of images that they were not trained on. Returns what could not be told, and why.
    fn ask(&self, pool: &Pool, splits: &Splits, findings: &mut Findings, console: Console) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let has_one_class = pool.images.labels().classes().is_some();
        let [labels, outliers] = [Kind::Labels, Kind::Outliers].map(|kind| self.kinds.contains(&kind));
        if labels && !has_one_class {
            notes.push("wrong labels are told of images of one class each, and these may have several".to_string());
        }
        let labels = labels && has_one_class;
        if !labels && !outliers {
            return Ok(notes);
        }
        let Some(held_out) = self.models(pool, splits, labels, &mut notes, console)? else { return Ok(notes) };
        let indices = (0..pool.images.len()).map(|index| (pool.images.image_name(index), index));
        let indices: HashMap<String, usize> = indices.collect();
        let places = |said: &Predictions| -> Result<Vec<usize>> {
            let place = |name: &String| indices.get(name).copied();
            let places: Option<Vec<usize>> = said.images.iter().map(place).collect();
            places.context("the images changed while they were looked at: try again")
        };
        if labels {
            let said = held_out.joined();
            notes.push(worth_of(&said));
            findings.labels(&audit::wrong_labels(&said), &places(&said)?);
        }
        match &held_out.without_embeddings {
            _ if !outliers => {}
            Some(reason) => notes.push(format!("there are no outliers: {reason}")),
            None => {
                for said in &held_out.by_model {
                    findings.outliers(&audit::outliers(said), &places(said)?);
                }
            }
        }
        Ok(notes)
    }

    /// What models say; none where there is nothing to train on.
    fn models(
        &self,
        pool: &Pool,
        splits: &Splits,
        labels: bool,
        notes: &mut Vec<String>,
        console: Console,
    ) -> Result<Option<HeldOut>> {
        let size = pool.images.image_size();
        match &self.run {
            Some(run) if self.asks_folds => {
                return HeldOut::by_folds(&self.config, &run.path, splits.classes(), console).map(Some);
            }
            // That it was trained on images does not bring them closer to others.
            Some(run) if !labels && read_card(&run.weights)?.input == [size.height, size.width, size.channels] => {
                return HeldOut::by_run(&self.config, &run.weights, pool.images.clone(), console).map(Some);
            }
            _ => {}
        }
        let (images, left_out) = enough_for(&pool.images, self.folds);
        let classes = images.class_counts().into_iter().filter(|&count| count > 0).count();
        notes.extend(left_out);
        if images.labels().classes().is_some() && classes < 2 {
            notes.push("fewer than two classes are left, so that nothing was trained".into());
            return Ok(None);
        }
        HeldOut::by_training(&self.config, &images, self.folds, splits, console).map(Some)
    }
}

/// What the word of networks that said this is worth on wrong labels.
fn worth_of(said: &Predictions) -> String {
    /// The share of the images below which more of what networks call wrong is their mistake than a wrong label.
    const ENOUGH: f64 = 0.75;
    let right = said.are_right().into_iter().filter(|right| *right).count() as f64 / said.len().max(1) as f64;
    let worth = match right < ENOUGH {
        true => {
            ": most labels that they call wrong may be right; --epochs, or --run with settings that train better, helps"
        }
        false => "",
    };
    format!("labels: the networks tell {:.1}% of the images that they were not trained on right{worth}", 100.0 * right)
}

/// Makes the folder that is written to.
fn make_folder(out: Option<&Path>) -> Result<PathBuf> {
    let cannot_make = |path: &Path| format!("cannot make the folder {}", path.display());
    if let Some(out) = out {
        fs::create_dir_all(out).with_context(|| cannot_make(out))?;
        if let Some(there) = [LIST, SHEET].map(|name| out.join(name)).into_iter().find(|file| file.exists()) {
            bail!("{} is there already: give another --out, or remove it", there.display());
        }
        return Ok(out.into());
    }
    for number in 1u64.. {
        let path = PathBuf::from(if number == 1 { FOLDER.into() } else { format!("{FOLDER}-{number}") });
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| cannot_make(&path)),
        }
    }
    bail!("there is no name left")
}
