//! A network that another learns from.

use super::Model;
use crate::{data::Normalisation, tensor::Tensor};

/// A trained network whose answers another is to imitate (distillation: Hinton, Vinyals and Dean 2015).
pub struct Teacher {
    /// The network, for images of the same size and classes as the student's.
    pub model: Model,
    /// How its images are normalised.
    pub normalisation: Normalisation,
    /// Its weights by their names.
    pub weights: Vec<(String, Tensor)>,
}

impl Teacher {
    /// Fails where it cannot teach `student`: its images are of another size, or it is for something else.
    pub(crate) fn check(&self, student: &Model) -> Result<(), String> {
        let Model { name, input, task, .. } = &self.model;
        if *input != student.input {
            let sizes = [input, &student.input].map(|[height, width, channels]| format!("{height}x{width}x{channels}"));
            return Err(format!(
                "the `teacher` {name} takes images of {}, and {} of {}: give both the same `height_width`",
                sizes[0], student.name, sizes[1]
            ));
        }
        if task.name() != student.task.name() {
            return Err(format!(
                "the `teacher` {name} is for {}, and {} for {}: give one that was trained for the same",
                task.name(),
                student.name,
                student.task.name()
            ));
        }
        let [own, other] = [task, &student.task].map(|task| task.output(1));
        if own != other {
            let width = |ty: Option<crate::tensor::TensorType>| ty.map_or(0, |ty| ty.shape.last());
            let (own, other) = (width(own), width(other));
            return Err(format!(
                "the `teacher` {name} knows {own} classes, and {} {other}: give one that was trained for the same",
                student.name
            ));
        }
        Ok(())
    }
}
