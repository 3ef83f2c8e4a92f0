//! A number for each place of an image.

/// A number for each place of what a network sees, in rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The numbers, `[height, width]`.
    pub values: Vec<f32>,
}

impl Map {
    /// Row, column and value of the largest number; of several the first.
    pub fn peak(&self) -> (usize, usize, f32) {
        let mut best = 0;
        for at in 0..self.values.len() {
            if self.values[at] > self.values[best] {
                best = at;
            }
        }
        let value = self.values.get(best).copied().unwrap_or_default();
        (best / self.width.max(1), best % self.width.max(1), value)
    }

    /// The middle of the place of the largest number, in shares of the height and of the width.
    pub fn peak_share(&self) -> (f64, f64) {
        let (row, column, _) = self.peak();
        ((row as f64 + 0.5) / self.height.max(1) as f64, (column as f64 + 0.5) / self.width.max(1) as f64)
    }

    /// The number at a share of the height and of the width, bilinear between the middles of places; beyond the outermost ones it
    /// is theirs.
    pub fn at(&self, down: f64, across: f64) -> f32 {
        let along = |share: f64, places: usize| {
            let position = (share * places as f64 - 0.5).clamp(0.0, places.saturating_sub(1) as f64);
            let first = position as usize;
            (first, (first + 1).min(places.saturating_sub(1)), (position - first as f64) as f32)
        };
        let (top, bottom, down) = along(down, self.height);
        let (left, right, across) = along(across, self.width);
        let value = |row: usize, column: usize| self.values.get(row * self.width + column).copied().unwrap_or_default();
        let between = |row: usize| value(row, left) * (1.0 - across) + value(row, right) * across;
        between(top) * (1.0 - down) + between(bottom) * down
    }

    /// The same from 0 to 1: what is below 0 becomes 0, and the largest number 1 where it is above 0.
    pub fn positive(&self) -> Self {
        let largest = self.values.iter().copied().fold(0.0, f32::max);
        let scale = if largest > 0.0 { largest.recip() } else { 0.0 };
        Self { values: self.values.iter().map(|value| value.max(0.0) * scale).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_places_it_is_linear_and_beyond_them_constant() {
        let map = Map { height: 1, width: 2, values: vec![1.0, 3.0] };
        for (across, expected) in [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.625, 2.5), (0.75, 3.0), (1.0, 3.0)] {
            assert_eq!(map.at(0.5, across), expected, "{across}");
        }
        assert_eq!((map.peak(), map.peak_share()), ((0, 1, 3.0), (0.5, 0.75)));
    }

    #[test]
    fn only_what_is_positive_counts() {
        let map = Map { height: 1, width: 3, values: vec![-4.0, 1.0, 2.0] };
        assert_eq!(map.positive().values, [0.0, 0.5, 1.0]);
        let nothing = Map { values: vec![-4.0, -1.0, 0.0], ..map };
        assert_eq!(nothing.positive().values, [0.0; 3]);
    }
}
