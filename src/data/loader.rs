//! Batches, made ahead of training on other threads.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::random::{shuffle, stream};
use super::sampling::Weighted;
use super::{DataError, Dataset, Labels};

/// The order of the images in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The order of the data set, for evaluation.
    Sequential,
    /// A new order each epoch, given by the seed and the epoch alone.
    Shuffled {
        /// The seed.
        seed: u64,
    },
}

/// How to make batches.
#[derive(Clone)]
pub struct LoaderOptions {
    /// Images a batch.
    pub batch_size: usize,
    /// The order of the images.
    pub order: Order,
    /// Threads that make batches; 0 for one a core, up to 8.
    pub threads: usize,
    /// How many batches are kept ready.
    pub ahead: usize,
    /// The weight of each class in the loss; `None` for 1.
    pub class_weights: Option<Vec<f32>>,
    /// How often each image is drawn by that of the others, in an epoch of as many images in which one can be several times;
    /// `None` for each once. It is for a shuffled order.
    pub image_weights: Option<Vec<f64>>,
    /// End with an error at an image that cannot be read any more, instead of leaving it out with a warning.
    pub strict: bool,
}

impl LoaderOptions {
    /// Batches of `batch_size` in the order of the set, four of them kept ready.
    pub fn new(batch_size: usize) -> Self {
        let (class_weights, image_weights) = (None, None);
        Self { batch_size, order: Order::Sequential, threads: 0, ahead: 4, class_weights, image_weights, strict: false }
    }
}

/// The input of one training or evaluation step; B is the batch size. The vectors have the same lengths in every batch:
/// a short last batch is filled up with the first images of the epoch, at weight 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Pixels, B x H x W x C.
    pub images: Vec<u8>,
    /// What is to be recognised in each image, B.
    pub labels: Labels,
    /// Weight of each image in loss and metrics, B: that of its class, and 0 for what fills up.
    pub weights: Vec<f32>,
    /// Which image of the data set each is, B.
    pub indices: Vec<u32>,
    /// Rounds through the data before this one.
    pub epoch: u64,
    /// How many images count: the first `real` ones. Those that cannot be read come after them, at weight 0.
    pub real: usize,
}

/// Makes the batches of a data set. Batch `k` of an epoch is the same whatever the number of threads and wherever the
/// epoch was started.
pub struct Loader {
    shared: Arc<Shared>,
}

impl Loader {
    /// A loader of `dataset`.
    ///
    /// # Errors
    /// If the set is empty, the batch size is 0, there is not one finite, non-negative weight a class or an image, or images are
    /// to be drawn by weights and not in a shuffled order.
    pub fn new(dataset: Dataset, options: LoaderOptions) -> Result<Self, DataError> {
        if dataset.is_empty() {
            return Err(DataError::Option(format!("{} has no images to make batches of", dataset.name())));
        }
        if options.batch_size == 0 {
            return Err(DataError::Option("a batch size of 0 is not possible: give 1 or more".into()));
        }
        if let Some(weights) = &options.class_weights {
            let classes = dataset.classes().len();
            if dataset.labels().classes().is_none() {
                return Err(DataError::Option(format!(
                    "class weights are for images of one class each, and those of {} have several",
                    dataset.name()
                )));
            }
            if weights.len() != classes || !weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) {
                return Err(DataError::Option(format!(
                    "class weights {weights:?} do not work: give one number of 0 or more for each of the {classes} \
                     classes"
                )));
            }
        }
        let weighted = match (&options.image_weights, options.order) {
            (None, _) => None,
            (Some(_), Order::Sequential) => {
                let message = "images are drawn by weights in a shuffled order only: give the order a seed";
                return Err(DataError::Option(message.into()));
            }
            (Some(weights), Order::Shuffled { .. }) => {
                let name = dataset.name().to_string();
                let weighted = Weighted::new(weights, dataset.len());
                Some(weighted.map_err(|message| DataError::Option(format!("{name}: {message}")))?)
            }
        };
        Ok(Self {
            shared: Arc::new(Shared { dataset, options, weighted, spare: Mutex::default(), lost: Mutex::default() }),
        })
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.shared.dataset
    }

    /// Images a batch.
    pub fn batch_size(&self) -> usize {
        self.shared.options.batch_size
    }

    /// Batches an epoch, the short last one included.
    pub fn batches(&self) -> usize {
        self.shared.dataset.len().div_ceil(self.batch_size())
    }

    /// The batches of `epoch` from number `start_batch` on, made ahead from now on. Dropping it early stops the
    /// threads.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> Epoch {
        let end = self.batches();
        let remaining = end.saturating_sub(start_batch);
        let cores = || thread::available_parallelism().map_or(1, usize::from).min(8);
        let threads = if self.shared.options.threads == 0 { cores() } else { self.shared.options.threads };
        let threads = threads.min(remaining);
        let order = Arc::new(self.shared.order(epoch));
        let lanes = (0..threads)
            .map(|lane| {
                let (sender, receiver) = sync_channel(self.shared.options.ahead.div_ceil(threads));
                let (shared, order) = (self.shared.clone(), order.clone());
                let numbers = (start_batch + lane..end).step_by(threads);
                let thread = thread::spawn(move || shared.work(&order, numbers, &sender));
                Lane { receiver, thread }
            })
            .collect();
        Epoch { lanes, next_lane: 0, next: start_batch, end }
    }

    /// Batch number `number` of `epoch`, made on the calling thread.
    ///
    /// # Errors
    /// If an image cannot be read.
    ///
    /// # Panics
    /// If `number` is not below [`Loader::batches`].
    pub fn batch(&self, epoch: u64, number: usize) -> Result<Batch, DataError> {
        assert!(number < self.batches(), "batch {number} of {}", self.batches());
        self.shared.batch(&self.shared.order(epoch), number)
    }

    /// Takes back a batch that is no longer needed, for its memory.
    pub fn recycle(&self, batch: Batch) {
        let mut spare = self.shared.spare();
        if spare.len() <= self.shared.options.ahead {
            spare.push(batch);
        }
    }
}

/// The images of an epoch in their order.
struct EpochOrder {
    epoch: u64,
    images: Vec<u32>,
}

/// What the threads share.
struct Shared {
    dataset: Dataset,
    options: LoaderOptions,
    weighted: Option<Weighted>,
    /// Batches whose memory can be used again.
    spare: Mutex<Vec<Batch>>,
    /// Images that could be read when the data was opened, and cannot any more.
    lost: Mutex<BTreeSet<u32>>,
}

impl Shared {
    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, epoch: u64) -> EpochOrder {
        let mut order: Vec<u32> = (0..self.dataset.len() as u32).collect();
        if let Order::Shuffled { seed } = self.options.order {
            let mut rng = stream(seed, epoch);
            match &self.weighted {
                Some(weighted) => order = weighted.draw(&mut rng),
                None => shuffle(&mut order, &mut rng),
            }
        }
        EpochOrder { epoch, images: order }
    }

    /// Makes batches until they are all made, one fails or nobody wants them any more.
    fn work(
        &self,
        order: &EpochOrder,
        numbers: impl Iterator<Item = usize>,
        sender: &SyncSender<Result<Batch, DataError>>,
    ) {
        for number in numbers {
            let batch = self.batch(order, number);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// Notes that an image cannot be read any more.
    ///
    /// # Errors
    /// With the image's own error, where that is to end the epoch; or if most images are lost.
    fn leave_out(&self, index: u32, error: DataError) -> Result<(), DataError> {
        if self.options.strict {
            return Err(error);
        }
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.insert(index) {
            tracing::warn!("an image is left out from now on: {error}");
        }
        if 2 * lost.len() > self.dataset.len() {
            let (lost, images, source) = (lost.len(), self.dataset.len(), Box::new(error));
            return Err(DataError::MostImagesLost { name: self.dataset.name().into(), lost, images, source });
        }
        Ok(())
    }

    fn batch(&self, order: &EpochOrder, number: usize) -> Result<Batch, DataError> {
        let EpochOrder { epoch, images: order } = order;
        let LoaderOptions { batch_size, class_weights, .. } = &self.options;
        let start = number * batch_size;
        let real = (order.len() - start).min(*batch_size);
        let mut batch = self.spare().pop().unwrap_or_default();
        (batch.epoch, batch.real) = (*epoch, real);
        batch.indices.clear();
        batch.indices.extend((start..start + batch_size).map(|at| order[at % order.len()]));
        batch.labels.assign(self.dataset.labels(), batch.indices.iter().map(|&index| index as usize));
        batch.weights.clear();
        match (class_weights, batch.labels.classes()) {
            (Some(weights), Some(labels)) => {
                batch.weights.extend(labels[..real].iter().map(|&label| weights[label as usize]));
            }
            _ => batch.weights.resize(real, 1.0),
        }
        batch.weights.resize(*batch_size, 0.0);

        let image_bytes = self.dataset.image_size().bytes();
        batch.images.resize(batch_size * image_bytes, 0);
        let mut at = 0;
        while at < *batch_size {
            let pixels = &mut batch.images[at * image_bytes..][..image_bytes];
            match self.dataset.read(batch.indices[at] as usize, pixels) {
                Ok(()) => at += 1,
                Err(error) => {
                    self.leave_out(batch.indices[at], error)?;
                    if at < batch.real {
                        // It changes places with the last image that counts, which is read next.
                        batch.real -= 1;
                        batch.indices.swap(at, batch.real);
                        batch.labels.swap(at, batch.real);
                        batch.weights.swap(at, batch.real);
                        batch.weights[batch.real] = 0.0;
                    } else {
                        pixels.fill(0);
                        at += 1;
                    }
                }
            }
        }
        Ok(batch)
    }
}

/// A thread that makes every n-th batch, and the queue of what it made.
struct Lane {
    receiver: Receiver<Result<Batch, DataError>>,
    thread: JoinHandle<()>,
}

/// The batches of an epoch in order. After an error it ends.
pub struct Epoch {
    lanes: Vec<Lane>,
    next_lane: usize,
    next: usize,
    end: usize,
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        // The lanes take turns, so their batches come out in order without being sorted.
        let received = self.lanes[self.next_lane].receiver.recv();
        let batch = received.unwrap_or(Err(DataError::LoaderThread { batch: self.next }));
        self.next_lane = (self.next_lane + 1) % self.lanes.len();
        self.next = if batch.is_ok() { self.next + 1 } else { self.end };
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.end.saturating_sub(self.next)))
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let threads: Vec<_> = self.lanes.drain(..).map(|lane| lane.thread).collect();
        // The queues are gone, so each thread ends with the batch at hand. One that panicked has said so already.
        for thread in threads {
            let _ = thread.join();
        }
    }
}
