//! Settings as flags, in place of what a file or the defaults say.

use std::marker::PhantomData;

use anyhow::Result;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind, parser::ValueSource};

/// The settings of `T` that flags were given for.
pub struct Given<T> {
    matches: ArgMatches,
    settings: PhantomData<fn(T)>,
}

impl<T: Args> Given<T> {
    /// Sets them in `settings`.
    pub fn apply(&self, settings: &mut T) -> Result<()> {
        Ok(settings.update_from_arg_matches(&self.matches)?)
    }
}

impl<T: Args> Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        T::augment_args_for_update(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: Args> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = matches.clone();
        // Flags without a value are false by default, which would count as given.
        for id in matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::DefaultValue)) {
            given.try_clear_id(id.as_str()).map_err(|error| Error::raw(ErrorKind::UnknownArgument, error))?;
        }
        Ok(Self { matches: given, settings: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
