//! Waiting for the device: futures that its callbacks wake, and blocking on them.
//!
//! A browser's device calls back by itself. A native one does while it is polled: by [`block_on`], which waits in the
//! driver for what its future waits for, or where another runtime polls the future, by a thread of its own.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{
    Gpu, GpuError,
    device::{Failures, lock},
};

/// How long another thread may take to call back once the device has finished.
const LONG: Duration = Duration::from_secs(10);

/// What a callback sets and a future awaits. Clones are one signal.
#[derive(Clone, Debug, Default)]
pub(super) struct Signal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    set: bool,
    waker: Option<Waker>,
}

impl Signal {
    /// Sets it, and wakes who awaits it.
    pub fn set(&self) {
        let mut state = lock(&self.0);
        state.set = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        lock(&self.0).set
    }

    /// Whether it was set; where not, it wakes `context` once it is.
    fn is_set_or_wakes(&self, context: &Context<'_>) -> bool {
        let mut state = lock(&self.0);
        if !state.set {
            state.waker = Some(context.waker().clone());
        }
        state.set
    }
}

/// A submission of a device that is waited for; where there is none, everything submitted so far.
struct Awaited {
    device: wgpu::Device,
    failures: Arc<Failures>,
    submission: Option<wgpu::SubmissionIndex>,
}

impl Awaited {
    /// Has who polls the future on this thread, or a thread of its own, wait.
    fn begin(self, context: &Context<'_>) {
        if BLOCKING.get() {
            return AWAITED.set(Some(self));
        }
        let waker = context.waker().clone();
        thread::spawn(move || {
            self.block();
            waker.wake();
        });
    }

    /// Waits in the driver and runs the callbacks of what has finished. A failure is remembered for the next check.
    fn block(&self) {
        let poll = wgpu::PollType::Wait { submission_index: self.submission.clone(), timeout: None };
        if let Err(error) = poll_device(&self.device, &self.failures, poll) {
            self.failures.remember(error);
        }
    }

    /// Sleeps until the callback is made: another thread that polls the device has taken it and not come to it yet.
    fn sleep(&self) {
        let begun = Instant::now();
        thread::park_timeout(LONG);
        if begun.elapsed() >= LONG {
            let message = "the device finished without handing over what it computed";
            self.failures.remember(GpuError::invalid("waiting for the GPU", message));
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    /// Whether this thread blocks on a future.
    static BLOCKING: Cell<bool> = const { Cell::new(false) };
    /// What the future has begun to wait for that this thread blocks on.
    static AWAITED: Cell<Option<Awaited>> = const { Cell::new(None) };
}

/// The output of `future`, which waits for nothing but devices: meanwhile this thread sleeps in the driver.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut poll = || {
        let outer = BLOCKING.replace(true);
        let polled = WAKER.with(|waker| future.as_mut().poll(&mut Context::from_waker(waker)));
        BLOCKING.set(outer);
        polled
    };
    let mut last: Option<Awaited> = None;
    loop {
        if let Poll::Ready(output) = poll() {
            return output;
        }
        match (AWAITED.take(), &last) {
            (Some(awaited), _) => {
                awaited.block();
                last = Some(awaited);
            }
            (None, Some(last)) => last.sleep(),
            (None, None) => thread::park(),
        }
    }
}

/// Runs the callbacks of what has finished.
fn poll_device(device: &wgpu::Device, failures: &Failures, poll: wgpu::PollType) -> Result<(), GpuError> {
    failures.check()?;
    // wgpu panics where the device is lost while it is being waited for.
    match catch_unwind(AssertUnwindSafe(|| device.poll(poll))) {
        Ok(Ok(_)) => failures.check(),
        Ok(Err(error)) => Err(GpuError::invalid("waiting for the GPU", error.to_string())),
        Err(panic) => {
            let reason = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it stopped answering".into());
            failures.lose(reason);
            failures.check()
        }
    }
}

impl Gpu {
    /// Runs the callbacks of what has finished.
    pub(super) fn poll(&self) -> Result<(), GpuError> {
        poll_device(&self.device, &self.failures, wgpu::PollType::Poll)
    }

    /// Until `submission`, or where there is none everything submitted so far, has finished.
    pub(super) async fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        self.poll()?;
        let signal = Signal::default();
        let set = signal.clone();
        self.queue.on_submitted_work_done(move || set.set());
        self.finished(submission, &signal).await
    }

    /// Until `signal` is set, which the callback does that the device makes once `submission`, or where there is none
    /// everything submitted so far, has finished.
    pub(super) async fn finished(
        &self,
        submission: Option<wgpu::SubmissionIndex>,
        signal: &Signal,
    ) -> Result<(), GpuError> {
        let (device, failures) = (self.device.clone(), self.failures.clone());
        let mut awaited = Some(Awaited { device, failures, submission });
        poll_fn(|context| {
            if signal.is_set_or_wakes(context) {
                return Poll::Ready(self.check());
            }
            if let Err(error) = self.check() {
                return Poll::Ready(Err(error));
            }
            if let Some(awaited) = awaited.take() {
                awaited.begin(context);
            }
            Poll::Pending
        })
        .await
    }
}
