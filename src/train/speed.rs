//! How fast a run is.

use std::time::Instant;

/// Images a second, recently and since the beginning.
pub(super) struct Speed {
    started: Instant,
    images: usize,
    window: Instant,
    window_images: usize,
    recent: f64,
}

impl Speed {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { started: now, images: 0, window: now, window_images: 0, recent: 0.0 }
    }

    pub fn add(&mut self, images: usize) {
        self.images += images;
        self.window_images += images;
        let seconds = self.window.elapsed().as_secs_f64();
        let is_first = self.window_images == self.images;
        if seconds >= 1.0 || is_first {
            self.recent = self.window_images as f64 / seconds.max(1e-9);
        }
        if seconds >= 1.0 {
            (self.window, self.window_images) = (Instant::now(), 0);
        }
    }

    pub fn recent(&self) -> f64 {
        self.recent
    }

    pub fn overall(&self) -> f64 {
        self.images as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }
}
