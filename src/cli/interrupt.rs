//! Ending a command at Ctrl-C without losing what it has done.

use std::{
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use gabor::report::Dashboard;

use super::console::Held;

/// The exit code of a command that was interrupted, as shells give it for Ctrl-C.
pub const EXIT_CODE: u8 = 130;

/// Set once an end was asked for.
static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Sets the flag that it returns at the first Ctrl-C or request to terminate, and ends the process at a second one.
/// It is one flag for the process, down again with each call.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    if let Some(flag) = FLAG.get() {
        flag.store(false, Ordering::Relaxed);
        return Ok(flag.clone());
    }
    ctrlc::set_handler(request).context("Ctrl-C cannot be caught")?;
    Ok(FLAG.get_or_init(Arc::default).clone())
}

/// Does what Ctrl-C does.
pub fn request() {
    if FLAG.get_or_init(Arc::default).swap(true, Ordering::Relaxed) {
        if Held::is_on() {
            Dashboard::restore();
            Held::release();
        }
        process::exit(i32::from(EXIT_CODE));
    }
    // A dashboard says so itself.
    if !Held::is_on() {
        anstream::eprintln!("\nstopping after this step, with a checkpoint; once more to stop at once");
    }
}
