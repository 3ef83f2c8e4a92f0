//! What goes to standard output and what to standard error.

use std::{
    borrow::Cow,
    error::Error,
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use clap::{
    Arg, Command,
    builder::styling::{AnsiColor, Style},
};
use gabor::report::{EventLog, grouped};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Where a command writes: figures for people, or JSON.
#[derive(Clone, Copy)]
pub struct Console {
    quiet: bool,
    json: bool,
    tui: bool,
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, json: false, tui: false }
    }

    /// With `json`, standard output is left to the object, and text goes to standard error.
    pub fn json(self, json: bool) -> Self {
        Self { json, ..self }
    }

    /// With `tui`, a run is shown on the whole terminal.
    pub fn tui(self, tui: bool) -> Self {
        Self { tui, ..self }
    }

    pub fn is_tui(self) -> bool {
        self.tui
    }

    /// Whether the account of what happens is shown at all.
    pub fn shows_progress(self) -> bool {
        !self.quiet
    }

    /// A bar of work on so many things, such as `testing`. Where standard error is no terminal, the line is written once.
    pub fn bar(self, what: &str, total: usize) -> ProgressBar {
        if !self.shows_progress() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total as u64);
        if bar.is_hidden() {
            anstream::eprintln!("{what} {}", grouped(total));
        }
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
        bar.set_prefix(what.to_string());
        bar
    }

    /// Where the account of what happens goes.
    pub fn lines(self) -> Box<dyn Write> {
        match self {
            Self { quiet: true, .. } => Box::new(io::sink()),
            Self { json: true, .. } => Box::new(anstream::stderr()),
            _ => Box::new(anstream::stdout()),
        }
    }

    /// Where events go, an object a line: with `--json`.
    pub fn events(self) -> Option<EventLog<impl Write>> {
        self.json.then(|| EventLog::new(anstream::stdout()))
    }

    /// Writes a line of the account of what happens.
    pub fn note(self, line: impl std::fmt::Display) -> Result<()> {
        Ok(writeln!(self.lines(), "{}", printable(&line.to_string()))?)
    }

    /// Writes text that is a result, or a part of one; nothing with `--json`.
    pub fn text(self, text: impl std::fmt::Display) -> Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = anstream::stdout().lock();
        write!(out, "{}", printable(&text.to_string()))?;
        Ok(out.flush()?)
    }

    /// Writes the result: the object with `--json`, else the text.
    pub fn result(self, object: &impl Serialize, text: impl std::fmt::Display) -> Result<()> {
        if !self.json {
            return self.text(text);
        }
        let mut out = anstream::stdout().lock();
        serde_json::to_writer(&mut out, object).map_err(io::Error::from)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }
}

/// What is written to standard error while a dashboard has the terminal.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error, for warnings: they wait while they are [`Held`].
pub struct Warnings;

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(waiting) => waiting.write(bytes),
            None => anstream::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Holds warnings back until it is dropped, which writes them.
pub struct Held;

impl Held {
    pub fn begin() -> Self {
        held().get_or_insert_default();
        Self
    }

    /// Whether warnings wait.
    pub fn is_on() -> bool {
        held().is_some()
    }

    /// Those that wait, as plain text.
    pub fn messages() -> String {
        let text = held().as_ref().map_or_else(String::new, |waiting| String::from_utf8_lossy(waiting).into_owned());
        anstream::adapter::strip_str(&text).to_string()
    }

    /// Writes those that wait; from now on none does.
    pub fn release() {
        let waiting = held().take().unwrap_or_default();
        // There is nobody to tell that nobody can be told.
        let _ = anstream::stderr().write_all(&waiting);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        Self::release();
    }
}

/// `text` with control characters, which names from files may hold to steer a terminal, as escapes.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return text.into();
    }
    let escape = |c: char| if steers(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// The flags of a command, by which its errors say what to do: those of the library name settings, in backticks.
#[derive(Default)]
pub struct Flags(Vec<(String, String)>);

impl Flags {
    pub fn of(command: Option<&Command>) -> Self {
        let flag =
            |arg: &Arg| Some((format!("`{}`", arg.get_id()), format!("`{}` (--{})", arg.get_id(), arg.get_long()?)));
        Self(command.into_iter().flat_map(Command::get_arguments).filter_map(flag).collect())
    }

    /// What `error` says, with the flag after each setting that it names.
    fn explain(&self, error: &(dyn Error + 'static)) -> String {
        // One of a file may list all settings.
        if error.is::<toml::de::Error>() { error.to_string() } else { self.named(&error.to_string()) }
    }

    /// `message` with the flag after each setting that it names.
    pub fn named(&self, message: &str) -> String {
        self.0.iter().fold(message.to_string(), |message, (setting, flag)| message.replace(setting, flag))
    }
}

/// Prints an error and its causes to standard error.
pub fn print_error(error: &anyhow::Error, flags: &Flags) {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let mut messages = error.chain().map(|error| printable(&flags.explain(error)).into_owned());
    let mut said = messages.next().unwrap_or_default();
    anstream::eprintln!("{style}error:{style:#} {said}");
    for cause in messages {
        // Many messages quote their cause already.
        if !said.contains(&cause) {
            anstream::eprintln!("  because: {cause}");
            said = cause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("a\tb\nä"), "a\tb\nä");
        assert_eq!(printable("cat\u{1b}]0;x\u{7}\r\u{9b}2J"), "cat\\u{1b}]0;x\\u{7}\\r\\u{9b}2J");
    }

    #[test]
    fn a_setting_is_named_with_its_flag() {
        let command = Command::new("train").arg(Arg::new("learning_rate").long("lr"));
        let explained = Flags::of(Some(&command)).explain(&*anyhow::anyhow!("a lower `learning_rate`, or `strict`"));
        assert_eq!(explained, "a lower `learning_rate` (--lr), or `strict`");
    }
}
