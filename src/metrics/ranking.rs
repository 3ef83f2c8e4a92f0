//! Rankings: scores of images, of which some are of a class.

use super::ratio;

/// Images by their score for a class, the highest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    points: Vec<Point>,
}

/// What is said to be of the class from a score on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The score.
    pub threshold: f32,
    /// Images of this score or more that are of the class.
    pub right: u64,
    /// Images of this score or more that are not.
    pub wrong: u64,
}

impl Ranking {
    /// Of images with these scores, of which it is said whether they are of the class.
    pub fn of(mut scores: Vec<(f32, bool)>) -> Self {
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut right, mut wrong) = (0, 0);
        let of_ties = |ties: &[(f32, bool)]| {
            let new = ties.iter().filter(|(_, is)| *is).count() as u64;
            right += new;
            wrong += ties.len() as u64 - new;
            Point { threshold: ties[0].0, right, wrong }
        };
        Self { points: scores.chunk_by(|a, b| a.0 == b.0).map(of_ties).collect() }
    }

    /// A point for each score, the highest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The points at which the curves turn: without those between whose neighbours only images that are not of the class are added,
    /// which lie on a line in both curves (`drop_intermediate` of `precision_recall_curve`).
    pub fn corners(&self) -> impl Iterator<Item = Point> {
        let right = |at: usize| self.points.get(at).map(|point| point.right);
        let turns = move |at: &usize| *at == 0 || right(at - 1) != right(*at) || right(*at) != right(at + 1);
        (0..self.points.len()).filter(turns).map(|at| self.points[at])
    }

    /// Images that are of the class.
    pub fn positives(&self) -> u64 {
        self.points.last().map_or(0, |last| last.right)
    }

    /// Images that are not.
    pub fn negatives(&self) -> u64 {
        self.points.last().map_or(0, |last| last.wrong)
    }

    /// Precision, averaged over the steps of recall as the threshold falls: the sum over thresholds of
    /// `(recall - recall before) * precision` (`average_precision_score`). Undefined without positives.
    pub fn average_precision(&self) -> f64 {
        let mut before = 0;
        let step = |point: &Point| {
            let new = (point.right - before) as f64;
            before = point.right;
            new * point.right as f64 / (point.right + point.wrong) as f64
        };
        ratio(self.points.iter().map(step).sum(), self.positives() as f64)
    }

    /// The area under the curve of the share of positives over that of negatives: the probability that an image of the class
    /// has a higher score than one that is not, ties counting half (`roc_auc_score`). Undefined where there are only the one
    /// or only the other.
    pub fn area_under_roc(&self) -> f64 {
        let mut before = Point { threshold: f32::INFINITY, right: 0, wrong: 0 };
        let strip = |point: &Point| {
            let area = (point.wrong - before.wrong) as f64 * (point.right + before.right) as f64 / 2.0;
            before = *point;
            area
        };
        ratio(self.points.iter().map(strip).sum(), self.positives() as f64 * self.negatives() as f64)
    }

    /// The threshold of the highest F1, and that F1; of several the highest threshold. `None` without positives.
    pub fn best_threshold(&self) -> Option<(f32, f64)> {
        let positives = self.positives();
        let f1 = |point: &Point| 2.0 * point.right as f64 / (point.right + point.wrong + positives) as f64;
        let best = self.points.iter().map(|point| (point.threshold, f1(point)));
        best.filter(|_| positives > 0).reduce(|best, point| if point.1 > best.1 { point } else { best })
    }

    /// Between [`Self::best_threshold`] and the next lower score, or 0 where there is none: what other images are to be above. `None`
    /// without positives.
    pub fn best_cut(&self) -> Option<f32> {
        let (threshold, _) = self.best_threshold()?;
        let below = self.points.iter().map(|point| point.threshold).find(|score| *score < threshold).unwrap_or(0.0);
        let cut = below + (threshold - below) / 2.0;
        // Between neighbouring numbers there is none.
        Some(if cut < threshold { cut } else { below })
    }
}
