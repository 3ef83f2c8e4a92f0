//! What goes to standard output and what to standard error.

use std::io::{self, Write};

use anyhow::Result;
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

/// Where a command writes: figures for people, or one JSON object.
#[derive(Clone, Copy)]
pub struct Console {
    quiet: bool,
    json: bool,
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, json: false }
    }

    /// With `json`, standard output is left to the object, and text goes to standard error.
    pub fn json(self, json: bool) -> Self {
        Self { json, ..self }
    }

    /// Whether the account of what happens is shown at all.
    pub fn shows_progress(self) -> bool {
        !self.quiet
    }

    /// Where the account of what happens goes.
    pub fn lines(self) -> Box<dyn Write> {
        match self {
            Self { quiet: true, .. } => Box::new(io::sink()),
            Self { json: true, .. } => Box::new(anstream::stderr()),
            _ => Box::new(anstream::stdout()),
        }
    }

    /// Writes a line of the account of what happens.
    pub fn note(self, line: impl std::fmt::Display) -> Result<()> {
        Ok(writeln!(self.lines(), "{line}")?)
    }

    /// Writes the result: the object with `--json`, else the text.
    pub fn result(self, object: &impl Serialize, text: impl std::fmt::Display) -> Result<()> {
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, object).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }
}

/// Prints an error and its causes to standard error.
pub fn print_error(error: &anyhow::Error) {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let mut said = error.to_string();
    anstream::eprintln!("{style}error:{style:#} {said}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many messages quote their cause already.
        if !said.contains(&cause) {
            anstream::eprintln!("  because: {cause}");
            said = cause;
        }
    }
}

/// A number with its thousands apart, such as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
