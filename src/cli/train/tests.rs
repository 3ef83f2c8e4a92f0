//! Every setting by its declaration: in the help, in a run's configuration, and refused where it is out of its range.

use std::fmt::Display;

use clap::{Arg, Args, Command, FromArgMatches, error::ErrorKind};
use gabor::{augment::Augmentation, data::OpenOptions, settings::Ranged, train::Recipe};
use toml::{Table, Value};

use super::{TrainArgs, given::default};
use crate::cli::config::RunConfig;

fn train() -> Command {
    crate::cli::command().find_subcommand("train").cloned().unwrap()
}

/// The flags that are settings of the configuration, one to one, and DATA.
fn settings() -> Vec<Arg> {
    RunConfig::augment_args_for_update(Command::new("settings")).get_arguments().cloned().collect()
}

/// The configuration that an argument makes.
fn configured(arg: &Arg, value: impl Display) -> Result<RunConfig, String> {
    let given = match arg.get_long() {
        None => value.to_string(),
        Some(long) if arg.get_action().takes_values() => format!("--{long}={value}"),
        Some(long) => format!("--{long}"),
    };
    let matches = train().try_get_matches_from(["train".to_string(), given]).map_err(|error| error.to_string())?;
    let config = TrainArgs::from_arg_matches(&matches).unwrap().settings.overlay(RunConfig::default()).unwrap();
    config.check().map(|()| config)
}

fn read(text: &str) -> Result<RunConfig, String> {
    let config: RunConfig = toml::from_str(text).map_err(|error| error.to_string())?;
    config.check().map(|()| config)
}

/// The setting as the file has it.
fn named(config: &RunConfig, name: &str) -> Option<Value> {
    fn within(table: &Table, name: &str) -> Option<Value> {
        let parts = || table.values().filter_map(Value::as_table);
        table.get(name).cloned().or_else(|| parts().find_map(|part| within(part, name)))
    }
    within(&Table::try_from(config).unwrap(), name)
}

#[test]
fn each_is_in_the_help_with_its_default_and_in_the_file() {
    let help = train().render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = Table::try_from(RunConfig::default()).unwrap();
    for arg in settings() {
        let name = arg.get_id().as_str();
        let default = default(&defaults, arg.get_id());
        let about = arg.get_help().unwrap().to_string();
        if let Some(long) = arg.get_long() {
            assert!(help.contains(&format!("--{long} ")), "{name}");
        }
        let about = match &default {
            Some(default) if !about.contains("[default: ") => format!("{about} [default: {default}]"),
            _ => about,
        };
        assert!(help.contains(&about), "no {about:?} in {help}");

        let listed = arg.get_possible_values().first().map(|value| value.get_name().to_string());
        let values = [default.or(listed).unwrap_or_default(), "1".into(), "2".into(), "0.5".into()];
        let config = values.iter().find_map(|value| configured(&arg, value).ok());
        let config = config.unwrap_or_else(|| panic!("{name} takes none of {values:?}"));
        assert!(named(&config, name).is_some(), "{name} is not in the file");
        assert_eq!(read(&toml::to_string(&config).unwrap()), Ok(config), "{name}");
    }
}

#[test]
fn each_is_refused_out_of_its_range() {
    let flags = settings();
    let parts = [
        ("", RunConfig::ranges()),
        ("[images]", OpenOptions::ranges()),
        ("[recipe]", Recipe::ranges()),
        ("[recipe.augment]", Augmentation::ranges()),
    ];
    for (part, Ranged { name, outside }) in
        parts.into_iter().flat_map(|(part, all)| all.into_iter().map(move |r| (part, r)))
    {
        let flag = flags.iter().find(|arg| arg.get_id() == name);
        assert!(!outside.is_empty(), "{name}");
        for value in &outside {
            let error = read(&format!("{part}\n{name} = {value}\n")).unwrap_err();
            assert!(error.contains(name), "{name} = {value}: {error}");
            if let Some(flag) = flag {
                let error = configured(flag, value).unwrap_err();
                let known = error.contains(&format!("`{name}`")) || error.contains(flag.get_long().unwrap());
                assert!(known, "{name} = {value}: {error}");
            }
        }
    }
}

#[test]
fn each_flag_is_listed_for_resume_or_refused_with_it() {
    let help = train().get_arguments().find(|arg| arg.get_id() == "resume").unwrap().get_help().unwrap().to_string();
    let listed: Vec<&str> = help.split([',', ' ']).collect();
    for arg in train().get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "resume" | "help")) {
        let Some(long) = arg.get_long().map(|long| format!("--{long}")) else { continue };
        let name = arg.get_possible_values().first().map(|value| format!("={}", value.get_name()));
        let values =
            [name.unwrap_or_default(), "=1".into(), "=7:2:1".into(), "=fc=1".into(), "=none".into(), String::new()];
        let with =
            |value: &String| train().try_get_matches_from(["train", "--resume", "run", &format!("{long}{value}")]);
        let refused = values.iter().map(with).any(|r| r.is_err_and(|e| e.kind() == ErrorKind::ArgumentConflict));
        assert_ne!(listed.contains(&long.as_str()), refused, "{long}");
    }
}
