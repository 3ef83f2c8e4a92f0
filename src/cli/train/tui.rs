//! A run on the whole terminal.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use gabor::report::{About, Dashboard};

use crate::cli::{console::Held, interrupt};

/// A dashboard, and the warnings that wait for its end.
pub struct Tui {
    // The terminal is given back before the warnings are written to it.
    pub dashboard: Dashboard,
    _held: Held,
}

impl Tui {
    /// Takes the terminal; none where standard output goes elsewhere, which is said.
    pub fn open(about: About) -> Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            tracing::warn!("--tui needs a terminal, and standard output is none: the run is told in lines");
            return Ok(None);
        }
        let held = Held::begin();
        let dashboard =
            Dashboard::open(about, Held::messages, interrupt::request).context("the terminal refuses --tui")?;
        Ok(Some(Self { dashboard, _held: held }))
    }
}
