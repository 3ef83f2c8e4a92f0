//! `gabor profile`: where the time of a step goes.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use gabor::{
    bench::{Profile, Roofline},
    models::Architecture,
};

use super::{console::Console, output::Output, plan::StepArgs, values::ModelParser};

/// How each trace begins.
const TRACE_MARK: &str = r#""displayTimeUnit":"#;

/// Show where the time of a step goes: a table by dispatch and one by operation
///
/// On a GPU a dispatch is timed by the device's clock where it has one, with its dispatches one after the other; on the
/// CPU each step of the plan is. "Of floor" is the least time that the device could take, as a share of the time taken:
/// the operations at the device's peak or the bytes at the memory's speed, whichever takes longer. Both peaks are
/// measured by probes first.
#[derive(Args)]
#[command(after_help = "Examples:
  gabor profile resnet18 --batch-size 32
  gabor profile resnet50 --image-size 224 --mode infer --batch-size 8 --trace trace.json")]
pub struct ProfileArgs {
    /// The network
    #[arg(value_parser = ModelParser)]
    model: Architecture,
    #[command(flatten)]
    step: StepArgs,
    /// Steps to take the median of
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Also write a trace to this file, which ui.perfetto.dev and chrome://tracing open
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ProfileArgs {
    pub fn run(self, console: Console) -> Result<ExitCode> {
        let trace = self.trace.as_deref().map(|path| Output::new(path, TRACE_MARK)).transpose()?;
        let device = self.step.device()?;
        let roofline = Roofline::probe(|| self.step.executor(&device))?;
        let mut program = self.step.program(&self.model, self.step.executor(&device))?;
        let profile = Profile::take(&mut program, roofline, self.runs.into())?;
        if let Some(output) = trace {
            output.write(serde_json::to_string(&profile.trace())?.as_bytes())?;
        }
        console.json(self.json).result(&profile.json(), &profile)?;
        Ok(ExitCode::SUCCESS)
    }
}
