//! Decoded images kept in memory up to a budget, and beyond it on disk.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    sync::{Mutex, PoisonError},
};

use rayon::prelude::*;
use tracing::warn;

use super::dataset::digest;
use super::{DataError, ImageSize, ImageSource};

/// A source whose first images are kept decoded in one block of memory; the others are read from the source each time, or
/// the first time alone where there is a file for them.
pub(super) struct Cached<S> {
    source: S,
    block: Vec<u8>,
    image_bytes: usize,
    overflow: Option<Overflow>,
    /// Of each image that was read.
    digests: Vec<Option<u64>>,
}

/// Decoded images in a file.
struct Overflow {
    contents: Mutex<Contents>,
    image_bytes: usize,
}

struct Contents {
    file: File,
    /// Whether something could not be written.
    full: bool,
    /// For each image whether it is there.
    written: Vec<bool>,
}

impl Overflow {
    fn new(file: File, images: usize, image_bytes: usize) -> Self {
        Self { contents: Mutex::new(Contents { file, full: false, written: vec![false; images] }), image_bytes }
    }

    /// Image number `at`, if it is there.
    fn get(&self, at: usize, out: &mut [u8]) -> bool {
        let Contents { file, written, .. } = &mut *self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let place = SeekFrom::Start((at * self.image_bytes) as u64);
        written[at] && file.seek(place).and_then(|_| file.read_exact(out)).is_ok()
    }

    /// Keeps image number `at`, where the disk has room for it.
    fn put(&self, at: usize, pixels: &[u8]) {
        let Contents { file, full, written } = &mut *self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let place = SeekFrom::Start((at * self.image_bytes) as u64);
        let result = file.seek(place).and_then(|_| file.write_all(pixels));
        written[at] = result.is_ok();
        if let (Err(error), false) = (result, *full) {
            *full = true;
            warn!("`disk_cache` does not hold all images ({error}): the others are decoded each time");
        }
    }
}

/// Where decoded images are kept.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes of memory.
    pub memory: usize,
    /// An empty file, for those that memory does not hold.
    pub disk: Option<File>,
}

impl<S: ImageSource> Cached<S> {
    /// Decodes as many images of `source` as fit into the memory of `budget`, in parallel, and with `verify_rest` the others
    /// too, only to see whether they can be read. Calls `on_read` after each image. Returns the cache and the images
    /// that cannot be read, in order; their slots stay unused.
    pub fn fill(
        source: S,
        image_bytes: usize,
        budget: Budget,
        verify_rest: bool,
        on_read: &(dyn Fn() + Sync),
    ) -> (Self, Vec<(usize, DataError)>) {
        let read = |index, pixels: &mut [u8]| {
            let result = source.read(index, pixels);
            on_read();
            result.map(|()| digest(pixels))
        };
        let slots = source.len().min(budget.memory / image_bytes);
        let overflow = budget.disk.map(|file| Overflow::new(file, source.len() - slots, image_bytes));
        let mut block = vec![0; slots * image_bytes];
        let mut results: Vec<Result<u64, DataError>> =
            block.par_chunks_mut(image_bytes).enumerate().map(|(index, slot)| read(index, slot)).collect();
        if verify_rest {
            results.par_extend((slots..source.len()).into_par_iter().map_init(
                || vec![0; image_bytes],
                |scratch, index| {
                    let digest = read(index, scratch)?;
                    overflow.iter().for_each(|file| file.put(index - slots, scratch));
                    Ok(digest)
                },
            ));
        }
        let mut failures = Vec::new();
        let mut digests = vec![None; source.len()];
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(digest) => digests[index] = Some(digest),
                Err(error) => failures.push((index, error)),
            }
        }
        (Self { source, block, image_bytes, overflow, digests }, failures)
    }

    /// Bytes of memory that the cache takes.
    pub fn bytes(&self) -> usize {
        self.block.len()
    }
}

impl<S: ImageSource> ImageSource for Cached<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        match self.block.chunks_exact(self.image_bytes).nth(index) {
            Some(pixels) => {
                out.copy_from_slice(pixels);
                Ok(())
            }
            None => {
                let Some(file) = &self.overflow else { return self.source.read(index, out) };
                let at = index - self.block.len() / self.image_bytes;
                if !file.get(at, out) {
                    self.source.read(index, out)?;
                    file.put(at, out);
                }
                Ok(())
            }
        }
    }

    fn original(&self, index: usize) -> Result<Option<(Vec<u8>, ImageSize)>, DataError> {
        self.source.original(index)
    }

    fn digest(&self, index: usize) -> Option<u64> {
        self.digests[index]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Ten images of two bytes, of which number 3 and 8 cannot be read.
    struct Counting(AtomicUsize);

    impl ImageSource for &Counting {
        fn len(&self) -> usize {
            10
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if index == 3 || index == 8 {
                return Err(DataError::Image { path: index.to_string().into(), reason: "broken".into() });
            }
            out.fill(index as u8);
            Ok(())
        }
    }

    #[test]
    fn only_what_is_over_the_budget_is_read_again() {
        let source = Counting(AtomicUsize::new(0));
        let budget = Budget { memory: 13, disk: None };
        let (cache, failures) = Cached::fill(&source, 2, budget, true, &|| {});
        assert_eq!(failures.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 8]);
        assert_eq!((cache.bytes(), source.0.load(Ordering::Relaxed)), (12, 10));
        let mut pixels = [0; 2];
        for index in [0, 5, 6, 9] {
            cache.read(index, &mut pixels).unwrap();
            assert_eq!(pixels, [index as u8; 2]);
        }
        assert_eq!(source.0.load(Ordering::Relaxed), 12);
        assert!(cache.read(8, &mut pixels).is_err());
    }

    #[test]
    fn without_verification_the_rest_is_left_alone() {
        let source = Counting(AtomicUsize::new(0));
        let budget = Budget { memory: 12, disk: None };
        let (_, failures) = Cached::fill(&source, 2, budget, false, &|| {});
        assert_eq!((failures.len(), source.0.load(Ordering::Relaxed)), (1, 6));
    }

    #[test]
    fn what_is_on_disk_is_read_once() {
        for verify in [false, true] {
            let source = Counting(AtomicUsize::new(0));
            let budget = Budget { memory: 4, disk: Some(tempfile::tempfile().unwrap()) };
            let (cache, _) = Cached::fill(&source, 2, budget, verify, &|| {});
            let mut pixels = [0; 2];
            for index in [9, 0, 2, 9, 2, 9] {
                cache.read(index, &mut pixels).unwrap();
                assert_eq!(pixels, [index as u8; 2]);
            }
            assert!(cache.read(3, &mut pixels).is_err());
            // Two in memory, with `verify` all others, and else those two that were asked for; and the broken one anew.
            assert_eq!(source.0.load(Ordering::Relaxed), if verify { 10 + 1 } else { 2 + 2 + 1 });
        }
    }
}
