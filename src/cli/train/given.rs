//! What follows from the settings of a run for its flags.

use std::iter;

use clap::{
    Arg, ArgGroup, Command, Error, Id,
    error::{ContextKind, ContextValue, ErrorKind},
};
use gabor::train::RangeTest;
use toml::{Table, Value};

use crate::cli::config::RunConfig;

/// What a flag is in that may come with --resume; all others are as they were when the run began.
const WITH_RESUME: &str = "with_resume";

/// `gabor train`'s command with what follows from the settings: their defaults in the help, and which flags may come
/// with --resume.
pub fn complete(command: Command) -> Command {
    let command = command.group(ArgGroup::new(WITH_RESUME).multiple(true));
    let (free, fixed) = parted(&command);
    with_defaults(command).mut_arg("resume", |arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = format!("{help}; of the other flags only these may come with it: {}", listed(&free));
        arg.help(help).conflicts_with_all(fixed.iter().map(Arg::get_id))
    })
}

/// The arguments that may come with --resume, and those that may not.
fn parted(command: &Command) -> (Vec<Arg>, Vec<Arg>) {
    let mut built = command.clone();
    built.build();
    let groups = || built.get_groups().filter(|group| group.get_id() == WITH_RESUME);
    let others = command.get_arguments().filter(|arg| arg.get_id() != "resume").cloned();
    others.partition(|arg| groups().any(|group| group.get_args().any(|id| id == arg.get_id())))
}

fn listed(args: &[Arg]) -> String {
    let flags: Vec<String> = args.iter().filter_map(Arg::get_long).map(|long| format!("--{long}")).collect();
    flags.join(", ")
}

/// An error of the arguments that also says which flags may come with --resume, where one that may not did.
pub fn explained(mut error: Error, train: &Command) -> Error {
    let names_resume = |kind| error.get(kind).is_some_and(|value| value.to_string().contains("--resume"));
    if error.kind() == ErrorKind::ArgumentConflict
        && [ContextKind::InvalidArg, ContextKind::PriorArg].into_iter().any(names_resume)
    {
        let tip = format!("a run goes on as it began; what may change is {}", listed(&parted(train).0));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Settings that a range test does without: it has a rule of its own for the learning rate, and makes no epochs.
const NOT_OF_RANGE: [&str; 15] = [
    "learning_rate",
    "schedule",
    "warmup_steps",
    "epochs",
    "max_steps",
    "ema",
    "monitor",
    "patience",
    "min_delta",
    "plateau",
    "plateau_factor",
    "min_lr",
    "checkpoint_every",
    "look_every",
    "keep_best",
];

/// `gabor lr-range`'s command, likewise.
pub fn complete_range(command: Command) -> Command {
    let refuse = |_: &str| Err::<String, _>("it has no effect on a range test: leave it out");
    let command = with_defaults(command.group(ArgGroup::new(WITH_RESUME).multiple(true)));
    let command = command.mut_arg("log_steps", |arg| arg.hide(true));
    NOT_OF_RANGE.iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.hide(true).value_parser(refuse)))
}

/// The defaults of settings in the help.
fn with_defaults(command: Command) -> Command {
    let mut defaults = Table::try_from(RunConfig::default()).unwrap_or_default();
    defaults.extend(Table::try_from(RangeTest::default()).unwrap_or_default());
    command.mut_args(|arg| match (arg.get_help().map(ToString::to_string), default(&defaults, arg.get_id())) {
        (Some(help), Some(text)) if !help.contains("[default: ") => arg.help(format!("{help} [default: {text}]")),
        _ => arg,
    })
}

/// A setting's default as one gives it to the flag; none for what is false or left out.
pub(super) fn default(defaults: &Table, setting: &Id) -> Option<String> {
    let parts = defaults.values().filter_map(Value::as_table);
    let value = iter::once(defaults).chain(parts).find_map(|table| table.get(setting.as_str()))?;
    match value {
        Value::Boolean(_) => None,
        Value::Table(table) => table.get("name")?.as_str().map(String::from),
        Value::String(text) => Some(text.clone()),
        Value::Float(number) => Some(number.to_string()),
        other => Some(other.to_string()),
    }
}
