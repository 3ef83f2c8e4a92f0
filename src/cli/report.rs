//! `gabor report`: the page of a run, and its figures as files.

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use gabor::{
    data::Dataset,
    report::{
        History, grouped,
        page::{Judged, RunReport},
        read_vitals,
    },
    tasks::{Evaluation, Predictions},
    train::{Card, write_whole},
};
use serde_json::json;

use super::{
    config::RunConfig,
    console::Console,
    eval,
    inference::InferenceArgs,
    run_folder::{FIGURES, FINDINGS, METRICS, REPORT, VITALS},
};

/// Write the page of a run: how it went, and what its model gets wrong
///
/// A run writes it at its end, as report.html in its folder; this writes it again, or for a run that was stopped. The page is
/// one file, which needs no network. The figures in it lie beside it as SVG and PNG, in the folder figures.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor report runs/resnet18-1
  gabor report runs/resnet18-1 --weights last")]
pub struct ReportArgs {
    /// A run folder
    run: PathBuf,
    #[command(flatten)]
    inference: InferenceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ReportArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let shown = eval::shown(&self.run, &self.inference, console)?;
        let folder = shown.weights.parent().unwrap_or(Path::new(""));
        let told = Told {
            card: &shown.card,
            config: &shown.config,
            device: &shown.device,
            images: &shown.counts,
            judged: Some((shown.part, &shown.evaluation, &shown.predictions, &shown.images)),
        };
        let path = write(folder, &told)?;
        let figures = json!({"report": path, "figures": folder.join(FIGURES)});
        console.result(&figures, format!("the report is {}\n", path.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a page tells beside the files of its run.
pub struct Told<'a> {
    pub card: &'a Card,
    pub config: &'a RunConfig,
    pub device: &'a str,
    /// Number of the images of each part of the data.
    pub images: &'a [(&'static str, usize)],
    /// The part of the data, and what the model makes of it.
    pub judged: Option<(&'static str, &'a Evaluation, &'a Predictions, &'a Dataset)>,
}

/// Writes the page and the figures of the run in a folder.
pub fn write(folder: &Path, told: &Told<'_>) -> Result<PathBuf> {
    let history = match folder.join(METRICS) {
        path if path.is_file() => History::read(&path)?,
        _ => History::default(),
    };
    let findings = fs::read_to_string(folder.join(FINDINGS)).unwrap_or_default();
    let report = RunReport {
        title: folder.file_name().map_or(told.card.model.clone(), |name| name.to_string_lossy().into_owned()),
        facts: facts(told, &history),
        findings: findings.lines().map(String::from).collect(),
        classes: &told.card.classes,
        history,
        vitals: read_vitals(&folder.join(VITALS))?,
        judged: told.judged.map(|(part, evaluation, predictions, images)| Judged {
            part,
            evaluation,
            predictions,
            images,
        }),
        config: told.config.text()?,
    };
    let figures = folder.join(FIGURES);
    fs::create_dir_all(&figures).with_context(|| format!("cannot make {}", figures.display()))?;
    let (page, drawn) = report.page();
    for figure in drawn {
        write_whole(&figures.join(format!("{}.svg", figure.name)), figure.svg().as_bytes())?;
        write_whole(&figures.join(format!("{}.png", figure.name)), &figure.png())?;
    }
    let path = folder.join(REPORT);
    write_whole(&path, page.as_bytes())?;
    Ok(path)
}

/// Model, data, machine and time, by what each is called.
fn facts(told: &Told<'_>, history: &History) -> Vec<(String, String)> {
    let Told { card, config, .. } = told;
    let [height, width, channels] = card.input;
    let images = told.images.iter().map(|(part, count)| format!("{} {part}", grouped(*count)));
    let recipe = &config.recipe;
    let seconds: f64 = history.column("seconds").iter().filter(|seconds| seconds.is_finite()).sum();
    let training = told.images.first().map_or(0, |(_, count)| *count) as f64;
    let in_steps: f64 =
        history.column("images_per_second").iter().map(|speed| training / speed).filter(|time| time.is_finite()).sum();
    let mut facts = vec![
        ("model".to_string(), card.model.clone()),
        ("images".into(), format!("{height}x{width}, {channels} channels")),
        ("data".into(), format!("{}: {}", config.data_name(), images.collect::<Vec<_>>().join(", "))),
        ("classes".into(), card.classes.len().to_string()),
        ("epochs".into(), format!("{}, the best of them {}", history.len(), card.progress.best_epoch)),
        (
            "recipe".into(),
            format!(
                "{}, learning rate {}, batches of {}",
                recipe.optimizer.name(),
                recipe.learning_rate,
                recipe.batch_size()
            ),
        ),
        ("device".into(), told.device.to_string()),
        ("system".into(), format!("{} on {}, gabor {}", env::consts::OS, env::consts::ARCH, env!("CARGO_PKG_VERSION"))),
    ];
    if seconds > 0.0 {
        let share = (100.0 * in_steps / seconds).min(100.0);
        facts.push((
            "time".into(),
            format!("{seconds:.1} s, {share:.0}% of it in training steps, the rest in validation and checkpoints"),
        ));
    }
    facts
}

/// Adds what was found wrong with a run to its file.
pub fn add_findings(folder: &Path, findings: &[String]) -> Result<()> {
    let path = folder.join(FINDINGS);
    let cannot = || format!("cannot write {}", path.display());
    let mut file = File::options().create(true).append(true).open(&path).with_context(cannot)?;
    findings.iter().try_for_each(|finding| writeln!(file, "{finding}")).with_context(cannot)
}
