//! How sure one can be of a figure, and of one model being better than another.

use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Serialize;

/// A range that holds a figure with a probability of 95%.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The range of each figure of `images`, by drawing as many of them with replacement, `resamples` times, and taking the 2.5th and
/// the 97.5th percentile of what `figures` makes of them (percentile bootstrap; Efron 1979). Figures that are undefined in a
/// resample are left out of it. The same for the same seed.
pub fn bootstrap<T: Copy>(
    images: &[T],
    resamples: usize,
    seed: u64,
    figures: impl Fn(&[T]) -> Vec<f64>,
) -> Vec<Option<Interval>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = images.to_vec();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for _ in 0..if images.is_empty() { 0 } else { resamples } {
        drawn.iter_mut().for_each(|image| *image = images[rng.random_range(0..images.len())]);
        let figures = figures(&drawn);
        values.resize(figures.len(), Vec::with_capacity(resamples));
        values.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
    }
    values.into_iter().map(interval).collect()
}

fn interval(mut values: Vec<f64>) -> Option<Interval> {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    // Between values as numpy's percentile does.
    let at = |share: f64| {
        let place = share * last as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Some(Interval { low: at(0.025), high: at(0.975) })
}

/// Whether two models are alike in their share of right answers on the same images (McNemar 1947).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that only the first told right.
    pub only_first: u64,
    /// Images that only the second told right.
    pub only_second: u64,
    /// Probability of a difference as large or larger if they were alike.
    pub p: f64,
}

/// Of so many images that only the first, and only the second of two models told right: exact below 25 of them, by the binomial
/// distribution, and else by the chi-squared distribution with a correction for continuity (Edwards 1948).
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    const FEW: u64 = 25;
    let (count, less) = (only_first + only_second, only_first.min(only_second));
    let p = if count < FEW {
        let of = |k: u64| {
            libm::lgamma((count + 1) as f64) - libm::lgamma((k + 1) as f64) - libm::lgamma((count - k + 1) as f64)
        };
        let tail: f64 = (0..=less).map(|k| (of(k) - count as f64 * std::f64::consts::LN_2).exp()).sum();
        (2.0 * tail).min(1.0)
    } else {
        let distance = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
        libm::erfc((distance * distance / count as f64 / 2.0).sqrt())
    };
    McNemar { only_first, only_second, p }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are scipy's: `2 * binom.cdf(less, count, 0.5)` and `chi2.sf((difference - 1)² / count, 1)`.
    #[test]
    fn models_that_differ_are_told_from_those_that_do_not() {
        for (first, second, p) in
            [(3, 10, 0.09228515625), (10, 3, 0.09228515625), (20, 40, 0.014171388254012323), (0, 1, 1.0), (0, 0, 1.0)]
        {
            let found = mcnemar(first, second);
            assert!((found.p - p).abs() < 1e-12, "{found:?}");
            assert_eq!((found.only_first, found.only_second), (first, second));
        }
    }

    #[test]
    fn a_range_is_that_of_the_resampled_figure() {
        let hits: Vec<f64> = (0..400).map(|at| f64::from(at % 5 != 0)).collect();
        let share = |drawn: &[f64]| vec![drawn.iter().sum::<f64>() / drawn.len() as f64, f64::NAN];
        let found = bootstrap(&hits, 2000, 0, share);
        // The share of 400 draws deviates by sqrt(0.8 * 0.2 / 400) = 0.02: 1.96 times that to either side.
        let Some(Interval { low, high }) = found[0] else { panic!("there is a range") };
        assert!((low - 0.7608).abs() < 0.006 && (high - 0.8392).abs() < 0.006, "{low} to {high}");
        assert_eq!(found[1], None);
        assert_eq!(bootstrap(&hits, 2000, 0, share), found);
        assert_eq!(bootstrap(&[], 10, 0, share), []);
    }
}
