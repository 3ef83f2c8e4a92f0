//! `gabor lr-range`: which learning rates a model can be trained with.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use gabor::{
    report::{Curve, LogPlot},
    train::{RangeReport, RangeTest, write_whole},
};
use serde_json::json;

use super::{args::SettingArgs, run::Job};
use crate::cli::{console::Console, given::Given, place::free_place};

/// Find a learning rate: the loss as the rate rises
///
/// Trains for a few steps at a learning rate that rises exponentially, until the loss is 4 times its least (Smith 2017). It prints
/// the rate at which the loss falls most steeply, and writes the losses as a CSV file and as a plot. The settings are those of
/// `gabor train`, which the rate is then for; no run is made or changed.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor lr-range flowers --model resnet18 --image-size 64
  gabor lr-range flowers --optimizer sgd --from 1e-5 --to 100 --steps 200 --out range.svg")]
pub struct LrRangeArgs {
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    range: Given<RangeTest>,
    /// The plot to write, a .svg file that is not there yet; the losses are in a .csv file beside it [default: lr-range.svg, or
    /// lr-range-N.svg with the next free number]
    #[arg(long, value_name = "FILE", help_heading = "Range")]
    out: Option<PathBuf>,
    /// Print one JSON object at the end, and nothing else on standard output
    #[arg(long, help_heading = "Range")]
    json: bool,
}

impl LrRangeArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let console = console.json(self.json);
        let mut range = RangeTest::default();
        self.range.apply(&mut range)?;
        range.check().map_err(Error::msg)?;
        let plot = free_place(self.out, "lr-range", "svg")?;
        let figures = plot.with_extension("csv");
        ensure!(!figures.exists(), "{} is there already: give --out another name, or remove it", figures.display());

        let (job, mut session) = Job::begin(self.settings.of_new_run()?, console)?;
        let loader = job.training_loader()?;
        let bar = console.bar("raising the learning rate", range.steps);
        let report = range.run(&mut session, &loader, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        ensure!(!report.points.is_empty(), "the loss is no number at the first step already: give a lower --from");

        write_whole(&figures, csv(&report)?.as_bytes())?;
        write_whole(&plot, picture(&report, &session.model().name).svg().as_bytes())?;
        let said = match report.suggestion {
            Some(rate) => format!("suggested --lr {rate:.1e}, at which the loss falls most steeply\n"),
            None => {
                "no learning rate can be suggested: the loss does not fall; try a wider range or more --steps\n".into()
            }
        };
        let reached = report.points.last().map(|point| point.learning_rate);
        let object = json!({
            "model": session.model().name,
            "suggestion": report.suggestion,
            "steps": report.points.len(),
            "reached": reached,
            "diverged": report.diverged,
            "plot": plot,
            "losses": figures,
        });
        let places = format!("the plot is in {}, the losses in {}\n", plot.display(), figures.display());
        console.result(&object, said + &places)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn csv(report: &RangeReport) -> Result<String> {
    let mut text = "step,learning_rate,loss,smoothed_loss\n".to_string();
    for (at, point) in report.points.iter().enumerate() {
        writeln!(text, "{},{:?},{:?},{:?}", at + 1, point.learning_rate, point.loss, point.smoothed)
            .context("no memory")?;
    }
    Ok(text)
}

fn picture(report: &RangeReport, model: &str) -> LogPlot {
    let curve = |name: &str, colour, value: fn(&gabor::train::RangePoint) -> f64| Curve {
        name: name.into(),
        colour,
        points: report.points.iter().map(|point| [point.learning_rate, value(point)]).collect(),
    };
    LogPlot {
        title: format!("Range test of the learning rate of {model}"),
        x: "learning rate".into(),
        y: "loss".into(),
        curves: vec![
            curve("loss of each batch", "#aac4e0", |point| point.loss),
            curve("smoothed", "#1f5fa8", |point| point.smoothed),
        ],
        mark: report.suggestion.map(|rate| (rate, format!("steepest descent {rate:.1e}"))),
    }
}
