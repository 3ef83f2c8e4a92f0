//! The place of augmentation in loading.

/// Draws the numbers by which each sample of a batch is augmented. The pixels are left alone here: the first kernel of
/// a step reads the numbers and changes the image while it normalises it.
///
/// A draw may depend on the epoch and the image only (and on a seed that the implementor holds), never on what was
/// drawn before: this makes it the same on any number of threads and in a resumed run.
pub trait Augmentation: Send + Sync {
    /// How many numbers each sample has.
    fn parameters_per_sample(&self) -> usize;

    /// Writes the numbers of image `index` of the data set in `epoch` to `parameters`.
    fn draw(&self, epoch: u64, index: u32, parameters: &mut [f32]);
}
