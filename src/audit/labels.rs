//! Labels that are probably wrong, by what models say of images that they were not trained on.

use crate::{data::Label, tasks::Predictions};

/// An image that is probably not of the class that its label says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrongLabel {
    /// Its place among the predictions.
    pub image: usize,
    /// The class that it has.
    pub class: usize,
    /// The class that it probably should have.
    pub suggested: usize,
    /// The probability of the suggested class.
    pub confidence: f32,
    /// The probability of its own class less that of the suggested one (the normalised margin): the lower, the surer it is wrong.
    pub margin: f32,
}

/// The labels that are probably wrong, the surest first, by confident learning (Northcutt, Jiang and Chuang, Confident Learning:
/// Estimating Uncertainty in Dataset Labels, JAIR 2021; with "prune by noise rate", as cleanlab does by default).
///
/// `predictions` are probabilities of images that the models were not trained on. An image is confidently of a class whose
/// probability is at least the mean one that images labelled so have of it. Counts of images by label and confident class, brought
/// to the number of images of each label, say how many labels are wrong in which way; these are the images of the
/// largest margins.
///
/// None where labels are not one class an image.
pub fn wrong_labels(predictions: &Predictions) -> Vec<WrongLabel> {
    let classes = predictions.width();
    let labelled: Option<Vec<(&[f32], usize)>> = predictions
        .iter()
        .map(|(answer, label)| match label {
            Label::Class(class) => Some((answer, class as usize)),
            Label::Row(_) => None,
        })
        .collect();
    let Some(labelled) = labelled else { return Vec::new() };
    let counts = confident_counts(&labelled, classes);

    let mut of_class = vec![Vec::new(); classes];
    labelled.iter().enumerate().for_each(|(image, (_, class))| of_class[*class].push(image));
    let mut is_wrong = vec![false; labelled.len()];
    for (class, images) in of_class.iter_mut().enumerate() {
        let confident: f64 = counts[class].iter().sum();
        for other in (0..classes).filter(|&other| other != class && counts[class][other] > 0.0) {
            let wrong = (images.len() as f64 * counts[class][other] / confident).round() as usize;
            let margin = |image: usize| labelled[image].0[other] - labelled[image].0[class];
            images.sort_by(|&a, &b| margin(b).total_cmp(&margin(a)));
            images.iter().take(wrong).for_each(|&image| is_wrong[image] = true);
        }
    }
    let wrong =
        labelled.iter().enumerate().filter(|(image, _)| is_wrong[*image]).filter_map(|(image, (answer, class))| {
            let suggested = Predictions::likeliest(answer);
            let (confidence, margin) = (answer[suggested], answer[*class] - answer[suggested]);
            (suggested != *class).then_some(WrongLabel { image, class: *class, suggested, confidence, margin })
        });
    let mut wrong: Vec<WrongLabel> = wrong.collect();
    wrong.sort_by(|a, b| a.margin.total_cmp(&b.margin));
    wrong
}

/// How many images have each label and are confidently of each class, `[label][class]`: the confident joint, not normalised.
fn confident_counts(labelled: &[(&[f32], usize)], classes: usize) -> Vec<Vec<f64>> {
    let mut sums = vec![(0.0, 0usize); classes];
    for (answer, class) in labelled {
        sums[*class].0 += f64::from(answer[*class]);
        sums[*class].1 += 1;
    }
    // No image is confidently of a class that none is labelled with.
    let threshold = |(sum, count): &(f64, usize)| if *count > 0 { sum / *count as f64 } else { f64::INFINITY };
    let thresholds: Vec<f64> = sums.iter().map(threshold).collect();
    let mut counts = vec![vec![0.0; classes]; classes];
    for (answer, class) in labelled {
        let confident = (0..classes).filter(|&other| f64::from(answer[other]) >= thresholds[other]);
        if let Some(likeliest) = confident.max_by(|&a, &b| answer[a].total_cmp(&answer[b])) {
            counts[*class][likeliest] += 1.0;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Labels;

    fn predictions(rows: &[([f32; 2], u32)]) -> Predictions {
        Predictions {
            classes: vec!["a".into(), "b".into()],
            images: (0..rows.len()).map(|at| at.to_string()).collect(),
            answers: rows.iter().flat_map(|(row, _)| *row).collect(),
            labels: Labels::Classes(rows.iter().map(|(_, label)| *label).collect()),
            losses: vec![0.0; rows.len()],
            thresholds: Vec::new(),
            embeddings: Vec::new(),
        }
    }

    #[test]
    fn what_is_confidently_another_class_is_wrong_and_what_is_unsure_is_not() {
        let mut rows = vec![([0.95, 0.05], 0); 20];
        rows.extend(vec![([0.1, 0.9], 1); 20]);
        rows.extend([([0.45, 0.55], 0), ([0.08, 0.92], 0), ([0.97, 0.03], 1)]);
        let wrong = wrong_labels(&predictions(&rows));
        assert_eq!(wrong.iter().map(|label| (label.image, label.suggested)).collect::<Vec<_>>(), [(42, 0), (41, 1)]);
        assert!((wrong[0].margin + 0.94).abs() < 1e-6 && wrong[0].confidence == 0.97, "{wrong:?}");
    }

    #[test]
    fn counts_are_those_of_the_confident_joint() {
        let rows = [([0.9, 0.1], 0), ([0.7, 0.3], 0), ([0.2, 0.8], 0), ([0.3, 0.7], 1), ([0.9, 0.1], 1)];
        let labelled: Vec<(&[f32], usize)> = rows.iter().map(|(row, label)| (&row[..], *label as usize)).collect();
        // The thresholds are 0.6 and 0.4.
        assert_eq!(confident_counts(&labelled, 2), [[2.0, 1.0], [1.0, 1.0]]);
    }

    #[test]
    fn images_of_several_classes_have_none() {
        let mut several = predictions(&[([0.9, 0.1], 0)]);
        several.labels = Labels::Rows { width: 2, values: vec![0.0, 1.0] };
        assert_eq!(wrong_labels(&several), []);
    }
}
