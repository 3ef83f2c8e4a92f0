//! `gabor compare`: runs side by side.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gabor::{
    report::{
        History, Table,
        figure::{Figure, Line},
        page::{GENERATOR, Section, page},
    },
    train::{Card, read_card},
};
use maud::html;
use serde_json::{Map, Value, json};

use super::{
    console::Console,
    output::Output,
    run_folder::{METRICS, config_beside, weights_file},
};

/// Put runs side by side: what they reached, how long it took, and in which settings they differ
///
/// Nothing is computed: it is what the run folders say. To measure models on the same images, with a test of which is better, see
/// gabor eval --against.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor compare runs/resnet18-1 runs/resnet18-2
  gabor compare runs/* --page compare.html")]
pub struct CompareArgs {
    /// Run folders
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write a page with their curves to this file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run folder says.
struct Run {
    name: String,
    card: Card,
    history: History,
    settings: Map<String, Value>,
}

impl Run {
    fn read(path: &Path) -> Result<Self> {
        let weights = weights_file(path, None)?;
        let folder = weights.parent().unwrap_or(Path::new(""));
        let config = config_beside(&weights)?
            .with_context(|| format!("there is no config.toml beside {}: give a run folder", weights.display()))?;
        let metrics = folder.join(METRICS);
        ensure!(metrics.is_file(), "{} is missing: {} is no folder of a run", metrics.display(), folder.display());
        let mut settings = Map::new();
        flatten("", &serde_json::to_value(&config)?, &mut settings);
        Ok(Self {
            name: path.display().to_string(),
            card: read_card(&weights)?,
            history: History::read(&metrics)?,
            settings,
        })
    }

    fn seconds(&self) -> f64 {
        self.history.column("seconds").iter().filter(|seconds| seconds.is_finite()).sum()
    }

    /// The value of a column in the best epoch.
    fn at_best(&self, column: &str) -> Option<f64> {
        let best = self.card.progress.best_epoch as f64;
        self.history.curve(column).into_iter().find(|(epoch, _)| *epoch == best).map(|(_, value)| value)
    }

    /// The figure by which its best epoch was chosen, as far as the table of its epochs tells: the one that has the best value there.
    fn measure(&self) -> Option<&str> {
        let best = self.card.progress.best?;
        let is_it = |name: &&str| {
            name.starts_with("val_")
                && self.at_best(name).is_some_and(|value| (value - best).abs() <= 1e-6 * best.abs())
        };
        self.history.names().find(is_it)
    }

    fn figures(&self) -> Value {
        let Self { name, card, history, .. } = self;
        let speed = history.column("images_per_second").last().filter(|speed| speed.is_finite());
        json!({
            "run": name,
            "model": card.model,
            "classes": card.classes.len(),
            "epochs": history.len(),
            "best": card.progress.best,
            "measure": self.measure(),
            "best_epoch": card.progress.best_epoch,
            "train_loss": self.at_best("train_loss"),
            "val_loss": self.at_best("val_loss"),
            "seconds": self.seconds(),
            "images_per_second": speed,
        })
    }
}

impl CompareArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let runs = self.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<Run>>>()?;
        let differing = differing(&runs);
        if let Some(path) = &self.page {
            Output::new(path, GENERATOR)?.write(whole(&runs, &differing).as_bytes())?;
        }
        let figures = json!({
            "runs": runs.iter().map(Run::figures).collect::<Vec<_>>(),
            "differing": differing.iter().map(|name| (name.clone(), of_each(&runs, name).into())).collect::<Map<_, _>>(),
        });
        let mut text = table(&runs).to_string();
        for name in &differing {
            text += &format!("\n{name}\n");
            for (run, value) in runs.iter().zip(of_each(&runs, name)) {
                text += &format!("  {value}  {}\n", run.name);
            }
        }
        if let Some(path) = &self.page {
            text += &format!("\nthe page is {}\n", path.display());
        }
        console.result(&figures, text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The settings that are not the same in all runs.
fn differing(runs: &[Run]) -> Vec<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differs = |name: &&&String| runs.iter().any(|run| run.settings.get(**name) != runs[0].settings.get(**name));
    names.iter().filter(differs).map(|name| name.to_string()).collect()
}

/// A setting of each run.
fn of_each(runs: &[Run], name: &str) -> Vec<Value> {
    runs.iter().map(|run| run.settings.get(name).cloned().unwrap_or(Value::Null)).collect()
}

fn table(runs: &[Run]) -> Table<8> {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let mut table = Table::new(["<run", "<model", "epochs", "best", "in epoch", "train loss", "val loss", "seconds"]);
    for run in runs {
        table.row([
            run.name.clone(),
            run.card.model.clone(),
            run.history.len().to_string(),
            [number(run.card.progress.best), run.measure().unwrap_or_default().replace('_', " ")]
                .join(" ")
                .trim()
                .into(),
            run.card.progress.best_epoch.to_string(),
            number(run.at_best("train_loss")),
            number(run.at_best("val_loss")),
            format!("{:.1}", run.seconds()),
        ]);
    }
    table
}

/// The page of some runs: figures, curves, settings.
fn whole(runs: &[Run], differing: &[String]) -> String {
    let columns: BTreeSet<&str> = runs.iter().flat_map(|run| run.history.names()).collect();
    let is_figure = |name: &&&str| name.starts_with("val_") || **name == "train_loss";
    let curves: Vec<Figure> = columns
        .iter()
        .filter(is_figure)
        .map(|column| {
            let of = |run: &Run| Line { name: run.name.clone(), points: run.history.curve(column) };
            Figure::over_epochs(&column.replace('_', " "), runs.iter().map(of).collect())
        })
        .collect();
    let figures = html! {
        div.wide tabindex="0" role="region" aria-label="What the runs reached" {
            table {
                caption { "What the runs reached; losses are those of the best epoch" }
                thead { tr { @for name in ["run", "model", "epochs", "best", "in epoch", "train loss", "val loss", "seconds"] { th scope="col" { (name) } } } }
                tbody {
                    @for cells in table(runs).cells() { tr { @for (at, cell) in cells.iter().enumerate() {
                        @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                    } } }
                }
            }
        }
    };
    let settings = html! {
        @if differing.is_empty() { p { "The settings of all runs are the same." } }
        @else {
            div.wide tabindex="0" role="region" aria-label="Settings that differ" {
                table {
                    caption { "Settings that differ" }
                    thead { tr { th scope="col" { "setting" } @for run in runs { th scope="col" { (run.name) } } } }
                    tbody { @for name in differing { tr { th scope="row" { (name) } @for value in of_each(runs, name) { td { (value.to_string()) } } } } }
                }
            }
        }
    };
    let curves = html! { @for figure in &curves { (figure.html()) } };
    let sections = [
        Section::new("figures", "Figures", figures),
        Section::new("curves", "Curves", curves),
        Section::new("settings", "Settings", settings),
    ];
    page(&format!("{} runs", runs.len()), &sections)
}

/// Settings in tables by their paths, such as `recipe.epochs`.
pub fn flatten(prefix: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            flatten(&path, value, into);
        }),
        value => {
            into.insert(prefix.into(), value.clone());
        }
    }
}
