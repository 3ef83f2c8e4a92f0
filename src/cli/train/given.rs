//! The settings of a run as flags.

use std::iter;

use anyhow::Result;
use clap::{
    Arg, ArgGroup, ArgMatches, Args, Command, Error, FromArgMatches, Id, error::ErrorKind, parser::ValueSource,
};
use toml::{Table, Value};

use crate::cli::config::RunConfig;

/// What a flag is in that may come with --resume; all others are as they were when the run began.
const WITH_RESUME: &str = "with_resume";

/// The settings that flags were given for.
pub struct Given(ArgMatches);

impl Given {
    /// Sets them in `config`.
    pub fn apply(&self, config: &mut RunConfig) -> Result<()> {
        Ok(config.update_from_arg_matches(&self.0)?)
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        RunConfig::augment_args_for_update(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        RunConfig::augment_args_for_update(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = matches.clone();
        // Flags without a value are false by default, which would count as given.
        for id in matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::DefaultValue)) {
            given.try_clear_id(id.as_str()).map_err(|error| Error::raw(ErrorKind::UnknownArgument, error))?;
        }
        Ok(Self(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `gabor train`'s command with what follows from the settings: their defaults in the help, and which flags may come
/// with --resume.
pub fn complete(command: Command) -> Command {
    let command = command.group(ArgGroup::new(WITH_RESUME).multiple(true));
    let mut built = command.clone();
    built.build();
    let groups = || built.get_groups().filter(|group| group.get_id() == WITH_RESUME);
    let others = command.get_arguments().filter(|arg| arg.get_id() != "resume").cloned();
    let (free, fixed): (Vec<Arg>, Vec<Arg>) =
        others.partition(|arg| groups().any(|group| group.get_args().any(|id| id == arg.get_id())));
    let free: Vec<String> = free.iter().filter_map(Arg::get_long).map(|long| format!("--{long}")).collect();

    let defaults = Table::try_from(RunConfig::default()).unwrap_or_default();
    let with_default = |arg: Arg| match (arg.get_help().map(ToString::to_string), default(&defaults, arg.get_id())) {
        (Some(help), Some(text)) if !help.contains("[default: ") => arg.help(format!("{help} [default: {text}]")),
        _ => arg,
    };
    command.mut_args(with_default).mut_arg("resume", |arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = format!("{help}; of the other flags only these may come with it: {}", free.join(", "));
        arg.help(help).conflicts_with_all(fixed.iter().map(Arg::get_id))
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
