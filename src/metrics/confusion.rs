//! Decisions: which class images are of, and which they were taken for.

use super::ratio;

/// How many images of each class (row) were taken for each class (column).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

/// Figures of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// Its images.
    pub support: u64,
    /// Share of what was taken for the class that is of it; 0 for a class with images that none was taken for.
    pub precision: f64,
    /// Share of its images that were taken for it.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// What the figures of all classes with images come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

/// Images of a class that were taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The class that they are of.
    pub class: usize,
    /// The class that they were taken for.
    pub taken_for: usize,
    /// How many.
    pub images: u64,
}

impl Confusion {
    /// No images yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        // Row by row, so that those of many classes take memory only once they are written to.
        Self { counts: (0..classes).map(|_| vec![0; classes]).collect() }
    }

    /// Counts an image.
    ///
    /// # Panics
    /// If one of the classes is none.
    pub fn add(&mut self, class: usize, taken_for: usize) {
        self.counts[class][taken_for] += 1;
    }

    /// The numbers of images, by class (row) and by what they were taken for (column).
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// The same.
    pub fn into_counts(self) -> Vec<Vec<u64>> {
        self.counts
    }

    fn support(&self) -> Vec<u64> {
        self.counts.iter().map(|row| row.iter().sum()).collect()
    }

    fn taken_for(&self) -> Vec<u64> {
        let mut sums = vec![0; self.counts.len()];
        for row in &self.counts {
            sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        sums
    }

    fn right(&self) -> u64 {
        self.counts.iter().enumerate().map(|(class, row)| row[class]).sum()
    }

    /// Share of images whose class was told (`accuracy_score`).
    pub fn accuracy(&self) -> f64 {
        ratio(self.right() as f64, self.support().iter().sum::<u64>() as f64)
    }

    /// Mean recall of the classes with images (`balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        self.macro_average().recall
    }

    /// Figures of each class (`precision_recall_fscore_support`). Those of a class without images that are not defined are not
    /// a number.
    pub fn per_class(&self) -> Vec<ClassScores> {
        let (support, taken_for) = (self.support(), self.taken_for());
        let of_class = |class: usize| {
            let (right, images, taken) = (self.counts[class][class] as f64, support[class], taken_for[class] as f64);
            let precision = if images > 0 && taken == 0.0 { 0.0 } else { ratio(right, taken) };
            let f1 = if images > 0 { 2.0 * right / (images as f64 + taken) } else { f64::NAN };
            ClassScores { support: images, precision, recall: ratio(right, images as f64), f1 }
        };
        (0..self.counts.len()).map(of_class).collect()
    }

    fn average(&self, weight: impl Fn(&ClassScores) -> f64) -> Average {
        let with_images: Vec<ClassScores> = self.per_class().into_iter().filter(|class| class.support > 0).collect();
        let whole: f64 = with_images.iter().map(&weight).sum();
        let mean =
            |of: fn(&ClassScores) -> f64| ratio(with_images.iter().map(|class| weight(class) * of(class)).sum(), whole);
        Average { precision: mean(|c| c.precision), recall: mean(|c| c.recall), f1: mean(|c| c.f1) }
    }

    /// Means over the classes with images, each counting alike.
    pub fn macro_average(&self) -> Average {
        self.average(|_| 1.0)
    }

    /// Means over the classes, each counting as often as it has images.
    pub fn weighted_average(&self) -> Average {
        self.average(|class| class.support as f64)
    }

    /// Matthews' correlation of classes and decisions, from -1 to 1 (`matthews_corrcoef`; Gorodkin 2004, equation 8). 0 where
    /// all images are of one class or were taken for one.
    pub fn matthews(&self) -> f64 {
        let (support, taken_for) = (self.support(), self.taken_for());
        let all = support.iter().sum::<u64>() as f64;
        let product = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
        let covariance = self.right() as f64 * all - product(&support, &taken_for);
        let [spread, of_decisions] = [&support, &taken_for].map(|sums| all * all - product(sums, sums));
        match spread * of_decisions {
            0.0 if all > 0.0 => 0.0,
            spreads => ratio(covariance, spreads.sqrt()),
        }
    }

    /// Cohen's kappa: agreement beyond chance, over the most that there can be (`cohen_kappa_score`).
    pub fn kappa(&self) -> f64 {
        let (support, taken_for) = (self.support(), self.taken_for());
        let all = support.iter().sum::<u64>() as f64;
        let by_chance = support.iter().zip(&taken_for).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>() / (all * all);
        ratio(self.accuracy() - by_chance, 1.0 - by_chance)
    }

    /// The classes that were mistaken most often for another, at most so many of them.
    pub fn most_confused(&self, most: usize) -> Vec<Pair> {
        let pairs = self.counts.iter().enumerate().flat_map(|(class, row)| {
            let others = row.iter().enumerate().filter(move |(taken_for, images)| *taken_for != class && **images > 0);
            others.map(move |(taken_for, images)| Pair { class, taken_for, images: *images })
        });
        let mut pairs: Vec<Pair> = pairs.collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.images));
        pairs.truncate(most);
        pairs
    }
}
