//! Statistics that a few odd values hardly change.

/// The median absolute deviation of a normal distribution is its standard deviation divided by this.
const OF_NORMAL: f64 = 1.4826;

/// The middle of some numbers; the upper one of two, and none of none.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// How many standard deviations each number is above the median, with the median absolute deviation for the standard deviation
/// (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). 0 where most numbers are the same.
pub(super) fn robust_z(values: &[f64]) -> Vec<f64> {
    let middle = median(values).unwrap_or(0.0);
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let deviation = OF_NORMAL * median(&deviations).unwrap_or(0.0);
    values.iter().map(|value| if deviation > 0.0 { (value - middle) / deviation } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_value_stands_out_and_changes_nothing() {
        let z = robust_z(&[1.0, 2.0, 3.0, 4.0, 1000.0]);
        assert!((z[1] + 1.0 / OF_NORMAL).abs() < 1e-12 && z[4] > 600.0, "{z:?}");
        assert_eq!(robust_z(&[2.0, 2.0, 2.0, 9.0]), [0.0; 4]);
        assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0])), (None, Some(2.0)));
    }
}
