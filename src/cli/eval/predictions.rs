//! What is said of each image, as a file.

use anyhow::Result;
use gabor::{
    data::Label,
    metrics::Point,
    tasks::{Predictions, SEPARATOR},
};

/// How files of predictions and of curves begin.
pub const CSV_MARK: &str = "image,class,taken_for,probability,loss";
pub const CURVES_MARK: &str = "class,threshold,precision,recall,false_positive_rate";

/// The curves of each class as CSV: the class, a probability, and of saying that the images of this probability or more are of the
/// class the precision, the recall (true positive rate) and the false positive rate; empty where there is no image to have one of.
pub fn curves(predictions: &Predictions) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(CURVES_MARK.split(','))?;
    for class in 0..predictions.width() {
        let ranking = predictions.ranking(class);
        let share = |part: u64, of: u64| if of > 0 { (part as f64 / of as f64).to_string() } else { String::new() };
        for Point { threshold, right, wrong } in ranking.corners() {
            writer.write_record([
                predictions.class(class),
                threshold.to_string(),
                share(right, right + wrong),
                share(right, ranking.positives()),
                share(wrong, ranking.negatives()),
            ])?;
        }
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// Predictions as CSV: the image, what it is and what it is taken for, the probability of that, the loss, and the probability
/// of each class.
pub fn csv(predictions: &Predictions) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let classes: Vec<String> = (0..predictions.width()).map(|class| predictions.class(class)).collect();
    writer.write_record(CSV_MARK.split(',').chain(classes.iter().map(String::as_str)))?;
    for ((image, (answer, label)), loss) in predictions.images.iter().zip(predictions.iter()).zip(&predictions.losses) {
        let listed = |is: &dyn Fn(usize) -> bool| {
            let those: Vec<&str> =
                classes.iter().enumerate().filter(|(at, _)| is(*at)).map(|(_, name)| name.as_str()).collect();
            those.join(SEPARATOR)
        };
        let (class, taken_for, probability) = match label {
            Label::Class(class) => {
                let best = Predictions::likeliest(answer);
                (predictions.class(class as usize), predictions.class(best), answer[best].to_string())
            }
            Label::Row(row) => {
                (listed(&|at| row[at] > 0.5), listed(&|at| predictions.are_of(at, answer[at])), String::new())
            }
        };
        let fields = [image.clone(), class, taken_for, probability, loss.to_string()];
        writer.write_record(fields.into_iter().chain(answer.iter().map(ToString::to_string)))?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}
