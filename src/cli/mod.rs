//! The commands, a file each.

mod augment;
mod bench;
mod bench_data;
mod check;
mod clean;
mod compare;
mod completions;
mod config;
mod console;
mod devices;
mod download;
mod eval;
mod explain;
mod given;
mod inference;
mod interrupt;
mod models;
mod output;
mod place;
mod plan;
mod predict;
mod pretrained;
mod profile;
mod report;
mod run_folder;
mod summary;
mod train;
mod values;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use gabor::kernel::InstructionSet;
use tracing_subscriber::EnvFilter;

use console::{Console, Flags};

/// Train, evaluate and use convolutional image classifiers on any GPU, or on the CPU where there is none.
#[derive(Parser)]
#[command(
    name = "gabor",
    version,
    max_term_width = 100,
    after_help = "Examples:
  gabor train                              Train on the MNIST images that come with gabor
  gabor train flowers --model resnet18     Train on a folder of images, a subfolder a class
  gabor eval runs/resnet18-1               Measure what was trained
  gabor predict runs/resnet18-1 rose.jpg   Say what is in a picture
  gabor explain runs/resnet18-1 rose.jpg   Show what that comes of

`gabor COMMAND --help` explains each command."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
    /// Threads to compute with on the CPU, and to read images with [default: one a core]
    #[arg(long, value_name = "N", global = true, display_order = 1000, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    LrRange(Box<train::LrRangeArgs>),
    Augment(Box<augment::AugmentArgs>),
    Eval(eval::EvalArgs),
    Clean(Box<clean::CleanArgs>),
    Predict(predict::PredictArgs),
    Report(report::ReportArgs),
    Compare(compare::CompareArgs),
    Explain(explain::ExplainArgs),
    Devices(devices::DevicesArgs),
    Models(models::ModelsArgs),
    Summary(summary::SummaryArgs),
    Plan(plan::PlanArgs),
    Check(check::CheckArgs),
    Bench(bench::BenchArgs),
    Profile(profile::ProfileArgs),
    Download(download::DownloadArgs),
    Completions(completions::CompletionsArgs),
}

#[derive(Args)]
struct Verbosity {
    /// Show only errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 1000)]
    quiet: bool,
    /// Say more about what happens; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    verbose: u8,
}

/// The command with all that it takes.
fn command() -> clap::Command {
    // A negative number after a flag is its value, to be told what it may be, and no flag.
    let negative = |arg: Arg| match arg.get_long() {
        Some(_) if arg.get_action().takes_values() => arg.allow_negative_numbers(true),
        _ => arg,
    };
    let command = Cli::command();
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    let command = names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |subcommand| subcommand.mut_args(negative)));
    let command = command.mut_subcommand("train", train::complete).mut_subcommand("lr-range", train::complete_range);
    command.mut_subcommand("clean", clean::complete)
}

/// Runs the command that the arguments of the process say and returns its exit code: 0, or 1 after an error, which has
/// been printed.
pub fn run() -> ExitCode {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(std::env::args_os()).unwrap_or_else(|error| {
        match command.find_subcommand("train") {
            Some(train) => train::explained(error, train).exit(),
            None => error.exit(),
        }
    });
    let flags = Flags::of(matches.subcommand_name().and_then(|name| command.find_subcommand(name)));
    let cli = Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut command).exit());
    cli.verbosity.start_log();
    match cli.run() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            console::print_error(&error, &flags);
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        InstructionSet::chosen()?;
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
        }
        let console = Console::new(self.verbosity.quiet);
        match self.command {
            Command::Train(args) => args.run(console),
            Command::LrRange(args) => args.run(console),
            Command::Augment(args) => args.run(console),
            Command::Eval(args) => args.run(console),
            Command::Clean(args) => args.run(console),
            Command::Predict(args) => args.run(console),
            Command::Report(args) => args.run(console),
            Command::Compare(args) => args.run(console),
            Command::Explain(args) => args.run(console),
            Command::Devices(args) => args.run(console),
            Command::Models(args) => args.run(console),
            Command::Summary(args) => args.run(console),
            Command::Plan(args) => args.run(console),
            Command::Check(args) => args.run(console),
            Command::Bench(args) => args.run(console),
            Command::Profile(args) => args.run(console),
            Command::Download(args) => args.run(console),
            Command::Completions(args) => args.run(),
        }
    }
}

impl Verbosity {
    /// Sends warnings and what else is asked for to standard error. `RUST_LOG` overrides the flags.
    fn start_log(&self) {
        let level = match self.verbose {
            _ if self.quiet => "error",
            0 => "error,gabor=warn",
            1 => "warn,gabor=info",
            _ => "info,gabor=debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| console::Warnings)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .without_time()
            .init();
    }
}

/// Whether whoever read the output has gone, as `head` does: nothing to complain about.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
