//! The figures of epochs, and the one by which they are compared.

use super::{Measure, Session, TrainError};
use crate::{
    data::Dataset,
    tasks::{Metric, Unit},
};

/// Checks that epochs with these validation images have the figure by which the recipe compares them.
///
/// # Errors
/// With the figures that they have.
pub fn check_monitor(session: &Session, validation: Option<&Dataset>) -> Result<(), TrainError> {
    Measure::of(session.recipe().monitor.as_deref(), 0.0, &comparable(session, validation)).map(drop)
}

/// The figure by which epochs are compared, with this value.
pub fn monitored(session: &Session, validation: Option<&Dataset>, value: f64) -> Metric {
    let metrics = comparable(session, validation);
    let named = match session.recipe().monitor.as_deref() {
        Some(name) => metrics.into_iter().find(|metric| metric.name == name || metric.key() == name),
        None => metrics.into_iter().next(),
    };
    named.map_or_else(|| Metric::number("loss", value), |metric| Metric { value, ..metric })
}

/// The figures of an epoch, without values.
fn comparable(session: &Session, validation: Option<&Dataset>) -> Vec<Metric> {
    match validation {
        Some(set) => session.model().task.tally(set.classes()).finish(0, 0.0).metrics,
        None => means(session.metrics(), &vec![0.0; session.metrics().len()], 1),
    }
}

/// The means of figures over so many images.
pub(super) fn means(metrics: &[(&'static str, Unit)], sums: &[f64], images: usize) -> Vec<Metric> {
    let mean = |(&(name, unit), sum): (&(&'static str, Unit), &f64)| Metric {
        name: name.into(),
        value: sum / images.max(1) as f64,
        unit,
    };
    metrics.iter().zip(sums).map(mean).collect()
}
