//! Weights that begin as the training images say: whitening filters (Krizhevsky 2009, section 2.2.1; as the first layer of a
//! network in Page 2019, "How to Train Your ResNet", and in Jordan 2024, arXiv:2404.00498, section 3.2).

use super::{Session, TrainError, tensors::AVERAGE};
use crate::{
    data::{Loader, Normalisation},
    nn::{Init, Parameter},
    tensor::{Shape, Tensor},
};

/// Images that filters are computed of, at most.
const MOST_IMAGES: usize = 5000;
/// Windows that filters are computed of, at most, but for those of the last image.
const MOST_WINDOWS: usize = 5_000_000;
/// Products of two numbers of a window that are added up, at most, likewise.
const MOST_PRODUCTS: usize = 8_000_000_000;
/// Numbers of a window, at most: the time that its filters take grows with the cube.
const MOST_NUMBERS: usize = 192;

impl Session {
    /// Gives the weights that begin as the training images say their values, unless the session's weights were given to it.
    ///
    /// # Errors
    /// If such a weight is not that of a convolution of the images, or an image cannot be read.
    pub(super) fn begin_from(&mut self, train: &Loader) -> Result<(), TrainError> {
        if !std::mem::take(&mut self.awaits_data) {
            return Ok(());
        }
        let of_data = |init: Init| match init {
            Init::Whitening(epsilon) => Some(epsilon),
            _ => None,
        };
        for Parameter { name, shape, init, block, .. } in self.parameters.iter().cloned().collect::<Vec<_>>() {
            let Some(epsilon) = of_data(init) else { continue };
            let window = window_of(&shape, self.model.input);
            let window = window.map_err(|message| TrainError::Setting(format!("{name} {message}")))?;
            if epsilon.is_nan() || epsilon <= 0.0 {
                let message = format!("{name} begins with a whitening of {epsilon}, and that must be above 0");
                return Err(TrainError::Setting(message));
            }
            let covariance = covariance(train, &self.normalisation, self.model.input, window)?;
            let filters = Tensor::f32(&shape, whitening(covariance, shape.last(), f64::from(epsilon)));
            let average = self.has_average(block).then(|| (format!("{AVERAGE}{name}"), filters.clone()));
            let tensors: Vec<(String, Tensor)> = [(name, filters)].into_iter().chain(average).collect();
            self.set_tensors(&tensors)?;
        }
        Ok(())
    }
}

/// Rows and columns of the filters of a weight that is to whiten images.
fn window_of(shape: &Shape, [height, width, channels]: [usize; 3]) -> Result<[usize; 2], String> {
    match shape[..] {
        [rows, columns, inputs, _] if inputs == channels && rows * columns * inputs > MOST_NUMBERS => Err(format!(
            "whitens windows of {rows}x{columns}x{inputs}, which are {} numbers, and {MOST_NUMBERS} can be: take a smaller kernel",
            rows * columns * inputs
        )),
        [rows, columns, inputs, outputs]
            if inputs == channels && rows <= height && columns <= width && outputs <= 2 * rows * columns * inputs =>
        {
            Ok([rows, columns])
        }
        [rows, columns, inputs, outputs] if inputs == channels && rows <= height && columns <= width => Err(format!(
            "has {outputs} filters, and {rows}x{columns} windows of {channels} channels have {} that whiten",
            2 * rows * columns * inputs
        )),
        _ => Err(format!("is {shape}: only a convolution of the images, {height}x{width}x{channels}, can whiten them")),
    }
}

/// The mean product of each two of the numbers in a window of the normalised images, over all windows:
/// `[window * channels, window * channels]`, row by row.
fn covariance(
    train: &Loader,
    normalisation: &Normalisation,
    [height, width, channels]: [usize; 3],
    [rows, columns]: [usize; 2],
) -> Result<Vec<f64>, TrainError> {
    let numbers = rows * columns * channels;
    let mut sums = vec![0.0f64; numbers * numbers];
    let most_windows = MOST_WINDOWS.min(MOST_PRODUCTS / (numbers * numbers));
    let (mut images, mut windows) = (0, 0);
    let mut values = vec![0.0f32; height * width * channels];
    let mut window = vec![0.0f32; numbers];
    'all: for number in 0..train.batches() {
        let batch = train.batch(0, number)?;
        for image in batch.images.chunks_exact(values.len()).take(batch.real) {
            for (at, (value, byte)) in values.iter_mut().zip(image).enumerate() {
                let channel = at % channels;
                *value = (f32::from(*byte) / 255.0 - normalisation.mean[channel]) / normalisation.std[channel];
            }
            for (top, left) in (0..=height - rows).flat_map(|top| (0..=width - columns).map(move |left| (top, left))) {
                for (row, part) in window.chunks_exact_mut(columns * channels).enumerate() {
                    part.copy_from_slice(&values[((top + row) * width + left) * channels..][..part.len()]);
                }
                for (sums, a) in sums.chunks_exact_mut(numbers).zip(&window) {
                    sums.iter_mut().zip(&window).for_each(|(sum, b)| *sum += f64::from(a * b));
                }
                windows += 1;
            }
            images += 1;
            if images == MOST_IMAGES || windows >= most_windows {
                break 'all;
            }
        }
        train.recycle(batch);
    }
    sums.iter_mut().for_each(|sum| *sum /= windows.max(1) as f64);
    Ok(sums)
}

/// The first `outputs` of the filters that whiten what has this covariance, with their negatives, as columns:
/// `[numbers, outputs]`. Those of the largest variance come first.
fn whitening(covariance: Vec<f64>, outputs: usize, epsilon: f64) -> Vec<f32> {
    let numbers = covariance.len().isqrt();
    let (variances, vectors) = eigen(covariance);
    let mut order: Vec<usize> = (0..numbers).collect();
    order.sort_by(|a, b| variances[*b].total_cmp(&variances[*a]));
    let half = outputs.div_ceil(2);
    let mut filters = vec![0.0; numbers * outputs];
    for output in 0..outputs {
        let from = order[output % half];
        let vector = |at: usize| vectors[at * numbers + from];
        // A vector and its negative are alike: the one whose largest number is positive is taken.
        let largest = (0..numbers).map(vector).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0);
        let sign = if (largest < 0.0) == (output < half) { -1.0 } else { 1.0 };
        let scale = sign / (variances[from].max(0.0) + epsilon).sqrt();
        (0..numbers).for_each(|at| filters[at * outputs + output] = (vector(at) * scale) as f32);
    }
    filters
}

/// Eigenvalues of a symmetric matrix and its eigenvectors as columns, by Jacobi's rotations (Golub and Van Loan, section 8.5).
fn eigen(mut matrix: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let n = matrix.len().isqrt();
    let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    let norm: f64 = matrix.iter().map(|value| value * value).sum();
    // Each sweep squares what is left beside the diagonal: some ten are enough.
    for _ in 0..50 {
        let beside: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| matrix[at] * matrix[at]).sum();
        if beside <= 1e-28 * norm {
            break;
        }
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            let beside = matrix[p * n + q];
            if beside == 0.0 {
                continue;
            }
            let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * beside);
            let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
            let cosine = tangent.hypot(1.0).recip();
            let sine = tangent * cosine;
            for at in 0..n {
                let (a, b) = (matrix[at * n + p], matrix[at * n + q]);
                (matrix[at * n + p], matrix[at * n + q]) = (cosine * a - sine * b, sine * a + cosine * b);
            }
            for at in 0..n {
                let (a, b) = (matrix[p * n + at], matrix[q * n + at]);
                (matrix[p * n + at], matrix[q * n + at]) = (cosine * a - sine * b, sine * a + cosine * b);
                let (a, b) = (vectors[at * n + p], vectors[at * n + q]);
                (vectors[at * n + p], vectors[at * n + q]) = (cosine * a - sine * b, sine * a + cosine * b);
            }
        }
    }
    ((0..n).map(|at| matrix[at * n + at]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A A^T` of some numbers: symmetric and not singular.
    fn symmetric(n: usize) -> Vec<f64> {
        let a = |row: usize, column: usize| {
            ((row * 7 + column * 13) % 11) as f64 / 11.0 + f64::from(u8::from(row == column))
        };
        (0..n * n).map(|at| (0..n).map(|k| a(at / n, k) * a(at % n, k)).sum()).collect()
    }

    #[test]
    fn eigenvectors_are_what_they_say() {
        let n = 9;
        let matrix = symmetric(n);
        let (values, vectors) = eigen(matrix.clone());
        for (column, value) in values.iter().enumerate() {
            for row in 0..n {
                let product: f64 = (0..n).map(|k| matrix[row * n + k] * vectors[k * n + column]).sum();
                assert!((product - value * vectors[row * n + column]).abs() < 1e-10, "{row}, {column}");
            }
        }
    }

    #[test]
    fn filters_whiten_and_come_with_their_negatives() {
        let n = 6;
        let matrix = symmetric(n);
        let filters = whitening(matrix.clone(), 2 * n, 0.0);
        let filter = |k: usize, output: usize| f64::from(filters[k * 2 * n + output]);
        for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
            let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
            let product: f64 = pairs.map(|(i, j)| filter(i, a) * matrix[i * n + j] * filter(j, b)).sum();
            assert!((product - f64::from(u8::from(a == b))).abs() < 1e-4, "{a}, {b}: {product}");
            assert_eq!(filter(b, a), -filter(b, n + a));
        }
        let few = whitening(matrix, 4, 0.0);
        assert_eq!(few[0], filters[0]);
        assert_eq!(few[2], -few[0]);
    }

    #[test]
    fn only_the_images_are_whitened() {
        let shape = |extents: [usize; 4]| Shape::from(extents);
        assert_eq!(window_of(&shape([2, 2, 3, 24]), [32, 32, 3]), Ok([2, 2]));
        let error = window_of(&shape([2, 2, 3, 25]), [32, 32, 3]).unwrap_err();
        assert!(error.contains("has 25 filters") && error.contains("have 24"), "{error}");
        let error = window_of(&shape([2, 2, 16, 8]), [32, 32, 3]).unwrap_err();
        assert!(error.contains("only a convolution of the images"), "{error}");
    }
}
