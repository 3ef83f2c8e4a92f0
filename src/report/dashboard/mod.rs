//! A run on the whole terminal: curves, progress, the images that are hardest, and what is told of the run.

mod seen;
mod view;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
        execute,
        terminal::{Clear, ClearType},
    },
};

use crate::{
    data::Dataset,
    train::{Control, EpochReport, Observer, StepReport, TrainError, Vitals},
};

use seen::Seen;

/// Time between two drawings, in which keys are waited for.
const TICK: Duration = Duration::from_millis(100);

/// What a dashboard is about.
pub struct About {
    /// What is trained, on what and where, in a line.
    pub title: String,
    /// Epochs of the run.
    pub epochs: u64,
    /// Steps of an epoch.
    pub batches: usize,
    /// The training images.
    pub images: Dataset,
}

/// Draws a run on the whole terminal, from a thread of its own, until it is dropped, which leaves the terminal as it was.
pub struct Dashboard {
    seen: Arc<Mutex<Seen>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal that standard output goes to. `messages` gives the warnings so far, which must not be written to the
    /// terminal meanwhile; `interrupt` is called when a person asks for an end by `q` or Ctrl-C, the second time with the terminal as
    /// it was.
    ///
    /// # Errors
    /// If the terminal refuses.
    pub fn open(
        about: About,
        messages: impl Fn() -> String + Send + 'static,
        interrupt: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let mut terminal = ratatui::try_init()?;
        // Not every terminal's other screen begins empty.
        execute!(io::stdout(), Clear(ClearType::All)).inspect_err(|_| ratatui::restore())?;
        let seen = Arc::new(Mutex::new(Seen::of(about)));
        let closing = Arc::new(AtomicBool::new(false));
        let (shown, close) = (seen.clone(), closing.clone());
        let show = move || {
            let mut asked = 0;
            // A terminal that is gone takes nothing with it: the run goes on.
            while !close.load(Ordering::Relaxed)
                && tick(&mut terminal, &shown, &messages, &mut asked, &interrupt).is_ok()
            {}
        };
        let thread = thread::Builder::new().name("dashboard".into()).spawn(show).inspect_err(|_| ratatui::restore())?;
        Ok(Self { seen, closing, thread: Some(thread) })
    }

    /// Leaves the terminal as it was before there was a dashboard: for a process that is about to end.
    pub fn restore() {
        ratatui::restore();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
        ratatui::restore();
    }
}

/// Draws once, and waits for keys.
fn tick(
    terminal: &mut DefaultTerminal,
    seen: &Mutex<Seen>,
    messages: &impl Fn() -> String,
    asked: &mut u32,
    interrupt: &impl Fn(),
) -> io::Result<()> {
    let messages = messages();
    terminal.draw(|frame| view::draw(frame, &lock(seen), &messages, *asked > 0))?;
    if event::poll(TICK)?
        && let Event::Key(key) = event::read()?
        && key.kind == KeyEventKind::Press
        && (key.code == KeyCode::Char('q')
            || key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
    {
        *asked += 1;
        if *asked > 1 {
            ratatui::restore();
        }
        interrupt();
    }
    Ok(())
}

/// What was seen is whole even where its thread ended in the middle.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer for Dashboard {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        lock(&self.seen).step(report);
        Ok(())
    }

    fn on_vitals(&mut self, vitals: &Vitals, _: &mut Control) -> Result<(), TrainError> {
        lock(&self.seen).class_losses.clone_from(&vitals.class_losses);
        Ok(())
    }

    fn on_evaluation(&mut self, done: usize, total: usize) {
        lock(&self.seen).validating = Some((done, total));
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        lock(&self.seen).epoch(report);
        Ok(())
    }
}
