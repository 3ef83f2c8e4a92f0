//! Ending a command at Ctrl-C without losing what it has done.

use std::{
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};

/// The exit code of a command that was interrupted, as shells give it for Ctrl-C.
pub const EXIT_CODE: u8 = 130;

/// Sets the flag that it returns at the first Ctrl-C or request to terminate, and ends the process at a second one.
/// It is one flag for the process, down again with each call.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        flag.store(false, Ordering::Relaxed);
        return Ok(flag.clone());
    }
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let handler = move || {
        if seen.swap(true, Ordering::Relaxed) {
            process::exit(i32::from(EXIT_CODE));
        }
        anstream::eprintln!("\nstopping after this step, with a checkpoint; once more to stop at once");
    };
    ctrlc::set_handler(handler).context("Ctrl-C cannot be caught")?;
    Ok(FLAG.get_or_init(|| flag).clone())
}
